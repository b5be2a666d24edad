"""An empty gRPC call, followed by an append of subject_floor.py, as one subject of the benchmark.

If only one of the two is repeated, it finds its own data still in the caches of the processors, and
the processors have not begun to sleep. Here, other work is done between two calls, and between two
appends of the floor, as when a server stores an append. So both are as slow as they are there.
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
