"""Compares sessiond with in-process libraries on one PostgreSQL: `python benchmarks/run.py`.

See benchmarks/README.md.
"""

import argparse
import asyncio
import gc
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, cast

import chart
import measure_copies
import measure_many
import measure_metrics
import measure_programs
import measure_reads
import measure_writes
import report
import uvloop
from bench import Bench
from database import Databases, databases
from names import (
    AGENTS,
    CACHED,
    CALL_AND_FLOOR,
    CLAUDE_ADAPTER,
    CLAUDE_REFERENCE,
    EMPTY_CALL,
    FLOOR,
    FLOOR_COPY,
    FLOOR_JSONB,
    FLOOR_ORJSON,
    OPENAI_ADAPTER,
    SESSIOND,
    UNCACHED,
)
from series import Results
from serving import ServerError, migrate, serve
from sizes import Sizes
from subject_adapters import ClaudeAdapter, OpenAIAdapter
from subject_call_and_floor import CallAndFloor
from subject_claude import ClaudeReference
from subject_empty_call import EmptyCall
from subject_floor import Floor, FloorCopy, FloorJsonb, FloorOrjson
from subject_openai_agents import OpenAIAgents
from subject_sessiond import Sessiond
from subjects import POOL_SIZE, Subject
from workload import messages

import sessiond

PARTS: Mapping[str, Callable[[Bench], Awaitable[None]]] = {
    "append": measure_writes.append,
    "ids": measure_writes.ids,
    "batch": measure_writes.batch,
    "load": measure_writes.load,
    "flat": measure_writes.flat,
    "read": measure_reads.read,
    "copy": measure_copies.copy,
    "watch": measure_programs.watch,
    "turns": measure_programs.turns,
    "adapters": measure_reads.adapters,
    "frameworks": measure_programs.frameworks,
    "languages": measure_programs.languages,
    "metrics": measure_metrics.metrics,
    "listing": measure_many.listing,
    "deletion": measure_many.deletion,
}
PACKAGES = (
    *("grpcio", "protobuf", "psycopg", "openai-agents", "claude-agent-sdk", "sqlalchemy"),
    *("asyncpg", "uvloop"),
)
TIMEOUT_S = 3600
SERVERS: Mapping[str, Mapping[str, str]] = {
    SESSIOND: {},
    UNCACHED: {"SESSIOND_PAGE_CACHE_BYTES": "0"},
    CACHED: {"SESSIOND_PAGE_CACHE_BYTES": str(256 * 1024 * 1024)},
}


def main() -> int:
    """Run the measurements that the command line selects."""
    parser = argparse.ArgumentParser(
        description="Compare sessiond with openai-agents and an asyncpg floor, on one PostgreSQL."
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="about a tenth of the amounts, as a smoke test; the figures mean nothing",
    )
    parser.add_argument(
        "--only",
        type=_parts,
        default=tuple(PARTS),
        metavar="PART,...",
        help=f"run only some of {', '.join(PARTS)}",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).with_name("results"),
        help="directory of latest.json and latest.png (%(default)s)",
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _exit)  # like Ctrl-C: servers and databases are cleaned up
    sizes = Sizes().quick() if arguments.quick else Sizes()
    try:
        with ExitStack() as stack:
            made = stack.enter_context(databases())
            _say("creating the schema and starting the servers")
            migrate(made.sessiond_url)
            targets = {
                name: stack.enter_context(serve(made.sessiond_url, settings)).target
                for name, settings in SERVERS.items()
            }
            results = uvloop.run(_measure(made, targets, sizes, arguments.only))
    except ServerError as error:
        _say(str(error))
        return 1
    facts = _facts(made)
    found = report.targets(results, sizes)
    ratios = report.ratios(results, sizes)
    print(f"\n{_headline(facts)}\n\n{report.table(results, sizes)}\n")
    print(
        "Median of the rounds (lowest..highest). Ratios are taken within each round; "
        "above 1, sessiond is better.\n"
    )
    print(f"Targets\n{report.target_lines(found)}\n")
    _write(arguments.output / "latest.json", facts, sizes, results, ratios, found)
    _say(f"written: {arguments.output / 'latest.json'}")
    if chart.draw(ratios, _headline(facts), arguments.output / "latest.png"):
        _say(f"written: {arguments.output / 'latest.png'}")
    return 0


async def _measure(
    made: Databases, targets: Mapping[str, str], sizes: Sizes, parts: tuple[str, ...]
) -> Results:
    subjects: dict[str, Subject] = {name: Sessiond(target) for name, target in targets.items()}
    subjects |= {AGENTS: OpenAIAgents(made.peers_url)}
    subjects |= {
        FLOOR: Floor(made.peers_url),
        FLOOR_COPY: FloorCopy(made.peers_url),
        FLOOR_JSONB: FloorJsonb(made.peers_url),
    }
    subjects |= {FLOOR_ORJSON: FloorOrjson(made.peers_url)}
    # The next two subjects can only append.
    subjects |= {EMPTY_CALL: cast(Subject, EmptyCall())}
    subjects |= {CALL_AND_FLOOR: cast(Subject, CallAndFloor(made.peers_url))}
    if "adapters" in parts:
        subjects |= {
            OPENAI_ADAPTER: OpenAIAdapter(targets[SESSIOND]),
            CLAUDE_ADAPTER: ClaudeAdapter(targets[SESSIOND]),
            CLAUDE_REFERENCE: ClaudeReference(made.peers_url),
        }
    addresses = {name: (SESSIOND, target) for name, target in targets.items()}
    addresses |= {name: (name, made.peers_url) for name in (AGENTS, FLOOR, FLOOR_JSONB)}
    addresses |= {name: (name, targets[SESSIOND]) for name in (OPENAI_ADAPTER, CLAUDE_ADAPTER)}
    addresses |= {CLAUDE_REFERENCE: (CLAUDE_REFERENCE, made.peers_url)}
    stored = messages(max(sizes.long, sizes.batch * sizes.batches))
    # Freeze the benchmark's own messages: otherwise the garbage collector would visit them during
    # the measurements, and slow the subjects down.
    gc.freeze()
    async with asyncio.timeout(TIMEOUT_S), AsyncExitStack() as stack:
        for subject in subjects.values():
            await subject.open()
            stack.push_async_callback(subject.close)
        bench = Bench(subjects, addresses, made, stored, sizes)
        for part in parts:
            started = time.monotonic()
            await PARTS[part](bench)
            _say(f"{part}: {time.monotonic() - started:.0f} s")
        return bench.results


def _facts(made: Databases) -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": _processor(),
        "python": platform.python_version(),
        "postgresql": made.facts,
        "pool_size": POOL_SIZE,
        "packages": {"sessiond": sessiond.__version__} | {name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        "unknown",
    )


def _headline(facts: dict[str, Any]) -> str:
    packages = facts["packages"]
    return (
        f"sessiond {packages['sessiond']}, openai-agents {packages['openai-agents']}, "
        f"asyncpg {packages['asyncpg']}; PostgreSQL {facts['postgresql']['server_version']}, "
        f"Python {facts['python']}, {facts['cores']} cores"
    )


def _write(
    path: Path,
    facts: dict[str, Any],
    sizes: Sizes,
    results: Results,
    ratios: list[dict[str, Any]],
    found: list[report.TargetResult],
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "facts": facts,
        "sizes": {name: getattr(sizes, name) for name in sizes.__slots__},
        "results": results.to_list(),
        "ratios": ratios,
        "targets": [{name: getattr(target, name) for name in target.__slots__} for target in found],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def _parts(value: str) -> tuple[str, ...]:
    parts = tuple(value.split(","))
    if unknown := [part for part in parts if part not in PARTS]:
        raise argparse.ArgumentTypeError(
            f"unknown part: {', '.join(unknown)}; choose from {', '.join(PARTS)}"
        )
    return parts


def _exit(signal_number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signal_number)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
