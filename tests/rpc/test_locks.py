"""Calls that meet locks of other programs wait in memory, without delaying other calls."""

import asyncio
from typing import Any
from uuid import UUID

import grpc
import psycopg
import pytest

from sessiond_server.rpc.lock_waits import SESSION_CHANGES, LockWaits
from sessiond_server.sessions import locked
from sessiond_server.settings import Settings

from ..support.queues import ack, fill, lease_one
from ..support.waiting import until_async, until_waiting
from ..support.wire import Wire, WireError, end_of, error_of, openai
from .calls import CALLS, call

HOLD = "SELECT FROM sessions WHERE session_id = 'held' FOR UPDATE"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"pool_size": 3})


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the methods of the calls that have begun."""
    begun: list[str] = []
    run = LockWaits.run

    async def counted(self: LockWaits, method: str, *rest: Any) -> Any:
        begun.append(method)
        return await run(self, method, *rest)

    monkeypatch.setattr(LockWaits, "run", counted)
    return begun


async def test_changes_of_a_held_session_wait_and_leave_connections_to_others(
    wire: Wire, database_url: str, blocker: psycopg.Connection, arrived: list[str]
) -> None:
    """Thirty changes of every kind wait for one session, with only three connections."""
    await wire.create("held")
    await wire.create("free")
    changes = ["UpdateSession", "RewindSession", "CopySession", "CreateTask", "CreateBookmark"]
    blocker.execute(HOLD)
    arrived.clear()
    waiting = [
        asyncio.ensure_future(end_of(call(wire, name, CALLS[name]("held"))))
        for name in [*changes, "Send"] * 5
    ]
    waiting += [asyncio.ensure_future(end_of(wire.store("held", "x"))) for _ in range(10)]
    await until_async(lambda: len(arrived) == 30, "all changes have begun")
    for i in range(20):
        assert (await wire.store("free", "x")).first_seq == i + 1
        await wire.get("held")
    await until_waiting(database_url, 0)
    assert not any(one.done() for one in waiting)
    blocker.rollback()
    ends = await asyncio.gather(*waiting)
    assert {end.reason for end in ends if end} <= {"BOOKMARK_ALREADY_EXISTS", "TURN_RUNNING"}


async def test_a_deadline_that_passes_while_a_change_waits_is_a_typed_error(
    wire: Wire, blocker: psycopg.Connection
) -> None:
    await wire.create("held")
    blocker.execute(HOLD)
    before = blocker.execute("SELECT to_jsonb(s) FROM sessions AS s").fetchall()
    calls = [call(wire, name, CALLS[name]("held"), timeout=8.0) for name in SESSION_CHANGES]
    for error in await asyncio.gather(*map(error_of, calls)):
        assert error.code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.reason == "SESSION_BUSY"
        assert error.retry_s
        assert error.metadata["session_id"] == "held"
    assert blocker.execute("SELECT to_jsonb(s) FROM sessions AS s").fetchall() == before
    blocker.rollback()


async def test_too_many_changes_that_wait_for_a_held_session_are_refused_at_once(
    wire: Wire,
    blocker: psycopg.Connection,
    arrived: list[str],
    found_locked: list[UUID],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locked, "MAX_WAITING", 2)
    await wire.create("held")

    def change() -> "asyncio.Task[WireError | None]":
        return asyncio.ensure_future(
            end_of(call(wire, "UpdateSession", CALLS["UpdateSession"]("held")))
        )

    blocker.execute(HOLD)
    arrived.clear()
    waiting = [change(), change()]
    await until_async(lambda: len(arrived) == 2, "both have begun")
    await until_async(lambda: bool(found_locked), "the session is known to be locked")
    refused = await change()
    assert refused
    assert refused.reason == "SESSION_BUSY"
    blocker.rollback()
    assert await asyncio.gather(*waiting) == [None, None]
    # Without a lock of another program, any number of calls may wait for each other.
    assert await asyncio.gather(*(change() for _ in range(10))) == [None] * 10


async def test_an_import_waits_for_a_held_session(
    wire: Wire, blocker: psycopg.Connection, found_locked: list[UUID]
) -> None:
    await wire.create("held")
    blocker.execute(HOLD)
    importing = asyncio.ensure_future(wire.import_("held", [[openai("x")], [openai("y")]]))
    await until_async(lambda: bool(found_locked), "it waits in memory")
    assert not importing.done()
    blocker.rollback()
    assert (await importing).last_seq == 2


async def test_a_lock_on_a_table_refuses_what_needs_it_and_nothing_else(
    wire: Wire, blocker: psycopg.Connection
) -> None:
    for session_id in ("one", "two"):
        await wire.create(session_id)
        await wire.store(session_id, "x")
    blocker.execute("LOCK TABLE messages")
    refused = [
        asyncio.ensure_future(end_of(call(wire, name, CALLS[name](session_id))))
        for name in ("StoreMessages", "BatchStoreMessages", "GetMessages", "ListMessages")
        for session_id in ("one", "two")
        for _ in range(5)
    ]
    for _ in range(20):
        assert (await wire.get("one")).last_seq == 1
    for end in await asyncio.gather(*refused):
        assert end is None or (end.reason, end.retry_s) == ("OVERLOADED", 1.0)
    blocker.rollback()
    assert (await wire.store("one", "y")).first_seq == 2
    assert await wire.texts("two") == ["x"]


async def test_a_held_lease_refuses_its_acknowledgement_and_no_other(
    wire: Wire, blocker: psycopg.Connection
) -> None:
    await fill(wire)
    leased = await lease_one(wire)
    blocker.execute("SELECT FROM processing FOR UPDATE")
    acks = [asyncio.ensure_future(end_of(ack(wire, leased))) for _ in range(8)]
    for _ in range(20):
        await wire.list()
    for end in await asyncio.gather(*acks):
        assert end
        assert (end.reason, end.retry_s) == ("OVERLOADED", 1.0)
    blocker.rollback()
    await ack(wire, leased)
