"""Measures many watchers of one server, from a process of their own.

measure_programs.py runs `watchers.py HERE THERE PID NAME SESSIONS WATCHERS APPENDS MESSAGES`. HERE
is the address of a new server and PID its process, THERE the address of another server on the same
database, NAME the prefix of the sessions' ids. Prints a JSON object that maps each measurement to
[unit, value]. The calls use the stubs directly, because the server is measured, not the client.
"""

import asyncio
import gc
import json
import re
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import cycle
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import uvloop
from workload import messages

from sessiond.v1.conversation_service_pb2 import WatchRequest
from sessiond.v1.conversation_service_pb2_grpc import ConversationServiceStub
from sessiond.v1.message_pb2 import FORMAT_OPENAI, Message
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import CreateSessionRequest, StoreMessagesRequest
from sessiond.v1.session_service_pb2_grpc import SessionServiceStub

WATCHERS_A_CONNECTION = 100
WRITERS = 16
WARM_UP_APPENDS = 30
PERCENTILES = (50, 99)
TIMEOUT_S = 300
# Channels to one address would otherwise share a connection, and its limit of streams.
OPTIONS = [("grpc.use_local_subchannel_pool", 1)]


Figure: TypeAlias = tuple[str, float]
"""Unit and value."""


class TimedWatcher:
    """A Watch call.

    Attributes:
        arrived: time of arrival of each seq, by time.perf_counter().
    """

    def __init__(self, channel: grpc.aio.Channel, session_id: str) -> None:
        stub: Any = ConversationServiceStub(channel)
        self.arrived: dict[int, float] = {}
        self._call = stub.Watch(WatchRequest(session_id=session_id))
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> "TimedWatcher":
        """Start, and return once the server has accepted the call."""
        self._take(await self._call.read())
        self._task = asyncio.create_task(self._follow())
        return self

    async def has(self, seq: int) -> float:
        """Wait for a message. Return its time of arrival."""
        if seq not in self.arrived:
            assert self._task
            self._waiting[seq] = asyncio.get_running_loop().create_future()
            await asyncio.wait(
                [self._waiting[seq], self._task], return_when=asyncio.FIRST_COMPLETED
            )
            if seq not in self.arrived:
                await self._task  # raises the error that ended it
        return self.arrived[seq]

    async def end(self) -> None:
        self._call.cancel()
        if self._task:
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                # The cancelled call raised an exception in the task. Read it, because asyncio would
                # report it otherwise.
                self._task.exception()

    async def _follow(self) -> None:
        while True:
            response = await self._call.read()
            if response is grpc.aio.EOF:
                await self._call  # raises the error that ended it
            self._take(response)

    def _take(self, response: Any) -> None:
        now = time.perf_counter()
        for event in response.events:
            if event.seq:
                assert event.seq not in self.arrived, "a message came twice"
                self.arrived[event.seq] = now
                if waiting := self._waiting.pop(event.seq, None):
                    waiting.set_result(None)


class Servers:
    """Connections to both servers, and the calls to them."""

    def __init__(self, here: str, there: str, stack: AsyncExitStack) -> None:
        self._targets = {"here": here, "there": there}
        self._stack = stack
        self._bodies = cycle(json.dumps(message) for message in messages(1000))

    async def open(self) -> None:
        self._sessions: Any = SessionServiceStub(await self._connect("here"))

    async def create(self, session_id: str) -> None:
        await self._sessions.CreateSession(
            CreateSessionRequest(session=Session(session_id=session_id))
        )

    async def append(self, session_id: str) -> int:
        """Store one message on the server HERE. Return its seq."""
        message = Message(format=FORMAT_OPENAI, json=next(self._bodies))
        stored = await self._sessions.StoreMessages(
            StoreMessagesRequest(session_id=session_id, messages=[message])
        )
        return int(stored.last_seq)

    async def watch(self, where: str, session_ids: Sequence[str], count: int) -> list[TimedWatcher]:
        """Start `count` watchers at once, spread evenly over the sessions."""
        channels = [await self._connect(where) for _ in range(-(-count // WATCHERS_A_CONNECTION))]
        made = [
            TimedWatcher(channels[number % len(channels)], session_ids[number % len(session_ids)])
            for number in range(count)
        ]
        for watcher in made:
            self._stack.push_async_callback(watcher.end)
        await asyncio.gather(*(watcher.begin() for watcher in made))
        return made

    async def _connect(self, where: str) -> grpc.aio.Channel:
        channel = grpc.aio.insecure_channel(self._targets[where], options=OPTIONS)
        await self._stack.enter_async_context(channel)
        await channel.channel_ready()
        return channel


async def _measure(
    here: str,
    there: str,
    pid: str,
    name: str,
    *,
    sessions: int,
    watchers: int,
    appends: int,
    rounds: int,
) -> dict[str, Figure]:
    """Run all measurements.

    Args:
        here: address of the server under test.
        there: address of another server on the same database.
        pid: process of the server under test.
        name: prefix of the sessions' ids.
        sessions: number of watched sessions.
        watchers: number of watchers at each server.
        appends: number of timed appends.
        rounds: number of messages for each session while all watchers are connected.

    Returns:
        Unit and value by measurement.
    """
    found: dict[str, Figure] = {}
    async with asyncio.timeout(TIMEOUT_S), AsyncExitStack() as stack:
        servers = Servers(here, there, stack)
        await servers.open()
        lone, session_ids = f"{name}-lone", [f"{name}-{number}" for number in range(sessions)]
        for session_id in (lone, *session_ids):
            await servers.create(session_id)
        alone = {where: (await servers.watch(where, [lone], 1))[0] for where in ("here", "there")}
        await _latencies(servers, lone, alone, WARM_UP_APPENDS)
        found |= _named(await _latencies(servers, lone, alone, appends), "alone")

        before_kib = _resident_kib(pid)
        started = time.perf_counter()
        crowd = await servers.watch("here", session_ids, watchers)
        found["join"] = "ms", (time.perf_counter() - started) * 1000
        if before_kib:
            found["memory idle"] = "KiB", (_resident_kib(pid) - before_kib) / watchers
        # The other server needs the same number of watchers, so that its deliveries, too, are
        # measured among many watchers.
        others = await servers.watch("there", session_ids, watchers)
        found |= _named(await _latencies(servers, lone, alone, appends), "among many")
        await asyncio.gather(*(watcher.end() for watcher in others))

        gc.collect()
        started = time.perf_counter()
        await _write(servers, session_ids, rounds)
        ends = [await watcher.has(rounds) for watcher in crowd]
        found["events"] = "events/s", watchers * rounds / (max(ends) - started)
        assert all(list(watcher.arrived) == list(range(1, rounds + 1)) for watcher in crowd), (
            "a message is missing, or out of order"
        )
        if before_kib:
            found["memory after messages"] = "KiB", (_resident_kib(pid) - before_kib) / watchers
    return found


async def _latencies(
    servers: Servers, session_id: str, watchers: dict[str, TimedWatcher], appends: int
) -> dict[str, list[float]]:
    """Measure the time from the acknowledgement of an append to its arrival at each watcher.

    Returns:
        Seconds by watcher. Below 0 if the message arrived before the acknowledgement.
    """
    found: dict[str, list[float]] = {where: [] for where in watchers}
    gc.collect()
    for _ in range(appends):
        seq = await servers.append(session_id)
        acknowledged = time.perf_counter()
        for where, watcher in watchers.items():
            found[where].append(await watcher.has(seq) - acknowledged)
    return found


def _named(latencies_s: dict[str, list[float]], company: str) -> dict[str, Figure]:
    named: dict[str, Figure] = {}
    for where, measured in latencies_s.items():
        cuts = statistics.quantiles(measured, n=100, method="inclusive")
        named |= {
            f"delivery {where} {company} p{percentile}": ("ms", cuts[percentile - 1] * 1000)
            for percentile in PERCENTILES
        }
    return named


async def _write(servers: Servers, session_ids: Sequence[str], rounds: int) -> None:
    """Append with WRITERS writers, each to its own sessions, which all grow at the same rate."""

    async def write(own: Sequence[str]) -> None:
        for _ in range(rounds):
            for session_id in own:
                await servers.append(session_id)

    await asyncio.gather(*(write(session_ids[number::WRITERS]) for number in range(WRITERS)))


def _resident_kib(pid: str) -> int:
    """Return the resident memory of a process in KiB. 0 = unknown (not on Linux)."""
    status = Path(f"/proc/{pid}/status")
    found = re.search(r"VmRSS:\s*(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) if found else 0


if __name__ == "__main__":
    here, there, pid, name, *counts = sys.argv[1:]
    sessions, watchers, appends, rounds = map(int, counts)
    work = _measure(
        here, there, pid, name, sessions=sessions, watchers=watchers, appends=appends, rounds=rounds
    )
    sys.stdout.write(json.dumps(uvloop.run(work)))
