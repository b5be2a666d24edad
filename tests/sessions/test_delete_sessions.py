"""DeleteSessions: counts and deletes the sessions that match a filter."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest

from sessiond.v1.session_pb2 import SESSION_STATUS_DESTROYED
from sessiond.v1.session_service_pb2 import DeleteSessionsRequest, DeleteSessionsResponse
from sessiond_server.core import pacing
from sessiond_server.db.pool import LockTimeout
from sessiond_server.retention.purger import Purger
from sessiond_server.rpc import session_service
from sessiond_server.sessions import bulk_deletion
from sessiond_server.sessions.store.bulk_deletion import BulkDeletionStore

from ..support.waiting import PATIENCE_S, until_waiting
from ..support.wire import Wire, error_of, session_filter

Query = Callable[..., list[tuple[Any, ...]]]


async def delete(wire: Wire, **fields: Any) -> tuple[int, int]:
    flags = {name: fields.pop(name) for name in ("all", "dry_run") if name in fields}
    request = DeleteSessionsRequest(filter=session_filter(**fields), **flags)
    answer: DeleteSessionsResponse = await wire.sessions.DeleteSessions(request)
    return answer.session_count, answer.message_count


@pytest.fixture
async def filled(wire: Wire) -> Wire:
    for i in range(6):
        await wire.create(
            f"{'ab'[i % 2]}{i}",
            user=f"user-{i % 3}",
            model=f"model-{i}",
            metadata={"n": i},
            config={"c": i},
        )
        await wire.store(f"{'ab'[i % 2]}{i}", *["x"] * i) if i else None
    await wire.destroy("b1")
    return wire


@pytest.mark.parametrize(
    ("fields", "left", "messages"),
    [
        ({"user": "user-1"}, ["a0", "a2", "b3", "b5"], 5),
        ({"session_id_prefix": "a"}, ["b1", "b3", "b5"], 6),
        ({"status": SESSION_STATUS_DESTROYED}, ["a0", "a2", "a4", "b3", "b5"], 1),
        ({"model": "model-5"}, ["a0", "a2", "a4", "b1", "b3"], 5),
        ({"metadata_contains": {"n": 2}}, ["a0", "a4", "b1", "b3", "b5"], 2),
        ({"config_contains": {"c": 3}}, ["a0", "a2", "a4", "b1", "b5"], 3),
        ({"user": "user-1", "session_id_prefix": "a"}, ["a0", "a2", "b1", "b3", "b5"], 4),
        ({"user": "nobody"}, ["a0", "a2", "a4", "b1", "b3", "b5"], 0),
        ({"all": True}, [], 15),
    ],
)
async def test_a_dry_run_counts_what_the_deletion_removes(
    filled: Wire, fields: dict[str, Any], left: list[str], messages: int
) -> None:
    counted = await delete(filled, dry_run=True, **fields)
    assert counted == (6 - len(left), messages)
    assert len(await filled.list()) == 6
    assert await delete(filled, **fields) == counted
    assert sorted(s.session_id for s in await filled.list()) == left
    assert await delete(filled, **fields) == (0, 0)


async def test_all_is_required_without_a_filter(filled: Wire) -> None:
    for fields in ({}, {"all": True, "filter": {"user": "user-1"}}):
        error = await error_of(filled.sessions.DeleteSessions(DeleteSessionsRequest(**fields)))
        assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["all"])
    error = await error_of(
        filled.sessions.DeleteSessions(DeleteSessionsRequest(filter={"user": "a\0"}))
    )
    assert list(error.fields) == ["filter.user"]
    assert len(await filled.list()) == 6


async def test_many_sessions_are_deleted_in_batches_and_purged(
    wire: Wire, query: Query, purger: Purger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_deletion, "SESSIONS_A_BATCH", 7)
    monkeypatch.setattr(bulk_deletion, "KEYS_A_PAGE", 10)
    for i in range(20):
        await wire.create(f"s{i}", user="ada")
        await wire.store(f"s{i}", "x", "y")
    await wire.create("other")
    assert await delete(wire, user="ada") == (20, 40)
    assert query("SELECT count(*) FROM dead_logs") == [(20,)]
    await purger.round()
    assert query("SELECT (SELECT count(*) FROM dead_logs), (SELECT count(*) FROM messages)") == [
        (0, 0)
    ]
    assert [s.session_id for s in await wire.list()] == ["other"]


async def test_a_session_that_ceases_to_match_is_kept(
    filled: Wire, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = BulkDeletionStore.keys

    async def then_changed(*arguments: Any) -> list[UUID]:
        found = await keys(*arguments)
        query("UPDATE sessions SET user_name = 'eve' WHERE session_id = 'b1'")
        return found

    monkeypatch.setattr(BulkDeletionStore, "keys", then_changed)
    assert await delete(filled, user="user-1") == (1, 4)
    assert "b1" in {s.session_id for s in await filled.list()}


@pytest.fixture
async def held(wire: Wire, database_url: str) -> AsyncIterator[psycopg.Connection[Any]]:
    """Create ten sessions with one message each. The connection has locked two of them."""
    for i in range(10):
        await wire.create(f"s{i}")
        await wire.store(f"s{i}", "x")
    with psycopg.connect(database_url) as blocker:
        blocker.execute("SELECT FROM sessions WHERE session_id IN ('s2', 's5') FOR UPDATE")
        yield blocker


ALL = DeleteSessionsRequest(all=True)


async def test_locked_sessions_are_named_and_the_others_deleted(
    wire: Wire, held: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_deletion, "MAX_WAIT_S", 0.1)
    done = await wire.sessions.DeleteSessions(ALL)
    assert (done.session_count, done.message_count, done.locked_count) == (8, 8, 2)
    assert list(done.locked_session_ids) == ["s2", "s5"]
    assert sorted(s.session_id for s in await wire.list()) == ["s2", "s5"]
    held.rollback()
    done = await wire.sessions.DeleteSessions(ALL)
    assert (done.session_count, done.message_count, done.locked_count) == (2, 2, 0)


async def test_at_most_a_hundred_locked_sessions_are_named(
    wire: Wire, held: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_deletion, "MAX_WAIT_S", 0.1)
    monkeypatch.setattr(session_service, "MAX_NAMED", 1)
    done = await wire.sessions.DeleteSessions(ALL)
    assert (done.locked_count, list(done.locked_session_ids)) == (2, ["s2"])


async def test_sessions_that_are_released_in_time_are_deleted(
    wire: Wire, held: psycopg.Connection[Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_deletion, "MAX_WAIT_S", 60.0)
    deletion = asyncio.ensure_future(wire.sessions.DeleteSessions(ALL))
    await until_waiting(database_url, 1)
    assert sorted(s.session_id for s in await wire.list()) == ["s2", "s5"]
    held.rollback()
    assert (await deletion).session_count == 10


async def test_a_deletion_ends_before_its_deadline_though_sessions_are_locked(
    wire: Wire, held: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_deletion, "MAX_WAIT_S", 60.0)
    assert (await wire.sessions.DeleteSessions(ALL, timeout=6.0)).locked_count == 2


async def test_a_locked_table_refuses_a_deletion_that_has_deleted_nothing(
    wire: Wire, database_url: str
) -> None:
    await wire.create("one")
    with psycopg.connect(database_url) as blocker:
        blocker.execute("LOCK TABLE segments")
        error = await error_of(wire.sessions.DeleteSessions(ALL))
        assert (error.reason, error.retry_s) == ("OVERLOADED", 1.0)
        assert [s.session_id for s in await wire.list()] == ["one"]


async def test_a_table_that_is_locked_meanwhile_interrupts_the_deletion(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry of the whole call would count only a part of the sessions."""
    monkeypatch.setattr(bulk_deletion, "SESSIONS_A_BATCH", 1)
    monkeypatch.setattr(bulk_deletion, "MAX_WAIT_S", 0.0)
    for i in range(3):
        await wire.create(f"s{i}")
    deleting, calls = BulkDeletionStore.delete, 0

    async def once(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise LockTimeout
        return await deleting(*arguments, **options)

    monkeypatch.setattr(BulkDeletionStore, "delete", once)
    error = await error_of(wire.sessions.DeleteSessions(ALL))
    assert (error.reason, error.retry_s) == ("OVERLOADED", 1.0)
    assert "deleted so far: 1;" in error.text
    assert (len(await wire.list()), calls) == (2, 2)


async def test_sessions_that_were_locked_are_deleted_in_batches(
    wire: Wire, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_deletion, "SESSIONS_A_BATCH", 5)
    # Otherwise batches would be smaller on a slow machine.
    monkeypatch.setattr(pacing, "TARGET_S", PATIENCE_S)
    monkeypatch.setattr(bulk_deletion, "MAX_WAIT_S", 60.0)
    for i in range(12):
        await wire.create(f"s{i}")
    deleting, sizes = BulkDeletionStore.delete, []

    async def noted(self: BulkDeletionStore, doomed: Any, keys: Any, *, skip_locked: bool) -> Any:
        sizes.append(len(keys))
        return await deleting(self, doomed, keys, skip_locked=skip_locked)

    monkeypatch.setattr(BulkDeletionStore, "delete", noted)
    with psycopg.connect(database_url) as blocker:
        blocker.execute("SELECT FROM sessions FOR UPDATE")
        deletion = asyncio.ensure_future(wire.sessions.DeleteSessions(ALL))
        await until_waiting(database_url, 1)
    assert (await deletion).session_count == 12
    assert max(sizes) == 5


async def test_keys_are_read_page_by_page(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_deletion, "KEYS_A_PAGE", 3)
    for i in range(7):
        await wire.create(f"s{i}")
    assert await delete(wire, session_id_prefix="s") == (7, 0)
    assert await wire.list() == []
