"""Joins concurrent appends: one statement and one commit for the calls of many callers.

An append that meets no other is stored at once. Appends that arrive while others are being stored
wait in memory, in a queue for each session, and are then stored together. So a session has one
statement of this process at a time, however many callers append to it.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from uuid import UUID

import structlog

from sessiond.v1.message_pb2 import Message
from sessiond_server.core.cancellation import cancel_all
from sessiond_server.core.events import EventPublisher
from sessiond_server.core.limits import MAX_REQUESTS, Limits
from sessiond_server.db.idempotency import DuplicateRequest
from sessiond_server.db.pool import DatabaseUnavailable, PoolExhausted
from sessiond_server.messages.append import Appends, PreparedAppend
from sessiond_server.messages.store.append import Appended
from sessiond_server.messages.store.batch_append import BatchAppendStore
from sessiond_server.messages.target import Target
from sessiond_server.telemetry import metrics

# While this many statements run, further appends wait for one of them, and then share a statement.
# They wait at most MAX_WAIT_S: a statement that takes longer waits for a lock or a slow disk.
MAX_IN_FLIGHT = 2
MAX_WAIT_S = 0.02

# If at least this many appends wait, they are divided among the statements that may start, so that
# the server and the database work at the same time. Dividing fewer costs more than it gains.
MIN_SPLIT = 32

# Maximum number of sessions whose appends are stored one by one after a shared statement has left
# them out. Each uses a connection, which may have to wait for a lock.
MAX_SINGLE = 4

log = structlog.get_logger(__name__)


class WaitingAppend:
    """An append that has been submitted.

    Attributes:
        prepared: the append.
        ended: the result; cancelled once the caller has given up.
        group: the series that are being stored with it; None while it waits.
    """

    __slots__ = ("ended", "group", "prepared")

    def __init__(self, prepared: PreparedAppend, loop: asyncio.AbstractEventLoop) -> None:
        self.prepared = prepared
        self.ended: asyncio.Future[Appended] = loop.create_future()
        self.group: _Group | None = None


_Series = list[WaitingAppend]
"""Consecutive appends to one session."""


class _Group:
    """Series that are stored together, each of another session."""

    __slots__ = ("all_series", "task")

    def __init__(self, all_series: Sequence[_Series]) -> None:
        self.all_series = all_series
        self.task: asyncio.Task[None] | None = None
        for series in all_series:
            for one in series:
                one.group = self

    def cancel_if_abandoned(self) -> None:
        if self.task and all(one.ended.done() for series in self.all_series for one in series):
            self.task.cancel()


class _Slot:
    """A statement that other appends wait for, until it has ended or is found to be slow."""

    __slots__ = ("is_awaited", "timer")

    def __init__(self) -> None:
        self.is_awaited = True
        self.timer: asyncio.TimerHandle | None = None


class JoinedAppends:
    """Stores the appends of all callers of a process.

    Appends to one session are stored in the order in which they were submitted. Each succeeds or
    fails on its own, as if it were stored alone.
    """

    def __init__(
        self,
        store: BatchAppendStore,
        appends: Appends,
        limits: Limits,
        publisher: EventPublisher,
        *,
        max_statements: int,
    ) -> None:
        """Create the empty queues.

        Args:
            store: stores many appends in one statement.
            appends: validates appends, and stores one.
            limits: the operator's limits.
            publisher: told about each session that was appended to.
            max_statements: maximum number of statements at a time, at least 1. It leaves other
                calls some connections of the pool when the statements are slow.
        """
        self._store = store
        self._appends = appends
        self._limits = limits
        self._publisher = publisher
        self._max_statements = max(1, max_statements)
        # Appends that wait for the statement of their session.
        self._busy: dict[UUID, deque[WaitingAppend]] = {}
        # Appends that wait for a statement to start, by session.
        self._ready: dict[UUID, deque[WaitingAppend]] = {}
        self._in_flight = 0
        self._statements = 0
        self._singles = asyncio.Semaphore(MAX_SINGLE)
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Cancel what is still being stored."""
        await cancel_all(self._tasks)

    async def store(self, target: Target, messages: Sequence[Message]) -> Appended:
        """Append one batch; either all messages are stored or none.

        Raises:
            Fault: with the reasons listed at StoreMessages in the protos.
        """
        prepared = await self._appends.prepared(target, messages)
        key = prepared.append.key
        if key not in self._busy and not self._ready and self._has_room():
            # Nothing to join: the caller's own task stores it.
            self._busy[key] = deque()
            slot = self._begin()
            try:
                return await self._appends.append_prepared(prepared)
            finally:
                self._end(slot)
                self._release(key)
                self.dispatch()
        waiting = self.submit(prepared)
        self.dispatch()
        try:
            return await waiting.ended
        except asyncio.CancelledError:
            self.withdraw(waiting)
            raise

    def submit(self, prepared: PreparedAppend) -> WaitingAppend:
        """Put an append into the queue of its session. The caller must then call `dispatch`."""
        waiting = WaitingAppend(prepared, asyncio.get_running_loop())
        key = prepared.append.key
        queue = self._busy.get(key)
        if queue is None:
            queue = self._ready.setdefault(key, deque())
        queue.append(waiting)
        return waiting

    def withdraw(self, waiting: WaitingAppend) -> None:
        """Give up the result of an append.

        An append that still waits is not stored. A statement that runs is cancelled if nobody waits
        for its results any longer.
        """
        waiting.ended.cancel()
        if waiting.group:
            waiting.group.cancel_if_abandoned()
            return
        key = waiting.prepared.append.key
        if queue := self._busy.get(key) or self._ready.get(key):
            with suppress(ValueError):
                queue.remove(waiting)

    def dispatch(self) -> None:
        """Start the statements that may start now."""
        while self._ready and self._has_room():
            all_series = self._next_series()
            if all_series:
                self._start(_Group(all_series), self._run(all_series, self._begin()))

    def _has_room(self) -> bool:
        return self._in_flight < MAX_IN_FLIGHT and self._statements < self._max_statements

    def _begin(self) -> _Slot:
        slot = _Slot()
        slot.timer = asyncio.get_running_loop().call_later(MAX_WAIT_S, self._pass_by, slot)
        self._in_flight += 1
        self._statements += 1
        return slot

    def _pass_by(self, slot: _Slot) -> None:
        """Let waiting appends start although this statement has not ended."""
        if slot.is_awaited:
            slot.is_awaited = False
            self._in_flight -= 1
            self.dispatch()

    def _end(self, slot: _Slot) -> None:
        self._statements -= 1
        if slot.is_awaited:
            slot.is_awaited = False
            self._in_flight -= 1
        if slot.timer:
            slot.timer.cancel()

    def _release(self, key: UUID) -> None:
        """Let the next appends to a session start."""
        if queue := self._busy.pop(key):
            self._ready[key] = queue

    def _start(self, group: "_Group", work: Coroutine[None, None, None]) -> None:
        task = group.task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _next_series(self) -> list[_Series]:
        """Remove the appends of the next statement from the queues, and mark their sessions busy.

        The appends fit into the limits of one request, or are a single one. The list is empty if
        all appends were withdrawn.
        """
        count = sum(map(len, self._ready.values()))
        free = min(MAX_IN_FLIGHT - self._in_flight, self._max_statements - self._statements)
        most = min(MAX_REQUESTS, count if count < MIN_SPLIT else -(-count // free))
        chosen: list[_Series] = []
        room = _Room(most, self._limits)
        for key in list(self._ready):
            queue = self._ready[key]
            while queue and queue[0].ended.done():
                queue.popleft()
            if not queue:
                del self._ready[key]
                continue
            if not _is_joinable(queue[0]):
                if chosen:
                    continue  # it gets a statement of its own, after this one
                series = [queue.popleft()]
            elif not (series := room.fill(queue, is_first=not chosen)):
                break
            chosen.append(series)
            self._busy[key] = queue
            del self._ready[key]
            if not _is_joinable(series[0]):
                break
        return chosen

    async def _run(self, all_series: list[_Series], slot: _Slot) -> None:
        """Store series, and release their sessions one by one as they are done."""
        left = {series[0].prepared.append.key: series for series in all_series}
        try:
            if len(left) == 1 and len(all_series[0]) == 1:
                await self._store_single(all_series[0][0])
            else:
                await self._store_together(all_series, left)
                for key in list(left):
                    series = left.pop(key)
                    self._start(_Group([series]), self._one_by_one(key, series))
        finally:
            self._end(slot)
            for key in left:
                self._release(key)
            self.dispatch()

    async def _store_together(self, all_series: list[_Series], left: dict[UUID, _Series]) -> None:
        """Store series in one statement.

        Args:
            all_series: the series.
            left: the same by session. Those that have ended are removed.
        """
        try:
            stored = await self._store.append(
                [[(one.prepared.append, one.prepared.rows) for one in s] for s in all_series]
            )
        except (DatabaseUnavailable, PoolExhausted) as error:
            for series in all_series:
                for one in series:
                    _fail(one, error)
            return
        except DuplicateRequest:
            return  # stored one by one, the repetition gets the first result
        except Exception as error:
            # One of them may be at fault, so each is stored alone, and gets a result of its own.
            log.warning("joined_append_failed", error=type(error).__name__, count=len(all_series))
            return
        for series, results in zip(all_series, stored, strict=True):
            if results is None:
                continue
            key = series[0].prepared.append.key
            self._publisher.messages_appended(key)
            for one, result in zip(series, results, strict=True):
                totals = one.prepared.append.totals
                metrics.stored(totals.count, totals.content_bytes)
                if not one.ended.done():
                    one.ended.set_result(result)
            del left[key]
            self._release(key)

    async def _one_by_one(self, key: UUID, series: _Series) -> None:
        try:
            async with self._singles:
                for one in series:
                    await self._store_single(one)
        finally:
            self._release(key)
            self.dispatch()

    async def _store_single(self, one: WaitingAppend) -> None:
        if one.ended.done():
            return
        try:
            result = await self._appends.append_prepared(one.prepared)
        except Exception as error:
            _fail(one, error)
        else:
            if not one.ended.done():
                one.ended.set_result(result)


class _Room:
    """What a statement can still take: the limits of one request, and a number of appends."""

    def __init__(self, most: int, limits: Limits) -> None:
        self._appends = most
        self._messages = limits.max_batch_messages
        self._bytes = limits.max_batch_bytes

    def fill(self, queue: deque[WaitingAppend], *, is_first: bool) -> _Series:
        """Remove the appends from the queue that fit, in their order.

        Args:
            queue: the appends of a session, of which the first is joinable.
            is_first: whether to take the first one even if it does not fit.
        """
        series: _Series = []
        request_ids: set[str] = set()
        while queue:
            one = queue[0]
            append = one.prepared.append
            if one.ended.done():
                queue.popleft()
                continue
            fits = (
                self._appends > 0
                and append.totals.count <= self._messages
                and append.totals.content_bytes <= self._bytes
            )
            if not fits and (series or not is_first):
                break
            if series and (
                not _is_joinable(one)
                or append.expected_last_seq is not None
                or append.expected_epoch is not None
                or append.request_id in request_ids
            ):
                break
            self._appends -= 1
            self._messages -= append.totals.count
            self._bytes -= append.totals.content_bytes
            if append.request_id:
                request_ids.add(append.request_id)
            series.append(queue.popleft())
        return series


def _is_joinable(one: WaitingAppend) -> bool:
    """Whether a shared statement can store an append.

    It must have no assets to lock, no parents to store, no message_ids and no change of the state.
    """
    append = one.prepared.append
    return bool(one.prepared.rows) and append.is_plain and not append.message_ids


def _fail(one: WaitingAppend, error: Exception) -> None:
    if not one.ended.done():
        one.ended.set_exception(error)
