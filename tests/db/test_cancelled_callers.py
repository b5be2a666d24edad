"""Callers that are cancelled once or twice neither lose connections nor leave them open."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any

import psycopg
import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse

from sessiond_server import health as health_module
from sessiond_server.db.pool import Database
from sessiond_server.health import HealthMonitor, HealthServicer
from sessiond_server.watch.store import WatchStore


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, size=1)
    await database.open()
    await database.ping()
    yield database
    await database.close()


async def hold(database: Database, is_held: asyncio.Event, can_end: asyncio.Event) -> None:
    async with database.connection():
        is_held.set()
        await can_end.wait()


@pytest.mark.parametrize("times", [1, 2])
async def test_a_caller_that_is_cancelled_as_it_returns_its_connection_does_not_lose_it(
    database: Database, times: int
) -> None:
    is_held, can_end = asyncio.Event(), asyncio.Event()
    caller = asyncio.create_task(hold(database, is_held, can_end))
    await is_held.wait()
    # Hold the pool's lock, as the pool does while it hands a connection to another caller.
    async with database._pool._lock:
        can_end.set()
        for _ in range(5):
            await asyncio.sleep(0)
        for _ in range(times):
            caller.cancel()
            await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await caller
    await database.ping()


async def test_a_caller_that_is_cancelled_as_the_lock_changes_hands_loses_no_connection(
    database: Database,
) -> None:
    is_held, can_end = asyncio.Event(), asyncio.Event()
    caller = asyncio.create_task(hold(database, is_held, can_end))
    await is_held.wait()
    async with database._pool._lock:
        other = asyncio.create_task(database._pool._lock.acquire())
        await asyncio.sleep(0)
        can_end.set()
    # The lock is released, and given to the next waiter, which is `other`.
    await asyncio.sleep(0)
    caller.cancel()
    await other
    database._pool._lock.release()
    with suppress(asyncio.CancelledError):
        await caller
    await database.ping()


async def test_a_caller_that_is_cancelled_twice_in_a_transaction_does_not_lose_its_connection(
    database: Database,
) -> None:
    async def change() -> None:
        async with database.connection() as connection:
            await connection.execute("BEGIN")
            is_open.set()
            await asyncio.Event().wait()

    is_open = asyncio.Event()
    caller = asyncio.create_task(change())
    await is_open.wait()
    while not caller.done():
        caller.cancel()
        await asyncio.sleep(0)
    await database.ping()


async def probe(database: Database, is_used: asyncio.Event) -> None:
    class Servicer(HealthServicer):
        async def set(self, service: str, status: HealthCheckResponse.ServingStatus) -> None:
            is_used.set()

    await HealthMonitor(database, Servicer()).run()


async def listen(database: Database, is_used: asyncio.Event) -> None:
    async with aclosing(WatchStore(database).listen()) as received:
        async for _ in received:
            is_used.set()


@pytest.mark.parametrize("use", [probe, listen])
async def test_a_task_that_is_cancelled_twice_closes_the_connection_of_its_own(
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    use: Callable[[Database, asyncio.Event], Coroutine[Any, Any, None]],
) -> None:
    made: list[psycopg.AsyncConnection] = []
    database = Database(database_url)
    connect = database.connect_alone

    async def noted(application_name: str) -> psycopg.AsyncConnection:
        made.append(await connect(application_name))
        return made[-1]

    monkeypatch.setattr(database, "connect_alone", noted)
    monkeypatch.setattr(health_module, "PROBE_INTERVAL_S", 60)
    # psycopg then yields to the event loop in each operation, not only every 5 milliseconds.
    monkeypatch.setattr("psycopg.waiting.MAX_BUSY_TIME", 0)
    is_used = asyncio.Event()
    task = asyncio.create_task(use(database, is_used))
    await is_used.wait()
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    assert [connection.closed for connection in made] == [True]
