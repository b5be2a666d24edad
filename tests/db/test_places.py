"""Tests of Places: how the connections of the pool are divided among kinds of work."""

import asyncio
from collections.abc import Awaitable

import pytest
from psycopg_pool import PoolTimeout, TooManyRequests

from sessiond_server.core.work import begin_work
from sessiond_server.db.places import CallsRefused, Places
from sessiond_server.db.pool import Database, LockTimeout


def taken(places: Places, kind: str, count: int) -> int:
    """Try to take some places; return how many were given."""
    return sum(places.take(kind) for _ in range(count))


async def waiting(places: Places, kind: str, timeout_s: float = 60) -> "asyncio.Task[float]":
    """Return a task that waits for a place."""
    before = places.waiting
    task = asyncio.create_task(places.wait(kind, timeout_s))
    while places.waiting == before:
        await asyncio.sleep(0)
    return task


async def is_given(task: Awaitable[float]) -> bool:
    for _ in range(3):
        await asyncio.sleep(0)
    return asyncio.ensure_future(task).done()


def test_the_last_quarter_is_left_to_kinds_that_hold_none() -> None:
    places = Places(16)
    assert [taken(places, kind, 100) for kind in ("read", "list", "get", "send")] == [12, 1, 1, 1]


@pytest.mark.parametrize(("size", "most"), [(1, 1), (2, 1), (3, 2), (4, 3), (5, 4), (8, 6)])
def test_small_pools_have_shares(size: int, most: int) -> None:
    places = Places(size)
    assert taken(places, "read", 100) == most
    assert taken(places, "get", 1) == 1


def test_unknown_work_is_not_limited() -> None:
    assert taken(Places(4), "", 100) == 100


async def test_places_go_to_the_kind_that_has_waited_for_longest() -> None:
    places = Places(4)
    assert taken(places, "read", 9) == 3
    assert taken(places, "list", 9) == 1
    first, second = await waiting(places, "list"), await waiting(places, "read")
    third = await waiting(places, "list")
    places.release("read")  # the last quarter stays free
    assert not await is_given(first)
    places.release("read")
    assert await is_given(first)
    places.release("list")
    assert await is_given(second)
    assert not await is_given(third)
    places.release("list")
    assert await is_given(third)
    assert places.waiting == 0


async def test_a_caller_that_leaves_passes_its_place_on() -> None:
    places = Places(2)
    assert places.take("read")
    first, second = await waiting(places, "read"), await waiting(places, "read")
    places.release("read")  # gives the place to the first, which is cancelled before it runs
    first.cancel()
    assert await is_given(second)
    places.release("read")
    assert places.take("read")


async def test_callers_wait_for_as_long_as_for_a_connection() -> None:
    places = Places(2)
    assert places.take("read")
    with pytest.raises(PoolTimeout):
        await places.wait("read", 0)
    assert places.waiting == 0
    assert places.stats()["requests_errors"] == 1
    places.release("read")
    assert places.take("read")


async def test_only_so_many_callers_wait() -> None:
    places = Places(1)
    assert places.take("read")
    callers = [await waiting(places, "read") for _ in range(64)]
    with pytest.raises(TooManyRequests):
        await places.wait("read", 60)
    places.refuse("read")
    for caller in callers:
        with pytest.raises(CallsRefused):
            await caller


async def test_callers_that_wait_behind_a_lock_are_refused_with_it(database_url: str) -> None:
    database = Database(database_url, size=2)
    await database.open()
    begin_work("read")
    async with database.connection():
        ping = asyncio.create_task(database.ping())
        while not database.pool_stats()["requests_waiting"]:
            await asyncio.sleep(0)
        database.refuse_waiting("list")
        await asyncio.sleep(0)
        assert not ping.done()
        database.refuse_waiting("read")
        with pytest.raises(LockTimeout):
            await ping
    await database.ping()
    await database.close()
