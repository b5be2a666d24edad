"""Measures reads, in comparison with the libraries."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bench import Bench
from measure_writes import append_latency, append_throughput, batch
from names import ADAPTERS, AGENTS, CACHED, FLOOR, FLOOR_JSONB, READERS, SESSIOND, UNCACHED
from readers import Readers

MEMORY_LEVELS = {
    SESSIOND: ("texts", "dicts", "one by one"),
    AGENTS: ("dicts",),
    FLOOR: ("texts", "dicts"),
}
MEMORY_TIMEOUT_S = 120
IS_MEMORY_KNOWN = Path("/proc/self/clear_refs").exists()


async def read(bench: Bench) -> None:
    """Measure full reads of a short and a long session, and the memory of the readers."""
    session_ids: dict[tuple[str, int], str] = {}
    for length in (bench.sizes.short, bench.sizes.long):
        for name in (SESSIOND, AGENTS, FLOOR, FLOOR_JSONB):
            session_id = session_ids[name, length] = await bench.new_session(bench.subjects[name])
            await bench.subjects[name].load(session_id, bench.messages[:length])
        for name in (UNCACHED, CACHED):
            session_ids[name, length] = session_ids[SESSIOND, length]
    bench.databases.settle()
    await _check_reads(bench, session_ids)

    short, long = bench.sizes.short, bench.sizes.long
    with Readers(bench.addresses) as readers:
        for name in READERS:
            await readers.read(name, "dicts", session_ids[name, long])  # warm-up
        for name, _ in bench.in_turns(READERS, bench.sizes.rounds):
            for length, repeats, label in (
                (short, bench.sizes.short_reads, "short"),
                (long, 1, "long"),
            ):
                session_id, total = session_ids[name, length], length * repeats
                for level in ("dicts",) if name == AGENTS else ("texts", "dicts"):
                    took_s = await readers.read(name, level, session_id, repeats)
                    bench.results.add(f"read {label}, {level}", name, "messages/s", total / took_s)
            first_s = await readers.read(name, "first", session_ids[name, long])
            bench.results.add("first message", name, "ms", first_s * 1000)
    if IS_MEMORY_KNOWN:
        for name in (SESSIOND, AGENTS, FLOOR):
            for level in MEMORY_LEVELS[name]:
                bench.results.add(
                    f"memory, {level}",
                    name,
                    "MiB",
                    await _peak_memory(bench, name, session_ids[name, long], level),
                )


async def adapters(bench: Bench) -> None:
    """Measure the adapters in comparison with the stores of their frameworks."""
    short, long = bench.sizes.short, bench.sizes.long
    for prefix, names in ADAPTERS.items():
        await append_latency(bench, names, prefix)
        await append_throughput(bench, names, prefix)
        await batch(bench, names, prefix)
        session_ids: dict[tuple[str, int], str] = {}
        for length in (short, long):
            for name in names:
                session_id = await bench.new_session(bench.subjects[name])
                session_ids[name, length] = session_id
                await bench.subjects[name].load(session_id, bench.messages[:length])
                found = await bench.subjects[name].dicts(session_id)
                stored = [item.get("message", item) for item in found]
                assert stored == bench.messages[:length], f"{name} returns something else"
        bench.databases.settle()
        with Readers({name: bench.addresses[name] for name in names}) as readers:
            for name in names:
                await readers.read(name, "dicts", session_ids[name, long])  # warm-up
            for name, _ in bench.in_turns(names, bench.sizes.rounds):
                for length, repeats, label in (
                    (short, bench.sizes.short_reads, "short"),
                    (long, 1, "long"),
                ):
                    took_s = await readers.read(name, "dicts", session_ids[name, length], repeats)
                    bench.results.add(
                        f"{prefix}read {label}", name, "messages/s", length * repeats / took_s
                    )


async def _check_reads(bench: Bench, session_ids: Mapping[tuple[str, int], str]) -> None:
    """Read everything once, as warm-up, and check that each subject returns what was stored."""
    for (name, length), session_id in session_ids.items():
        stored = bench.messages[:length]
        assert await bench.subjects[name].dicts(session_id) == stored, (
            f"{name} returns something else than was stored"
        )
        if name != AGENTS:
            texts = await bench.subjects[name].texts(session_id)
            assert [json.loads(text) for text in texts] == stored, (
                f"{name} returns something else than was stored"
            )


async def _peak_memory(bench: Bench, name: str, session_id: str, level: str) -> float:
    """Return the memory growth of a process that only reads the session, in MiB."""
    program = str(Path(__file__).with_name("peak_memory.py"))
    command = [sys.executable, program, *bench.addresses[name], session_id, level]
    done = await asyncio.to_thread(
        subprocess.run, command, stdout=subprocess.PIPE, timeout=MEMORY_TIMEOUT_S, check=True
    )
    return float(done.stdout)
