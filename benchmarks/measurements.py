"""The measurements. Each goes through its subjects in turn, round after round, because a machine's speed drifts."""

import asyncio
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from database import Databases
from readers import Readers
from series import Results
from serving import serve
from subject_floor import Floor
from subject_sessiond import Sessiond
from subjects import Subject
from workload import Message, repeated

SESSIOND = "sessiond"
UNCACHED = "sessiond, page cache off"
CACHED = "sessiond, all in the page cache"
AGENTS = "openai-agents"
FLOOR = "floor"
FLOOR_COPY = "floor, COPY"
FLOOR_JSONB = "floor, jsonb"
FLOOR_ORJSON = "floor, orjson"

WRITERS = (SESSIOND, AGENTS, FLOOR)
BATCHERS = (*WRITERS, FLOOR_JSONB, FLOOR_ORJSON)
LOADERS = (*BATCHERS, FLOOR_COPY)
READERS = (SESSIOND, UNCACHED, CACHED, AGENTS, FLOOR, FLOOR_JSONB)

WARM_UP_APPENDS = 30
PERCENTILES = (50, 95, 99)
MEMORY_LEVELS = {
    SESSIOND: ("texts", "dicts", "one by one"),
    AGENTS: ("dicts",),
    FLOOR: ("texts", "dicts"),
}
MEMORY_TIMEOUT_S = 120
WATCH_TIMEOUT_S = 400
IS_MEMORY_KNOWN = Path("/proc/self/clear_refs").exists()


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. All counts."""

    rounds: int = 7
    heavy_rounds: int = 3
    """Of what starts servers."""
    loads: int = 5
    """Rounds of what writes a long session."""
    appends: int = 500
    """One after the other, in each round."""
    sessions: int = 16
    """That are appended to concurrently."""
    appends_per_session: int = 60
    batch: int = 1000
    batches: int = 20
    short: int = 5000
    """Messages of the shorter session that is read."""
    short_reads: int = 5
    """Of it, in each round."""
    long: int = 100_000
    """Messages of the longer session."""
    copied: tuple[int, ...] = (100, 5000, 100_000, 1_000_000)
    """Messages of the sessions that are copied."""
    copies: int = 30
    """Of each, in each round."""
    depth: int = 100
    """Copies of copies, each with messages of its own."""
    hop: int = 200
    """Messages that each adds."""
    watchers: int = 1000
    """Of one server."""
    watched: int = 100
    """Sessions among which they are spread; or they all watch one."""
    watched_appends: int = 200
    """Whose way to a watcher is timed, in each round."""
    watched_messages: int = 50
    """Of each watched session, while everybody watches."""

    def quick(self) -> "Sizes":
        """A tenth of everything, for a smoke run."""
        return Sizes(
            rounds=2,
            heavy_rounds=2,
            loads=2,
            appends=self.appends // 10,
            sessions=self.sessions,
            appends_per_session=self.appends_per_session // 10,
            batch=self.batch // 10,
            batches=self.batches // 2,
            short=self.short // 10,
            short_reads=1,
            long=self.long // 10,
            copied=tuple(length // 10 for length in self.copied),
            copies=self.copies // 3,
            depth=self.depth // 4,
            hop=self.hop // 4,
            watchers=self.watchers // 10,
            watched=self.watched // 10,
            watched_appends=self.watched_appends // 4,
            watched_messages=self.watched_messages // 2,
        )


class Bench:
    """One run: the subjects, the messages, and what was measured so far.

    Args:
        subjects: opened, by name: those of READERS and LOADERS.
        addresses: of READERS, for processes that open them anew: one of subjects.KINDS, and its address.
    """

    def __init__(
        self,
        subjects: Mapping[str, Subject],
        addresses: Mapping[str, tuple[str, str]],
        databases: Databases,
        messages: list[Message],
        sizes: Sizes,
    ) -> None:
        self.results = Results()
        self._subjects = subjects
        self._addresses = addresses
        self._databases = databases
        self._messages = messages
        self._sizes = sizes
        self._numbers = count(1)

    async def append(self) -> None:
        """Single appends: one writer, then several sessions with a writer each."""
        await self._append_latency()
        await self._append_throughput()

    async def batch(self) -> None:
        """Batches, one after the other into a new session."""
        size, total = self._sizes.batch, self._sizes.batch * self._sizes.batches
        batches = [self._messages[start : start + size] for start in range(0, total, size)]
        for name, subject in self._turns(BATCHERS, self._sizes.rounds):
            session_id = await self._new_session(subject)
            await subject.append_batch(session_id, batches[0])

            self.results.add(
                "batches",
                name,
                "messages/s",
                total / await _timed(partial(_append_batches, subject, session_id, batches)),
            )

    async def load(self) -> None:
        """A long session at once."""
        long = self._messages[: self._sizes.long]
        for name, subject in self._turns(LOADERS, self._sizes.loads):
            session_id = await self._new_session(subject)
            # Else vacuum and checkpoint come over whoever's turn it is.
            self._databases.settle()
            self.results.add(
                "load",
                name,
                "messages/s",
                len(long) / await _timed(partial(subject.load, session_id, long)),
            )

    async def flat(self) -> None:
        """Single appends to a new session and to a long one, in turns."""
        long_ids: dict[str, str] = {}
        for name in WRITERS:
            long_ids[name] = await self._new_session(self._subjects[name])
            await self._subjects[name].load(long_ids[name], self._messages[: self._sizes.long])
        self._databases.settle()
        for name, subject in self._turns(WRITERS, self._sizes.rounds):
            empty_id = await self._new_session(subject)
            for message in self._messages[:WARM_UP_APPENDS]:
                await subject.append(long_ids[name], message)
                await subject.append(empty_id, message)
            to_long: list[float] = []
            to_empty: list[float] = []
            gc.collect()
            for number, message in enumerate(self._messages[: self._sizes.appends]):
                pair = [(empty_id, to_empty), (long_ids[name], to_long)]
                for session_id, latencies_s in pair if number % 2 else reversed(pair):
                    started = time.perf_counter()
                    await subject.append(session_id, message)
                    latencies_s.append(time.perf_counter() - started)
            self.results.add(
                "append to an empty session", name, "ms", statistics.median(to_empty) * 1000
            )
            self.results.add(
                "append to a long session", name, "ms", statistics.median(to_long) * 1000
            )

    async def read(self) -> None:
        """Full reads of a short and a long session, and what of it the memory of the reading process sees."""
        session_ids: dict[tuple[str, int], str] = {}
        for length in (self._sizes.short, self._sizes.long):
            for name in (SESSIOND, AGENTS, FLOOR, FLOOR_JSONB):
                session_id = session_ids[name, length] = await self._new_session(
                    self._subjects[name]
                )
                await self._subjects[name].load(session_id, self._messages[:length])
            for name in (UNCACHED, CACHED):
                session_ids[name, length] = session_ids[SESSIOND, length]
        self._databases.settle()
        await self._check_reads(session_ids)

        short, long = self._sizes.short, self._sizes.long
        with Readers(self._addresses) as readers:
            for name in READERS:
                await readers.read(name, "dicts", session_ids[name, long])  # it warms up
            for name, _ in self._turns(READERS, self._sizes.rounds):
                for length, repeats, label in (
                    (short, self._sizes.short_reads, "short"),
                    (long, 1, "long"),
                ):
                    session_id, total = session_ids[name, length], length * repeats
                    for level in ("dicts",) if name == AGENTS else ("texts", "dicts"):
                        took_s = await readers.read(name, level, session_id, repeats)
                        self.results.add(
                            f"read {label}, {level}", name, "messages/s", total / took_s
                        )
                first_s = await readers.read(name, "first", session_ids[name, long])
                self.results.add("first message", name, "ms", first_s * 1000)
        if IS_MEMORY_KNOWN:
            for name in (SESSIOND, AGENTS, FLOOR):
                for level in MEMORY_LEVELS[name]:
                    self.results.add(
                        f"memory, {level}",
                        name,
                        "MiB",
                        await self._peak_memory(name, session_ids[name, long], level),
                    )

    async def copy(self) -> None:
        """Copies of sessions of all sizes, and reads of copies beside reads of what they are copies of."""
        ours, floor = self._subjects[SESSIOND], self._subjects[FLOOR]
        assert isinstance(ours, Sessiond)
        assert isinstance(floor, Floor)
        session_ids: dict[int, str] = {}
        for length in self._sizes.copied:
            session_ids[length] = await self._new_session(ours)
            await ours.load(session_ids[length], repeated(self._messages, length))
        floor_ids = {
            length: await self._new_session(floor)
            for length in self._sizes.copied
            if length <= self._sizes.long
        }
        for length, session_id in floor_ids.items():
            await floor.load(session_id, self._messages[:length])
        self._databases.settle()
        for number in range(self._sizes.rounds):
            # In turns, copy by copy: what else the machine does meets all sizes alike.
            latencies_s: dict[int, list[float]] = {length: [] for length in session_ids}
            gc.collect()
            for turn in range(self._sizes.copies):
                order = list(session_ids)
                for length in order[turn % len(order) :] + order[: turn % len(order)]:
                    started = time.perf_counter()
                    await ours.copy(session_ids[length])
                    latencies_s[length].append(time.perf_counter() - started)
            for length, measured in latencies_s.items():
                self.results.add(
                    f"copy of {length}", SESSIOND, "ms", statistics.median(measured) * 1000
                )
            for length, session_id in floor_ids.items():
                new = f"{session_id}-copy-{number}"
                self.results.add(
                    f"copy of {length}",
                    FLOOR,
                    "ms",
                    await _timed(partial(floor.copy, session_id, new)) * 1000,
                )
        for length, session_id in session_ids.items():
            before = self._databases.rows()
            await ours.copy(session_id)
            self.results.add(
                f"rows of a copy of {length}", SESSIOND, "rows", self._databases.rows() - before
            )
        await self._read_copies(ours, session_ids)

    async def watch(self) -> None:
        """Many watchers of a new server, spread over sessions and all of one; another server serves the same database."""
        sizes = self._sizes
        program = str(Path(__file__).with_name("watchers.py"))
        for _ in range(sizes.heavy_rounds):
            for label, sessions in (("many sessions", sizes.watched), ("one session", 1)):
                with (
                    serve(self._databases.sessiond_url, {}) as here,
                    serve(self._databases.sessiond_url, {}) as there,
                ):
                    counts = (
                        sessions,
                        sizes.watchers,
                        sizes.watched_appends,
                        sizes.watched_messages,
                    )
                    command = [
                        sys.executable,
                        program,
                        here.target,
                        there.target,
                        str(here.pid),
                        next(self._numbers),
                        *counts,
                    ]
                    done = await asyncio.to_thread(
                        subprocess.run,
                        list(map(str, command)),
                        stdout=subprocess.PIPE,
                        timeout=WATCH_TIMEOUT_S,
                        check=True,
                    )
                for measurement, (unit, value) in json.loads(done.stdout).items():
                    self.results.add(f"{measurement}, {label}", SESSIOND, unit, value)

    async def _read_copies(self, ours: Sessiond, session_ids: Mapping[int, str]) -> None:
        long = self._sizes.copied[-2]
        copied = await ours.copy(session_ids[long])
        deep, flat = await self._new_session(ours), await self._new_session(ours)
        total = self._sizes.hop * (self._sizes.depth + 1)
        await ours.load(flat, self._messages[:total])
        await ours.load(deep, self._messages[: self._sizes.hop])
        for start in range(self._sizes.hop, total, self._sizes.hop):
            deep = await ours.copy(deep)
            await ours.load(deep, self._messages[start : start + self._sizes.hop])
        self._databases.settle()
        pairs = (
            (("read a source", session_ids[long], 3, long), ("read a copy", copied, 3, long)),
            (("read unforked", flat, 10, total), ("read deep", deep, 10, total)),
        )
        names = (SESSIOND, UNCACHED)
        with Readers({name: self._addresses[name] for name in names}) as readers:
            for name in names:
                # Pair by pair: all of them together are more than the cache holds, and whoever comes first would pay for the others.
                for pair in pairs:
                    (_, first_id, _, _), (_, second_id, _, _) = pair
                    assert await self._subjects[name].texts(first_id) == await self._subjects[
                        name
                    ].texts(second_id)
                    for number in range(-1, self._sizes.rounds):
                        for measurement, session_id, repeats, length in (
                            pair if number % 2 else reversed(pair)
                        ):
                            took_s = await readers.read(name, "texts", session_id, repeats)
                            if number >= 0:  # the first round warms up
                                self.results.add(
                                    measurement, name, "messages/s", length * repeats / took_s
                                )

    async def _append_latency(self) -> None:
        for name, subject in self._turns(WRITERS, self._sizes.rounds):
            session_id = await self._new_session(subject)
            for message in self._messages[:WARM_UP_APPENDS]:
                await subject.append(session_id, message)
            latencies_s: list[float] = []
            gc.collect()
            for message in self._messages[: self._sizes.appends]:
                started = time.perf_counter()
                await subject.append(session_id, message)
                latencies_s.append(time.perf_counter() - started)
            cuts = statistics.quantiles(latencies_s, n=100, method="inclusive")
            for percentile in PERCENTILES:
                self.results.add(f"append p{percentile}", name, "ms", cuts[percentile - 1] * 1000)
            self.results.add("appends", name, "appends/s", len(latencies_s) / sum(latencies_s))

    async def _append_throughput(self) -> None:
        sessions, appends = self._sizes.sessions, self._sizes.appends_per_session
        for name, subject in self._turns(WRITERS, self._sizes.rounds):
            session_ids = [await self._new_session(subject) for _ in range(sessions)]
            await asyncio.gather(
                *(subject.append(session_id, self._messages[0]) for session_id in session_ids)
            )

            work = partial(_append_to_each, subject, session_ids, self._messages[:appends])
            self.results.add(
                "concurrent appends", name, "messages/s", sessions * appends / await _timed(work)
            )

    async def _check_reads(self, session_ids: Mapping[tuple[str, int], str]) -> None:
        """Read everything once: it warms up, and shows that every subject answers what was stored."""
        for (name, length), session_id in session_ids.items():
            stored = self._messages[:length]
            assert await self._subjects[name].dicts(session_id) == stored, (
                f"{name} answers something else than what was stored"
            )
            if name != AGENTS:
                texts = await self._subjects[name].texts(session_id)
                assert [json.loads(text) for text in texts] == stored, (
                    f"{name} answers something else than what was stored"
                )

    async def _peak_memory(self, name: str, session_id: str, level: str) -> float:
        """By how much a process that only reads the session grows. Unit: MiB."""
        program = str(Path(__file__).with_name("peak_memory.py"))
        command = [sys.executable, program, *self._addresses[name], session_id, level]
        done = await asyncio.to_thread(
            subprocess.run, command, stdout=subprocess.PIPE, timeout=MEMORY_TIMEOUT_S, check=True
        )
        return float(done.stdout)

    async def _new_session(self, subject: Subject) -> str:
        session_id = f"session-{next(self._numbers)}"
        await subject.create(session_id)
        return session_id

    def _turns(self, names: tuple[str, ...], rounds: int) -> Iterator[tuple[str, Subject]]:
        """Every subject once a round. Each round begins with another one, so that nobody always follows the same neighbour's dirt."""
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                yield name, self._subjects[name]


async def _timed(work: Callable[[], Awaitable[Any]]) -> float:
    """Seconds that the work takes. What it answers is let go after the clock has stopped."""
    gc.collect()
    started = time.perf_counter()
    result = await work()
    elapsed_s = time.perf_counter() - started
    del result
    return elapsed_s


async def _append_batches(subject: Subject, session_id: str, batches: list[list[Message]]) -> None:
    for batch in batches:
        await subject.append_batch(session_id, batch)


async def _append_to_each(
    subject: Subject, session_ids: list[str], messages: list[Message]
) -> None:
    async with asyncio.TaskGroup() as tasks:
        for session_id in session_ids:
            tasks.create_task(_append_all(subject, session_id, messages))


async def _append_all(subject: Subject, session_id: str, messages: list[Message]) -> None:
    for message in messages:
        await subject.append(session_id, message)
