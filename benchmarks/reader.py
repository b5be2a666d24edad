"""A process that reads sessions, as a program of its subject's users would be: `reader.py KIND ADDRESS`, run by readers.py.

It takes a line of JSON for each reading, [level, session_id, times], and answers how long that took. Unit: seconds. Nothing else lives in
it, no other subject's packages, nor what the benchmark keeps; the garbage collector is left as Python has it.
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
