"""Divides the connections of the pool among kinds of work.

A lock on a table, a bad plan or a slow disk often delays one kind of call, such as reads of
messages. Without a limit, such calls would soon hold every connection, and all other calls would
wait for them. See docs/decisions/053-shares-of-the-pool.md.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

from psycopg_pool import PoolTimeout, TooManyRequests

# Least time that a caller may wait for a connection, however long it waited for its place. Unit:
# seconds.
MIN_LEFT_S = 0.1


class CallsRefused(Exception):
    """A caller that waited for a place was refused, because a call of its kind met a lock."""


class Places:
    """Counts the places that each kind of work holds.

    A caller holds a place while it has a connection of the pool, or waits in the pool's own queue.
    The last quarter of the places is left to kinds that hold none. So a call finds a place even if
    all calls of some other kinds are blocked. Work of an unknown kind is counted, but not limited.
    """

    def __init__(self, size: int) -> None:
        """Create the places.

        Args:
            size: maximum number of connections, at least 1.
        """
        self._common = max(size - max(size // 4, 1), 1)
        self._max_waiting = size * 64
        self._total = 0
        # Counters as in psycopg_pool's statistics.
        self._waited_ms = self._errors = 0
        self._held: dict[str, int] = {}
        # The waiting callers, by kind. The next place goes to the first kind that may have it.
        # That kind then moves to the end.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @property
    def waiting(self) -> int:
        """Number of callers that wait for a place of their kind."""
        return sum(map(len, self._waiting.values()))

    def stats(self) -> dict[str, int]:
        """Return the counts to add to those of psycopg_pool.AsyncConnectionPool.get_stats."""
        return {
            "requests_waiting": self.waiting,
            "requests_wait_ms": self._waited_ms,
            "requests_errors": self._errors,
        }

    def take(self, kind: str) -> bool:
        """Take a place if the kind may have one now. Return whether a place was taken."""
        if kind in self._waiting or not self._is_free(kind):
            return False
        self._add(kind)
        return True

    async def wait(self, kind: str, timeout_s: float) -> float:
        """Wait until the kind may have a place, and take it.

        Args:
            kind: the kind of work that needs the place.
            timeout_s: maximum time to wait. Unit: seconds.

        Returns:
            The rest of `timeout_s`, but at least MIN_LEFT_S.

        Raises:
            PoolTimeout: if there was no place in time.
            TooManyRequests: if too many callers wait.
            CallsRefused: see `refuse`.
        """
        if self.waiting >= self._max_waiting:
            self._errors += 1
            raise TooManyRequests("too many callers wait for a connection")
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(kind, deque()).append(taken)
        clock = asyncio.get_running_loop().time
        began = clock()
        ends_at = began + timeout_s
        try:
            async with asyncio.timeout_at(ends_at):
                await taken
        except BaseException as error:
            if taken.done() and not taken.cancelled() and not taken.exception():
                self.release(kind)
            self._leave(kind, taken)
            if isinstance(error, TimeoutError):
                self._errors += 1
                raise PoolTimeout("no connection became free for this kind of work") from None
            raise
        finally:
            self._waited_ms += round(1000 * (clock() - began))
        return max(ends_at - clock(), MIN_LEFT_S)

    def release(self, kind: str) -> None:
        """Give a place back, and hand it to the next caller that may have it."""
        self._total -= 1
        held = self._held[kind] - 1
        if held:
            self._held[kind] = held
        else:
            del self._held[kind]
        if self._waiting:
            self._offer()

    def refuse(self, kind: str) -> None:
        """Raise CallsRefused in all callers of a kind that wait for a place."""
        for taken in self._waiting.pop(kind, ()):
            if not taken.done():
                taken.set_exception(CallsRefused(kind))

    def _is_free(self, kind: str) -> bool:
        return not kind or kind not in self._held or self._total < self._common

    def _add(self, kind: str) -> None:
        self._total += 1
        self._held[kind] = self._held.get(kind, 0) + 1

    def _offer(self) -> None:
        for kind in list(self._waiting):
            if not self._is_free(kind):
                continue
            queue = self._waiting.pop(kind)
            taken = next((one for one in _drained(queue) if not one.done()), None)
            if queue:
                self._waiting[kind] = queue
            if taken:
                self._add(kind)
                taken.set_result(None)
                return

    def _leave(self, kind: str, taken: asyncio.Future[None]) -> None:
        queue = self._waiting.get(kind)
        if queue is not None:
            with suppress(ValueError):
                queue.remove(taken)
            if not queue:
                del self._waiting[kind]


def _drained(queue: deque[asyncio.Future[None]]) -> Iterator[asyncio.Future[None]]:
    while queue:
        yield queue.popleft()
