"""Measures unary appends and full reads from Python; see ../languages.py.

Usage: measure.py TARGET SESSION APPENDS LONG_SESSION READS, with the message on the standard input.
Prints a JSON object.
"""

import json
import sys
import time

import uvloop

from sessiond import AsyncClient

WARM_UP = 30


async def main(target: str, session_id: str, appends: int, long: str, reads: int) -> None:
    text = sys.stdin.read()
    times: list[float] = []
    async with AsyncClient(target) as client:
        await client.create_session(session_id)
        for number in range(WARM_UP + appends):
            began = time.perf_counter()
            await client.sessions.store_message(session_id, text, "openai")
            if number >= WARM_UP:
                times.append(time.perf_counter() - began)
        count = await read(client, long)
        began = time.perf_counter()
        for _ in range(reads):
            count = await read(client, long)
        took_s = time.perf_counter() - began
    times.sort()
    found = {
        "append_p50_ms": 1000 * times[len(times) // 2],
        "append_p99_ms": 1000 * times[len(times) * 99 // 100],
        "read_messages_s": reads * count / took_s,
    }
    print(json.dumps(found))


async def read(client: AsyncClient, session_id: str) -> int:
    return len([message.json async for message in client.sessions.get_messages(session_id)])


if __name__ == "__main__":
    given = sys.argv[1:]
    uvloop.run(main(given[0], given[1], int(given[2]), given[3], int(given[4])))
