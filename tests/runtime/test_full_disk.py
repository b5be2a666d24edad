"""A full disk of the embedded database: a clear error, no loss, and automatic recovery."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sessiond import Client, DatabaseUnavailable, DeadlineExceeded
from sessiond_server.db.pool import Database, DatabaseFull
from sessiond_server.rpc.errors import as_fault

from ..support.processes import ServerProcess

SIZE_MB = 240
TEXT_BYTES = 500_000


@pytest.fixture
def small_disk(data_dir: Path) -> Iterator[Path]:
    """A file system with room for a small database and little else."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    directory = data_dir / "disk"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=755", "tmpfs", str(directory)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def free_bytes(directory: Path) -> int:
    return shutil.disk_usage(directory).free


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_server_goes_on_when_there_is_room(
    small_disk: Path, start_server: Callable[..., ServerProcess]
) -> None:
    ballast = small_disk / "ballast"
    server = start_server("--data-dir", str(small_disk / "data"), "--pool-timeout-s", "1")
    with Client(server.target, timeout=300) as client:
        session = client.create_session("one")
        session.store_messages([{"role": "user", "content": "first"}])
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free_bytes(small_disk) - 40 * 1024 * 1024)
        stored = 1
        failed: Exception | None = None
        while failed is None:
            # Random text, so that PostgreSQL cannot compress it.
            message = {"role": "user", "content": secrets.token_hex(TEXT_BYTES // 2)}
            try:
                session.store_messages([message], timeout=4)
                stored += 1
            except (DatabaseUnavailable, DeadlineExceeded) as e:
                failed = e
        # The texts of the error that ended the call and of the error that was retried.
        texts = [str(failed), *getattr(failed, "__notes__", [])]
        assert any("the disk of the database is full" in text for text in texts), texts
        # The failed append may have been stored by a retry. All others have a known result.
        ballast.unlink()
        session.store_messages([{"role": "user", "content": "last"}])
        contents = [message.content for message in session.get_messages()]
        assert (contents[0], contents[-1]) == ("first", "last")
        assert len(contents) in (stored + 1, stored + 2)
    if "embedded_postgres_died" in server.log.read_text():
        assert "disk_full" in server.log.read_text()


async def test_a_statement_that_finds_the_disk_full_changes_nothing_and_keeps_its_connection(
    database_url: str,
) -> None:
    database = Database(database_url, size=1)
    await database.open()
    async with database.connection() as connection:
        process = connection.info.backend_pid
    with pytest.raises(DatabaseFull) as full:
        await database.rows("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$")
    fault = as_fault(full.value)
    assert fault is not None
    assert (fault.reason, "disk" in fault.message) == ("DATABASE_UNAVAILABLE", True)
    async with database.connection() as connection:
        assert connection.info.backend_pid == process
    await database.close()
