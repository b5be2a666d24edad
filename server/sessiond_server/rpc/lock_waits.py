"""If the statement of a call cannot get a lock, the call waits in memory and tries again.

A call that changes a session waits for the session's row, in one queue with all other changes of
that session. Other calls can only meet unusual locks, such as one on a whole table. Such calls try
again for a short time, and are then refused. Of the calls with the same method and project, only
one tries at a time. If several methods have just met locks, only a few of their calls try at a
time. A lock that is held for long therefore occupies few connections.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from sessiond_server.core.deadlines import waits_until
from sessiond_server.core.ids import session_key
from sessiond_server.db.pool import LockTimeout
from sessiond_server.sessions.locked import LockedSessions

# Appends have queues of their own, and a watch tries again by itself.
WAIT_BY_THEMSELVES = frozenset({"StoreMessages", "BatchStoreMessages", "Watch"})

# These calls may last as long as their callers wish, so no other call waits for their end.
LONG_CALLS = frozenset({"DeleteSessions", "GetTurn", "LeaseMessages"})

# Calls that lock the row of their session. Copies share their lock, so they run side by side.
SESSION_CHANGES = frozenset(
    {
        "Abort",
        "CopySession",
        "CreateBookmark",
        "CreateTask",
        "DeleteBookmark",
        "DeleteSession",
        "DeleteTask",
        "DestroySession",
        "ReorderTasks",
        "ResumeSession",
        "RewindSession",
        "Send",
        "UpdateBookmark",
        "UpdateSession",
        "UpdateTask",
    }
)

# How long a call that meets a lock tries again before it is refused, and the pause in between.
MAX_WAIT_S = 2.0
PAUSE_S = 0.1

# When a call has met a lock, other calls of its method are expected to meet it for this time.
SUSPICION_S = 1.0

_Result = TypeVar("_Result")


class _Lane:
    """Calls of one method and project, after one of them has met a lock.

    They run one after the other until one succeeds. The others then run at once.
    """

    __slots__ = ("is_open", "lock")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.is_open = False


class LockWaits:
    """Runs calls, and has them wait for locks."""

    def __init__(
        self, locked: LockedSessions, refuse_waiting: Callable[[str], None], pool_size: int
    ) -> None:
        """Create the object, without calls.

        Args:
            locked: waits for locked sessions.
            refuse_waiting: raises LockTimeout in the calls of a method that wait for a connection.
            pool_size: number of connections. Calls that are expected to meet a lock use at most a
                quarter of them.
        """
        self._locked = locked
        self._refuse_waiting = refuse_waiting
        self._lanes: dict[tuple[str, UUID], _Lane] = {}
        self._suspected_until: dict[str, float] = {}
        self._trials = asyncio.Semaphore(max(pool_size // 4, 1))

    async def run(
        self,
        method: str,
        project_id: UUID,
        session_id: str,
        attempt: Callable[[], Awaitable[_Result]],
    ) -> _Result:
        """Run a call.

        Args:
            method: name of the RPC.
            project_id: the caller's project.
            session_id: session of the call; "" = none.
            attempt: runs the call, or raises LockTimeout after changing nothing.

        Raises:
            Fault: SESSION_BUSY if the session stayed locked.
            LockTimeout: if the call could not get a lock other than the one on the session's row.
        """
        kind = method, project_id
        if method in SESSION_CHANGES and session_id:
            return await self._locked.run(
                session_key(project_id, session_id),
                session_id,
                lambda: self._run(kind, attempt, tries_again=False),
                is_shared=method == "CopySession",
            )
        return await self._run(kind, attempt, tries_again=True)

    async def _run(
        self,
        kind: tuple[str, UUID],
        attempt: Callable[[], Awaitable[_Result]],
        *,
        tries_again: bool,
    ) -> _Result:
        loop = asyncio.get_running_loop()
        ends_at = min(loop.time() + MAX_WAIT_S, waits_until() or float("inf"))
        lane = self._lanes.get(kind)
        if lane is None:
            try:
                if kind[0] in self._suspected_until:
                    return await self._try(kind[0], attempt, ends_at)
                return await attempt()
            except LockTimeout:
                lane = _Lane() if kind[0] in LONG_CALLS else self._lanes.setdefault(kind, _Lane())
                if not tries_again:
                    raise
                self._suspect(kind[0])
        while True:
            try:
                return await self._run_in(lane, kind, attempt, ends_at)
            except LockTimeout:
                if not tries_again:
                    raise
                self._suspect(kind[0])
                if loop.time() + PAUSE_S > ends_at:
                    raise
            await asyncio.sleep(PAUSE_S)

    def _suspect(self, method: str) -> None:
        """Expect calls of a method to meet the lock that one of them has met."""
        # A long call may take any time until it succeeds, so other calls must not wait for it.
        if method not in LONG_CALLS:
            self._suspected_until[method] = asyncio.get_running_loop().time() + SUSPICION_S
        self._refuse_waiting(method)

    async def _try(
        self, method: str, attempt: Callable[[], Awaitable[_Result]], ends_at: float
    ) -> _Result:
        """Run a call. If its method is expected to meet a lock, wait for one of a few places first.

        Raises:
            LockTimeout: if the call met a lock, or did not get a place in time.
        """
        clock = asyncio.get_running_loop().time
        if clock() >= self._suspected_until.get(method, 0.0):
            self._suspected_until.pop(method, None)
            return await attempt()
        try:
            async with asyncio.timeout_at(ends_at):
                await self._trials.acquire()
        except TimeoutError:
            raise LockTimeout from None
        try:
            return await attempt()
        finally:
            self._trials.release()

    async def _run_in(
        self,
        lane: _Lane,
        kind: tuple[str, UUID],
        attempt: Callable[[], Awaitable[_Result]],
        ends_at: float,
    ) -> _Result:
        """Run a call when its turn comes, or at once if an earlier call has succeeded."""
        try:
            async with asyncio.timeout_at(ends_at):
                await lane.lock.acquire()
        except TimeoutError:
            raise LockTimeout from None
        if lane.is_open:
            lane.lock.release()
            return await attempt()
        try:
            result = await self._try(kind[0], attempt, ends_at)
        except LockTimeout:
            raise
        except Exception:
            # The call met no lock: it failed for another reason.
            self._open(lane, kind)
            raise
        else:
            self._open(lane, kind)
            return result
        finally:
            lane.lock.release()

    def _open(self, lane: _Lane, kind: tuple[str, UUID]) -> None:
        lane.is_open = True
        if self._lanes.get(kind) is lane:
            del self._lanes[kind]
