"""The measurements.

Each measures its subjects in turn, round after round, because a machine's speed drifts.
"""

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

import frameworks
import languages
from database import Databases
from readers import Readers
from series import Results
from serving import free_port, serve
from subject_floor import Floor
from subject_sessiond import Sessiond
from subjects import Subject
from workload import MessageDict, repeated

SESSIOND = "sessiond"
UNCACHED = "sessiond, page cache off"
CACHED = "sessiond, all in the page cache"
AGENTS = "openai-agents"
FLOOR = "floor"
FLOOR_COPY = "floor, COPY"
FLOOR_JSONB = "floor, jsonb"
FLOOR_ORJSON = "floor, orjson"
EMPTY_CALL = "empty gRPC call"
OPENAI_ADAPTER = "openai adapter"
CLAUDE_ADAPTER = "claude adapter"
CLAUDE_REFERENCE = "claude reference"

WRITERS = (SESSIOND, AGENTS, FLOOR)
BATCHERS = (*WRITERS, FLOOR_JSONB, FLOOR_ORJSON)
LOADERS = (*BATCHERS, FLOOR_COPY)
# By the prefix of the measurements' names: each adapter, and the stores of its framework.
ADAPTERS = {
    "openai, ": (OPENAI_ADAPTER, AGENTS),
    "claude, ": (CLAUDE_ADAPTER, CLAUDE_REFERENCE),
}
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
    """The amounts to measure. All are counts."""

    rounds: int = 7
    heavy_rounds: int = 3
    """Rounds of measurements that start servers."""
    loads: int = 5
    """Rounds of measurements that write a long session."""
    appends: int = 500
    """Appends one after the other, in each round."""
    sessions: int = 16
    """Sessions with concurrent appends."""
    appends_per_session: int = 60
    batch: int = 1000
    batches: int = 20
    short: int = 5000
    """Messages of the short session."""
    short_reads: int = 5
    """Reads of the short session, in each round."""
    long: int = 100_000
    """Messages of the long session."""
    copied: tuple[int, ...] = (100, 5000, 100_000, 1_000_000)
    """Messages of each session that is copied."""
    copies: int = 30
    """Copies of each session, in each round."""
    depth: int = 100
    """Length of the chain of copies of copies, each with messages of its own."""
    hop: int = 200
    """Messages that each copy in the chain adds."""
    watchers: int = 1000
    """Watchers of one server."""
    watched: int = 100
    """Sessions that the watchers are spread over. Another measurement has just one."""
    watched_appends: int = 200
    """Appends whose delivery to a watcher is timed, in each round."""
    watched_messages: int = 50
    """Messages appended to each watched session while all watchers are connected."""
    turns: int = 300
    """Turns that run at once."""
    turn_s: int = 20
    """Seconds for which the model of each turn writes."""
    starts: int = 1_000
    """Turns that start at once."""

    def quick(self) -> "Sizes":
        """Return about a tenth of the amounts, for a smoke test."""
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
            turns=self.turns // 10,
            turn_s=self.turn_s // 4,
            starts=self.starts // 10,
        )


class Bench:
    """One run: its subjects, messages and results so far.

    Args:
        subjects: opened subjects by name: those in READERS and LOADERS.
        addresses: kind (one of subjects.KINDS) and address of each of READERS, which their own
            processes open again.
        databases: the databases of the run.
        messages: the messages to store.
        sizes: the amounts to measure.
    """

    def __init__(
        self,
        subjects: Mapping[str, Subject],
        addresses: Mapping[str, tuple[str, str]],
        databases: Databases,
        messages: list[MessageDict],
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
        """Measure single appends: by one writer, then to several sessions with one writer each."""
        await self._append_latency((*WRITERS, EMPTY_CALL))
        await self._append_throughput()

    async def ids(self) -> None:
        """Measure single appends with and without a message_id, alternately."""
        ours = self._subjects[SESSIOND]
        assert isinstance(ours, Sessiond)
        for _ in range(self._sizes.rounds):
            plain_id, named_id = await self._new_session(ours), await self._new_session(ours)
            for number, message in enumerate(self._messages[:WARM_UP_APPENDS]):
                await ours.append(plain_id, message)
                await ours.append_named(named_id, message, f"w{number}")
            plain: list[float] = []
            named: list[float] = []
            gc.collect()
            for number, message in enumerate(self._messages[: self._sizes.appends]):
                calls = [
                    (plain, partial(ours.append, plain_id, message)),
                    (named, partial(ours.append_named, named_id, message, f"m{number}")),
                ]
                for latencies_s, call in calls if number % 2 else reversed(calls):
                    started = time.perf_counter()
                    await call()
                    latencies_s.append(time.perf_counter() - started)
            for measurement, measured in (("without", plain), ("with", named)):
                self.results.add(
                    f"append {measurement} ids", SESSIOND, "ms", statistics.median(measured) * 1000
                )

    async def languages(self) -> None:
        """Measure unary appends and full reads from several languages."""
        ours, target = self._subjects[SESSIOND], self._addresses[SESSIOND][1]
        long_id = await self._new_session(ours)
        await ours.load(long_id, self._messages[: self._sizes.long])
        self._databases.settle()
        programs = [*languages.programs()]
        message = json.dumps(self._messages[0])
        for number in range(self._sizes.heavy_rounds):
            first = number % len(programs)
            for name, command, directory in programs[first:] + programs[:first]:
                session_id = f"language-{next(self._numbers)}"
                given = (target, session_id, self._sizes.appends, long_id, 3)
                found = await languages.measure(command, directory, given, message)
                for key, (measurement, unit) in languages.FIGURES.items():
                    self.results.add(measurement.format(name), SESSIOND, unit, found[key])

    async def batch(self, names: tuple[str, ...] = BATCHERS, prefix: str = "") -> None:
        """Measure batches, one after the other into a new session."""
        size, total = self._sizes.batch, self._sizes.batch * self._sizes.batches
        batches = [self._messages[start : start + size] for start in range(0, total, size)]
        for name, subject in self._turns(names, self._sizes.rounds):
            session_id = await self._new_session(subject)
            await subject.append_batch(session_id, batches[0])

            self.results.add(
                f"{prefix}batches",
                name,
                "messages/s",
                total / await _timed(partial(_append_batches, subject, session_id, batches)),
            )

    async def load(self) -> None:
        """Measure the import of a long session."""
        long = self._messages[: self._sizes.long]
        for name, subject in self._turns(LOADERS, self._sizes.loads):
            session_id = await self._new_session(subject)
            # Otherwise a vacuum or checkpoint would hit an arbitrary subject.
            self._databases.settle()
            self.results.add(
                "load",
                name,
                "messages/s",
                len(long) / await _timed(partial(subject.load, session_id, long)),
            )

    async def flat(self) -> None:
        """Measure single appends to a new and a long session, alternately."""
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
        """Measure full reads of a short and a long session, and the memory of the readers."""
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
                await readers.read(name, "dicts", session_ids[name, long])  # warm-up
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

    async def adapters(self) -> None:
        """Measure the adapters beside the stores of their frameworks."""
        short, long = self._sizes.short, self._sizes.long
        for prefix, names in ADAPTERS.items():
            await self._append_latency(names, prefix)
            await self._append_throughput(names, prefix)
            await self.batch(names, prefix)
            session_ids: dict[tuple[str, int], str] = {}
            for length in (short, long):
                for name in names:
                    session_id = await self._new_session(self._subjects[name])
                    session_ids[name, length] = session_id
                    await self._subjects[name].load(session_id, self._messages[:length])
                    found = await self._subjects[name].dicts(session_id)
                    stored = [item.get("message", item) for item in found]
                    assert stored == self._messages[:length], f"{name} returns something else"
            self._databases.settle()
            with Readers({name: self._addresses[name] for name in names}) as readers:
                for name in names:
                    await readers.read(name, "dicts", session_ids[name, long])  # warm-up
                for name, _ in self._turns(names, self._sizes.rounds):
                    for length, repeats, label in (
                        (short, self._sizes.short_reads, "short"),
                        (long, 1, "long"),
                    ):
                        took_s = await readers.read(
                            name, "dicts", session_ids[name, length], repeats
                        )
                        self.results.add(
                            f"{prefix}read {label}", name, "messages/s", length * repeats / took_s
                        )

    async def frameworks(self) -> None:
        """Measure the adapters that need environments of their own."""
        target = self._addresses[SESSIOND][1]
        given = (target, self._sizes.appends // 5, self._sizes.short, self._sizes.short_reads)
        programs = [*frameworks.programs()]
        for _ in range(self._sizes.heavy_rounds):
            for name, command in programs:
                found = await frameworks.measure(command, given)
                for store, figures in found.items():
                    for key, (measurement, unit) in frameworks.FIGURES.items():
                        self.results.add(f"{name}, {measurement}", store, unit, figures[key])

    async def copy(self) -> None:
        """Measure copies of sessions of all sizes, and reads of copies and of their sources."""
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
            # Alternate copy by copy, so that other load on the machine hits all sizes alike.
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
        await self._rewind(ours, session_ids)
        await self._read_copies(ours, session_ids)
        await self._read_branches(ours)

    async def _rewind(self, ours: Sessiond, session_ids: Mapping[int, str]) -> None:
        """Measure rewinds of copies, which leave the sessions as they are for other measurements.

        Between two rewinds, a message takes the place of the removed one.
        """
        copies = {length: await ours.copy(session_id) for length, session_id in session_ids.items()}
        for _ in range(self._sizes.rounds):
            latencies_s: dict[int, list[float]] = {length: [] for length in copies}
            gc.collect()
            for turn in range(self._sizes.copies):
                order = list(copies)
                for length in order[turn % len(order) :] + order[: turn % len(order)]:
                    started = time.perf_counter()
                    await ours.rewind(copies[length])
                    latencies_s[length].append(time.perf_counter() - started)
                    await ours.append(copies[length], self._messages[0])
            for length, measured in latencies_s.items():
                self.results.add(
                    f"rewind of {length}", SESSIOND, "ms", statistics.median(measured) * 1000
                )
        for length, copy_id in copies.items():
            before = self._databases.rows()
            await ours.rewind(copy_id)
            self.results.add(
                f"rows of a rewind of {length}", SESSIOND, "rows", self._databases.rows() - before
            )

    async def watch(self) -> None:
        """Measure many watchers of a server, spread over many sessions and then on one.

        A second server on the same database has the same number of watchers.
        """
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

    async def turns(self) -> None:
        """Measure many turns at once, and how much they slow another caller down."""
        sizes = self._sizes
        settings = {"SESSIOND_MAX_RUNNING_TURNS": str(max(sizes.turns, sizes.starts))}
        for _ in range(sizes.heavy_rounds):
            with serve(self._databases.sessiond_url, settings) as served:
                await self._measure_turns(
                    "turns.py",
                    *(served.target, served.pid, next(self._numbers), sizes.turns, sizes.turn_s),
                )
            metrics = f"127.0.0.1:{free_port()}"
            with serve(
                self._databases.sessiond_url, settings | {"SESSIOND_METRICS_LISTEN": metrics}
            ) as served:
                await self._measure_turns(
                    "turn_starts.py",
                    *(served.target, metrics, served.pid, next(self._numbers), sizes.starts),
                )

    async def _measure_turns(self, program: str, *arguments: object) -> None:
        """Run a program that prints measurements, and add them to the results."""
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, str(Path(__file__).with_name(program)), *map(str, arguments)],
            stdout=subprocess.PIPE,
            timeout=WATCH_TIMEOUT_S,
            check=True,
        )
        for measurement, (unit, value) in json.loads(done.stdout).items():
            self.results.add(measurement, SESSIOND, unit, value)

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
                # Pair by pair, because all of them together exceed the cache.
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
                            if number >= 0:  # the first round is warm-up
                                self.results.add(
                                    measurement, name, "messages/s", length * repeats / took_s
                                )

    async def _read_branches(self, ours: Sessiond) -> None:
        """Measure reads of a branch that forks near its end, beside straight reads."""
        long = self._sizes.copied[-2]
        session_id = await self._new_session(ours)
        await ours.load(session_id, self._messages[:long])
        await ours.fork(session_id, self._messages[0], long - 10)
        self._databases.settle()
        names = (SESSIOND, UNCACHED)
        with Readers({name: self._addresses[name] for name in names}) as readers:
            for name in names:
                for number in range(-1, self._sizes.rounds):
                    levels = ("texts", "branch") if number % 2 else ("branch", "texts")
                    for level in levels:
                        took_s = await readers.read(name, level, session_id, 3)
                        if number >= 0:  # the first round is warm-up
                            label = "read a branch" if level == "branch" else "read all branches"
                            count = long - 9 if level == "branch" else long + 1
                            self.results.add(label, name, "messages/s", 3 * count / took_s)

    async def _append_latency(self, names: tuple[str, ...] = WRITERS, prefix: str = "") -> None:
        for name, subject in self._turns(names, self._sizes.rounds):
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
                self.results.add(
                    f"{prefix}append p{percentile}", name, "ms", cuts[percentile - 1] * 1000
                )
            self.results.add(
                f"{prefix}appends", name, "appends/s", len(latencies_s) / sum(latencies_s)
            )

    async def _append_throughput(self, names: tuple[str, ...] = WRITERS, prefix: str = "") -> None:
        sessions, appends = self._sizes.sessions, self._sizes.appends_per_session
        for name, subject in self._turns(names, self._sizes.rounds):
            session_ids = [await self._new_session(subject) for _ in range(sessions)]
            await asyncio.gather(
                *(subject.append(session_id, self._messages[0]) for session_id in session_ids)
            )

            work = partial(_append_to_each, subject, session_ids, self._messages[:appends])
            self.results.add(
                f"{prefix}concurrent appends",
                name,
                "messages/s",
                sessions * appends / await _timed(work),
            )

    async def _check_reads(self, session_ids: Mapping[tuple[str, int], str]) -> None:
        """Read everything once, as warm-up, and check that each subject returns what was stored."""
        for (name, length), session_id in session_ids.items():
            stored = self._messages[:length]
            assert await self._subjects[name].dicts(session_id) == stored, (
                f"{name} returns something else than was stored"
            )
            if name != AGENTS:
                texts = await self._subjects[name].texts(session_id)
                assert [json.loads(text) for text in texts] == stored, (
                    f"{name} returns something else than was stored"
                )

    async def _peak_memory(self, name: str, session_id: str, level: str) -> float:
        """Return the memory growth of a process that only reads the session, in MiB."""
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
        """Yield every subject once in each round.

        Each round starts with the next subject, so that none always follows the same one.
        """
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                yield name, self._subjects[name]


async def _timed(work: Callable[[], Awaitable[Any]]) -> float:
    """Return the duration of the work in seconds, without the release of its result."""
    gc.collect()
    started = time.perf_counter()
    result = await work()
    elapsed_s = time.perf_counter() - started
    del result
    return elapsed_s


async def _append_batches(
    subject: Subject, session_id: str, batches: list[list[MessageDict]]
) -> None:
    for batch in batches:
        await subject.append_batch(session_id, batch)


async def _append_to_each(
    subject: Subject, session_ids: list[str], messages: list[MessageDict]
) -> None:
    async with asyncio.TaskGroup() as tasks:
        for session_id in session_ids:
            tasks.create_task(_append_all(subject, session_id, messages))


async def _append_all(subject: Subject, session_id: str, messages: list[MessageDict]) -> None:
    for message in messages:
        await subject.append(session_id, message)
