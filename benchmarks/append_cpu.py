"""Measures the CPU time of appends: `python benchmarks/append_cpu.py [--tree DIR]...`, on Linux.

The processor time that client, server and PostgreSQL spend on an append can be compared even on a
machine that also does other work. Latencies cannot. With several source trees, such as a worktree
of an earlier commit, each tree has its own server and database, and their measurements alternate.
"""

import argparse
import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path

import uvloop
from database import databases
from serving import migrate, serve
from subject_empty_call import EmptyCall
from subject_floor import Floor
from subjects import Subject
from trees import cpu_s, database, postmaster, sources
from workload import messages

WARM_UP_APPENDS = 30
PLACES = ("server", "client", "database")
# The number of sessions, each with one writer, by the name of the measurement.
OURS = {"one session": 1, "16 sessions": 16}
THEIRS = ("empty call", "floor")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="CPU time of appends, in µs for each.")
    parser.add_argument(
        "--tree",
        action="append",
        type=Path,
        help="a source tree; may be given several times (default: the one of this program)",
    )
    parser.add_argument("--appends", type=int, default=300, help="by each writer (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="%(default)s")
    parser.add_argument("--measure", nargs=4, metavar=("KIND", "TARGET", "SERVER", "DATABASE"),
                        help=argparse.SUPPRESS)  # fmt: skip
    arguments = parser.parse_args()
    if arguments.measure:
        kind, target, *pids = arguments.measure
        found = uvloop.run(_measure(kind, target, *map(int, pids), arguments.appends))
        print(json.dumps(found))
        return
    trees = [tree.resolve() for tree in arguments.tree or [Path(__file__).parent.parent]]
    found = _compare(trees, arguments.appends, arguments.rounds)
    print(f"{'':44}{'µs of CPU an append, median (lowest)':>48}\n")
    print(f"{'':44}" + "".join(f"{name:>16}" for name in (*PLACES, "p50, µs")))
    for (kind, place), rounds in found.items():
        cells = [
            f"{statistics.median(values):.0f} ({min(values):.0f})"
            for name in (*PLACES, "p50")
            if (values := [one[name] for one in rounds if name in one])
        ]
        print(f"{kind:14}{place[-29:]:30}" + "".join(f"{cell:>16}" for cell in cells))


def _compare(
    trees: list[Path], appends: int, rounds: int
) -> dict[tuple[str, str], list[dict[str, float]]]:
    """Return the measurements by kind and tree."""
    found: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    with ExitStack() as stack:
        made = stack.enter_context(databases())
        first_pid = postmaster(made.peers_url)
        targets = {}
        for number, tree in enumerate(trees):
            url = stack.enter_context(database(made.peers_url, number))
            with sources(tree):
                migrate(url)
                targets[tree] = stack.enter_context(serve(url, {}))
        for number in range(rounds):
            for tree in trees if number % 2 else reversed(trees):
                served = targets[tree]
                for kind in OURS:
                    given = (kind, served.target, served.pid, first_pid)
                    found[kind, str(tree)].append(_in_process(tree, given, appends))
            for kind in THEIRS:
                given = (kind, made.peers_url, 0, first_pid)
                found[kind, ""].append(_in_process(trees[0], given, appends))
    return found


def _in_process(tree: Path, given: tuple[object, ...], appends: int) -> dict[str, float]:
    with sources(tree):
        done = subprocess.run(
            [sys.executable, __file__, "--appends", str(appends), "--measure", *map(str, given)],
            stdout=subprocess.PIPE,
            check=True,
        )
    return {name: float(value) for name, value in json.loads(done.stdout).items()}


async def _measure(
    kind: str, target: str, server: int, first_pid: int, appends: int
) -> dict[str, float]:
    """Measure one kind of append in this process."""
    async with AsyncExitStack() as stack:
        subject: Subject
        if kind == "empty call":
            subject = EmptyCall()  # type: ignore[assignment] - it can only append
        elif kind == "floor":
            subject = Floor(target)
        else:
            from subject_sessiond import Sessiond  # of the tree that is measured

            subject = Sessiond(target)
        await subject.open()
        stack.push_async_callback(subject.close)
        if isinstance(subject, EmptyCall):
            server = subject.pid
        session_ids = [f"cpu-{os.getpid()}-{i}" for i in range(OURS.get(kind, 1))]
        for session_id in session_ids:
            await subject.create(session_id)
        stored = messages(appends + WARM_UP_APPENDS)
        took_s: list[float] = []

        async def write(session_id: str, first: int, end: int) -> None:
            for message in stored[first:end]:
                began = time.perf_counter()
                await subject.append(session_id, message)
                took_s.append(time.perf_counter() - began)

        async def write_all(first: int, end: int) -> None:
            async with asyncio.TaskGroup() as tasks:
                for session_id in session_ids:
                    tasks.create_task(write(session_id, first, end))

        await write_all(0, WARM_UP_APPENDS)
        took_s.clear()
        gc.collect()
        gc.freeze()
        cpu = partial(cpu_s, server, os.getpid(), first_pid)
        before = cpu()
        await write_all(WARM_UP_APPENDS, len(stored))
        spent = [after - start for after, start in zip(cpu(), before, strict=True)]
        each = [1e6 * seconds / len(took_s) for seconds in spent]
        return dict(zip(PLACES, each, strict=True)) | {"p50": 1e6 * statistics.median(took_s)}


if __name__ == "__main__":
    main()
