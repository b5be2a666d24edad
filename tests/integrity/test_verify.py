"""`sessiond verify` finds what is not whole, and nothing where everything is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessiond_server.assets.store.objects import Objects
from sessiond_server.integrity.store.checks import IntegrityStore
from sessiond_server.integrity.verification import Seen, problems
from sessiond_server.server import Running
from sessiond_server.settings import Settings

from ..support.wire import Wire
from .filling import filled

Query = Callable[..., list[tuple[Any, ...]]]


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
            "bytes, its row says 1",
        ),
        (
            "DELETE FROM segments WHERE key = (SELECT key FROM sessions WHERE session_id = 'copy')",
            "session 'copy': its messages end at seq 0, its last seq is 4",
        ),
        (
            "UPDATE bookmarks SET seq = 100",
            "session 'long': bookmark 'here' is at seq 100, where there is no message",
        ),
        (
            "UPDATE sessions SET running_turn = gen_random_uuid() WHERE session_id = 'long'",
            "is not in the database",
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


async def test_damaged_content_is_found(server: Running, settings: Settings, asset_id: str) -> None:
    files = Path(settings.asset_location()).rglob("*")  # noqa: ASYNC240
    [content] = [path for path in files if path.is_file()]
    content.write_bytes(bytes(len(content.read_bytes())))
    assert await found(server, settings) == [
        f"asset {asset_id}: its content is not what was uploaded"
    ]
