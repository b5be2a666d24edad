"""Measures copies, rewinds, and reads of the resulting sessions."""

import gc
import statistics
import time
from collections.abc import Mapping
from functools import partial

from bench import Bench, timed
from names import FLOOR, SESSIOND, UNCACHED
from readers import Readers
from subject_floor import Floor
from subject_sessiond import Sessiond
from workload import repeated


async def copy(bench: Bench) -> None:
    """Measure copies of sessions of all sizes, and reads of copies and of their sources."""
    ours, floor = bench.subjects[SESSIOND], bench.subjects[FLOOR]
    assert isinstance(ours, Sessiond)
    assert isinstance(floor, Floor)
    session_ids: dict[int, str] = {}
    for length in bench.sizes.copied:
        session_ids[length] = await bench.new_session(ours)
        await ours.load(session_ids[length], repeated(bench.messages, length))
    floor_ids = {
        length: await bench.new_session(floor)
        for length in bench.sizes.copied
        if length <= bench.sizes.long
    }
    for length, session_id in floor_ids.items():
        await floor.load(session_id, bench.messages[:length])
    bench.databases.settle()
    for number in range(bench.sizes.rounds):
        # Copy one session of each size in turn, so that other load on the machine slows all alike.
        latencies_s: dict[int, list[float]] = {length: [] for length in session_ids}
        gc.collect()
        for turn in range(bench.sizes.copies):
            order = list(session_ids)
            for length in order[turn % len(order) :] + order[: turn % len(order)]:
                started = time.perf_counter()
                await ours.copy(session_ids[length])
                latencies_s[length].append(time.perf_counter() - started)
        for length, measured in latencies_s.items():
            bench.results.add(
                f"copy of {length}", SESSIOND, "ms", statistics.median(measured) * 1000
            )
        for length, session_id in floor_ids.items():
            new = f"{session_id}-copy-{number}"
            bench.results.add(
                f"copy of {length}",
                FLOOR,
                "ms",
                await timed(partial(floor.copy, session_id, new)) * 1000,
            )
    for length, session_id in session_ids.items():
        before = bench.databases.rows()
        await ours.copy(session_id)
        bench.results.add(
            f"rows of a copy of {length}", SESSIOND, "rows", bench.databases.rows() - before
        )
    await _rewind(bench, ours, session_ids)
    await _read_copies(bench, ours, session_ids)
    await _read_branches(bench, ours)


async def _rewind(bench: Bench, ours: Sessiond, session_ids: Mapping[int, str]) -> None:
    """Measure rewinds of copies, so that the sessions stay unchanged for other measurements.

    Between two rewinds, a message takes the place of the removed one.
    """
    copies = {length: await ours.copy(session_id) for length, session_id in session_ids.items()}
    for _ in range(bench.sizes.rounds):
        latencies_s: dict[int, list[float]] = {length: [] for length in copies}
        gc.collect()
        for turn in range(bench.sizes.copies):
            order = list(copies)
            for length in order[turn % len(order) :] + order[: turn % len(order)]:
                started = time.perf_counter()
                await ours.rewind(copies[length])
                latencies_s[length].append(time.perf_counter() - started)
                await ours.append(copies[length], bench.messages[0])
        for length, measured in latencies_s.items():
            bench.results.add(
                f"rewind of {length}", SESSIOND, "ms", statistics.median(measured) * 1000
            )
    for length, copy_id in copies.items():
        before = bench.databases.rows()
        await ours.rewind(copy_id)
        bench.results.add(
            f"rows of a rewind of {length}", SESSIOND, "rows", bench.databases.rows() - before
        )


async def _read_copies(bench: Bench, ours: Sessiond, session_ids: Mapping[int, str]) -> None:
    long = bench.sizes.copied[-2]
    copied = await ours.copy(session_ids[long])
    deep, flat = await bench.new_session(ours), await bench.new_session(ours)
    total = bench.sizes.hop * (bench.sizes.depth + 1)
    await ours.load(flat, bench.messages[:total])
    await ours.load(deep, bench.messages[: bench.sizes.hop])
    for start in range(bench.sizes.hop, total, bench.sizes.hop):
        deep = await ours.copy(deep)
        await ours.load(deep, bench.messages[start : start + bench.sizes.hop])
    bench.databases.settle()
    pairs = (
        (("read a source", session_ids[long], 3, long), ("read a copy", copied, 3, long)),
        (("read unforked", flat, 10, total), ("read deep", deep, 10, total)),
    )
    names = (SESSIOND, UNCACHED)
    with Readers({name: bench.addresses[name] for name in names}) as readers:
        for name in names:
            # Measure pair by pair, because all pairs together exceed the cache.
            for pair in pairs:
                (_, first_id, _, _), (_, second_id, _, _) = pair
                assert await bench.subjects[name].texts(first_id) == await bench.subjects[
                    name
                ].texts(second_id)
                for number in range(-1, bench.sizes.rounds):
                    for measurement, session_id, repeats, length in (
                        pair if number % 2 else reversed(pair)
                    ):
                        took_s = await readers.read(name, "texts", session_id, repeats)
                        if number >= 0:  # the first round is warm-up
                            bench.results.add(
                                measurement, name, "messages/s", length * repeats / took_s
                            )


async def _read_branches(bench: Bench, ours: Sessiond) -> None:
    """Measure reads of a branch and of all branches, where the fork is near the session's end."""
    long = bench.sizes.copied[-2]
    session_id = await bench.new_session(ours)
    await ours.load(session_id, bench.messages[:long])
    await ours.fork(session_id, bench.messages[0], long - 10)
    bench.databases.settle()
    names = (SESSIOND, UNCACHED)
    with Readers({name: bench.addresses[name] for name in names}) as readers:
        for name in names:
            for number in range(-1, bench.sizes.rounds):
                levels = ("texts", "branch") if number % 2 else ("branch", "texts")
                for level in levels:
                    took_s = await readers.read(name, level, session_id, 3)
                    if number >= 0:  # the first round is warm-up
                        label = "read a branch" if level == "branch" else "read all branches"
                        count = long - 9 if level == "branch" else long + 1
                        bench.results.add(label, name, "messages/s", 3 * count / took_s)
