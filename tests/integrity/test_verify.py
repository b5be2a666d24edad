"""`sessiond verify` finds every kind of damage, and none in an intact database."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessiond_server.assets.store.objects import Objects
from sessiond_server.integrity.store.checks import IntegrityStore
from sessiond_server.integrity.store.faults import FAULTS, FaultKind
from sessiond_server.integrity.verification import SENTENCES, Seen, problems
from sessiond_server.server import Running
from sessiond_server.settings import Settings

from ..support.wire import Wire
from .filling import filled

Query = Callable[..., list[tuple[Any, ...]]]

LONG = "(SELECT key FROM sessions WHERE session_id = 'long')"
COPY = "(SELECT key FROM sessions WHERE session_id = 'copy')"


async def found(server: Running, settings: Settings, seen: Seen | None = None) -> list[str]:
    store, objects = IntegrityStore(server.database), Objects(settings.asset_location())
    looked = problems(store, objects, seen or Seen(), reads_assets=True)
    return [problem async for problem in looked]


@pytest.fixture
async def asset_id(wire: Wire) -> str:
    return await filled(wire)


async def test_everything_is_whole(
    server: Running, settings: Settings, asset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen()
    assert await found(server, settings, seen) == []
    assert (seen.sessions, seen.assets) == (4, 1)
    assert seen.messages == 7 + 4 + 3 + 2
    monkeypatch.setattr("sessiond_server.integrity.verification.SESSIONS_A_BATCH", 1)
    assert await found(server, settings, again := Seen()) == []
    assert again == seen


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (
            "DELETE FROM messages WHERE seq = 2 AND key = "
            "(SELECT key FROM sessions WHERE session_id = 'long')",
            "session 'long': of seqs 1 to 7, 1 messages are missing",
        ),
        (
            "UPDATE sessions SET last_seq = 9 WHERE session_id = 'long'",
            "session 'long': of seqs 1 to 9, 2 messages are missing",
        ),
        (
            "UPDATE sessions SET last_seq = 6 WHERE session_id = 'long'",
            "session 'long': message 7 is stored beyond its last seq",
        ),
        (
            "UPDATE sessions SET content_bytes = 1 WHERE session_id = 'long'",
            "bytes, but its row says 1",
        ),
        (
            "DELETE FROM segments WHERE key = (SELECT key FROM sessions WHERE session_id = 'copy')",
            "session 'copy': its messages end at seq 0, but its last seq is 4",
        ),
        (
            "UPDATE bookmarks SET seq = 100",
            "session 'long': bookmark 'here' is at seq 100, where there is no message",
        ),
        (
            "UPDATE sessions SET running_turn = gen_random_uuid() WHERE session_id = 'long'",
            "is not in the database",
        ),
        (
            "UPDATE tasks SET message_seqs = '{2, 8}' WHERE task_id = 'first'",
            "session 'long': task 'first' is linked to seq 8, where there is no message",
        ),
        (
            "UPDATE tasks SET message_seqs = '{0}' WHERE task_id = 'first'",
            "session 'long': task 'first' is linked to seq 0, where there is no message",
        ),
        (
            "DELETE FROM tasks WHERE task_id = 'first'",
            "session 'long': the positions of its 1 tasks are not 1 to 1",
        ),
        (
            "UPDATE tasks SET position = 2",
            "session 'long': the positions of its 2 tasks are not 1 to 2",
        ),
        (
            "UPDATE message_ids SET seq = 8 WHERE message_id = 'id 6'",
            "session 'long': message_id 'id 6' names seq 8, where there is no message",
        ),
        (
            "DELETE FROM messages WHERE seq = 2",
            "session 'copy': message_id 'id 1' names seq 2, where there is no message",
        ),
        (
            "UPDATE message_ids SET message_id = 'other' WHERE message_id = 'id 6'",
            "session 'long': message_id 'other' names message 7, which has another message_id",
        ),
        (
            "INSERT INTO messages SELECT key, (SELECT log FROM sessions WHERE key = "
            f"{COPY}), 5, role, format, content_bytes, created_at, body FROM messages "
            f"WHERE key = {LONG} AND seq = 1; "
            f"UPDATE messages SET key = {COPY} WHERE log = (SELECT log FROM sessions "
            f"WHERE key = {COPY}); "
            f"UPDATE sessions SET last_seq = 5 WHERE key = {COPY}; "
            "INSERT INTO message_ids SELECT key, log, 5, 'id 0' FROM sessions "
            f"WHERE key = {COPY}",
            "session 'copy': message_id 'id 0' names both message 1 and 5",
        ),
        (
            "UPDATE parent_links SET seq = 8",
            "session 'long': seq 8 has a parent, but there is no message",
        ),
        (
            "UPDATE parent_links SET parent_seq = 7",
            "session 'long': message 7 has the parent 7, which is not before it",
        ),
        (
            "UPDATE sessions SET is_branched = false",
            "session 'long': message 7 begins a branch, but its row says that there is none",
        ),
        (
            f"UPDATE processing SET done_seq = 8 WHERE key = {LONG}",
            "session 'long': queue 'work' is done up to seq 8, where there is no message",
        ),
        ("UPDATE asset_refs SET project_id = gen_random_uuid()", "which is missing"),
        (
            "UPDATE assets SET object_key = object_key || 'x'",
            "its content is missing",
        ),
    ],
)
async def test_a_fault_is_found(
    server: Running, settings: Settings, asset_id: str, query: Query, fault: str, problem: str
) -> None:
    query(fault)
    assert problem in "\n".join(await found(server, settings))


def test_each_kind_of_fault_has_a_statement_and_a_sentence() -> None:
    assert set(FAULTS) == set(SENTENCES) == set(FaultKind)


async def test_damaged_content_is_found(server: Running, settings: Settings, asset_id: str) -> None:
    files = Path(settings.asset_location()).rglob("*")  # noqa: ASYNC240
    [content] = [path for path in files if path.is_file()]
    content.write_bytes(bytes(len(content.read_bytes())))
    assert await found(server, settings) == [
        f"asset {asset_id}: its content is not what was uploaded"
    ]
