"""Measures many turns at once on one server, from processes of their own.

measure_programs.py runs `turns.py TARGET PID NAME TURNS SECONDS`. TARGET is the address of a new
server, PID its process, and NAME the prefix of the sessions' ids. The model is `echo`, which writes
50 words a second in each turn for SECONDS. Another process calls GetSession again and
again: first on the idle server, and then while all turns write. Prints a JSON object that maps each
measurement to [unit, value]. The calls use the stubs directly, because the server is measured, not
the client.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import uvloop

from sessiond.v1.conversation_service_pb2 import SendRequest, SendResponse
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import CreateSessionRequest, GetSessionRequest
from sessiond.v1.session_service_pb2_grpc import SessionServiceStub

DELTAS_A_SECOND = 50
TURNS_A_CONNECTION = 100
PAUSE_S = 0.005
IDLE_S = 3.0
TIMEOUT_S = 300
PERCENTILES = (50, 99)
# Channels to one address would otherwise share a connection, and its limit of streams.
OPTIONS = [("grpc.use_local_subchannel_pool", 1)]


@dataclass
class Received:
    """Counts what has been received from all turns.

    Attributes:
        events: number of events with text.
        characters: number of characters in them.
    """

    events: int = 0
    characters: int = 0


async def turn(
    stub: Any, session_id: str, text: str, writing: asyncio.Barrier, received: Received
) -> None:
    """Run a turn.

    Args:
        stub: see RawStub.
        session_id: the session.
        text: what the model is to write.
        writing: a barrier that opens once the models of all turns write.
        received: counts the events.

    Raises:
        AssertionError: if the deltas are not the answer.
    """
    options = {"echo_text": text, "echo_delay_ms": 1000 / DELTAS_A_SECOND}
    request = SendRequest(session_id=session_id, prompt="hi", options_json=json.dumps(options))
    call = stub.Send(request, timeout=TIMEOUT_S)
    parts: list[str] = []
    waiting: asyncio.Task[Any] | None = None
    async for content in call:
        for event in SendResponse.FromString(content).events:
            if event.type == "assistant.message_delta":
                parts.append(event.data.fields["delta_content"].string_value)
                received.events += 1
                received.characters += len(parts[-1])
                waiting = waiting or asyncio.create_task(writing.wait())
    assert "".join(parts) == text


async def load(target: str, name: str, turns: int, seconds: float) -> None:
    """Run turns at once. Print a line when all models write, and then the figures."""
    words = [f"{number:04} " for number in range(int(seconds * DELTAS_A_SECOND))]
    text = "".join(words).strip()
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(target, options=OPTIONS))
            for _ in range(-(-turns // TURNS_A_CONNECTION))
        ]
        sessions: Any = SessionServiceStub(channels[0])
        ids = [f"{name}-{number}" for number in range(turns)]
        for session_id in ids:
            session = Session(session_id=session_id, model="echo")
            await sessions.CreateSession(CreateSessionRequest(session=session))
        writing = asyncio.Barrier(turns + 1)
        received = Received()
        began = time.perf_counter()
        tasks = [
            asyncio.create_task(
                turn(RawStub(channels[number % len(channels)]), session_id, text, writing, received)
            )
            for number, session_id in enumerate(ids)
        ]
        await writing.wait()
        start, started, before = time.perf_counter() - began, time.perf_counter(), replace(received)
        print("begun", flush=True)
        await asyncio.gather(*tasks)
        found = {
            "start": start,
            "took": time.perf_counter() - started,
            "events": received.events - before.events,
            "deltas": (received.characters - before.characters) / len(words[0]),
        }
    print(json.dumps(found))


class RawStub:
    """ConversationService.Send."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.Send = channel.unary_stream(
            "/sessiond.v1.ConversationService/Send",
            request_serializer=SendRequest.SerializeToString,
            response_deserializer=None,
        )


async def probe(target: str, session_id: str, is_over: asyncio.Event) -> list[float]:
    """Ask for a session until an event is set. Return the seconds that each call took."""
    times: list[float] = []
    async with grpc.aio.insecure_channel(target, options=OPTIONS) as channel:
        stub: Any = SessionServiceStub(channel)
        while not is_over.is_set():
            began = time.perf_counter()
            await stub.GetSession(GetSessionRequest(session_id=session_id), timeout=TIMEOUT_S)
            times.append(time.perf_counter() - began)
            await asyncio.sleep(PAUSE_S)
    return times


async def main(
    target: str, pid: int, name: str, turns: int, seconds: float
) -> dict[str, tuple[str, float]]:
    """Run the measurement."""
    async with grpc.aio.insecure_channel(target) as channel:
        stub: Any = SessionServiceStub(channel)
        session = Session(session_id=f"{name}-probe")
        await stub.CreateSession(CreateSessionRequest(session=session))
    is_over = asyncio.Event()
    asyncio.get_running_loop().call_later(IDLE_S, is_over.set)
    idle = await probe(target, f"{name}-probe", is_over)
    arguments = [sys.executable, __file__, "load", target, name, str(turns), str(seconds)]
    process = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE)
    assert process.stdout
    await process.stdout.readline()
    before_s = cpu_s(pid)
    is_over = asyncio.Event()
    probing = asyncio.create_task(probe(target, f"{name}-probe", is_over))
    line = await process.stdout.readline()
    took_s = cpu_s(pid) - before_s
    is_over.set()
    busy = await probing
    await process.wait()
    found = json.loads(line)
    figures: dict[str, tuple[str, float]] = {
        "turns, all have started": ("s", found["start"]),
        "turns, deltas a second": ("deltas/s", found["deltas"] / found["took"]),
        "turns, deltas an event": ("deltas", found["deltas"] / found["events"]),
        "turns, server's CPU for a delta": ("us", 1e6 * took_s / found["deltas"]),
    }
    for what, times in (("idle", idle), ("busy", busy)):
        cuts = statistics.quantiles(times, n=100)
        for percentile in PERCENTILES:
            figures[f"get session {what} p{percentile}"] = "ms", 1000 * cuts[percentile - 1]
    return figures


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    if sys.argv[1] == "load":
        uvloop.run(load(sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])))
    else:
        figures = uvloop.run(
            main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))
        )
        print(json.dumps(figures))
