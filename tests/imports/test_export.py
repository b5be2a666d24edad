"""Exported sessions, and their import through the client."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sessiond import (
    AsyncClient,
    Client,
    InvalidField,
    InvalidJson,
    SessionAlreadyExists,
    SessiondError,
    SessionNotFound,
)
from sessiond_server.server import Running

from .helpers import ODD_JSON, a_session, changed, lines_of, names_in, renamed, typed_parts


def is_device(path: Path) -> bool:
    return path.is_char_device()


async def test_an_imported_session_exports_the_same(client: AsyncClient, tmp_path: Path) -> None:
    await a_session(client, "x")
    lines = await lines_of(client, "x")
    assert [json.loads(line)["kind"] for line in lines] == [
        "export",
        *["task"] * 3,
        *["bookmark"] * 2,
        *["message"] * 6,
        "end",
    ]
    assert lines == await lines_of(client, "x")
    document = await client.sessions.export("x")
    files = {form: tmp_path / f"x.{form}" for form in ("jsonl", "json")}
    for form, path in files.items():
        assert (await client.sessions.export_to("x", path, format=form)).session_id == "x"
    assert files["jsonl"].read_text(encoding="utf-8") == "".join(lines)
    assert (
        json.loads(files["json"].read_text(encoding="utf-8"))
        == document
        == json.loads(json.dumps(document))
    )
    indented = tmp_path / "indented"
    indented.write_text(json.dumps(document, indent=2), encoding="utf-8")

    async def slowly() -> AsyncIterator[str]:
        for line in lines:
            yield line

    for name, source in {
        "of a dict": document,
        "of a jsonl file": files["jsonl"],
        "of a json file": str(files["json"]),
        "of another json file": indented,
        "of lines": lines,
        "of an async iterable": slowly(),
        "of an open file": files["jsonl"].open(encoding="utf-8"),
    }.items():
        info = await client.sessions.import_session(source, name)
        assert info.session_id == name
        assert await lines_of(client, name) == renamed(lines, name)
        assert {**await client.sessions.export(name), "session": None} == {
            **document,
            "session": None,
        }
        if hasattr(source, "close"):
            source.close()
    original, imported = await client.sessions.get("x"), await client.sessions.get("of lines")
    for field in (
        "summary",
        "message_count",
        "content_bytes",
        "token_count",
        "created_at",
        "active_at",
    ):
        assert getattr(original, field) == getattr(imported, field)

    await client.delete_session("x")
    assert (await client.sessions.import_session(files["jsonl"])).session_id == "x"
    assert await lines_of(client, "x") == lines
    message = await client.sessions.get_message("x", 2)
    assert message.json == ODD_JSON
    assert list((await client.sessions.get_message("x", 3)).proto.parts.parts) == typed_parts()


async def test_destroyed_copied_and_empty_sessions_are_imported(
    client: AsyncClient, tmp_path: Path
) -> None:
    await client.create_session("empty", never_expires=True)
    await a_session(client, "source")
    await client.sessions.copy("source", "copy", up_to_seq=4)
    await client.sessions.store_message("copy", {"role": "user", "content": "on its own"})
    await client.sessions.destroy("source")
    for session_id in ("empty", "copy", "source"):
        lines = await lines_of(client, session_id)
        info = await client.sessions.import_session(lines, f"{session_id} again")
        assert info.status == ("destroyed" if session_id == "source" else "active")
        assert info.origin is None
        assert await lines_of(client, f"{session_id} again") == renamed(
            lines, f"{session_id} again"
        )
        await client.sessions.export_to(session_id, tmp_path / session_id, format="json")
        assert json.loads(
            (tmp_path / session_id).read_text(encoding="utf-8")
        ) == await client.sessions.export(session_id)
    assert (await client.sessions.get("empty again")).never_expires


async def test_an_export_of_an_older_client_keeps_its_status(client: AsyncClient) -> None:
    await client.create_session("source")
    await client.sessions.destroy("source")
    lines = await lines_of(client, "source")
    lines[0] = lines[0].replace('"status"', '"state"')
    assert (await client.sessions.import_session(lines, "again")).status == "destroyed"


async def test_an_export_leaves_out_later_changes(client: AsyncClient) -> None:
    session = await client.create_session("x", title="before")
    await session.store_message({"role": "user", "content": "1"})
    await session.tasks.create(task_id="t", message_seqs=[1])
    lines: list[str] = []
    async for line in session.export_lines():
        if not lines:
            await session.store_message({"role": "user", "content": "2"})
            await session.bookmarks.create("late")
            await session.tasks.create(task_id="late", message_seqs=[1, 2])
            await session.tasks.update("t", status="running", link=[2])
            await session.update(title="after", state={"late": True})
        lines.append(line)
    assert [json.loads(line)["kind"] for line in lines] == ["export", "task", "message", "end"]
    assert json.loads(lines[0])["session"]["title"] == "before"
    assert json.loads(lines[0])["session"]["state_json"] == "{}"
    assert json.loads(lines[1])["message_seqs"] == [1]
    assert json.loads(lines[1])["status"] == "pending"
    await client.sessions.import_session(lines, "y")
    assert await lines_of(client, "y") == renamed(lines, "y")


async def test_long_sessions_go_in_pieces(client: AsyncClient, tmp_path: Path) -> None:
    session = await client.create_session("long")
    await session.import_messages(
        [{"role": "user", "content": f"{i} " + "x" * 1000} for i in range(3000)]
    )
    written: list[tuple[int, int | None]] = []
    sent: list[tuple[int, int | None]] = []
    path = tmp_path / "long.jsonl"
    await session.export_to(path, progress=lambda *done: written.append(done))
    assert names_in(tmp_path) == ["long.jsonl"]
    await client.sessions.import_session(path, "again", progress=lambda *done: sent.append(done))
    for told in (written, sent):
        assert len(told) > 3
        assert told == sorted(told)
        assert told[-1] == (3000, 3000)
    assert await lines_of(client, "again") == renamed(await lines_of(client, "long"), "again")


async def test_the_sync_client_does_the_same(
    client: AsyncClient, server: Running, tmp_path: Path
) -> None:
    await a_session(client, "x")
    lines = await lines_of(client, "x")

    def work() -> None:
        with Client(f"127.0.0.1:{server.port}") as sync:
            assert list(sync.sessions.export_lines("x")) == lines
            sync.sessions.export_to("x", tmp_path / "x.jsonl")
            with (tmp_path / "x.jsonl").open(encoding="utf-8") as file:
                sync.sessions.import_session(file, "a")
            sync.sessions.import_session(tmp_path / "x.jsonl", "b")
            sync.sessions.import_session(iter(lines), "c")
            with pytest.raises(InvalidField, match="line 3"):
                sync.sessions.import_session(iter([*lines[:2], "{"]), "d")
            with pytest.raises(SessionNotFound):
                sync.sessions.get("d")

    await asyncio.to_thread(work)
    for session_id in "abc":
        assert await lines_of(client, session_id) == renamed(lines, session_id)


def _broken(lines: list[str]) -> Iterator[tuple[list[str], str]]:
    """Malformed exports and their errors.

    The 13 lines are: export, 3 tasks, 2 bookmarks, 6 messages, end.
    """
    yield [], "is empty"
    yield ["\n", "\n"], "is not JSON"
    yield lines[:-1], "it was cut off after line 12"
    yield lines[:1], "it was cut off after line 1"
    yield [*lines[:4], lines[4][:20]], "line 5 is not JSON"
    yield [lines[0][:20]], "line 1 is not JSON"
    yield ["this is no export\n"], "source is not JSON"
    yield ["[1]"], "source is not an exported session"
    yield [*lines[:7], *lines[8:]], "line 8 has seq 3 instead of 2: messages are missing"
    yield [*lines[:1], *lines[2:]], "line 12 counts 3 tasks, but the export has 2"
    yield [*lines[:11], lines[12]], "line 12 counts 6 messages, but the export has 5"
    yield lines[1:], "line 1 is not the beginning of an export"
    yield [*lines[:3], lines[0]], "line 4 is a second export"
    yield [*lines, lines[12]], "line 14 comes after the end"
    yield [*lines[:7], lines[1]], "line 8 is a task after the messages"
    yield changed(lines, 0, version=2), "line 1 has format version 2;"
    yield changed(lines, 0, session=3), "line 1 has no session"
    yield changed(lines, 0, session={"status": "tired"}), "line 1: status is 'tired'"
    yield changed(lines, 1, kind="poem"), "line 2 has the unknown kind 'poem'"
    yield changed(lines, 1, created_at="yesterday"), "line 2: created_at is 'yesterday'"
    yield (
        changed(lines, 1, created_at="2026-01-01T00:00:00"),
        "line 2: created_at has no time zone",
    )
    yield changed(lines, 1, message_seqs="12"), "line 2: message_seqs is not a list of seqs"
    yield changed(lines, 1, task_id=7), "line 2: task_id is not a string"
    yield changed(lines, 4, seq="0"), "line 5: seq is not an integer"
    yield changed(lines, 6, json=None), "line 7 has neither json nor parts"
    yield changed(lines, 6, json="\ud800"), "line 7: json cannot be sent"
    yield changed(lines, 6, metadata={"n": 2**60}), "line 7: metadata.n is an integer beyond"
    yield changed(lines, 8, parts=[{"poem": "x"}]), "line 9: parts are invalid"
    yield ['{"a": 1}'], "source is not an exported session"
    yield ['{"version":1,"session":{},"messages":{}}'], "messages is not a list"
    yield (
        ['{"version":1,"session":{},\n', '"messages":[{"json":"{}","format":"morse"}]}'],
        "messages[0]: format is 'morse'",
    )


async def test_a_malformed_export_is_refused_with_its_line(
    client: AsyncClient, tmp_path: Path
) -> None:
    await a_session(client, "x")
    lines = await lines_of(client, "x")
    for broken, says in _broken(lines):
        with pytest.raises(InvalidField) as caught:
            await client.sessions.import_session(broken, "y")
        assert says in str(caught.value)
        with pytest.raises(SessionNotFound):
            await client.sessions.get("y")
    path = tmp_path / "latin"
    path.write_bytes("".join(lines).encode()[:-20] + b"\xff\n")
    with pytest.raises(InvalidField, match="line 13 is not UTF-8"):
        await client.sessions.import_session(path, "y")
    with pytest.raises(FileNotFoundError):
        await client.sessions.import_session(tmp_path / "nowhere", "y")
    with pytest.raises(InvalidField, match="session_id"):
        await client.sessions.import_session(lines, "")


async def test_errors_of_the_server_are_raised(client: AsyncClient) -> None:
    await a_session(client, "x")
    lines = await lines_of(client, "x")
    with pytest.raises(SessionAlreadyExists):
        await client.sessions.import_session(lines)
    with pytest.raises(InvalidJson):
        await client.sessions.import_session(changed(lines, 6, json="{"), "y")
    with pytest.raises(SessiondError, match="parent_seq"):
        await client.sessions.import_session(changed(lines, 6, parent_seq=6), "y")
    first = await client.sessions.import_session(lines, "z", request_id="once")
    assert await client.sessions.import_session(lines, "z", request_id="once") == first


async def test_a_failed_export_leaves_the_file_as_it_was(
    client: AsyncClient, tmp_path: Path
) -> None:
    await a_session(client, "x")
    path, link = tmp_path / "x.jsonl", tmp_path / "link"
    path.write_text("before")
    link.symlink_to(path)

    def fail(*done: object) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        await client.sessions.export_to("x", path, progress=fail)
    with pytest.raises(SessionNotFound):
        await client.sessions.export_to("nobody", path)
    assert path.read_text() == "before"
    assert names_in(tmp_path) == ["link", "x.jsonl"]
    await client.sessions.export_to("x", link)
    assert link.is_symlink()
    assert path.read_text(encoding="utf-8") == "".join(await lines_of(client, "x"))
    with pytest.raises(InvalidField, match="format"):
        await client.sessions.export_to("x", path, format="xml")
    with pytest.raises(FileNotFoundError):
        await client.sessions.export_to("x", tmp_path / "none" / "x")
    null = Path("/dev/null")
    await client.sessions.export_to("x", null)
    assert is_device(null)
