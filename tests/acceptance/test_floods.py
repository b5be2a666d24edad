"""Floods of HTTP/2 frames: bounded memory, and responses to all other clients."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sessiond import AsyncClient

from ..support import http2_flood
from ..support.processes import ServerProcess

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
