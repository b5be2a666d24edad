"""Appends to some sessions until its input ends, and prints the durations of the appends.

measure_many.py runs `writers.py TARGET NAME WRITERS PAUSE_MS`: each writer has a session of its
own, and pauses after each append. For every line of input, it prints a JSON object with the appends
since the line before: their number, and percentiles of their duration in milliseconds.
"""

import asyncio
import json
import statistics
import sys
import time

import uvloop

from sessiond import AsyncClient

MESSAGE = {"role": "user", "content": "x" * 450}


async def write(client: AsyncClient, session_id: str, pause_s: float, took: list[float]) -> None:
    """Append to a session, until cancelled."""
    session = await client.create_session(session_id=session_id)
    while True:
        began = time.perf_counter()
        await session.store_message(MESSAGE)
        took.append(1000 * (time.perf_counter() - began))
        await asyncio.sleep(pause_s)


async def main(target: str, name: str, writers: int, pause_s: float) -> None:
    """Run the writers."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    took: list[float] = []
    async with AsyncClient(target) as client:
        tasks = [
            asyncio.create_task(write(client, f"{name}-{number}", pause_s, took))
            for number in range(writers)
        ]
        while await lines.readline():
            measured = took.copy()
            took.clear()
            cuts = statistics.quantiles(measured or [0.0] * 2, n=100, method="inclusive")
            found = {"count": len(measured), "p50": cuts[49], "p99": cuts[98]}
            print(json.dumps(found), flush=True)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]) / 1000))
