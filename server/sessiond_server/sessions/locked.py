"""Waiting for sessions that others have locked, in memory and without connections.

A statement waits for a lock only briefly, since it occupies a connection (see db/connections.py).
Its call then waits here. One statement checks all awaited sessions at once, so that all waiting
calls together use one connection.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar
from uuid import UUID

from sessiond_server.core.cancellation import cancel_all
from sessiond_server.core.deadlines import waits_until
from sessiond_server.core.errors import Fault
from sessiond_server.core.work import begin_work
from sessiond_server.db.pool import LockTimeout, PoolExhausted
from sessiond_server.sessions.store.row_locks import RowLockStore

# Interval between two checks of the awaited sessions.
INTERVAL_S = 0.05

# Maximum number of sessions in one check. The next check covers the others.
MAX_LOOKED_AT = 1000

# Maximum number of calls of a process that wait for one session while it is locked.
MAX_WAITING = 256

# If calls wait for at least this many sessions, a program has probably locked many more. Each
# change then first checks whether its session is free, because a statement that waits for a lock
# occupies a connection.
MANY_LOCKED = 4

# A change is given up after this many attempts that failed on a lock other than the one on its
# session's row.
MAX_ATTEMPTS = 4
FIRST_PAUSE_S = 0.05

_Result = TypeVar("_Result")


def session_busy(session_id: str) -> Fault:
    """Return the fault for a change that did not get its session's lock, and changed nothing."""
    return Fault(
        "SESSION_BUSY",
        f"session {session_id!r} is locked by another change; nothing was changed, try again",
        metadata={"session_id": session_id},
        retry_after_s=0.5,
    )


class _Awaited:
    """A session that calls wait for.

    Attributes:
        waiting: number of calls that wait for the session.
        was_locked: whether a check has found the session locked.
        is_free: done as soon as a check has found the session free; has the error if a check
            failed.
    """

    __slots__ = ("is_free", "waiting", "was_locked")

    def __init__(self) -> None:
        self.waiting = 0
        self.was_locked = False
        self.is_free: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class _Turn:
    """The right to change a session, which one call at a time has."""

    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class LockedSessions:
    """The sessions of all projects that calls of this process wait for."""

    def __init__(self, store: RowLockStore) -> None:
        self._store = store
        self._awaited: dict[UUID, _Awaited] = {}
        self._turns: dict[UUID, _Turn] = {}
        self._new: list[UUID] = []
        self._has_new = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Stop the checks."""
        if self._looking:
            await cancel_all([self._looking])

    def is_locked(self, key: UUID) -> bool:
        """Return whether calls wait for the session."""
        return key in self._awaited

    async def until_free(self, key: UUID, session_id: str = "") -> bool:
        """Wait until no transaction has locked the session's row.

        Args:
            key: the session's key.
            session_id: the session's id, for the error.

        Returns:
            Whether the row was locked: False if the first check found it free.

        Raises:
            Fault: SESSION_BUSY if the call's time is over.
            LockTimeout: if the whole table is locked.
        """
        awaited = self._awaited.get(key)
        if awaited is None:
            awaited = self._awaited[key] = _Awaited()
            self._new.append(key)
            self._has_new.set()
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look())
        awaited.waiting += 1
        try:
            async with asyncio.timeout_at(waits_until()):
                await asyncio.shield(awaited.is_free)
        except TimeoutError:
            raise session_busy(session_id) from None
        finally:
            awaited.waiting -= 1
            if not awaited.waiting and self._awaited.get(key) is awaited:
                del self._awaited[key]
                awaited.is_free.cancel()
        return awaited.was_locked

    async def run(
        self,
        key: UUID,
        session_id: str,
        change: Callable[[], Awaitable[_Result]],
        *,
        is_shared: bool = False,
    ) -> _Result:
        """Change a session; changes of one session by this process run one after the other.

        Args:
            key: the session's key.
            session_id: the session's id, for errors.
            change: makes the change, or raises LockTimeout after changing nothing.
            is_shared: whether the change may run at the same time as others, as long as the session
                is not known to be locked.

        Raises:
            Fault: SESSION_BUSY if the session stayed locked, or if too many calls wait for it.
            LockTimeout: if the call could not get a lock other than the one on the session's row.
        """
        if is_shared and not self.is_locked(key):
            try:
                return await change()
            except LockTimeout:
                pass
        async with self._turn(key, session_id):
            if len(self._awaited) >= MANY_LOCKED:
                await self.until_free(key, session_id)
            for attempt in range(1, MAX_ATTEMPTS + 1):
                while True:
                    try:
                        return await change()
                    except LockTimeout:
                        if not await self.until_free(key, session_id):
                            break
                        continue  # the row was locked, and is free now
                if attempt < MAX_ATTEMPTS:
                    await asyncio.sleep(FIRST_PAUSE_S * 2**attempt)
        raise LockTimeout

    @asynccontextmanager
    async def _turn(self, key: UUID, session_id: str) -> AsyncIterator[None]:
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = _Turn()
        if turn.users >= MAX_WAITING and self.is_locked(key):
            raise session_busy(session_id)
        turn.users += 1
        try:
            try:
                async with asyncio.timeout_at(waits_until()):
                    await turn.lock.acquire()
            except TimeoutError:
                raise session_busy(session_id) from None
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[key]

    async def _look(self) -> None:
        """Check the awaited sessions until there are none."""
        begin_work("row_locks")
        clock = asyncio.get_running_loop().time
        next_look = 0.0
        while self._awaited:
            new, self._new = self._new, []
            self._has_new.clear()
            if clock() >= next_look:
                await self._look_at(list(self._awaited)[:MAX_LOOKED_AT])
                next_look = clock() + INTERVAL_S
            else:
                await self._look_at([key for key in new if key in self._awaited])
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_look):
                    await self._has_new.wait()

    async def _look_at(self, keys: list[UUID]) -> None:
        if not keys:
            return
        try:
            free: Iterable[UUID] = await self._store.free(keys)
        except PoolExhausted:
            return  # the next look may get a connection
        except Exception as error:
            # Each waiting call gets the error, and handles it.
            for key in keys:
                if (awaited := self._awaited.pop(key, None)) and not awaited.is_free.done():
                    awaited.is_free.set_exception(error)
            return
        for key in free:
            if (awaited := self._awaited.pop(key, None)) and not awaited.is_free.done():
                awaited.is_free.set_result(None)
        for key in keys:
            if awaited := self._awaited.get(key):
                awaited.was_locked = True
                # Move the session to the end, so that the next check begins with the sessions that
                # this check left out.
                self._awaited[key] = self._awaited.pop(key)
