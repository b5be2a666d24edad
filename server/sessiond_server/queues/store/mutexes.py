"""Mutexes before the lock of a project's queues in the database.

All leases of a project need that lock when there are new messages. If they waited in the database,
each would occupy a connection, and the last ones would wait for longer than the lock timeout,
although no other program holds the lock.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from sessiond_server.db.pool import LockTimeout


class _Mutex:
    """Lets one call at a time take the lock in the database."""

    __slots__ = ("lock", "timeouts", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.timeouts = 0
        self.users = 0


class ProjectMutexes:
    """One mutex for each project whose queues calls of this process lock."""

    def __init__(self) -> None:
        self._mutexes: dict[UUID, _Mutex] = {}

    @asynccontextmanager
    async def held(self, project_id: UUID) -> AsyncIterator[None]:
        """Wait in memory until no other call of this process uses the project's lock.

        Raises:
            LockTimeout: if another call, for which this one waited, did not get the lock. Each of
                many calls would otherwise wait for the lock timeout again.
        """
        mutex = self._mutexes.setdefault(project_id, _Mutex())
        mutex.users += 1
        try:
            timeouts = mutex.timeouts
            async with mutex.lock:
                if mutex.timeouts != timeouts:
                    raise LockTimeout("a call before this one met a lock")
                try:
                    yield
                except LockTimeout:
                    mutex.timeouts += 1
                    raise
        finally:
            mutex.users -= 1
            if not mutex.users:
                del self._mutexes[project_id]
