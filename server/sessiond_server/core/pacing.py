"""The pace of background work: batches of bounded duration, with a pause after each."""

from asyncio import sleep
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from time import monotonic

# Target duration of a batch. A call that needs the same rows or the disk may wait for about this
# time.
TARGET_S = 0.05
# A pause is as long as the batch before it, so that background work takes half of a connection's
# time at most. Calls that compete with it make its batches slower, and thereby its pauses longer.
PAUSE_SHARE = 1.0
MAX_PAUSE_S = 1.0
# A batch is at most this many times larger or smaller than the one before it.
MAX_STEP = 2.0


class Batch:
    """A batch of background work.

    Attributes:
        size: maximum number of items, such as sessions or rows.
        done: number of items that were found and done; the block sets it.
    """

    __slots__ = ("done", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.done = 0


class Pace:
    """Chooses the size of batches of background work by the duration of earlier batches."""

    def __init__(
        self, largest: int, pause_share: float = PAUSE_SHARE, most_per_s: float = inf
    ) -> None:
        """Begin with the smallest batch, which is a fifth of the largest.

        Even smaller ones would mostly consist of round trips.

        Args:
            largest: maximum size of a batch.
            pause_share: length of a pause, as a share of the time that the batch before it took.
            most_per_s: maximum number of items a second. If batches are faster, the pauses after
                them are lengthened.
        """
        self._most_per_s = most_per_s
        self._pause_share = pause_share
        self._size = self._smallest = max(largest // 5, 1)
        self._largest = largest

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[Batch]:
        """Time one batch, and pause after it. A block that raises has no pause."""
        batch = Batch(self._size)
        began = monotonic()
        yield batch
        took_s = monotonic() - began
        self._adjust(batch, took_s)
        if batch.done:
            pause_s = max(took_s * self._pause_share, batch.done / self._most_per_s - took_s)
            await sleep(min(pause_s, MAX_PAUSE_S))

    def _adjust(self, batch: Batch, took_s: float) -> None:
        if batch.done < batch.size and took_s <= TARGET_S:
            return  # the duration of a partial batch does not predict that of a full one
        factor = min(max(TARGET_S / max(took_s, 1e-6), 1 / MAX_STEP), MAX_STEP)
        self._size = min(max(round(batch.size * factor), self._smallest), self._largest)
