"""Joins concurrent appends: one statement and one commit for the calls of many callers.

An append that arrives alone is stored at once. Appends that arrive while others are being stored
wait in memory, in a queue for each session, and are then stored together. So this process runs one
statement at a time for a session, however many callers append to it. While another program has
locked the session, no statement runs for it, and its appends go on waiting in memory.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from uuid import UUID

import structlog

from sessiond.v1.message_pb2 import Message
from sessiond_server.core.cancellation import cancel_all, cancel_started
from sessiond_server.core.deadlines import waits_until
from sessiond_server.core.events import EventPublisher
from sessiond_server.core.limits import MAX_REQUESTS, Limits
from sessiond_server.core.work import begin_work
from sessiond_server.db.idempotency import DuplicateRequest
from sessiond_server.db.pool import DatabaseUnavailable, LockTimeout, PoolExhausted
from sessiond_server.messages.append import Appends, PreparedAppend
from sessiond_server.messages.store.append import Appended
from sessiond_server.messages.store.batch_append import BatchAppendStore
from sessiond_server.messages.store.batch_append import Series as StoredSeries
from sessiond_server.messages.target import Target
from sessiond_server.messages.waiting_append import (
    Group,
    Room,
    Series,
    Slot,
    Statements,
    WaitingAppend,
    can_share,
    fit_together,
    is_joinable,
    overloaded,
)
from sessiond_server.quotas.service import Quotas
from sessiond_server.sessions.locked import MAX_WAITING, LockedSessions, session_busy
from sessiond_server.telemetry import metrics

# If at least this many appends wait, they are divided among the statements that may start, so that
# the server and the database work at the same time. Dividing fewer costs more than it gains.
MIN_SPLIT = 32

# How often in a row an append is tried again after it met a lock other than the one on its
# session's row.
MAX_LOCK_TIMEOUTS = 3

log = structlog.get_logger(__name__)


class JoinedAppends:
    """Stores the appends of all callers of a process.

    Appends to one session are stored in the order in which they were submitted. Each succeeds or
    fails on its own, as if it were stored alone.
    """

    def __init__(
        self,
        store: BatchAppendStore,
        appends: Appends,
        locked: LockedSessions,
        limits: Limits,
        publisher: EventPublisher,
        quotas: Quotas,
        *,
        max_statements: int,
    ) -> None:
        """Create the empty queues.

        Args:
            store: stores many appends in one statement.
            appends: validates appends, and stores one.
            locked: waits for sessions that are locked.
            limits: the operator's limits.
            publisher: told about each session that was appended to.
            quotas: the limits of projects.
            max_statements: maximum number of statements at a time, at least 1. This limit leaves
                some connections of the pool to other calls while the statements are slow.
        """
        self._store = store
        self._appends = appends
        self._locked = locked
        self._limits = limits
        self._publisher = publisher
        self._quotas = quotas
        # Appends that wait for the statement that runs for their session, by session.
        self._busy: dict[UUID, deque[WaitingAppend]] = {}
        # Appends that wait for a statement to start, by session.
        self._ready: dict[UUID, deque[WaitingAppend]] = {}
        self._statements = Statements(max_statements)
        # The timer runs while appends wait for a statement to start.
        self._timer: asyncio.TimerHandle | None = None
        # Tasks that wait until a session is free.
        self._unlocking: dict[UUID, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Cancel appends that are still being stored."""
        if self._timer:
            self._timer.cancel()
        await cancel_all(self._tasks)

    async def store(self, target: Target, messages: Sequence[Message]) -> Appended:
        """Append one batch; either all messages are stored or none.

        Raises:
            Fault: with the reasons listed at StoreMessages in the protos.
        """
        self._quotas.take_messages(target.project_id, len(messages))
        prepared = await self._appends.prepared(target, messages)
        if not self._quotas.is_limited(target.project_id):
            return await self._store_prepared(prepared)
        async with await self._appends.room_for(target, prepared.append):
            return await self._store_prepared(prepared)

    async def _store_prepared(self, prepared: PreparedAppend) -> Appended:
        key = prepared.append.key
        is_alone = not can_share(prepared)
        has_room = self._statements.free_awaited > 0
        if is_alone and not self._statements.has_room_alone:
            has_room = False
        if self._ready or key in self._busy or not has_room or self._meets_locks():
            waiting = self.submit(prepared)
            self.dispatch()
            return await self._end_of(waiting)
        # There is no append to join, so the caller's own task stores this one.
        self._busy[key] = deque()
        slot = self._statements.begin(is_alone=is_alone)
        series: Series = []
        try:
            stored = await self._appends.append_prepared(prepared)
            self._statements.note_success(prepared)
            return stored
        except LockTimeout:
            series.append(WaitingAppend(prepared, has_met_lock=True))
        finally:
            self._ended(slot, (key,), {key: series})
        return await self._end_of(series[0])

    async def store_whole(
        self, requests: Sequence[PreparedAppend]
    ) -> list[Appended | Exception | WaitingAppend] | None:
        """Store the appends of a batch in one statement, in the caller's own task.

        Args:
            requests: the appends, in their order.

        Returns:
            For each append, its result or its error. An append whose session is locked, or which
            must be stored alone, now waits, and its WaitingAppend is returned instead. None if the
            caller has to put the appends into the queues. This is the case if other appends to the
            sessions are being stored or wait, or if no statement that stores all may start now.
        """
        keys = [one.append.key for one in requests]
        is_busy = any(key in self._busy or key in self._ready for key in keys)
        if is_busy or self._statements.free <= 0 or not fit_together(requests, self._limits):
            return None
        self._busy.update((key, deque()) for key in keys)
        slot = self._statements.begin()
        left: dict[UUID, Series] = {}
        try:
            stored = await self._try([[(one.append, one.rows)] for one in requests])
            if isinstance(stored, Exception):
                return [stored] * len(requests)
            ends: list[Appended | Exception | WaitingAppend] = []
            for one, results in zip(requests, stored, strict=True):
                end = results[0] if results else WaitingAppend(one)
                if isinstance(end, WaitingAppend):
                    left[end.key] = [end]
                ends.append(end)
            return ends
        finally:
            self._ended(slot, keys, left)

    def submit(self, prepared: PreparedAppend) -> WaitingAppend:
        """Put an append into the queue of its session. The caller must then call `dispatch`.

        Raises:
            Fault: SESSION_BUSY if the session is locked, and too many appends wait for it already.
        """
        key = prepared.append.key
        queue = self._busy.get(key)
        if queue is None:
            queue = self._ready.setdefault(key, deque())
        elif len(queue) >= MAX_WAITING and key in self._unlocking:
            raise session_busy(prepared.target.session_id)
        queue.append(waiting := WaitingAppend(prepared))
        return waiting

    def withdraw(self, waiting: WaitingAppend) -> None:
        """Give up the result of an append.

        An append that still waits is not stored. A statement that runs is cancelled if nobody waits
        for its results any longer.
        """
        waiting.ended.cancel()
        if waiting.group:
            waiting.group.cancel_if_abandoned()
        else:
            self._remove(waiting)

    def expire(self, waiting: WaitingAppend) -> None:
        """End an append whose caller's time is nearly over.

        If a statement is storing the append, the append ends with the statement's result. If that
        statement leaves it out, the append ends instead of waiting again.
        """
        waiting.is_due = True
        if waiting.group or waiting.ended.done():
            return
        session_id = waiting.prepared.target.session_id
        if waiting.key in self._unlocking:
            waiting.fail(session_busy(session_id))
        else:
            waiting.fail(overloaded(session_id))
        self._remove(waiting)

    def dispatch(self) -> None:
        """Start the statements that may start now."""
        while self._ready and self._statements.free_awaited > 0:
            all_series = self._next_series()
            if not all_series:
                break
            slot = self._statements.begin(is_alone=not is_joinable(all_series[0][0]))
            group = Group(all_series)
            group.task = self._start(self._run(all_series, slot))
        oldest = self._statements.oldest
        if self._ready and oldest and not self._timer:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(oldest.awaited_until, self._pass_by)

    async def _end_of(self, waiting: WaitingAppend) -> Appended:
        ends_at = waits_until()
        timer = (
            asyncio.get_running_loop().call_at(ends_at, self.expire, waiting) if ends_at else None
        )
        try:
            return await waiting.ended
        except asyncio.CancelledError:
            self.withdraw(waiting)
            raise
        finally:
            if timer:
                timer.cancel()

    def _remove(self, waiting: WaitingAppend) -> None:
        """Remove a waiting append from its queue."""
        key = waiting.key
        queue = self._busy.get(key) or self._ready.get(key)
        if queue:
            with suppress(ValueError):
                queue.remove(waiting)
            if not queue and key in self._unlocking:
                cancel_started(self._unlocking[key])

    def _meets_locks(self) -> bool:
        """Return whether sessions are locked, or statements so slow that they may wait for a lock.

        If so, even a single append runs in the shared statement, which skips locked sessions. A
        statement for a single append would occupy a connection while it waits for a lock.
        """
        return bool(self._unlocking) or self._statements.are_slow

    def _pass_by(self) -> None:
        """Let waiting appends start although the oldest statements have not ended."""
        self._timer = None
        self._statements.pass_by()
        self.dispatch()

    def _ended(self, slot: Slot, keys: Iterable[UUID], left: Mapping[UUID, Series]) -> None:
        """End a statement, and start the appends that wait for it.

        Args:
            slot: the statement.
            keys: the sessions of the statement.
            left: the appends that were neither stored nor refused, by session.
        """
        self._statements.ended(slot)
        for key in keys:
            if series := left.get(key):
                self._wait_until_free(key, series)
            else:
                self._release(key)
        self.dispatch()

    def _release(self, key: UUID) -> None:
        """Let the next appends to a session start."""
        if queue := self._busy.pop(key):
            self._ready[key] = queue

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        # The context is empty, because the task must not have the deadline of the call starting it.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _next_series(self) -> list[Series]:
        """Remove the appends of the next statement from the queues, and mark their sessions busy.

        If there are several appends, they fit together into the limits of one request. The list
        is empty if all appends were withdrawn. It is also empty if only appends that must be stored
        alone are left, and no more of them may run.
        """
        count = sum(map(len, self._ready.values()))
        free = self._statements.free_awaited
        most = min(MAX_REQUESTS, count if count < MIN_SPLIT else -(-count // free))
        chosen: list[Series] = []
        room = Room(most, self._limits)
        for key in list(self._ready):
            queue = self._ready[key]
            while queue and queue[0].ended.done():
                queue.popleft()
            if not queue:
                del self._ready[key]
                continue
            if not is_joinable(queue[0]):
                if chosen or not self._statements.has_room_alone:
                    continue  # it gets a statement of its own, after this one
                series = [queue.popleft()]
            elif not (series := room.fill(queue, is_first=not chosen)):
                break
            chosen.append(series)
            self._busy[key] = queue
            del self._ready[key]
            if not is_joinable(series[0]):
                break
        return chosen

    async def _run(self, all_series: list[Series], slot: Slot) -> None:
        """Store several series of appends, and let the next appends to their sessions start."""
        begin_work("StoreMessages")
        busy = {series[0].key: series for series in all_series}
        left: dict[UUID, Series] = {}
        meets_locks = self._meets_locks()
        try:
            first = all_series[0][0]
            if len(busy) > 1 or len(all_series[0]) > 1 or (meets_locks and is_joinable(first)):
                left = await self._store_together(all_series)
            elif (self._unlocking and not first.has_looked) or not await self._store_alone(first):
                left = busy
        finally:
            self._ended(slot, busy, left)

    async def _store_alone(self, one: WaitingAppend) -> bool:
        """Store an append alone.

        Returns:
            Whether it has ended; False if it must wait for a lock.
        """
        try:
            result = await self._appends.append_prepared(one.prepared)
        except LockTimeout as error:
            one.has_met_lock = True
            if one.lock_timeouts < MAX_LOCK_TIMEOUTS:
                return False
            one.fail(error)
        except Exception as error:
            one.fail(error)
        else:
            self._statements.note_success(one.prepared)
            if not one.ended.done():
                one.ended.set_result(result)
        return True

    async def _store_together(self, all_series: list[Series]) -> dict[UUID, Series]:
        """Store several series of appends in one statement.

        Returns:
            By session, the series that were left out, because a condition did not hold or because
            the session is locked.
        """
        stored = await self._try(
            [[(one.prepared.append, one.prepared.rows) for one in s] for s in all_series]
        )
        left: dict[UUID, Series] = {}
        if isinstance(stored, Exception):
            for series in all_series:
                for one in series:
                    one.fail(stored)
            return left
        for series, results in zip(all_series, stored, strict=True):
            if results is None:
                left[series[0].key] = series
                continue
            for one, result in zip(series, results, strict=True):
                if not one.ended.done():
                    one.ended.set_result(result)
        return left

    async def _try(
        self, many: Sequence[StoredSeries]
    ) -> Sequence[Sequence[Appended] | None] | Exception:
        """Return the results of each series (None = left out), or the error common to all."""
        try:
            stored = await self._store.append(many)
        except (DatabaseUnavailable, PoolExhausted, LockTimeout) as error:
            # The statement does not wait for locked rows of sessions. A LockTimeout means that a
            # whole table is locked.
            self._statements.meet_locks = isinstance(error, LockTimeout)
            return error
        except Exception as error:
            # One append is at fault, e.g. a repetition. Leave out all: each is then stored alone.
            if not isinstance(error, DuplicateRequest):
                log.warning("joined_append_failed", error=type(error).__name__)
            return [None] * len(many)
        self._statements.meet_locks = False
        for series, results in zip(many, stored, strict=True):
            if results:
                self._publisher.messages_appended(series[0][0].key)
                for append, _ in series:
                    metrics.stored(append.totals.count, append.totals.content_bytes)
        return stored

    def _wait_until_free(self, key: UUID, series: Series) -> None:
        """Put appends back at the front of their queue, to wait until their session is free."""
        for one in series:
            one.group = None
            if one.is_due:
                one.fail(session_busy(one.prepared.target.session_id))
        queue = self._busy[key]
        queue.extendleft(one for one in reversed(series) if not one.ended.done())
        if queue:
            self._unlocking[key] = self._start(self._requeue(key, series))
        else:
            self._release(key)

    async def _requeue(self, key: UUID, series: Series) -> None:
        try:
            was_locked = await self._locked.until_free(key)
        except Exception as error:
            for one in series:
                one.fail(error)
        else:
            for one in series:
                if one.note_wait(was_locked=was_locked):
                    self._statements.note_lock(one.prepared)
        finally:
            del self._unlocking[key]
            self._release(key)
            self.dispatch()
