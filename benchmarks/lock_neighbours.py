"""Measures calls while other calls wait for locks: `python benchmarks/lock_neighbours.py`.

This program locks rows or a table, and its clients make calls that wait for the lock. Another
process makes calls that do not need what is locked. The latencies of its calls are printed beside
those of the same calls while nothing is locked.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
import uvloop
from database import databases
from serving import migrate, serve

from sessiond import AsyncClient
from sessiond.errors import SessiondError

LOCKED_SESSIONS = 10
CALLERS = 30
OTHERS = 4
# Deadline of a call that waits for a lock. Unit: seconds.
TIMEOUT_S = 4.0
PAUSE_S = 0.005

Call = Callable[[AsyncClient, int], Awaitable[Any]]


async def append(client: AsyncClient, number: int) -> None:
    """Append to one of the locked sessions."""
    await client.sessions.store_message(
        f"locked-{number % LOCKED_SESSIONS}", {"role": "user", "content": "x"}, timeout=TIMEOUT_S
    )


async def append_to_one(client: AsyncClient, _: int) -> None:
    """Append to the first locked session."""
    await append(client, 0)


async def read(client: AsyncClient, number: int) -> None:
    """Read one of the locked sessions."""
    async for _ in client.sessions.get_messages(
        f"locked-{number % LOCKED_SESSIONS}", timeout=TIMEOUT_S
    ):
        pass


async def get(client: AsyncClient, number: int) -> None:
    """Get one of the locked sessions."""
    await client.get_session(f"locked-{number % LOCKED_SESSIONS}", timeout=TIMEOUT_S)


async def get_asset(client: AsyncClient, number: int) -> None:
    """Look up an asset that is not there."""
    await client.assets.get(f"{number:064x}", timeout=TIMEOUT_S)


async def own_session(client: AsyncClient, number: int) -> None:
    """Get a session that nobody has locked."""
    await client.get_session(f"own-{number}")


async def own_append(client: AsyncClient, number: int) -> None:
    """Append to a session that nobody has locked."""
    await client.sessions.store_message(f"own-{number}", {"role": "user", "content": "x"})


async def own_list(client: AsyncClient, _: int) -> None:
    """List some sessions."""
    async for _session in client.list_sessions(page_size=20):
        break


async def own_asset(client: AsyncClient, number: int) -> None:
    """Look up an asset that is not there, which needs neither sessions nor messages."""
    with suppress(SessiondError):
        await get_asset(client, number)


# For each lock: how to take it, the calls that need it, and the calls that do not.
LOCKS: dict[str, tuple[str, list[Call], list[Call]]] = {
    "one row, 30 appenders": (
        "SELECT FROM sessions WHERE session_id = 'locked-0' FOR UPDATE",
        [append_to_one],
        [own_session, own_append, own_list],
    ),
    "ten rows, 30 appenders": (
        "SELECT FROM sessions WHERE session_id LIKE 'locked-%' FOR UPDATE",
        [append],
        [own_session, own_append, own_list],
    ),
    "table messages": ("LOCK TABLE messages", [append, read], [own_session, own_list]),
    "table assets": ("LOCK TABLE assets", [get_asset], [own_session, own_append, own_list]),
    "table sessions": ("LOCK TABLE sessions", [append, read, get], [own_asset]),
}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Latencies of calls beside locks.")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each lock (%(default)s)")
    parser.add_argument("--lock", action="append", choices=LOCKS, help="only this one")
    parser.add_argument("--measure", nargs=2, metavar=("TARGET", "CALLS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        uvloop.run(measure(*arguments.measure))
        return
    with databases() as made:
        migrate(made.sessiond_url)
        with serve(made.sessiond_url, {}) as served:
            names = arguments.lock or list(LOCKS)
            uvloop.run(compare(served.target, made.sessiond_url, arguments.seconds, names))


async def measure(target: str, names: str) -> None:
    """Make calls until the input ends.

    At each line of the input, print the latencies of the calls since the previous line.
    """
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    took: list[float] = []

    async def caller(client: AsyncClient, call: Call, number: int) -> None:
        while True:
            began = time.perf_counter()
            await call(client, number)
            took.append(1000 * (time.perf_counter() - began))
            await asyncio.sleep(PAUSE_S)

    async with AsyncClient(target) as client:
        calls: list[Call] = [globals()[name] for name in names.split(",")]
        tasks = [
            asyncio.create_task(caller(client, call, number))
            for call in calls
            for number in range(OTHERS)
        ]
        while await lines.readline():
            for task in tasks:
                if task.done():
                    task.result()
            measured = [*took] or [0.0, 0.0]
            took.clear()
            cuts = statistics.quantiles(measured, n=100, method="inclusive")
            found = {"count": len(measured), "p50": cuts[49], "p99": cuts[98]}
            print(json.dumps(found | {"max": max(measured)}), flush=True)
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def others(
    target: str, calls: list[Call]
) -> AsyncIterator[Callable[[], Awaitable[dict[str, float]]]]:
    """Run a process that makes calls.

    Yields:
        A function that returns the latencies of the calls since it was called last.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "--measure", target),
        ",".join(call.__name__ for call in calls),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    writer, reader = process.stdin, process.stdout

    async def since_last() -> dict[str, float]:
        writer.write(b"\n")
        found: dict[str, float] = json.loads(await reader.readline())
        return found

    try:
        yield since_last
    finally:
        writer.close()
        await process.wait()


@asynccontextmanager
async def locked(url: str, statement: str, target: str, calls: list[Call]) -> AsyncIterator[None]:
    """Lock something during the block, and have clients make calls that need it."""

    async def caller(client: AsyncClient, call: Call, number: int) -> None:
        while True:
            with suppress(SessiondError):
                await call(client, number)

    async with (
        AsyncClient(target) as client,
        await psycopg.AsyncConnection.connect(url) as blocker,
    ):
        await blocker.execute(statement)
        tasks = [
            asyncio.create_task(caller(client, call, number))
            for call in calls
            for number in range(CALLERS)
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await blocker.rollback()


async def compare(target: str, url: str, seconds: float, names: list[str]) -> None:
    """Measure some kinds of locks, and print the results."""
    async with AsyncClient(target) as client:
        for number in range(LOCKED_SESSIONS):
            await client.create_session(session_id=f"locked-{number}")
            await append(client, number)
        for number in range(OTHERS):
            await client.create_session(session_id=f"own-{number}")
    print(f"{'':26}{'p50, ms':>18}{'p99, ms':>18}{'p99: times idle':>18}{'max, ms':>18}")
    for name in names:
        statement, calls, own = LOCKS[name]
        async with others(target, own) as since_last:
            await asyncio.sleep(1)
            await since_last()
            await asyncio.sleep(seconds)
            idle = await since_last()
            async with locked(url, statement, target, calls):
                await asyncio.sleep(seconds)
                beside = await since_last()
        cells = [f"{idle[key]:.1f} → {beside[key]:.1f}" for key in ("p50", "p99", "max")]
        cells.insert(2, f"{beside['p99'] / idle['p99']:.2f}")
        print(f"{name:26}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
