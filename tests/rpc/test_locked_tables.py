"""A lock on a table delays the calls that need the table, and no others."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from uuid import UUID

import psycopg
import pytest

from sessiond.v1.session_service_pb2 import StoreMessagesRequest
from sessiond_server.rpc import lock_waits
from sessiond_server.settings import Settings

from ..assets.helpers import upload
from ..support.waiting import PATIENCE_S, until_async, waiting_for_locks
from ..support.wire import Wire, WireError, end_of, pictures
from .calls import CALLS, call

HELD = [f"held{i}" for i in range(12)]
POOL_SIZE = 8
# The last quarter of the connections is left to kinds of calls that hold none.
COMMON = 6


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """Statements wait for a lock until the test ends, unless the test sets another time."""
    update = {"pool_size": POOL_SIZE, "lock_timeout_s": 600.0, "pool_timeout_s": 600.0}
    return settings.model_copy(update=update | getattr(request, "param", {}))


@pytest.fixture
def observer(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@asynccontextmanager
async def calling(
    wire: Wire, methods: list[str], sessions: list[str]
) -> AsyncIterator[list["asyncio.Future[WireError | None]"]]:
    """Have calls run during the block."""
    calls = [
        asyncio.ensure_future(end_of(call(wire, method, CALLS[method](session_id))))
        for method in methods
        for session_id in sessions
    ]
    try:
        yield calls
    finally:
        for one in calls:
            one.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def others_get_on(wire: Wire) -> None:
    """Make calls that need neither messages nor assets, many at a time."""
    for _ in range(3):
        await asyncio.gather(*(wire.get("other") for _ in range(20)))
        await asyncio.gather(*(wire.list() for _ in range(5)))
        for method in ("ListTasks", "ListBookmarks", "UpdateSession", "ListCopies"):
            assert await end_of(call(wire, method, CALLS[method]("other"))) is None


async def test_reads_of_a_locked_table_leave_places_to_other_calls(
    wire: Wire, blocker: psycopg.Connection, observer: psycopg.Connection
) -> None:
    """The reads never time out, so the other calls need connections that the reads leave free."""
    await wire.create("other")
    for session_id in HELD:
        await wire.create(session_id)
        await wire.store(session_id, "x")
    blocker.execute("LOCK TABLE messages")
    async with calling(wire, ["GetMessages", "ListMessages"], HELD) as reads:
        await until_async(lambda: waiting_for_locks(observer) >= COMMON, "the reads wait")
        await others_get_on(wire)
        # If one method holds all COMMON connections, the other holds none, so it may take one of
        # the last quarter.
        assert COMMON <= waiting_for_locks(observer) <= COMMON + 1
        blocker.rollback()
        assert await asyncio.gather(*reads) == [None] * len(reads)


async def test_uploads_that_meet_a_lock_leave_places_to_other_calls(
    wire: Wire, blocker: psycopg.Connection, observer: psycopg.Connection
) -> None:
    await wire.create("other")
    blocker.execute("LOCK TABLE assets")
    async with calling(wire, ["GetAsset"], HELD):
        await until_async(lambda: waiting_for_locks(observer) == COMMON, "the calls wait")
        await others_get_on(wire)
        for i in range(10):
            assert (await wire.store("other", "x")).first_seq == i + 1
        assert waiting_for_locks(observer) == COMMON


@pytest.mark.parametrize("settings", [{"lock_timeout_s": 0.2}], indirect=True)
async def test_after_calls_met_a_locked_table_few_of_their_kind_try_again(
    wire: Wire,
    blocker: psycopg.Connection,
    observer: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Otherwise, a second of delay in this test would end the suspicion.
    monkeypatch.setattr(lock_waits, "SUSPICION_S", PATIENCE_S)
    await wire.create("other")
    for session_id in HELD:
        await wire.create(session_id)
    blocker.execute("LOCK TABLE messages, tasks, bookmarks, assets")
    methods = ["GetMessages", "ListMessages", "ListTasks", "ListBookmarks", "GetAsset"]
    async with calling(wire, methods, HELD) as first:
        assert {end.reason for end in await asyncio.gather(*first) if end} == {"OVERLOADED"}
    async with calling(wire, methods, HELD) as calls:
        most = 0
        while not all(one.done() for one in calls):
            most = max(most, waiting_for_locks(observer))
            await wire.get("other")
        assert 1 <= most <= POOL_SIZE // 4
        for one in calls:
            if end := one.result():
                assert (end.reason, end.retry_s) == ("OVERLOADED", 1.0)


async def test_appends_to_many_locked_sessions_leave_connections_to_others(
    wire: Wire, blocker: psycopg.Connection, observer: psycopg.Connection
) -> None:
    """One program has locked many sessions, such as by an update of all sessions of a user."""
    for session_id in [*HELD, "other"]:
        await wire.create(session_id)
    blocker.execute("SELECT FROM sessions WHERE session_id LIKE 'held%' FOR UPDATE")
    async with calling(wire, ["StoreMessages"], HELD[:1]) as first:
        await until_async(lambda: waiting_for_locks(observer) == 1, "an append waits")
        async with calling(wire, ["StoreMessages"], HELD[1:]) as rest:
            for i in range(20):
                assert (await wire.store("other", "x")).first_seq == i + 1
                await wire.get("held3")
            # A statement that started while few others were running may still wait for a lock.
            assert waiting_for_locks(observer) <= 2
            assert not any(one.done() for one in (*first, *rest))
            blocker.rollback()
            assert await asyncio.gather(*first, *rest) == [None] * len(HELD)
    assert await wire.texts("held7") == ["x"]


@pytest.mark.parametrize("settings", [{"lock_timeout_s": 0.2}], indirect=True)
async def test_changes_of_many_locked_sessions_wait_without_connections(
    wire: Wire,
    blocker: psycopg.Connection,
    observer: psycopg.Connection,
    found_locked: list[UUID],
) -> None:
    for session_id in [*HELD, "other"]:
        await wire.create(session_id)
    blocker.execute("SELECT FROM sessions WHERE session_id LIKE 'held%' FOR UPDATE")
    async with calling(wire, ["UpdateSession"], HELD[:4]) as first:
        await until_async(lambda: len(set(found_locked)) == 4, "all changes wait in memory")
        async with calling(wire, ["CreateTask", "CreateBookmark", "UpdateSession"], HELD) as rest:
            for _ in range(20):
                assert (
                    await end_of(call(wire, "UpdateSession", CALLS["UpdateSession"]("other")))
                    is None
                )
                assert waiting_for_locks(observer) == 0
            assert not any(one.done() for one in (*first, *rest))
            blocker.rollback()
            assert await asyncio.gather(*first, *rest) == [None] * (len(first) + len(rest))


async def test_appends_that_meet_locked_assets_leave_statements_to_others(
    wire: Wire, blocker: psycopg.Connection, observer: psycopg.Connection
) -> None:
    """Other appends go on, because the statements that they share do not read assets."""
    asset = await upload(wire, b"picture")
    for session_id in [*HELD, "other"]:
        await wire.create(session_id)
    blocker.execute("LOCK TABLE assets")
    calls = [
        asyncio.ensure_future(
            wire.sessions.StoreMessages(
                StoreMessagesRequest(session_id=session_id, messages=[pictures(asset.asset_id)])
            )
        )
        for session_id in HELD
    ]
    # At most half of the connections store appends. At most a quarter of the connections store
    # appends that cannot share a statement, such as appends with assets.
    await until_async(lambda: waiting_for_locks(observer) == POOL_SIZE // 4, "the appends wait")
    for i in range(20):
        assert (await wire.store("other", "x")).first_seq == i + 1
    assert waiting_for_locks(observer) == POOL_SIZE // 4
    blocker.rollback()
    assert {(await one).first_seq for one in calls} == {1}


@pytest.mark.parametrize("settings", [{"lock_timeout_s": 0.2}], indirect=True)
async def test_appends_that_met_locked_assets_try_one_at_a_time(
    wire: Wire, blocker: psycopg.Connection, observer: psycopg.Connection
) -> None:
    asset = await upload(wire, b"picture")
    for session_id in [*HELD, "other"]:
        await wire.create(session_id)
    blocker.execute("LOCK TABLE assets")

    def append(session_id: str) -> "asyncio.Future[WireError | None]":
        request = StoreMessagesRequest(session_id=session_id, messages=[pictures(asset.asset_id)])
        return asyncio.ensure_future(end_of(wire.sessions.StoreMessages(request, timeout=30)))

    first = await append(HELD[0])
    assert first
    assert first.reason == "OVERLOADED"
    calls = [append(session_id) for session_id in HELD[:3]]
    most = 0
    while not all(one.done() for one in calls):
        most = max(most, waiting_for_locks(observer))
        await wire.store("other", "x")
    assert most == 1
    assert {end.reason for end in await asyncio.gather(*calls) if end} == {"OVERLOADED"}
    blocker.rollback()
    assert await append(HELD[0]) is None
