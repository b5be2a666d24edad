"""Measures appends during floods of HTTP/2 frames: `python benchmarks/floods.py [MODE ...]`.

A client appends to a session, one message after the other. The appends are measured first at an
idle server, and then, for each mode, during three floods: of another process, of the server over
one connection, and of the server over four. The flooding program and the flooded process use CPU
time, too. The flood of another process shows how much this alone slows the appends down. The modes
are those of tests/support/http2_flood.py.
"""

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from database import databases
from serving import migrate, serve

from sessiond import AsyncClient

FLOOD = Path(__file__).parents[1] / "tests/support/http2_flood.py"
MEASURE_S = float(os.environ.get("MEASURE_S", "10"))
MODES = ("rapid_resets", "pings", "settings")


async def main() -> None:
    """Run the measurement and print its figures."""
    modes = sys.argv[1:] or MODES
    with databases() as made, _sink() as sink:
        migrate(made.sessiond_url)
        with serve(made.sessiond_url, {}) as served:
            port = int(served.target.rpartition(":")[2])
            async with AsyncClient(served.target) as client:
                session = await client.create_session()
                await _appends(session, _after(1.0))
                idle = _print("idle", await _appends(session, _after(MEASURE_S)))
                for mode in modes:
                    for what, target, connections in (
                        ("into another process", sink, 1),
                        ("over one connection", port, 1),
                        ("over four connections", port, 4),
                    ):
                        with _flood(mode, target, connections) as flood:
                            began, cpu_s = time.monotonic(), _cpu_s(served.pid)
                            is_over = lambda flood=flood: flood.poll() is not None  # noqa: E731
                            times = await _appends(session, is_over)
                            cores = (_cpu_s(served.pid) - cpu_s) / (time.monotonic() - began)
                            assert flood.stdout
                            frames = json.loads(flood.stdout.read())["frames"]
                        _print(f"{mode} {what}", times, idle)
                        print(f"  {frames / MEASURE_S:,.0f} frames/s; server: {cores:.2f} cores")


def _after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


async def _appends(session: Any, is_over: Callable[[], bool]) -> list[float]:
    """Append until `is_over` returns true. Returns the duration of each append in seconds."""
    times: list[float] = []
    while len(times) < 2 or not is_over():
        begin = time.perf_counter()
        await session.store_message({"role": "user", "content": "hello"})
        times.append(time.perf_counter() - begin)
        await asyncio.sleep(0.002)
    return times


def _print(what: str, times: list[float], idle: list[float] | None = None) -> list[float]:
    """Print percentiles, and their ratios to those of an idle server. Returns the percentiles."""
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    text = (
        f"p50 {1000 * cuts[49]:.2f}, p99 {1000 * cuts[98]:.2f}, longest {1000 * max(times):.0f} ms"
    )
    if idle:
        text += f"; {cuts[49] / idle[49]:.1f}x and {cuts[98] / idle[98]:.1f}x of idle"
    print(f"{what}: {len(times)} appends, {text}", flush=True)
    return cuts


def _cpu_s(pid: int) -> float:
    """Return the CPU time that a process has used. Unit: seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _flood(mode: str, port: int, connections: int) -> Iterator["subprocess.Popen[str]"]:
    """Run the flooding program. Yields it once it has begun."""
    command = [sys.executable, FLOOD, mode, str(port), str(MEASURE_S), str(connections)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        yield process


@contextmanager
def _sink() -> Iterator[int]:
    """Run a process that reads from each connection, and does nothing else. Yields its port."""
    command = [sys.executable, __file__, "sink"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def _read_everything() -> None:
    def read(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=read, args=[connection], daemon=True).start()


if __name__ == "__main__":
    if sys.argv[1:] == ["sink"]:
        _read_everything()
    else:
        asyncio.run(main())
