"""Session pools on a real server: no borrower sees the messages of another."""

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

from sessiond import AsyncClient, AsyncSessionPool, PoolTimeout, SessionNotFound
from sessiond_server.server import Running

RULES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello."},
    {"role": "assistant", "content": "Hi."},
]


@pytest.fixture
async def client(server: Running) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"127.0.0.1:{server.port}") as opened:
        yield opened


async def test_fifty_tasks_share_five_sessions_without_mixing(client: AsyncClient) -> None:
    leased: set[str] = set()
    most = 0
    async with AsyncSessionPool(client, size=5, messages=RULES) as pool:

        async def work(number: int) -> str:
            nonlocal most
            async with pool.lease(timeout=60) as session:
                assert session.session_id not in leased
                leased.add(session.session_id)
                most = max(most, pool.leased)
                first = await session.send_and_wait(f"I am {number}.")
                second = await session.send_and_wait(f"Still {number}.")
                # The model received the template's three messages and the session's own ones.
                assert (first.content, second.content) == (
                    f"echo of 4 messages: I am {number}.",
                    f"echo of 6 messages: Still {number}.",
                )
                return session.session_id

        ids = await asyncio.gather(*[work(number) for number in range(50)])
        assert (len(set(ids)), most, pool.leased, pool.available) == (50, 5, 0, 5)
    assert await client.list_sessions().to_list() == []


async def test_a_session_that_was_dropped_is_replaced(client: AsyncClient) -> None:
    async with AsyncSessionPool(client, size=1, lease_timeout=None) as pool:
        session = await pool.acquire()
        with pytest.raises(PoolTimeout):
            await pool.acquire(timeout=0.05)
        lost = session.session_id
        del session  # dropped without a release
        gc.collect()
        other = await pool.acquire(timeout=60)
        assert other.session_id != lost


async def test_a_borrower_whose_lease_expired_cannot_write_to_the_next_ones_session(
    client: AsyncClient,
) -> None:
    async with AsyncSessionPool(client, size=1, lease_timeout=0.1) as pool:
        slow = await pool.acquire()
        pool._lease_timeout = None  # the next lease does not expire, however slow the machine is
        other = await pool.acquire(timeout=60)
        await other.send_and_wait("mine")

        async def go_on() -> None:
            while True:
                await slow.send_and_wait("too late")

        with pytest.raises(SessionNotFound):
            await go_on()
        assert [message.content async for message in other.get_messages()] == [
            "mine",
            "echo of 1 message: mine",
        ]
