"""Measurements by other programs: watchers, turns, and clients in several languages."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import frameworks as stores
import languages as clients
from bench import Bench
from names import SESSIOND
from serving import free_port, serve

TIMEOUT_S = 400


async def frameworks(bench: Bench) -> None:
    """Measure the adapters that need environments of their own."""
    sizes = bench.sizes
    given = (bench.addresses[SESSIOND][1], sizes.appends // 5, sizes.short, sizes.short_reads)
    programs = [*stores.programs()]
    for _ in range(sizes.heavy_rounds):
        for name, command in programs:
            found = await stores.measure(command, given)
            for store, figures in found.items():
                for key, (measurement, unit) in stores.FIGURES.items():
                    bench.results.add(f"{name}, {measurement}", store, unit, figures[key])


async def languages(bench: Bench) -> None:
    """Measure unary appends and full reads from several clients."""
    ours, target = bench.subjects[SESSIOND], bench.addresses[SESSIOND][1]
    long_id = await bench.new_session(ours)
    await ours.load(long_id, bench.messages[: bench.sizes.long])
    bench.databases.settle()
    programs = [*clients.programs()]
    message = json.dumps(bench.messages[0])
    for number in range(bench.sizes.heavy_rounds):
        first = number % len(programs)
        for name, command, directory in programs[first:] + programs[:first]:
            session_id = f"language-{next(bench.numbers)}"
            given = (target, session_id, bench.sizes.appends, long_id, 3)
            found = await clients.measure(command, directory, given, message)
            for key, (measurement, unit) in clients.FIGURES.items():
                bench.results.add(measurement.format(name), SESSIOND, unit, found[key])


async def watch(bench: Bench) -> None:
    """Measure many watchers of a server, spread over many sessions and then on one.

    A second server on the same database has the same number of watchers.
    """
    sizes = bench.sizes
    program = str(Path(__file__).with_name("watchers.py"))
    for _ in range(sizes.heavy_rounds):
        for label, sessions in (("many sessions", sizes.watched), ("one session", 1)):
            with (
                serve(bench.databases.sessiond_url, {}) as here,
                serve(bench.databases.sessiond_url, {}) as there,
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
                    next(bench.numbers),
                    *counts,
                ]
                done = await asyncio.to_thread(
                    subprocess.run,
                    list(map(str, command)),
                    stdout=subprocess.PIPE,
                    timeout=TIMEOUT_S,
                    check=True,
                )
            for measurement, (unit, value) in json.loads(done.stdout).items():
                bench.results.add(f"{measurement}, {label}", SESSIOND, unit, value)


async def turns(bench: Bench) -> None:
    """Measure many turns at once, and how much they slow another caller down."""
    sizes, url = bench.sizes, bench.databases.sessiond_url
    settings = {"SESSIOND_MAX_RUNNING_TURNS": str(max(sizes.turns, sizes.starts))}
    for _ in range(sizes.heavy_rounds):
        with serve(url, settings) as served:
            given = (served.target, served.pid, next(bench.numbers), sizes.turns, sizes.turn_s)
            await _run(bench, "turns.py", *given)
        metrics = f"127.0.0.1:{free_port()}"
        with serve(url, settings | {"SESSIOND_METRICS_LISTEN": metrics}) as served:
            arguments = (served.target, metrics, served.pid, next(bench.numbers), sizes.starts)
            await _run(bench, "turn_starts.py", *arguments)


async def _run(bench: Bench, program: str, *arguments: object) -> None:
    """Run a program that prints measurements, and add them to the results."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(Path(__file__).with_name(program)), *map(str, arguments)],
        stdout=subprocess.PIPE,
        timeout=TIMEOUT_S,
        check=True,
    )
    for measurement, (unit, value) in json.loads(done.stdout).items():
        bench.results.add(measurement, SESSIOND, unit, value)
