"""Measures the memory growth of a process that reads one session.

measure_reads.py runs `peak_memory.py KIND ADDRESS SESSION_ID LEVEL`. LEVEL is "texts", "dicts", or,
for sessiond, "one by one": each message is parsed and released, which only a stream allows. Prints
MiB. Linux only.
"""

import gc
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from subjects import subject

if TYPE_CHECKING:
    from sessiond import AsyncClient


async def _growth(kind: str, address: str, session_id: str, level: str) -> float:
    if level == "one by one":
        from sessiond import AsyncClient

        async with AsyncClient(address) as client:
            return await _measured(lambda: _one_by_one(client, session_id))
    reading = subject(kind, address)
    await reading.open()
    try:
        return await _measured(
            lambda: reading.texts(session_id) if level == "texts" else reading.dicts(session_id)
        )
    finally:
        await reading.close()


async def _one_by_one(client: "AsyncClient", session_id: str) -> None:
    async for message in client.sessions.get_messages(session_id=session_id):
        assert message.blob


async def _measured(work: Callable[[], Awaitable[Any]]) -> float:
    gc.collect()
    before_mib = _current_mib()
    await work()
    return _mib("VmHWM") - before_mib


def _current_mib() -> float:
    """Return the memory of this process, and reset its peak."""
    Path("/proc/self/clear_refs").write_text("5")
    return _mib("VmRSS")


def _mib(field: str) -> float:
    """Return VmRSS (current) or VmHWM (peak) of this process, in MiB."""
    found = re.search(rf"{field}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


if __name__ == "__main__":
    sys.stdout.write(str(uvloop.run(_growth(*sys.argv[1:]))))
