"""Measures the cost of many turns that start at once, from separate processes.

measure_programs.py runs `turn_starts.py TARGET METRICS PID NAME TURNS`. TARGET is the address of a
new server, METRICS that of its metrics, PID its process, and NAME the prefix of the sessions' ids.
Another process sends a prompt to all sessions at once. Meanwhile this process calls GetSession
again and again. The model is `echo`; each turn takes about two seconds. Prints a JSON object that
maps each measurement to [unit, value].
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
import urllib.request
from contextlib import AsyncExitStack
from typing import Any

import grpc
import uvloop
from turns import (
    IDLE_S,
    OPTIONS,
    PERCENTILES,
    TIMEOUT_S,
    TURNS_A_CONNECTION,
    RawStub,
    cpu_s,
    probe,
)

from sessiond.v1.conversation_service_pb2 import SendRequest
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import CreateSessionRequest
from sessiond.v1.session_service_pb2_grpc import SessionServiceStub

ANSWER = {"echo_text": "one two three four", "echo_delay_ms": 500}
STATEMENTS = "sessiond_db_statement_seconds_count"


async def turn(stub: Any, session_id: str, began: float, accepted: list[float]) -> bool:
    """Run a turn. Return False if it was refused."""
    request = SendRequest(session_id=session_id, prompt="hi", options_json=json.dumps(ANSWER))
    call = stub.Send(request, timeout=TIMEOUT_S)
    is_accepted = False
    try:
        async for _ in call:
            if not is_accepted:
                is_accepted = True
                accepted.append(time.perf_counter() - began)
    except grpc.aio.AioRpcError:
        return False
    return True


async def load(target: str, name: str, turns: int) -> None:
    """Run the turns. Print a line before they start, and then the figures."""
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(target, options=OPTIONS))
            for _ in range(-(-turns // TURNS_A_CONNECTION))
        ]
        for channel in channels:
            await channel.channel_ready()
        sessions: Any = SessionServiceStub(channels[0])
        ids = [f"{name}-{number}" for number in range(turns)]
        for session_id in ids:
            session = Session(session_id=session_id, model="echo")
            await sessions.CreateSession(CreateSessionRequest(session=session))
        stubs = [RawStub(channel) for channel in channels]
        for stub in stubs:
            await turn(stub, f"{name}-0", time.perf_counter(), [])
        print("begun", flush=True)
        accepted: list[float] = []
        began = time.perf_counter()
        done = await asyncio.gather(
            *(
                turn(stubs[number % len(stubs)], session_id, began, accepted)
                for number, session_id in enumerate(ids)
            )
        )
        took = time.perf_counter() - began
    print(json.dumps({"accepted": accepted, "refused": done.count(False), "took": took}))


async def main(
    target: str, metrics: str, pid: int, name: str, turns: int
) -> dict[str, tuple[str, float]]:
    """Run the measurement."""
    async with grpc.aio.insecure_channel(target) as channel:
        stub: Any = SessionServiceStub(channel)
        session = Session(session_id=f"{name}-probe")
        await stub.CreateSession(CreateSessionRequest(session=session))
    is_over = asyncio.Event()
    asyncio.get_running_loop().call_later(IDLE_S, is_over.set)
    idle = await probe(target, f"{name}-probe", is_over)
    arguments = [sys.executable, __file__, "load", target, name, str(turns)]
    process = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE, limit=2**24)
    assert process.stdout
    await process.stdout.readline()
    statements, cpu = await asyncio.to_thread(count, metrics), cpu_s(pid)
    is_over = asyncio.Event()
    probing = asyncio.create_task(probe(target, f"{name}-probe", is_over))
    line = await process.stdout.readline()
    is_over.set()
    busy = await probing
    cpu = cpu_s(pid) - cpu
    statements = await asyncio.to_thread(count, metrics) - statements - len(busy)
    await process.wait()
    found = json.loads(line)
    accepted = sorted(found["accepted"])
    figures: dict[str, tuple[str, float]] = {
        "starts, turns a second": ("turns/s", len(accepted) / accepted[-1]),
        "starts, all accepted": ("s", accepted[-1]),
        "starts, refused": ("turns", found["refused"]),
        "starts, statements of a turn": ("statements", statements / turns),
        "starts, server's CPU of a turn": ("ms", 1000 * cpu / turns),
    }
    for what, times in (("idle", idle), ("busy", busy)):
        cuts = statistics.quantiles(times, n=100)
        for percentile in PERCENTILES:
            figures[f"starts, get session {what} p{percentile}"] = "ms", 1000 * cuts[percentile - 1]
    return figures


def count(metrics: str) -> float:
    """Return the number of statements that a server has sent so far."""
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=TIMEOUT_S) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(STATEMENTS))


if __name__ == "__main__":
    if sys.argv[1] == "load":
        uvloop.run(load(sys.argv[2], sys.argv[3], int(sys.argv[4])))
    else:
        target_, metrics_, pid_, name_, turns_ = sys.argv[1:]
        print(json.dumps(uvloop.run(main(target_, metrics_, int(pid_), name_, int(turns_)))))
