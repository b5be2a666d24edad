"""Measures the console: `python benchmarks/console.py`, in the environment of `make setup`.

It prints how long the first page of a session with 100,000 messages takes, how much memory the
console needs, and the latency of appends with and without tabs that follow sessions. Runs with and
without tabs alternate, so that other load on the machine affects both alike.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import httpx2
import psutil

from sessiond import AsyncClient, Client

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.processes import ServerProcess  # noqa: E402

MESSAGES = 100_000
TABS = 50
ROUNDS = 3
ROUND_S = 5.0
SESSIONS = 10
TEXT = "The order left the warehouse this morning, and **arrives** on Friday. " * 3


@contextmanager
def console(target: str) -> Iterator[tuple[psutil.Process, str]]:
    """Run a console; yield its process and its address."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "sessiond_server", "console"),
            # `serve --console` starts its console with the same flags.
            *("--target", target, "--listen", "127.0.0.1:0", "--until-eof"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        yield psutil.Process(process.pid), process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.communicate()


def fill(target: str, messages: int) -> None:
    """Create a long session, and the sessions that the tabs follow."""
    with Client(target, timeout=600) as client:
        session = client.create_session("long")
        roles = ("user", "assistant")
        session.import_messages(
            {"role": roles[i % 2], "content": f"{i}: {TEXT}"} for i in range(messages)
        )
        for i in range(SESSIONS):
            client.create_session(f"tail-{i}")


def first_pages(url: str, count: int = 30) -> list[float]:
    """Return the times of the first page of the long session. Unit: seconds."""
    times = []
    with httpx2.Client(base_url=url) as http:
        for _ in range(count):
            before = time.perf_counter()
            http.get("/sessions/long").raise_for_status()
            times.append(time.perf_counter() - before)
    return times


@contextmanager
def tabs(url: str, count: int, target: str) -> Iterator[list[int]]:
    """Follow sessions with `count` tabs, which run in a separate process, as browsers do.

    Yields:
        A list. When the block has ended, it holds the number of messages that all tabs received.
    """
    with Client(target) as client:
        last = [client.sessions.get(f"tail-{i}").last_seq for i in range(SESSIONS)]
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_follow, args=(url, count, last, theirs))
    process.start()
    ours.recv()  # all tabs are connected
    got: list[int] = []
    try:
        yield got
    finally:
        ours.send("end")
        got.append(ours.recv())
        process.join()


def _follow(url: str, count: int, last: list[int], pipe: Connection) -> None:
    # Browsers run on other machines, so they must not take the server's time here.
    os.nice(10)
    pipe.send(asyncio.run(_follow_all(url, count, last, pipe)))


async def _follow_all(url: str, count: int, last: list[int], pipe: Connection) -> int:
    host, _, port = url.removeprefix("http://").rpartition(":")
    got = 0

    async def tab(number: int, connected: asyncio.Event) -> None:
        nonlocal got
        session = number % SESSIONS
        reader, writer = await asyncio.open_connection(host, int(port))
        path = f"/sessions/tail-{session}/live?after={last[session]}"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        try:
            while line := await reader.readline():
                connected.set()
                got += line == b"event: message\n"
        finally:
            writer.close()

    events = [asyncio.Event() for _ in range(count)]
    running = [asyncio.create_task(tab(i, event)) for i, event in enumerate(events)]
    await asyncio.gather(*(event.wait() for event in events))
    pipe.send("ready")
    await asyncio.to_thread(pipe.recv)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return got


async def appends(target: str, seconds: float) -> list[float]:
    """Append to the sessions one after the other; return each append's time in seconds."""
    times = []
    async with AsyncClient(target) as client:
        end = time.perf_counter() + seconds
        number = 0
        while (before := time.perf_counter()) < end:
            message = {"role": "user", "content": TEXT}
            await client.sessions.store_message(f"tail-{number % SESSIONS}", message)
            times.append(time.perf_counter() - before)
            number += 1
            await asyncio.sleep(0.005)
    return times


def shown(times: list[float]) -> str:
    """Return the median and the 99th percentile of times, in milliseconds."""
    times = sorted(times)
    p99 = times[min(len(times) - 1, int(len(times) * 0.99))]
    return f"p50 {statistics.median(times) * 1000:7.2f} ms   p99 {p99 * 1000:7.2f} ms"


def compare(target: str, url: str) -> None:
    """Print the latency of appends with and without tabs."""
    alone: list[float] = []
    followed: list[float] = []
    for _ in range(ROUNDS):
        alone += asyncio.run(appends(target, ROUND_S))
        with tabs(url, TABS, target) as got:
            followed += asyncio.run(appends(target, ROUND_S))
        sys.stdout.write(f"{sum(got)} messages shown in {TABS} tabs\n")
    sys.stdout.write(f"appends without tabs   {shown(alone)}   ({len(alone)})\n")
    sys.stdout.write(f"appends with {TABS} tabs   {shown(followed)}   ({len(followed)})\n")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        server = ServerProcess(
            (), {"SESSIOND_DATA_DIR": f"{scratch}/data"}, Path(scratch) / "server.log"
        )
        try:
            server.wait_until_ready()
            fill(server.target, given.messages)
            with console(server.target) as (process, url):
                times = first_pages(url)
                sys.stdout.write(
                    f"first page of {given.messages} messages: {shown(times)}   "
                    f"least {min(times) * 1000:.0f} ms\n"
                )
                memory = process.memory_info().rss / 1024**2
                sys.stdout.write(f"memory of the console: {memory:.0f} MiB\n")
                compare(server.target, url)
                memory = process.memory_info().rss / 1024**2
                sys.stdout.write(f"memory of the console after the tabs: {memory:.0f} MiB\n")
        finally:
            server.end()


if __name__ == "__main__":
    main()
