"""Watch at scale: each message once and in order while watchers reconnect; 1,000 watchers."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import psutil
import pytest

from sessiond import AsyncClient
from sessiond.v1.conversation_service_pb2 import WatchRequest

from ..support.processes import ServerProcess
from ..support.proxy import CuttingProxy
from ..support.wire import Wire, taken_apart

Start = Callable[..., ServerProcess]

APPENDS = 10_000
WRITERS = 8
PATIENCE_S = 280

# For each server: watchers that leave and resume, and watchers whose connections are cut.
COMERS, CUT = 3, 3
CUTS = 20
MAX_VISIT = 2000
# A watcher is sent at least a hundred bytes for each message, so all cuts are made.
MAX_BYTES_TO_CUT = CUT * APPENDS * 100 // CUTS

CROWD = 1000
SESSIONS = 100
WATCHERS_A_CONNECTION = 100
MESSAGES = 20
# A watcher takes 25 to 40 KiB (measured): its call in gRPC and asyncio, and responses that wait to
# be sent. The bound is generous, but far below a full queue (1 MiB) or a copy of the messages for
# each watcher.
MAX_GROWTH_BYTES = CROWD * 100 * 1024


@pytest.mark.slow
async def test_watchers_that_come_and_go_miss_nothing(
    database_url: str, start_server: Start
) -> None:
    """10,000 appends to two servers while watchers resume, and connections are cut, at random."""
    servers = [
        await asyncio.to_thread(start_server, SESSIOND_DATABASE_URL=database_url) for _ in range(2)
    ]
    chance = random.Random(7)
    cuts = [[chance.randint(1, MAX_BYTES_TO_CUT) for _ in range(CUTS)] for _ in servers]
    async with AsyncExitStack() as stack:
        proxies = [
            stack.enter_context(CuttingProxy(server.target, some))
            for server, some in zip(servers, cuts, strict=True)
        ]
        targets = [peer.target for peer in (*servers, *proxies)]
        here, there = [
            await stack.enter_async_context(AsyncClient(server.target)) for server in servers
        ]
        await here.create_session("one")

        async def write(client: AsyncClient) -> None:
            for i in range(APPENDS // WRITERS):
                await client.sessions.store_message("one", {"role": "user", "content": f"{i}"})

        async def come_and_go() -> list[int]:
            seqs: list[int] = []
            while len(seqs) < APPENDS:
                # Each visit is a new connection to any server, directly or through a proxy.
                left = chance.randint(1, MAX_VISIT)
                async with AsyncClient(chance.choice(targets)) as client:
                    async for event in client.sessions.events("one", seqs[-1] if seqs else 0):
                        if event.seq:
                            seqs.append(event.seq)
                            left -= 1
                        if not left or len(seqs) == APPENDS:
                            break
            return seqs

        async def stay(target: str) -> list[int]:
            seqs: list[int] = []
            async with AsyncClient(target) as client:
                async for event in client.sessions.events("one", 0):
                    if event.seq:
                        seqs.append(event.seq)
                    if len(seqs) == APPENDS:
                        break
            return seqs

        async with asyncio.timeout(PATIENCE_S):
            watching = [come_and_go() for _ in range(COMERS * len(servers))]
            watching += [stay(proxy.target) for proxy in proxies for _ in range(CUT)]
            writing = asyncio.gather(
                *(write(client) for client in (here, there) for _ in range(WRITERS // 2))
            )
            results = await asyncio.gather(*watching)
            await writing
        assert all(seqs == list(range(1, APPENDS + 1)) for seqs in results)
        assert [proxy.cuts_made for proxy in proxies] == [CUTS] * len(proxies)


class Crowd:
    """A thousand Watch calls to one server; see `crowd`."""

    def __init__(self, calls: Sequence[Any]) -> None:
        self.calls = calls
        self.seqs: list[list[int]] = [[] for _ in calls]
        self.types: list[list[str]] = [[] for _ in calls]

    async def begin(self) -> None:
        """Wait until the server has accepted all calls."""
        await asyncio.gather(*(self._read(number) for number in range(len(self.calls))))

    async def through(self, seq: int) -> None:
        """Read every call up to a message."""
        await asyncio.gather(*(self._through(number, seq) for number in range(len(self.calls))))

    async def reasons(self) -> set[str]:
        """Read every call to its end, and return the reasons of the errors."""
        return set(
            await asyncio.gather(*(self._reason(number) for number in range(len(self.calls))))
        )

    async def _through(self, number: int, seq: int) -> None:
        while not self.seqs[number] or self.seqs[number][-1] < seq:
            await self._read(number)

    async def _reason(self, number: int) -> str:
        try:
            while True:
                await self._read(number)
        except grpc.aio.AioRpcError as e:
            return taken_apart(e).reason or f"{e.code()}: {e.details()}"

    async def _read(self, number: int) -> None:
        response = await self.calls[number].read()
        if response is grpc.aio.EOF:
            await self.calls[number]  # raises the error
            raise AssertionError("a watcher ends with an error")
        self.seqs[number] += [event.seq for event in response.events if event.seq]
        self.types[number] += [event.type for event in response.events if not event.seq]


@asynccontextmanager
async def crowd(target: str, session_ids: Sequence[str]) -> AsyncIterator[Crowd]:
    """Open Watch calls over several connections, spread evenly over the sessions."""
    # Otherwise channels to one address share a connection, and the server's limit of streams.
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_S):
        channels = [
            grpc.aio.insecure_channel(target, options=options)
            for _ in range(CROWD // WATCHERS_A_CONNECTION)
        ]
        wires = [Wire(await stack.enter_async_context(channel)) for channel in channels]
        calls = [
            wires[number % len(wires)].conversations.Watch(
                WatchRequest(session_id=session_ids[number % len(session_ids)])
            )
            for number in range(CROWD)
        ]
        made = Crowd(calls)
        await made.begin()
        yield made


def check_log(server: ServerProcess) -> None:
    """Check that the server logged no error."""
    log = server.log.read_text()
    assert "Traceback" not in log
    assert '"level": "error"' not in log


@pytest.mark.parametrize("sessions", [SESSIONS, 1], ids=["many sessions", "one session"])
async def test_a_thousand_watchers_are_all_served(
    database_url: str, start_server: Start, sessions: int
) -> None:
    server = await asyncio.to_thread(start_server, SESSIOND_DATABASE_URL=database_url)
    process = psutil.Process(server.process.pid)
    session_ids = [f"session-{number}" for number in range(sessions)]
    async with AsyncClient(server.target) as client:
        for session_id in session_ids:
            await client.create_session(session_id)
            await client.sessions.store_message(session_id, {"role": "user", "content": "before"})
        before = process.memory_info().rss
        async with crowd(server.target, session_ids) as watchers:
            for number in range(MESSAGES):
                for session_id in session_ids:
                    await client.sessions.store_message(
                        session_id, {"role": "user", "content": f"{number}"}
                    )
            await watchers.through(MESSAGES + 1)
            growth = process.memory_info().rss - before
            print(
                f"{CROWD} watchers of {sessions} sessions: "
                f"{before >> 20} MiB before, {growth >> 10} KiB more"
            )
            assert all(seqs == list(range(2, MESSAGES + 2)) for seqs in watchers.seqs)
            assert growth < MAX_GROWTH_BYTES
        # All of them left at once; new watchers are served as before.
        async with crowd(server.target, session_ids) as watchers:
            await asyncio.gather(
                *(
                    client.sessions.store_message(name, {"role": "user", "content": "x"})
                    for name in session_ids
                )
            )
            await watchers.through(MESSAGES + 2)
            assert all(seqs == [MESSAGES + 2] for seqs in watchers.seqs)
    check_log(server)


async def test_a_thousand_watchers_receive_the_deletion(
    database_url: str, start_server: Start
) -> None:
    server = await asyncio.to_thread(start_server, SESSIOND_DATABASE_URL=database_url)
    async with AsyncClient(server.target) as client:
        await client.create_session("one")
        async with crowd(server.target, ["one"]) as watchers:
            await client.sessions.store_message("one", {"role": "user", "content": "x"})
            await client.sessions.delete("one")
            assert await watchers.reasons() == {"SESSION_NOT_FOUND"}
            assert all(seqs == [1] for seqs in watchers.seqs)
            assert all(types[-1:] == ["session.deleted"] for types in watchers.types)
    check_log(server)


async def test_a_server_with_a_thousand_watchers_drains(
    database_url: str, start_server: Start
) -> None:
    server = await asyncio.to_thread(start_server, SESSIOND_DATABASE_URL=database_url)
    async with AsyncClient(server.target) as client:
        await client.create_session("one")
        async with crowd(server.target, ["one", ""]) as watchers:
            ending = asyncio.create_task(asyncio.to_thread(server.terminate))
            assert await watchers.reasons() == {"SERVER_DRAINING"}
            assert await ending == 0
    check_log(server)
