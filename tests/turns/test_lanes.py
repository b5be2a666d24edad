"""Many turns at once: all are accepted, and their connections and memory are bounded."""

import asyncio
from uuid import UUID, uuid4

import pytest

from sessiond.v1.turn_pb2 import TURN_STATE_COMPLETED, TURN_STATE_RUNNING
from sessiond_server.db.pool import Database
from sessiond_server.server import Running
from sessiond_server.settings import Settings
from sessiond_server.turns.state import RunningTurn
from sessiond_server.turns.waiting import lanes as lanes_module
from sessiond_server.turns.waiting.fair import FairLane
from sessiond_server.turns.waiting.lanes import MAX_OVERTAKEN, HistoryMemory, TurnLanes

from ..support.model_server import ModelServer
from ..support.turns import send, sending
from ..support.waiting import PATIENCE_S, until_async
from ..support.wire import Wire
from .calls import send_held, turn_of

PROJECT = uuid4()
OPTIONS = {"echo_text": "one two", "echo_delay_ms": 20}


async def test_histories_wait_until_there_is_room() -> None:
    memory = HistoryMemory(10)
    order: list[str] = []

    async def hold(name: str, size: int, end: asyncio.Event) -> None:
        async with memory.hold(size):
            order.append(name)
            await end.wait()

    ends = {name: asyncio.Event() for name in "abc"}
    tasks = [
        asyncio.create_task(hold(name, size, ends[name]))
        for name, size in zip("abc", (6, 20, 4), strict=True)
    ]
    await until_async(lambda: order == ["a", "c"], "what fits is admitted")
    ends["a"].set()
    await tasks[0]
    assert order == ["a", "c"]
    ends["c"].set()
    await until_async(lambda: order == ["a", "c", "b"], "one that is too large is admitted alone")
    ends["b"].set()
    await asyncio.gather(*tasks)


async def test_a_large_history_is_not_overtaken_forever() -> None:
    memory = HistoryMemory(10)

    async def hold(size: int, end: asyncio.Event) -> None:
        async with memory.hold(size):
            await end.wait()

    async def admitted(size: int) -> tuple[asyncio.Task[None], asyncio.Event]:
        end = asyncio.Event()
        task = asyncio.create_task(hold(size, end))
        await asyncio.sleep(0)
        return task, end

    small, small_end = await admitted(1)
    large, large_end = await admitted(10)
    large_end.set()
    for _ in range(MAX_OVERTAKEN + 1):
        assert not large.done()
        # There is always a small history, because each ends after the next has begun.
        following, following_end = await admitted(1)
        small_end.set()
        await small
        small, small_end = following, following_end
    async with asyncio.timeout(PATIENCE_S):
        await large
    small_end.set()
    await small


async def test_a_cancelled_caller_gives_up_its_place_and_its_memory() -> None:
    memory, end = HistoryMemory(10), asyncio.Event()

    async def hold(size: int) -> None:
        async with memory.hold(size):
            await end.wait()

    first, large, small = (asyncio.create_task(hold(size)) for size in (6, 10, 10))
    await asyncio.sleep(0)
    large.cancel()
    first.cancel()
    await asyncio.wait([first, large])
    end.set()
    await small
    async with memory.hold(10):
        pass


async def test_histories_are_read_after_the_sends_that_wait() -> None:
    lanes, order = TurnLanes(4, 1), list[str]()
    ends = [asyncio.Event() for _ in range(3)]

    async def start(number: int) -> None:
        async with lanes.start(PROJECT):
            order.append(f"start {number}")
            await ends[number].wait()

    async def read() -> None:
        async with lanes.read(PROJECT):
            order.append("read")

    await read()
    starts = [asyncio.create_task(start(number)) for number in range(3)]
    await until_async(lambda: "start 0" in order, "one Send has a connection, and two wait")
    reading = asyncio.create_task(read())
    ends[0].set()
    await until_async(lambda: "start 1" in order, "the next one starts")
    assert "read" not in order[1:]
    ends[1].set()
    await reading
    assert order[-1] == "read" or order[-2] == "read"
    ends[2].set()
    await asyncio.gather(*starts)


async def test_a_history_is_read_though_sends_never_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "MAX_YIELD_S", 0.01)
    lanes, end = TurnLanes(4, 1), asyncio.Event()

    async def start() -> None:
        async with lanes.start(PROJECT):
            await end.wait()

    starts = [asyncio.create_task(start()) for _ in range(2)]
    await asyncio.sleep(0)
    async with lanes.read(PROJECT):
        assert not any(start.done() for start in starts)
    end.set()
    await asyncio.gather(*starts)


async def test_a_lane_serves_projects_in_turn() -> None:
    """The burst of a project delays a single caller of another project by one place."""
    lane, order, go = FairLane(1), list[str](), asyncio.Event()
    burst, single = uuid4(), uuid4()

    async def use(project: UUID, name: str) -> None:
        async with lane.place(project):
            order.append(name)
            await go.wait()

    tasks = [asyncio.create_task(use(burst, f"burst {n}")) for n in range(5)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(use(single, "single")))
    await asyncio.sleep(0)
    tasks[2].cancel()
    go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["burst 0", "burst 1", "single", "burst 3", "burst 4"]
    async with asyncio.timeout(PATIENCE_S), lane.place(single):
        pass


async def test_a_place_is_not_lost_if_its_caller_is_cancelled_as_it_gets_it() -> None:
    lane = FairLane(1)

    async def use() -> None:
        async with lane.place(PROJECT):
            pass

    async with lane.place(PROJECT):
        waiting = asyncio.create_task(use())
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    async with asyncio.timeout(PATIENCE_S), lane.place(PROJECT):
        pass


async def test_a_burst_of_one_project_does_not_delay_the_history_of_another() -> None:
    lanes, order, go = TurnLanes(4, 1), list[str](), asyncio.Event()

    async def read(project: UUID, name: str) -> None:
        async with lanes.read(project):
            order.append(name)
            await go.wait()

    tasks = [asyncio.create_task(read(PROJECT, f"burst {n}")) for n in range(5)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(read(uuid4(), "single")))
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*tasks)
    assert order.index("single") == 2


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return settings.model_copy(update=getattr(request, "param", {}))


@pytest.mark.parametrize("settings", [{"pool_size": 4, "pool_timeout_s": 1}], indirect=True)
async def test_sends_at_once_are_accepted_though_few_connections_are_there(
    wire: Wire, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool of four connections refuses more than 256 callers, and callers that wait a second."""
    for number in range(300):
        await wire.create(f"s{number}")
    in_use: list[int] = []
    connection = Database.connection

    def noted(self: Database) -> object:
        stats = self.pool_stats()
        in_use.append(stats["pool_size"] - stats["pool_available"])
        return connection(self)

    monkeypatch.setattr(Database, "connection", noted)
    sends = [send(wire, f"s{n}", "hi", model="echo", options=OPTIONS) for n in range(300)]
    turns = await asyncio.gather(*sends)
    assert {turn.state for turn in turns} == {TURN_STATE_COMPLETED}
    assert max(in_use) <= 4
    assert [message.seq for message in await wire.read("s7")] == [1, 2]


@pytest.mark.parametrize("settings", [{"max_history_bytes": 1024}], indirect=True)
async def test_a_turn_waits_for_the_memory_of_another(wire: Wire, models: ModelServer) -> None:
    for session_id in ("one", "two"):
        await wire.create(session_id)
        await wire.store(session_id, "x" * 1000)
    first = await send_held(wire, models, "one")
    second = await sending(wire, "two", "b")
    assert (await turn_of(wire, second.turn.turn_id, "two")).state == TURN_STATE_RUNNING
    assert len(models.requests) == 1
    models.release()
    await first.end()
    assert (await second.end()).state == TURN_STATE_COMPLETED


def test_a_timeout_does_not_run_while_a_turn_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    running = RunningTurn(
        uuid4(), uuid4(), uuid4(), "one", uuid4(), "m", {}, 60, 1, 1, epoch=0, began=now
    )
    now += 10
    with running.waiting():
        now += 100
        assert running.remaining_s == 50
    now += 10
    assert running.remaining_s == 40
    now += 50
    assert running.remaining_s == 0
