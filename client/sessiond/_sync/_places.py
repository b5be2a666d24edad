# Generated from _async/_places.py by scripts/generate-sync-client. Do not edit.
"""A limited number of places, granted in the order of the requests."""

from collections import deque
from threading import Lock

from sessiond._protocol import forks
from sessiond._protocol.retry import Deadline
from sessiond._sync._wire import Signal, scope
from sessiond.errors import PoolClosed, PoolTimeout


class _Waiter:
    """A call that waits for a place."""

    def __init__(self) -> None:
        self.signal = Signal()
        self.has_place = False


class Places:
    """The places of a pool.

    Attributes:
        free: how many places are free.
    """

    def __init__(self, size: int) -> None:
        self.free = size
        self._size = size
        # Guards the other attributes. Code that holds it never waits.
        self._lock = Lock()
        self._waiters: deque[_Waiter] = deque()
        self._closed = False
        # The process and the event loop that first used the pool. Only they may use it.
        self._scope: object = None
        self._generation = forks.generation

    @property
    def are_inherited(self) -> bool:
        """Whether this process inherited the pool from its parent, by a fork."""
        return self._generation != forks.generation

    @property
    def are_here(self) -> bool:
        """Whether the pool belongs to this process and to the running event loop."""
        if self._scope is None:
            self._scope = scope()
        return not self.are_inherited and self._scope == scope()

    def take(self, deadline: Deadline) -> None:
        """Take a place; wait if none is free.

        Args:
            deadline: limits the wait.

        Raises:
            PoolTimeout: if no place became free in time.
            PoolClosed: if the pool is closed.
        """
        with self._lock:
            self.check_open()
            # If a place is free, there are no waiters: free_one gives each place to the next
            # waiter.
            if self.free:
                self.free -= 1
                return
            waiter = _Waiter()
            self._waiters.append(waiter)
        try:
            waiter.signal.wait(deadline.remaining())
        except BaseException:
            if not self._leave_queue(waiter) and waiter.has_place:
                self.free_one()
            raise
        if self._leave_queue(waiter):
            raise PoolTimeout(
                f"all {self._size} sessions of the pool were on loan for the whole timeout"
            )
        if not waiter.has_place:
            self.check_open()

    def free_one(self) -> None:
        """Give a place to the next waiter, or free it."""
        with self._lock:
            if self._waiters:
                waiter = self._waiters.popleft()
                waiter.has_place = True
                waiter.signal.set()
            else:
                self.free += 1

    def close(self) -> None:
        """Make all waiters raise PoolClosed."""
        with self._lock:
            self._closed = True
            waiters, self._waiters = self._waiters, deque()
        for waiter in waiters:
            waiter.signal.set()

    def check_open(self) -> None:
        """Raise PoolClosed if the pool is closed, or belongs to another event loop or process."""
        if self._closed:
            raise PoolClosed("the pool is closed")
        if not self.are_here:
            raise PoolClosed(
                "the pool belongs to another event loop or process, which takes its sessions back: "
                "make one pool for each"
            )

    def _leave_queue(self, waiter: _Waiter) -> bool:
        """Remove a waiter from the queue; return whether it was still queued, without a place."""
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                return True
            return False
