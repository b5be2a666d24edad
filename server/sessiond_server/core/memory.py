"""Gives memory back to the system after large requests, and watches for a shortage."""

import asyncio
import ctypes
import os
from collections.abc import Callable
from pathlib import Path

# Smaller requests are not counted: their memory is used again soon.
LARGE_BYTES = 1024 * 1024
# glibc keeps freed memory. It is returned to the system after this many bytes of large requests.
TRIM_BYTES = 32 * 1024 * 1024
TRIM_INTERVAL_S = 1.0
LOOK_INTERVAL_S = 0.1

# The share of a container's memory that its processes may take together.
SHARE = 0.85
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
STATUS = Path("/proc/self/statm")


class Memory:
    """Watches the memory of this process.

    Args:
        limit: resident memory above which `is_short` is set. Unit: bytes; 0 = never.

    Attributes:
        is_short: whether the process should take no more large requests.
    """

    def __init__(self, limit: int = 0) -> None:
        self.is_short = False
        self._limit = limit
        self._taken = 0
        self._trim = _malloc_trim()

    def received(self, size: int) -> None:
        """Count a request.

        Args:
            size: size of the request. Unit: bytes.
        """
        if size >= LARGE_BYTES:
            self._taken += size

    async def run(self) -> None:
        """Return freed memory to the system, until cancelled."""
        while True:
            await asyncio.sleep(TRIM_INTERVAL_S)
            await self.trim()

    async def watch(self) -> None:
        """Keep `is_short` up to date, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_INTERVAL_S)

    def look(self) -> None:
        """Update `is_short` once."""
        self.is_short = bool(self._limit) and resident() > self._limit

    async def trim(self) -> None:
        """Trim, if large requests have come since the last time, or if memory is short."""
        if self._trim and (self.is_short or self._taken >= TRIM_BYTES):
            # Large requests in progress still hold memory, so one more trim follows this one.
            self._taken = TRIM_BYTES if self._taken > TRIM_BYTES else 0
            # The call takes up to tens of milliseconds, without holding the interpreter's lock.
            await asyncio.to_thread(self._trim, 0)


def resident() -> int:
    """Return the resident memory of this process in bytes; 0 if the system does not tell."""
    try:
        return int(STATUS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def share_of_container(processes: int) -> int:
    """Return the memory that each process may take within the container's limit, in bytes.

    0 = there is no limit.
    """
    try:
        limit = CONTAINER_LIMIT.read_text().strip()
        return int(int(limit) * SHARE / processes)
    except (OSError, ValueError):
        # "max" = no limit.
        return 0


def _malloc_trim() -> Callable[[int], int] | None:
    """Return glibc's function; None with another C library."""
    try:
        function: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    return function
