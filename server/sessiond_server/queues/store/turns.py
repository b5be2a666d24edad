"""Turns of this process for the lock of a project's queues.

All leases of a project need that lock when there are new messages. If they waited in the database,
each would occupy a connection, and the last ones would wait for longer than the lock timeout,
although no other program holds the lock.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from sessiond_server.db.pool import LockTimeout


class _Turn:
    """The right to wait for the lock in the database, which one call at a time has."""

    __slots__ = ("lock", "timeouts", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.timeouts = 0
        self.users = 0


class Turns:
    """The calls of this process that hold, or wait for, the locks of projects' queues."""

    def __init__(self) -> None:
        self._turns: dict[UUID, _Turn] = {}

    @asynccontextmanager
    async def turn(self, project_id: UUID) -> AsyncIterator[None]:
        """Wait in memory until no other call of this process uses the project's lock.

        Raises:
            LockTimeout: if another call, for which this one waited, did not get the lock. Each of
                many calls would otherwise wait for the lock timeout again.
        """
        turn = self._turns.setdefault(project_id, _Turn())
        turn.users += 1
        try:
            timeouts = turn.timeouts
            async with turn.lock:
                if turn.timeouts != timeouts:
                    raise LockTimeout("a call before this one met a lock")
                try:
                    yield
                except LockTimeout:
                    turn.timeouts += 1
                    raise
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[project_id]
