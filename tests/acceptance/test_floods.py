"""Floods of HTTP/2 frames: bounded memory, and responses to all other clients."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from sessiond import AsyncClient
from sessiond_server.server import Running

from ..support import http2_flood
from ..support.metrics import here
from ..support.processes import ServerProcess
from ..support.wire import Wire

FLOOD_S = 2
# A server without load has about 120 MB.
MAX_RESIDENT_BYTES = 512 * 1024 * 1024


def start_flood(mode: str, port: str) -> subprocess.Popen[str]:
    command = [sys.executable, http2_flood.__file__, mode, port, str(FLOOD_S)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def resident_bytes(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc")
async def test_calls_are_answered_during_floods_and_memory_is_bounded(
    start_server: Callable[..., ServerProcess], database_url: str
) -> None:
    server = start_server(SESSIOND_DATABASE_URL=database_url)
    port = server.target.rpartition(":")[2]
    async with AsyncClient(server.target) as client:
        await client.create_session("a")
        for mode in http2_flood.MODES:
            with start_flood(mode, port) as flood:
                assert flood.stdout is not None
                assert await asyncio.to_thread(flood.stdout.readline) == "flooding\n"
                answered = 0
                while flood.poll() is None or not answered:
                    session = await client.get_session("a")
                    await session.store_message({"role": "user", "content": mode})
                    answered += 1
                sent = json.loads(flood.stdout.read())
            assert sent["frames"] > 10_000, mode
            assert resident_bytes(server.process.pid) < MAX_RESIDENT_BYTES, mode


def send_resets(port: int, count: int) -> None:
    """Send calls of GetSession that are reset at once, and wait until the server has read them."""
    ping = http2_flood.frame(http2_flood.PING, 0, 0, b"after it")
    acknowledged = http2_flood.frame(http2_flood.PING, 1, 0, b"after it")
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(http2_flood.PREFACE + http2_flood.frame(http2_flood.SETTINGS, 0, 0, b""))
        connection.sendall(b"".join(islice(http2_flood.rapid_resets(), count)) + ping)
        received = b""
        while acknowledged not in received:
            received = received[-len(acknowledged) :] + connection.recv(1 << 16)


async def test_calls_that_are_reset_at_once_reach_no_handler(server: Running, wire: Wire) -> None:
    """A flood of these calls uses CPU time of gRPC's threads, and hardly any of the event loop."""
    await wire.create("a")
    before = here().value("grpc_server_started_total", grpc_method="GetSession")
    await asyncio.to_thread(send_resets, server.port, 20_000)
    await wire.get("a")
    after = here().value("grpc_server_started_total", grpc_method="GetSession")
    assert after == before + 1
