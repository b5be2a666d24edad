"""`sessiond backup` and `restore`: while serving, embedded, by URL, and refused calls."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import psycopg
import pytest

from sessiond import Client
from sessiond_server.integrity.store import postgres_tools
from sessiond_server.integrity.store.postgres_tools import ToolError, find_tool

from ..support.processes import ServerProcess
from ..support.wire import Wire
from .filling import filled

Start = Callable[..., ServerProcess]


def sessiond(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SESSIOND_")}
    return subprocess.run(
        [sys.executable, "-m", "sessiond_server", *arguments],
        env=clean | environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


async def fill(target: str) -> str:
    async with grpc.aio.insecure_channel(target) as channel:
        return await filled(Wire(channel))


def histories(target: str) -> dict[str, list[object]]:
    with Client(target) as client:
        return {
            session.session_id: [
                message.content for message in client.get_session(session.session_id).get_messages()
            ]
            for session in client.list_sessions()
        }


async def test_a_backup_while_serving_is_restored_whole(
    start_server: Start, database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    process = start_server(SESSIOND_DATABASE_URL=database_url)
    assets = str(process.log.with_suffix(".assets").absolute())
    await fill(process.target)
    before = await asyncio.to_thread(histories, process.target)
    stop = asyncio.Event()

    async def append() -> int:
        """Append during the backup, so that the dump must be a snapshot of one moment."""
        count = 0
        async with grpc.aio.insecure_channel(process.target) as channel:
            wire = Wire(channel)
            await wire.create("busy")
            while not stop.is_set():
                await wire.store("busy", f"message {count}")
                count += 1
        return count

    appending = asyncio.create_task(append())
    place = {"SESSIOND_DATABASE_URL": database_url, "SESSIOND_ASSET_STORE": assets}
    made = await asyncio.to_thread(sessiond, "backup", str(tmp_path / "backup"), **place)
    stop.set()
    count = await appending
    assert made.returncode == 0, made.stderr
    assert "and 1 assets (9 bytes)" in made.stdout
    assert not (tmp_path / "backup.partial").exists()

    place = {
        "SESSIOND_DATABASE_URL": empty_database_url,
        "SESSIOND_ASSET_STORE": str(tmp_path / "restored-assets"),
    }
    restored = await asyncio.to_thread(sessiond, "restore", str(tmp_path / "backup"), **place)
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert restored.stdout.rstrip().endswith("all is whole")
    again = start_server(**place)
    after = await asyncio.to_thread(histories, again.target)
    busy = after.pop("busy", [])
    assert after == before
    assert busy == [f"message {i}" for i in range(len(busy))]
    assert len(busy) <= count


async def test_the_embedded_database_is_backed_up_and_restored(
    start_server: Start, data_dir: Path, tmp_path: Path
) -> None:
    process = start_server(SESSIOND_DATA_DIR=str(data_dir / "one"))
    await fill(process.target)
    before = await asyncio.to_thread(histories, process.target)
    place = {"SESSIOND_DATA_DIR": str(data_dir / "one")}
    made = sessiond("backup", str(tmp_path / "backup"), **place)
    assert made.returncode == 0, made.stderr
    running = sessiond("restore", str(tmp_path / "backup"), **place)
    assert running.returncode == 1
    assert "stop the server, or name another directory" in running.stderr
    assert process.terminate() == 0
    full = sessiond("restore", str(tmp_path / "backup"), **place)
    assert full.returncode == 1
    assert "never overwrites" in full.stderr

    place = {"SESSIOND_DATA_DIR": str(data_dir / "two")}
    restored = sessiond("restore", str(tmp_path / "backup"), **place)
    assert restored.returncode == 0, restored.stdout + restored.stderr
    again = start_server(**place)
    assert await asyncio.to_thread(histories, again.target) == before
    verified = sessiond("verify", **place)
    assert verified.returncode == 0, verified.stdout
    assert "4 sessions, 16 messages and 1 assets (9 bytes) were checked" in verified.stdout


@pytest.fixture
async def backup(start_server: Start, database_url: str, tmp_path: Path) -> Path:
    place = {
        "SESSIOND_DATABASE_URL": database_url,
        "SESSIOND_ASSET_STORE": str(tmp_path / "assets"),
    }
    made = await asyncio.to_thread(sessiond, "backup", str(tmp_path / "backup"), **place)
    assert made.returncode == 0, made.stderr
    return tmp_path / "backup"


async def test_what_is_no_whole_backup_is_refused(
    backup: Path, database_url: str, empty_database_url: str
) -> None:
    place = {"SESSIOND_DATABASE_URL": empty_database_url}
    taken = sessiond("backup", str(backup), SESSIOND_DATABASE_URL=database_url)
    assert (taken.returncode, "exists already" in taken.stderr) == (1, True)
    full = sessiond("restore", str(backup), SESSIOND_DATABASE_URL=database_url)
    assert (full.returncode, "never overwrites" in full.stderr) == (1, True)
    manifest = json.loads((backup / "backup.json").read_text())
    (backup / "backup.json").write_text(json.dumps(manifest | {"format": 2}))
    later = sessiond("restore", str(backup), **place)
    assert (later.returncode, "by a later version" in later.stderr) == (1, True)
    (backup / "backup.json").write_text(json.dumps(manifest))
    with (backup / "database.dump").open("ab") as dump:
        dump.write(b"damage")
    damaged = sessiond("restore", str(backup), **place)
    assert (damaged.returncode, "is damaged" in damaged.stderr) == (1, True)
    (backup / "backup.json").unlink()
    none = sessiond("restore", str(backup), **place)
    assert (none.returncode, "is not a backup" in none.stderr) == (1, True)
    with psycopg.connect(empty_database_url) as connection:
        found = connection.execute("SELECT to_regclass('sessions')").fetchone()
    assert found == (None,)  # the restore did not begin


def test_a_missing_or_old_pg_dump_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert find_tool("pg_dump", 15).name == "pg_dump"
    with pytest.raises(ToolError, match=r"no pg_dump of PostgreSQL 99 .*is of version \d+"):
        find_tool("pg_dump", 99)
    monkeypatch.setattr(postgres_tools, "_candidates", lambda _: [])
    with pytest.raises(ToolError, match="postgresql-client-18"):
        find_tool("pg_dump", 18)


async def test_no_password_is_on_a_command_line(tmp_path: Path) -> None:
    tool = tmp_path / "pg_dump"
    tool.write_text(f'#!/bin/sh\necho "$@ $PGPASSWORD" > {tmp_path}/seen\n')
    tool.chmod(0o700)
    await postgres_tools.run_tool(tool, "postgresql://me:s3cret@localhost:1/db", "--flag")
    arguments = (tmp_path / "seen").read_text()
    assert arguments.rstrip().endswith("--flag s3cret")
    assert arguments.count("s3cret") == 1
    tool.write_text("#!/bin/sh\necho 'pg_dump: error: no room' >&2\nexit 1\n")
    with pytest.raises(ToolError, match="no room"):
        await postgres_tools.run_tool(tool, "postgresql://me:s3cret@localhost:1/db")
