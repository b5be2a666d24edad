"""Limits how many connections of the pool, and how much memory for histories, the turns use.

Any number of turns may begin at once. They wait here, in memory and in the order of their arrival,
so that other calls find free connections. Each stage of a turn has its own connections. So the
start of a turn does not wait for reads of histories, and the end of a turn waits for neither.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

# How long a turn that has started lets others start first. Unit: seconds.
MAX_YIELD_S = 1.0


class TurnLanes:
    """The lanes of a process.

    Attributes:
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
        self._share = share = max(pool_size // 4, 1)
        self._starts = asyncio.Semaphore(share)
        # The number of blocks of `start` that run or wait, and whether none waits.
        self._starting = 0
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()
        self.reads = asyncio.Semaphore(share)
        self.ends = asyncio.Semaphore(share)
        self.histories = HistoryMemory(max_history_bytes)

    @asynccontextmanager
    async def start(self) -> AsyncIterator[None]:
        """Wait for room in the lane of the Sends whose turns are not stored yet. Run the block."""
        self._starting += 1
        if self._starting > self._share:
            self._is_quiet.clear()
        try:
            async with self._starts:
                yield
        finally:
            self._starting -= 1
            if self._starting <= self._share:
                self._is_quiet.set()

    async def let_starts_pass(self) -> None:
        """Wait while Sends wait to be accepted, but no longer than MAX_YIELD_S.

        A Send is more urgent than a model call, because its caller waits to learn that the turn is
        accepted.
        """
        if not self._is_quiet.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(MAX_YIELD_S):
                    await self._is_quiet.wait()


class HistoryMemory:
    """The memory for the histories that are sent to models.

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
