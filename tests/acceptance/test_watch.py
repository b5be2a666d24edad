"""10,000 appends to two server processes, while watchers disconnect and resume: each has every message exactly once, in order."""

import asyncio
import random
from collections.abc import Callable

import pytest

from sessiond import AsyncClient

from ..support.processes import ServerProcess

Start = Callable[..., ServerProcess]

APPENDS = 10_000
WRITERS = 8
WATCHERS = 12
PATIENCE_S = 300


@pytest.mark.slow
async def test_watchers_that_come_and_go_miss_nothing(database_url: str, start_server: Start) -> None:
    servers = [await asyncio.to_thread(start_server, SESSIOND_DATABASE_URL=database_url) for _ in range(2)]
    chance = random.Random(7)
    async with AsyncClient(servers[0].target) as here, AsyncClient(servers[1].target) as there:
        await here.create_session("one")

        async def write(client: AsyncClient) -> None:
            for i in range(APPENDS // WRITERS):
                await client.sessions.store_message("one", {"role": "user", "content": f"{i}"})

        async def watch() -> tuple[list[int], int]:
            seqs: list[int] = []
            visits = 0
            while len(seqs) < APPENDS:
                visits += 1
                left = chance.randint(1, 2000)
                # Each time at any of the servers, in a connection of its own, which breaks off as it likes.
                async with AsyncClient(chance.choice(servers).target) as client:
                    async for event in client.sessions.events("one", seqs[-1] if seqs else 0):
                        if event.seq:
                            seqs.append(event.seq)
                            left -= 1
                        if not left or len(seqs) == APPENDS:
                            break
            return seqs, visits

        async with asyncio.timeout(PATIENCE_S):
            watching = asyncio.gather(*(watch() for _ in range(WATCHERS)))
            await asyncio.gather(*(write(client) for client in (here, there) for _ in range(WRITERS // 2)))
            results = await watching
    assert all(seqs == list(range(1, APPENDS + 1)) for seqs, _ in results)
    assert sum(visits for _, visits in results) > WATCHERS
