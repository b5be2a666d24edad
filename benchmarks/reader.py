"""A process that reads the sessions of one subject, as a program of a user would.

readers.py runs `reader.py KIND ADDRESS`. For each line of JSON, [level, session_id, times], it
prints how long the reads took, in seconds. The process holds neither other subjects' packages
nor the benchmark's objects, and keeps Python's settings of the garbage collector.
"""

import asyncio
import gc
import json
import sys
import time

import uvloop
from subjects import Subject, subject


async def _read(reading: Subject, level: str, session_id: str, times: int) -> float:
    read = getattr(reading, level)
    gc.collect()
    started = time.perf_counter()
    for _ in range(times):
        found = await read(session_id)
    took_s = time.perf_counter() - started
    del found
    return took_s


async def _main(kind: str, address: str) -> None:
    reading = subject(kind, address)
    await reading.open()
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(await _read(reading, *json.loads(line)), flush=True)
    await reading.close()


if __name__ == "__main__":
    uvloop.run(_main(*sys.argv[1:]))
