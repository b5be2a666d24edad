"""A PostgreSQL that stands still, and one whose rows and tables are locked, with many clients."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import grpc
import psycopg
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from sessiond import AsyncClient, AsyncSession
from sessiond.errors import SessiondError
from sessiond.v1.session_service_pb2 import GetSessionRequest, StoreMessagesRequest
from sessiond_server.db import migrate
from sessiond_server.embedded import EmbeddedPostgres

from ..support.integrity import assert_url_whole
from ..support.processes import ServerProcess
from ..support.stopping import stopped
from ..support.waiting import PATIENCE_S
from ..support.wire import Wire, openai, taken_apart

Start = Callable[..., ServerProcess]

# The errors with which raw calls may end while the database does not respond.
DOCUMENTED = {"DATABASE_UNAVAILABLE", "OVERLOADED", "DEADLINE_EXCEEDED"}
TIMEOUT_S = 120.0
RAW_TIMEOUT_S = 8.0
# Each client has a connection of its own.
OPTIONS = [("grpc.use_local_subchannel_pool", 1)]


@pytest.fixture
def postgres_alone(data_dir: Path) -> Iterator[str]:
    """The URL of a PostgreSQL that no other test uses."""
    embedded = EmbeddedPostgres(data_dir)
    try:
        url = embedded.start()
        migrate.upgrade(url)
        yield url
    finally:
        embedded.stop()


class Health:
    """Follows the status of a server.

    Attributes:
        changes: the server's statuses so far, in order.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.changes: list[int] = []
        self._watch = HealthStub(channel).Watch(HealthCheckRequest())

    async def until(self, status: int) -> None:
        """Return when the server has a status."""
        while not self.changes or self.changes[-1] != status:
            async with asyncio.timeout(PATIENCE_S):
                self.changes.append((await self._watch.read()).status)


class Callers:
    """Clients that append, read, list, watch and send, each to its own session.

    Attributes:
        done: how often each kind of call has succeeded.
        errors: what clients have raised.
        phase: the name of the present phase of the test.
        times: the durations of the calls that began in a phase, in seconds, by phase.
    """

    def __init__(self, target: str, count: int) -> None:
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.phase = "idle"
        self.times: defaultdict[str, list[float]] = defaultdict(list)
        self._target = target
        self._count = count
        self._is_over = asyncio.Event()

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """Let the clients call during the block. Before the block, each makes a round of calls."""
        begun = asyncio.Semaphore(0)
        tasks = [asyncio.create_task(self._run(number, begun)) for number in range(self._count)]
        try:
            for _ in tasks:
                async with asyncio.timeout(PATIENCE_S):
                    await begun.acquire()
            yield
        finally:
            self._is_over.set()
            await asyncio.gather(*tasks)

    async def _run(self, number: int, begun: asyncio.Semaphore) -> None:
        async with AsyncClient(self._target, timeout=TIMEOUT_S, options=OPTIONS) as client:
            session = await client.create_session(f"caller-{number}", model="echo")
            texts: list[str] = []
            kinds = (self._append, self._read, self._list, self._send)
            while not self._is_over.is_set():
                # Most calls are appends, as in real life.
                for kind in (self._append, kinds[(number + len(texts)) % len(kinds)]):
                    await self._counted(kind, client, session, texts)
                begun.release()
                # The pause grows with the number of clients, because all of them run in this
                # process.
                await asyncio.sleep(self._count / 100)
            found = [message.content async for message in session.get_messages(roles=["user"])]
            assert found == texts, f"{session.session_id}: {len(texts)} acknowledged"

    async def _counted(
        self,
        kind: Callable[[AsyncClient, AsyncSession, list[str]], Coroutine[Any, Any, None]],
        client: AsyncClient,
        session: AsyncSession,
        texts: list[str],
    ) -> None:
        phase, began = self.phase, time.monotonic()
        try:
            await kind(client, session, texts)
            self.done[kind.__name__.strip("_")] += 1
            self.times[phase].append(time.monotonic() - began)
        except SessiondError as error:
            self.errors[f"{kind.__name__.strip('_')}: {error!s:.200}"] += 1

    def told(self) -> str:
        """Return what the clients did, for people who compare the latencies."""
        p99 = {
            phase: f"p99 of {len(times)} calls {quantiles(times, n=100)[98] * 1000:.0f} ms"
            for phase, times in self.times.items()
            if len(times) > 1
        }
        return f"{dict(self.done)} {dict(self.errors)} {p99}"

    async def _append(self, _: AsyncClient, session: AsyncSession, texts: list[str]) -> None:
        text = f"message {len(texts)}"
        await session.store_message({"role": "user", "content": text})
        texts.append(text)

    async def _read(self, _: AsyncClient, session: AsyncSession, texts: list[str]) -> None:
        read = await session.get_messages(roles=["user"]).to_list()
        assert [message.content for message in read] == texts

    async def _list(self, client: AsyncClient, session: AsyncSession, _: list[str]) -> None:
        listed = await client.list_sessions(session_id_prefix=session.session_id).to_list()
        assert session.session_id in {info.session_id for info in listed}

    async def _send(self, _: AsyncClient, session: AsyncSession, texts: list[str]) -> None:
        text = f"prompt {len(texts)}"
        await session.send_and_wait(text, timeout=TIMEOUT_S)
        texts.append(text)


async def raw_ends(wire: Wire, count: int) -> Counter[str]:
    """Make calls without retries, and return their results."""
    return Counter(await asyncio.gather(*(raw_end(wire, number) for number in range(count))))


async def raw_end(wire: Wire, number: int) -> str:
    call: Any = (
        wire.sessions.StoreMessages(
            StoreMessagesRequest(session_id="raw", messages=[openai("x")]), timeout=RAW_TIMEOUT_S
        )
        if number % 2
        else wire.sessions.GetSession(GetSessionRequest(session_id="raw"), timeout=RAW_TIMEOUT_S)
    )
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return taken_apart(error).reason or error.code().name
    return "OK"


@pytest.mark.parametrize(
    ("clients", "stop_s"),
    [
        (20, 0),
        pytest.param(500, 20, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
async def test_a_database_that_stands_still_costs_no_client_an_error(
    start_server: Start, postgres_alone: str, data_dir: Path, clients: int, stop_s: float
) -> None:
    """The database stands still at least until the health service reports it."""
    server = await asyncio.to_thread(start_server, SESSIOND_DATABASE_URL=postgres_alone)
    callers = Callers(server.target, clients)
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.target))
        wire, health = Wire(channel), Health(channel)
        await wire.create("raw")
        await health.until(HealthCheckResponse.SERVING)
        async with callers.calling():
            callers.phase = "stopped"
            with stopped(data_dir):
                raw = asyncio.create_task(raw_ends(wire, clients // 5))
                await asyncio.sleep(stop_s)
                await health.until(HealthCheckResponse.NOT_SERVING)
                liveness = HealthCheckRequest(service="liveness")
                alive = await HealthStub(channel).Check(liveness, timeout=RAW_TIMEOUT_S)
                assert alive.status == HealthCheckResponse.SERVING
                ends = await raw
            await health.until(HealthCheckResponse.SERVING)
            after = await raw_ends(wire, 10)
    print(callers.told(), dict(ends), dict(after))
    assert not callers.errors
    assert set(ends) <= DOCUMENTED
    assert after == {"OK": 10}
    assert health.changes == [
        HealthCheckResponse.SERVING,
        HealthCheckResponse.NOT_SERVING,
        HealthCheckResponse.SERVING,
    ]
    assert '"level": "error"' not in server.log.read_text()
    await assert_url_whole(postgres_alone)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("hold", "reason"),
    [
        ("SELECT FROM sessions WHERE session_id = 'raw' FOR UPDATE", "SESSION_BUSY"),
        ("LOCK TABLE sessions, messages", "OVERLOADED"),
    ],
    ids=["session", "tables"],
)
async def test_locks_of_others_cost_no_client_an_error(
    start_server: Start, database_url: str, hold: str, reason: str
) -> None:
    """500 clients call all the time. 30 more appends, without retries, begin during the lock."""
    server = await asyncio.to_thread(start_server, SESSIOND_DATABASE_URL=database_url)
    callers = Callers(server.target, 500)
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.target))
        wire, health = Wire(channel), Health(channel)
        await wire.create("raw")
        await health.until(HealthCheckResponse.SERVING)
        async with callers.calling():
            await asyncio.sleep(20)
            with psycopg.connect(database_url) as blocker:
                callers.phase = "locked"
                blocker.execute(hold.encode())
                ends = Counter(await asyncio.gather(*(raw_end(wire, 1) for _ in range(30))))
                await asyncio.sleep(20 - RAW_TIMEOUT_S)
                callers.phase = "after"
    print(callers.told(), dict(ends))
    assert not callers.errors
    assert set(ends) == {reason}
    assert health.changes == [HealthCheckResponse.SERVING]
    assert '"level": "error"' not in server.log.read_text()
    await assert_url_whole(database_url)
