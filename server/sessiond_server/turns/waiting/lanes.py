"""Limits how many connections of the pool, and how much memory for histories, the turns use.

Any number of turns may begin at once. They wait here, in memory, so that other calls find free
connections. Projects that wait are served in turn, and the turns of a project in the order of
their arrival. Each stage of a turn has its own connections. So the start of a turn does not wait
for reads of histories, and the end of a turn waits neither for starts nor for reads.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from uuid import UUID

from sessiond_server.turns.waiting.fair import FairLane

# How long the read of a history waits at most for other turns to start first. Unit: seconds.
MAX_YIELD_S = 1.0

# gRPC hands over calls one by one, and each new call waits for all tasks that are ready to run.
# While Sends arrive, other work of turns therefore pauses until no Send has arrived for QUIET_S.
# When a statement that several callers share (joining.py) has ended, the callers continue one by
# one. After each of them, the same pause is made, but for at most MAX_PAUSE_S. Unit: seconds.
QUIET_S = 0.005
MAX_PAUSE_S = 0.01
LOOK_S = 0.001

# Number of histories that may overtake one that waits for memory.
MAX_OVERTAKEN = 100


class TurnLanes:
    """The lanes of a process.

    Attributes:
        starts: entered while a statement or a transaction stores Sends.
        ends: entered while the outcome of a turn is stored.
        waits: entered while a transaction waits for a session that was found locked.
        histories: the memory for histories.
    """

    def __init__(self, pool_size: int, max_history_bytes: int) -> None:
        """Create the lanes.

        Args:
            pool_size: number of connections; a quarter of them is left to other calls.
            max_history_bytes: see HistoryMemory.
        """
        self._share = share = max(pool_size // 4, 1)
        # The number of Sends in a block of `starting`. _is_quiet is set while it is at most _share,
        # so that none of them waits.
        self._starting = 0
        # When the last Send arrived, by the clock of the event loop.
        self._arrived_at = -math.inf
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()
        self.starts = FairLane(share)
        self._reads = FairLane(share)
        self.ends = FairLane(share)
        self.waits = FairLane(max(share // 2, 1))
        self.histories = HistoryMemory(max_history_bytes)

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Count a Send for the duration of the block, in which it waits in a lane or is stored."""
        self._starting += 1
        if self._starting > self._share:
            self._is_quiet.clear()
        try:
            yield
        finally:
            self._starting -= 1
            if self._starting <= self._share:
                self._is_quiet.set()

    @asynccontextmanager
    async def start(self, project_id: UUID) -> AsyncIterator[None]:
        """Run the block in the lane for Sends that are not stored yet, once the lane has room."""
        with self.starting():
            async with self.starts.place(project_id):
                yield

    @asynccontextmanager
    async def read(self, project_id: UUID) -> AsyncIterator[None]:
        """Run the block in the lane for reads of histories, once the lane has room.

        While Sends arrive or wait to be accepted, no history is read, unless it has waited for
        MAX_YIELD_S. A Send is more urgent than a model call, because its caller waits to learn that
        the turn is accepted.
        """
        ends_at = asyncio.get_running_loop().time() + MAX_YIELD_S
        async with self._reads.place(project_id):
            while (pause_s := self._pause_s(ends_at)) > 0:
                if self._is_quiet.is_set():
                    await asyncio.sleep(min(pause_s, QUIET_S))
                else:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause_s):
                            await self._is_quiet.wait()
            yield

    def _pause_s(self, ends_at: float) -> float:
        """Return how long a read of a history still waits for Sends; 0 or less = it may begin."""
        now = asyncio.get_running_loop().time()
        is_busy = not self._is_quiet.is_set() or now < self._arrived_at + QUIET_S
        return ends_at - now if is_busy else 0

    def send_arrived(self) -> None:
        """Note that a Send has arrived."""
        self._arrived_at = asyncio.get_running_loop().time()

    async def let_sends_arrive(self) -> None:
        """Let other tasks run. While Sends arrive, wait for them, for at most MAX_PAUSE_S."""
        await asyncio.sleep(0)
        now = asyncio.get_running_loop().time
        ends_at = now() + MAX_PAUSE_S
        # This polls, because an event that each Send sets would wake many tasks for nothing.
        while now() < min(self._arrived_at + QUIET_S, ends_at):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)


class _Waiting:
    """A history that waits for memory.

    Attributes:
        size: size of the history. Unit: bytes.
        overtaken: number of later histories that were admitted first.
        admitted: done once there is memory for it.
    """

    __slots__ = ("admitted", "overtaken", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.overtaken = 0
        self.admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class HistoryMemory:
    """The memory for the histories that are sent to models.

    Smaller histories overtake a large one that waits, but not forever.

    Args:
        limit: maximum size of all histories. Unit: bytes. A single history is always admitted.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._waiting: list[_Waiting] = []

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Hold memory for a history during the block; wait until there is room for it."""
        waiting = _Waiting(size)
        self._waiting.append(waiting)
        self._admit()
        try:
            await waiting.admitted
            yield
        finally:
            if waiting in self._waiting:  # the caller was cancelled
                self._waiting.remove(waiting)
            else:
                self._held -= size
            self._admit()

    def _admit(self) -> None:
        """Admit the waiting histories that there is room for."""
        left: list[_Waiting] = []
        for waiting in self._waiting:
            fits = not self._held or self._held + waiting.size <= self._limit
            if not fits or any(one.overtaken >= MAX_OVERTAKEN for one in left):
                left.append(waiting)
                continue
            self._held += waiting.size
            if not waiting.admitted.done():
                waiting.admitted.set_result(None)
            for one in left:
                one.overtaken += 1
        self._waiting = left
