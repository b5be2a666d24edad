"""Bounds what the turns of a process take: connections of the pool, and memory for histories.

Any number of turns may begin at once. They wait here, in memory and in the order of their arrival,
so that other calls find free connections. Each stage of a turn has connections of its own: turns
that start do not wait for histories to be read, and turns that end wait for neither.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class TurnLanes:
    """The lanes of a process.

    Attributes:
        starts: entered by a Send until its turn is stored.
        reads: entered while a history is read.
        ends: entered while the outcome of a turn is stored.
        histories: the memory for histories.
    """

    def __init__(self, pool_size: int, max_history_bytes: int) -> None:
        """Create the lanes.

        Args:
            pool_size: number of connections; a quarter of them is left to other calls.
            max_history_bytes: see HistoryMemory.
        """
        share = max(pool_size // 4, 1)
        self.starts = asyncio.Semaphore(share)
        self.reads = asyncio.Semaphore(share)
        self.ends = asyncio.Semaphore(share)
        self.histories = HistoryMemory(max_history_bytes)


class HistoryMemory:
    """The memory for the histories that models are given.

    Args:
        limit: maximum size of all histories. Unit: bytes. A single history is always admitted.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._waiting: deque[asyncio.Event] = deque()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Hold memory for a history during the block; wait until there is room for it."""
        while self._held and self._held + size > self._limit:
            freed = asyncio.Event()
            self._waiting.append(freed)
            await freed.wait()
        self._held += size
        try:
            yield
        finally:
            self._held -= size
            waiting, self._waiting = self._waiting, deque()
            for freed in waiting:
                freed.set()
