"""Measures the CPU time of reads: `python benchmarks/read_cpu.py [--tree DIR]...`, on Linux.

Client, server and PostgreSQL spend this time on a read of a whole session. It can be compared even
on a machine that also does other work. With several source trees, such as a worktree of an earlier
commit, each tree has its own server and database. Their reads and the floor's alternate.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import uvloop
from database import databases
from serving import migrate, serve
from subjects import subject
from trees import cpu_s, database, postmaster, sources
from workload import messages

WARM_UP_READS = 3
LEVELS = ("texts", "dicts")
PLACES = ("server", "client", "database")
FIGURES = (*PLACES, "p10", "p50")
FLOOR = "floor"
SESSION_ID = "read"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="CPU time and duration of whole reads, in ms.")
    parser.add_argument(
        "--tree",
        action="append",
        type=Path,
        help="a source tree; may be given several times (default: the one of this program)",
    )
    parser.add_argument("--messages", type=int, default=5000, help="of the session (%(default)s)")
    parser.add_argument("--reads", type=int, default=50, help="in each round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="%(default)s")
    parser.add_argument("--load", nargs=2, metavar=("KIND", "TARGET"), help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS,
                        metavar=("KIND", "TARGET", "SERVER", "DATABASE", "LEVEL"))  # fmt: skip
    arguments = parser.parse_args()
    if arguments.load:
        uvloop.run(_load(*arguments.load, arguments.messages))
        return
    if arguments.measure:
        kind, target, server, first_pid, level = arguments.measure
        measured = _measure(kind, target, int(server), int(first_pid), level, arguments.reads)
        print(json.dumps(uvloop.run(measured)))
        return
    trees = [tree.resolve() for tree in arguments.tree or [Path(__file__).parent.parent]]
    found = _compare(trees, arguments)
    print(f"{'':40}{'ms a read, median (lowest) of the rounds':>50}\n")
    print(f"{'':40}" + "".join(f"{name:>16}" for name in (*FIGURES, "of the floor")))
    for (level, name), rounds in found.items():
        cells = [
            f"{statistics.median(values):.2f} ({min(values):.2f})"
            for figure in FIGURES
            for values in [[one[figure] for one in rounds]]
        ]
        pairs = zip(found[level, FLOOR], rounds, strict=True)
        ratio = statistics.median(floor["p50"] / one["p50"] for floor, one in pairs)
        print(f"{level:8}{name[-32:]:32}" + "".join(f"{cell:>16}" for cell in cells)
              + f"{ratio:>15.2f}×")  # fmt: skip


def _compare(
    trees: list[Path], arguments: argparse.Namespace
) -> dict[tuple[str, str], list[dict[str, float]]]:
    """Return the measurements of all rounds, by level and subject."""
    found: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    loading = ("--messages", str(arguments.messages), "--load")
    reading = ("--reads", str(arguments.reads), "--measure")
    with ExitStack() as stack:
        made = stack.enter_context(databases())
        first_pid = postmaster(made.peers_url)
        subjects = [(FLOOR, trees[0], "floor", made.peers_url, 0)]
        _in_process(trees[0], *loading, "floor", made.peers_url)
        for number, tree in enumerate(trees):
            url = stack.enter_context(database(made.peers_url, number))
            with sources(tree):
                migrate(url)
                served = stack.enter_context(serve(url, {}))
            _in_process(tree, *loading, "sessiond", served.target)
            subjects.append((str(tree), tree, "sessiond", served.target, served.pid))
        made.settle()
        for number in range(arguments.rounds):
            for level in LEVELS:
                first = number % len(subjects)
                for name, tree, kind, target, pid in subjects[first:] + subjects[:first]:
                    given = (kind, target, str(pid), str(first_pid), level)
                    found[level, name].append(json.loads(_in_process(tree, *reading, *given)))
    return dict(sorted(found.items(), key=lambda item: (LEVELS.index(item[0][0]), item[0][1])))


def _in_process(tree: Path, *arguments: str) -> str:
    """Run this program with the packages of a source tree, and return its output."""
    with sources(tree):
        command = [sys.executable, __file__, *arguments]
        return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


async def _load(kind: str, target: str, count: int) -> None:
    """Store the session that is read."""
    loading = subject(kind, target)
    await loading.open()
    await loading.create(SESSION_ID)
    await loading.load(SESSION_ID, messages(count))
    await loading.close()


async def _measure(
    kind: str, target: str, server: int, first_pid: int, level: str, reads: int
) -> dict[str, float]:
    """Read the session several times in this process."""
    reading = subject(kind, target)
    await reading.open()
    read = getattr(reading, level)
    for _ in range(WARM_UP_READS):
        await read(SESSION_ID)
    gc.collect()
    took_s: list[float] = []
    before = cpu_s(server, os.getpid(), first_pid)
    for _ in range(reads):
        began = time.perf_counter()
        await read(SESSION_ID)
        took_s.append(time.perf_counter() - began)
    after = cpu_s(server, os.getpid(), first_pid)
    await reading.close()
    spent = [1e3 * (end - start) / reads for start, end in zip(before, after, strict=True)]
    took_ms = sorted(1e3 * one for one in took_s)
    return dict(zip(PLACES, spent, strict=True)) | {
        "p10": took_ms[reads // 10],
        "p50": statistics.median(took_ms),
    }


if __name__ == "__main__":
    main()
