"""By how much the memory of a process grows that reads one session: `peak_memory.py KIND ADDRESS SESSION_ID LEVEL`, run by measurements.py.

LEVEL is "texts", "dicts", or, for sessiond, "one by one": every message is looked at and let go, as only a stream can do. Prints MiB.
Linux only.
"""

import gc
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop
from subjects import Floor, OpenAIAgents, Sessiond, Subject

from sessiond import AsyncClient

KINDS: dict[str, Callable[[str], Subject]] = {"sessiond": Sessiond, "openai-agents": OpenAIAgents, "floor": Floor}


async def _growth(kind: str, address: str, session_id: str, level: str) -> float:
    if level == "one by one":
        async with AsyncClient(address) as client:
            return await _measured(lambda: _one_by_one(client, session_id))
    subject = KINDS[kind](address)
    await subject.open()
    try:
        return await _measured(lambda: subject.texts(session_id) if level == "texts" else subject.dicts(session_id))
    finally:
        await subject.close()


async def _one_by_one(client: AsyncClient, session_id: str) -> None:
    async for message in client.sessions.get_messages(session_id=session_id):
        assert message.blob


async def _measured(work: Callable[[], Awaitable[Any]]) -> float:
    gc.collect()
    before_mib = _current_mib()
    await work()
    return _mib("VmHWM") - before_mib


def _current_mib() -> float:
    """The memory of this process; its peak counts anew from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return _mib("VmRSS")


def _mib(field: str) -> float:
    """VmRSS (now) or VmHWM (the peak) of this process."""
    found = re.search(rf"{field}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


if __name__ == "__main__":
    sys.stdout.write(str(uvloop.run(_growth(*sys.argv[1:]))))
