"""Programs that end while they read a history print no error."""

import subprocess
import sys

import pytest

from sessiond import Client

from ..support.processes import ServerProcess

PROGRAM = """
import asyncio, sys
from sessiond import AsyncClient

kept = []

async def read(messages):
    async for message in messages:
        await asyncio.sleep(0.001)

async def main():
    client = AsyncClient(sys.argv[1])
    await client.start()
    messages = aiter(client.sessions.get_messages("one"))
    await anext(messages)
    match sys.argv[2]:
        case "forgotten":
            pass
        case "kept":
            kept.append(messages)
        case "read on in the background":
            kept.append(asyncio.create_task(read(messages)))
            await asyncio.sleep(0)
        case "client closed":
            kept.append(messages)
            await client.stop()
        case "left":
            async for message in messages:
                break
            await client.stop()
        case "ended":
            kept.append(messages)
            raise SystemExit(0)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "way", ["forgotten", "kept", "read on in the background", "client closed", "left", "ended"]
)
def test_an_open_read_ends_with_its_event_loop(own_project: ServerProcess, way: str) -> None:
    with Client() as client:
        client.create_session("one").import_messages(
            [{"role": "user", "content": "x" * 1000}] * 5000
        )
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, own_project.target, way],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
