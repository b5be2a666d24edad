"""Measures appends, batches and imports."""

import asyncio
import gc
import statistics
import time
from functools import partial

from bench import PERCENTILES, WARM_UP_APPENDS, Bench, timed
from names import BATCHERS, CALL_AND_FLOOR, EMPTY_CALL, LOADERS, SESSIOND, WRITERS
from subject_sessiond import Sessiond
from subjects import Subject
from workload import MessageDict


async def append(bench: Bench) -> None:
    """Measure single appends: by one writer, then to several sessions with one writer each."""
    await append_latency(bench, (*WRITERS, EMPTY_CALL, CALL_AND_FLOOR))
    await append_throughput(bench)


async def ids(bench: Bench) -> None:
    """Measure single appends with and without a message_id, alternately."""
    ours = bench.subjects[SESSIOND]
    assert isinstance(ours, Sessiond)
    for _ in range(bench.sizes.rounds):
        plain_id, named_id = await bench.new_session(ours), await bench.new_session(ours)
        for number, message in enumerate(bench.messages[:WARM_UP_APPENDS]):
            await ours.append(plain_id, message)
            await ours.append_named(named_id, message, f"w{number}")
        plain: list[float] = []
        named: list[float] = []
        gc.collect()
        for number, message in enumerate(bench.messages[: bench.sizes.appends]):
            calls = [
                (plain, partial(ours.append, plain_id, message)),
                (named, partial(ours.append_named, named_id, message, f"m{number}")),
            ]
            for latencies_s, call in calls if number % 2 else reversed(calls):
                started = time.perf_counter()
                await call()
                latencies_s.append(time.perf_counter() - started)
        for measurement, measured in (("without", plain), ("with", named)):
            bench.results.add(
                f"append {measurement} ids", SESSIOND, "ms", statistics.median(measured) * 1000
            )


async def batch(bench: Bench, names: tuple[str, ...] = BATCHERS, prefix: str = "") -> None:
    """Measure batches, one after the other into a new session."""
    size, total = bench.sizes.batch, bench.sizes.batch * bench.sizes.batches
    batches = [bench.messages[start : start + size] for start in range(0, total, size)]
    for name, subject in bench.in_turns(names, bench.sizes.rounds):
        session_id = await bench.new_session(subject)
        await subject.append_batch(session_id, batches[0])

        bench.results.add(
            f"{prefix}batches",
            name,
            "messages/s",
            total / await timed(partial(_append_batches, subject, session_id, batches)),
        )


async def load(bench: Bench) -> None:
    """Measure the import of a long session."""
    long = bench.messages[: bench.sizes.long]
    for name, subject in bench.in_turns(LOADERS, bench.sizes.loads):
        session_id = await bench.new_session(subject)
        # Otherwise a later vacuum or checkpoint would slow an arbitrary subject.
        bench.databases.settle()
        bench.results.add(
            "load",
            name,
            "messages/s",
            len(long) / await timed(partial(subject.load, session_id, long)),
        )


async def flat(bench: Bench) -> None:
    """Measure single appends to a new and a long session, alternately."""
    long_ids: dict[str, str] = {}
    for name in WRITERS:
        long_ids[name] = await bench.new_session(bench.subjects[name])
        await bench.subjects[name].load(long_ids[name], bench.messages[: bench.sizes.long])
    bench.databases.settle()
    for name, subject in bench.in_turns(WRITERS, bench.sizes.rounds):
        empty_id = await bench.new_session(subject)
        for message in bench.messages[:WARM_UP_APPENDS]:
            await subject.append(long_ids[name], message)
            await subject.append(empty_id, message)
        to_long: list[float] = []
        to_empty: list[float] = []
        gc.collect()
        for number, message in enumerate(bench.messages[: bench.sizes.appends]):
            pair = [(empty_id, to_empty), (long_ids[name], to_long)]
            for session_id, latencies_s in pair if number % 2 else reversed(pair):
                started = time.perf_counter()
                await subject.append(session_id, message)
                latencies_s.append(time.perf_counter() - started)
        bench.results.add(
            "append to an empty session", name, "ms", statistics.median(to_empty) * 1000
        )
        bench.results.add("append to a long session", name, "ms", statistics.median(to_long) * 1000)


async def append_latency(bench: Bench, names: tuple[str, ...] = WRITERS, prefix: str = "") -> None:
    for name, subject in bench.in_turns(names, bench.sizes.rounds):
        session_id = await bench.new_session(subject)
        for message in bench.messages[:WARM_UP_APPENDS]:
            await subject.append(session_id, message)
        latencies_s: list[float] = []
        gc.collect()
        for message in bench.messages[: bench.sizes.appends]:
            started = time.perf_counter()
            await subject.append(session_id, message)
            latencies_s.append(time.perf_counter() - started)
        cuts = statistics.quantiles(latencies_s, n=100, method="inclusive")
        for percentile in PERCENTILES:
            bench.results.add(
                f"{prefix}append p{percentile}", name, "ms", cuts[percentile - 1] * 1000
            )
        bench.results.add(
            f"{prefix}appends", name, "appends/s", len(latencies_s) / sum(latencies_s)
        )


async def append_throughput(
    bench: Bench, names: tuple[str, ...] = WRITERS, prefix: str = ""
) -> None:
    sessions, appends = bench.sizes.sessions, bench.sizes.appends_per_session
    for name, subject in bench.in_turns(names, bench.sizes.rounds):
        session_ids = [await bench.new_session(subject) for _ in range(sessions)]
        await asyncio.gather(
            *(subject.append(session_id, bench.messages[0]) for session_id in session_ids)
        )

        work = partial(_append_to_each, subject, session_ids, bench.messages[:appends])
        bench.results.add(
            f"{prefix}concurrent appends",
            name,
            "messages/s",
            sessions * appends / await timed(work),
        )


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
