"""Memory of this process: gives back what large requests have taken."""

import asyncio
import ctypes
from collections.abc import Callable

# Smaller requests are not counted: their memory is used again soon.
LARGE_BYTES = 1024 * 1024
# glibc keeps freed memory. It is given back after this many bytes of large requests.
TRIM_BYTES = 32 * 1024 * 1024
INTERVAL_S = 1.0


class Trimmer:
    """Returns freed memory to the system after large requests."""

    def __init__(self) -> None:
        self._taken = 0
        self._trim = _malloc_trim()

    def received(self, size: int) -> None:
        """Count a request.

        Args:
            size: its size. Unit: bytes.
        """
        if size >= LARGE_BYTES:
            self._taken += size

    async def run(self) -> None:
        """Trim until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.trim()

    async def trim(self) -> None:
        """Trim, if large requests have come since the last time."""
        if self._trim and self._taken >= TRIM_BYTES:
            # What is still in use now is given back by one more round.
            self._taken = TRIM_BYTES if self._taken > TRIM_BYTES else 0
            # The call takes up to tens of milliseconds, without the interpreter's lock.
            await asyncio.to_thread(self._trim, 0)


def _malloc_trim() -> Callable[[int], int] | None:
    """Return glibc's function; None with another C library."""
    try:
        function: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    return function
