"""Pools: fresh copies on loan, in the order of the calls."""

import asyncio
import logging
import threading
from typing import Any

import grpc
import pytest

from sessiond import AsyncSessionPool, SessionPool, errors

from ..support.waiting import until_async


async def test_each_lease_is_a_fresh_copy(colour, server, sessions, pools) -> None:
    messages = [{"role": "system", "content": "Be brief."}]
    async with pools(
        model="m", config={"k": 1}, messages=messages, session_id_prefix="p-", lease_timeout=50
    ) as pool:
        assert server.received == []
        await colour.call(pool.initialize)
        (template,) = sessions.there
        assert [piece.messages[0].json for piece in server.of("ImportMessages")[0]] == [
            '{"role":"system","content":"Be brief."}'
        ]
        first = await colour.call(pool.acquire)
        second = await colour.call(pool.acquire)
        assert (pool.size, pool.available, pool.leased) == (2, 0, 2)
        await colour.call(pool.release, first)
        assert (pool.available, pool.leased) == (1, 1)
        third = await colour.call(pool.acquire)
        ids = [session.session_id for session in (first, second, third)]
        assert sessions.copies == ids
        assert len(set(ids)) == 3
        assert all(session_id.startswith("p-") for session_id in ids)
        assert sessions.deleted == [ids[0]]
        for request in server.of("CopySession"):
            assert (request.session_id, request.model, request.idle_ttl.seconds) == (
                template,
                "m",
                100,
            )
        assert (third.info.model, pool.leased) == ("m", 2)
        assert server.of("CreateSession")[0].session.idle_ttl.seconds >= 24 * 3600
    assert len(server.of("CreateSession")) == 1
    assert sessions.there == {}


async def test_a_given_template_is_left_alone(colour, client, sessions, pools) -> None:
    template = await colour.call(client.create_session, "template")
    for given in (template, "template"):
        async with pools(template=given) as pool:
            await colour.call(pool.acquire)
        assert list(sessions.there) == ["template"]


async def test_a_given_template_that_is_gone(colour, sessions, pools) -> None:
    async with pools(size=1, template="nothing") as pool:
        for _ in range(2):
            with pytest.raises(errors.SessionNotFound):
                await colour.call(pool.acquire)
        assert pool.available == 1


async def test_an_expired_template_is_created_again(colour, sessions, pools) -> None:
    async with pools() as pool:
        await colour.call(pool.initialize)
        sessions.there.clear()
        await colour.call(pool.acquire)
    assert sessions.there == {}


async def test_a_template_that_cannot_be_filled_is_not_kept(
    colour, server, sessions, pools
) -> None:
    server.on(
        "ImportMessages",
        server.abort(grpc.StatusCode.INVALID_ARGUMENT, "no", reason="UNKNOWN_ROLE"),
    )
    async with pools(messages=[{"role": "king"}]) as pool:
        with pytest.raises(errors.UnknownRole):
            await colour.call(pool.initialize)
        assert sessions.there == {}


async def test_keep_destroys_returned_sessions(colour, server, sessions, pools) -> None:
    async with pools(keep=True) as pool:
        session = await colour.call(pool.acquire)
        await colour.call(pool.release, session)
        assert [request.session_id for request in server.of("DestroySession")] == [
            session.session_id
        ]
        assert server.of("UpdateSession")[0].session.never_expires
    # Only the template was deleted.
    assert len(sessions.deleted) == 1
    assert list(sessions.there) == [session.session_id]


async def test_as_blocks(colour, client, sessions) -> None:
    used: list[str] = []
    if colour.is_async:
        async with AsyncSessionPool(client, 1) as pool, pool.lease() as session:
            used.append(session.session_id)
            assert pool.leased == 1
        with pytest.raises(ZeroDivisionError):
            async with AsyncSessionPool(client, 1) as pool, pool.lease(timeout=5):
                raise ZeroDivisionError
    else:

        def blocks() -> None:
            with SessionPool(client, 1) as pool, pool.lease() as session:
                used.append(session.session_id)
                assert pool.leased == 1
            with (
                pytest.raises(ZeroDivisionError),
                SessionPool(client, 1) as pool,
                pool.lease(timeout=5),
            ):
                raise ZeroDivisionError

        await asyncio.to_thread(blocks)
    assert used == sessions.copies[:1]
    assert sessions.there == {}


async def test_only_leased_sessions_can_be_released(colour, client, sessions, pools) -> None:
    foreign = await colour.call(client.create_session, "foreign")
    async with pools() as pool:
        session = await colour.call(pool.acquire)
        await colour.call(pool.release, session)
        for other in (session, foreign):
            with pytest.raises(ValueError, match="not on loan"):
                await colour.call(pool.release, other)
        assert (pool.available, pool.leased) == (2, 0)
    assert "foreign" in sessions.there


async def test_fifty_tasks_over_five_leases(colour, sessions, pools) -> None:
    at_once, most, lock = 0, 0, threading.Lock()

    def count(change: int) -> None:
        nonlocal at_once, most
        with lock:
            at_once += change
            most = max(most, at_once)

    async with pools(size=5) as pool:

        async def borrow() -> None:
            async with pool.lease(timeout=100) as session:
                count(1)
                await session.refresh()
                count(-1)

        def borrow_sync() -> None:
            with pool.lease(timeout=100) as session:
                count(1)
                session.refresh()
                count(-1)

        if colour.is_async:
            await asyncio.gather(*(borrow() for _ in range(50)))
        else:
            threads = [threading.Thread(target=borrow_sync) for _ in range(50)]
            for thread in threads:
                thread.start()
            for thread in threads:
                await asyncio.to_thread(thread.join)
        assert (pool.available, pool.leased) == (5, 0)
    assert 1 < most <= 5
    assert len(set(sessions.copies)) == 50
    assert sessions.there == {}


async def test_sessions_are_lent_in_the_order_of_the_calls(colour, sessions, pools) -> None:
    served: list[int] = []
    async with pools(size=1) as pool:
        held = await colour.call(pool.acquire)

        async def wait(number: int) -> None:
            session = await colour.call(pool.acquire, timeout=100)
            served.append(number)
            await colour.call(pool.release, session)

        waiting = []
        for number in range(4):
            waiting.append(asyncio.ensure_future(wait(number)))
            await until_async(
                lambda number=number: len(pool._places._waiters) == number + 1, "it waits"
            )
        await colour.call(pool.release, held)
        await asyncio.gather(*waiting)
    assert served == [0, 1, 2, 3]


async def test_waiting_for_too_long(colour, sessions, pools) -> None:
    async with pools(size=1) as pool:
        session = await colour.call(pool.acquire)
        for timeout in (0.01, 0):
            with pytest.raises(errors.PoolTimeout, match="all 1 sessions") as caught:
                await colour.call(pool.acquire, timeout=timeout)
            assert isinstance(caught.value, TimeoutError)
        await colour.call(pool.release, session)
        # Calls that timed out no longer wait for a place.
        await colour.call(pool.acquire, timeout=0)


async def test_a_cancelled_wait_loses_no_place(server, colour, sessions, pools) -> None:
    if not colour.is_async:
        pytest.skip("threads are not cancelled")
    async with pools(size=1) as pool:
        session = await pool.acquire()
        cancelled, patient = (
            asyncio.ensure_future(pool.acquire()),
            asyncio.ensure_future(pool.acquire()),
        )
        await until_async(lambda: len(pool._places._waiters) == 2, "they wait")
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await pool.release(session)
        session = await patient
        # Cancel a call just when it receives the place.
        cancelled = asyncio.ensure_future(pool.acquire())
        await until_async(lambda: len(pool._places._waiters) == 1, "it waits")
        releasing = asyncio.ensure_future(pool.release(session))
        while pool._places._waiters:
            await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await releasing
        assert (pool.available, pool.leased) == (1, 0)
        await pool.acquire(timeout=0)


async def test_a_cancelled_copy_loses_nothing(colour, sessions, pools) -> None:
    if not colour.is_async:
        pytest.skip("threads are not cancelled")
    async with pools(size=1) as pool:
        await pool.initialize()
        sessions.hold = asyncio.Event()
        cancelled = asyncio.ensure_future(pool.acquire())
        await until_async(lambda: len(sessions.copies) == 1, "it is copied")
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert pool.available == 1
        # The pool deletes the copy that was made for the cancelled call.
        await until_async(lambda: sessions.deleted == sessions.copies, "it was deleted")


async def test_a_copy_that_fails_loses_no_place(colour, server, sessions, pools) -> None:
    async with pools(size=1) as pool:
        server.on(
            "CopySession",
            server.abort(grpc.StatusCode.FAILED_PRECONDITION, "x", reason="SESSION_TOO_LARGE"),
            sessions._copy,
        )
        with pytest.raises(errors.SessionTooLarge):
            await colour.call(pool.acquire)
        await colour.call(pool.acquire, timeout=0)


async def test_a_deletion_that_fails_loses_no_place(
    colour, server, sessions, pools, caplog
) -> None:
    async with pools(size=1) as pool:
        session = await colour.call(pool.acquire)
        server.on(
            "DeleteSession",
            server.abort(grpc.StatusCode.INTERNAL, "x", reason="INTERNAL"),
            sessions._delete,
        )
        with caplog.at_level(logging.WARNING, "sessiond"):
            await colour.call(pool.release, session)
        assert "is left to expire" in caplog.text
        await colour.call(pool.acquire, timeout=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"size": 0},
        {"lease_timeout": 0},
        {"lease_timeout": float("inf")},
        {"template": "t", "messages": [{"role": "user"}]},
    ],
)
async def test_bad_arguments_of_a_pool_are_refused(
    client, colour, settings: dict[str, Any]
) -> None:
    with pytest.raises(ValueError):
        (AsyncSessionPool if colour.is_async else SessionPool)(client, **settings)


async def test_without_a_lease_timeout_copies_do_not_expire(
    colour, server, sessions, pools
) -> None:
    async with pools(lease_timeout=None) as pool:
        await colour.call(pool.acquire)
        assert not server.of("CopySession")[0].HasField("idle_ttl")
