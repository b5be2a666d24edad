"""An empty gRPC call, followed by an append of subject_floor.py, as one subject of the benchmark.

A program that repeats only one of the two finds its data still in the caches of the processors, and
the processors have not begun to sleep. So it is faster than a server, which does both for each
append. This subject alternates the two, so that each takes as long as in a server.
"""

from subject_empty_call import EmptyCall
from subject_floor import Floor
from workload import MessageDict


class CallAndFloor:
    """Makes an empty call before each append of the floor."""

    def __init__(self, url: str) -> None:
        self._call = EmptyCall()
        self._floor = Floor(url)

    async def open(self) -> None:
        await self._call.open()
        await self._floor.open()

    async def close(self) -> None:
        await self._floor.close()
        await self._call.close()

    async def create(self, session_id: str) -> None:
        await self._floor.create(session_id)

    async def append(self, session_id: str, message: MessageDict) -> None:
        await self._call.append(session_id, message)
        await self._floor.append(session_id, message)
