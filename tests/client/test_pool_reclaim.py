"""Pools take sessions back: abandoned ones, overdue ones, and all when they close."""

import asyncio
import gc
import logging

import pytest

from sessiond import AsyncSessionPool, errors

from ..support.waiting import until_async


async def test_a_garbage_collected_handle_is_taken_back(colour, sessions, pools, caplog) -> None:
    async with pools(size=1) as pool:
        held = [await colour.call(pool.acquire)]
        waiting = asyncio.ensure_future(colour.call(pool.acquire, timeout=100))
        await until_async(lambda: len(pool._places._waiters) == 1, "one waits")
        with caplog.at_level(logging.WARNING, "sessiond"):
            held.clear()
            gc.collect()
            second = await waiting
        await until_async(lambda: sessions.deleted == sessions.copies[:1], "it was deleted")
        await until_async(lambda: "without a release" in caplog.text, "it is logged")
        assert second.session_id == sessions.copies[1]


async def test_an_expired_lease_is_taken_back(colour, sessions, pools, caplog) -> None:
    async with pools(size=1, lease_timeout=0.05) as pool:
        with caplog.at_level(logging.WARNING, "sessiond"):
            late = await colour.call(pool.acquire)
            await until_async(lambda: late.session_id in sessions.deleted, "it was taken back")
        await until_async(lambda: "for longer than 0.05 seconds" in caplog.text, "it is logged")
        with pytest.raises(errors.SessionNotFound):
            await colour.call(late.refresh)
        with pytest.raises(ValueError, match="taken back"):
            await colour.call(pool.release, late)
        assert (pool.available, pool.leased) == (1, 0)


async def test_a_block_longer_than_its_lease_is_logged(colour, client, sessions, caplog) -> None:
    if not colour.is_async:
        pytest.skip("the same code")
    with caplog.at_level(logging.WARNING, "sessiond"):
        async with AsyncSessionPool(client, 1, lease_timeout=0.05) as pool, pool.lease() as session:
            await until_async(lambda: session.session_id in sessions.deleted, "it was taken back")
    assert "before its block was done" in caplog.text


async def test_closing(colour, sessions, pools) -> None:
    async with pools(size=1) as pool:
        held = await colour.call(pool.acquire)
        waiting = asyncio.ensure_future(colour.call(pool.acquire))
        await until_async(lambda: len(pool._places._waiters) == 1, "one waits")
        await colour.call(pool.close)
        with pytest.raises(errors.PoolClosed):
            await waiting
        for call in (pool.acquire, pool.initialize):
            with pytest.raises(errors.PoolClosed):
                await colour.call(call)
        # A release after close, and a second close, do nothing.
        await colour.call(pool.release, held)
        await colour.call(pool.close)
    assert sessions.there == {}
    assert pool.leased == 0


async def test_closing_waits_for_a_running_deletion(colour, server, sessions, pools) -> None:
    async with pools(size=1) as pool:
        held = [await colour.call(pool.acquire)]
        sessions.hold_deletions = asyncio.Event()
        held.clear()
        gc.collect()
        await until_async(lambda: len(server.of("DeleteSession")) == 1, "it is being removed")
        closing = asyncio.ensure_future(colour.call(pool.close))
        await until_async(lambda: pool._closed, "it is being closed")
        # The deletion of the template must wait for the running deletion.
        done, _ = await asyncio.wait({closing}, timeout=0.3)
        assert not done
        assert len(server.of("DeleteSession")) == 1
        sessions.hold_deletions.set()
        await closing
    assert sessions.there == {}


async def test_closing_while_one_is_copied(colour, sessions, pools) -> None:
    async with pools(size=1) as pool:
        await colour.call(pool.initialize)
        sessions.hold = asyncio.Event()
        waiting = asyncio.ensure_future(colour.call(pool.acquire))
        await until_async(lambda: len(sessions.copies) == 1, "it is copied")
        await colour.call(pool.close)
        sessions.hold.set()
        with pytest.raises(errors.PoolClosed):
            await waiting
    assert sessions.there == {}
