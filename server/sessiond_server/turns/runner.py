"""Runs turns in this process. Lease renewal and recovery of orphaned turns are in leases.py.

calls.py calls the models, and the package `changes` makes every change in the database. No
connection is held while a model works.
"""

import asyncio
import contextvars
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from uuid import UUID

import structlog

from sessiond_server.core import events
from sessiond_server.core.cancellation import cancel_all
from sessiond_server.core.errors import Fault
from sessiond_server.core.events import Event, EventPublisher
from sessiond_server.core.work import begin_work
from sessiond_server.db.idempotency import RequestRecord
from sessiond_server.db.pool import Contention, DatabaseUnavailable, LockTimeout, PoolExhausted
from sessiond_server.providers.base import Answer
from sessiond_server.sessions.store.lock import SessionMissing
from sessiond_server.turns.announcements import TurnAnnouncements
from sessiond_server.turns.calls import ModelCalls
from sessiond_server.turns.changes.direct import DirectTurns
from sessiond_server.turns.changes.failures import DirectFailures
from sessiond_server.turns.changes.handover import Handovers
from sessiond_server.turns.changes.queueing import DirectQueue
from sessiond_server.turns.changes.transitions import TurnTransitions
from sessiond_server.turns.errors import internal_error
from sessiond_server.turns.requests.refusals import Refusals
from sessiond_server.turns.sending import Sending
from sessiond_server.turns.state import EndedTurns, RunningTurn, TurnChanges, TurnNews, TurnSlots
from sessiond_server.turns.store.openings import Opening
from sessiond_server.turns.store.rows import NewTurn, TurnRow
from sessiond_server.turns.store.turns import TurnStore
from sessiond_server.turns.waiting.lanes import TurnLanes

FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 2.0
DATABASE_RETRY_S = 0.5
CLOSE_TIMEOUT_S = 5.0

log = structlog.get_logger(__name__)


class TurnRunner:
    """Runs the turns of this process."""

    def __init__(
        self,
        store: TurnStore,
        transitions: TurnTransitions,
        slots: TurnSlots,
        publisher: EventPublisher,
        announcements: TurnAnnouncements,
        calls: ModelCalls,
        handovers: Handovers,
        direct: DirectTurns,
        queue: DirectQueue,
        failures: DirectFailures,
        refusals: Refusals,
        lanes: TurnLanes,
    ) -> None:
        self._store = store
        self._transitions = transitions
        self._slots = slots
        self._publisher = publisher
        self._announcements = announcements
        self._calls = calls
        self._handovers = handovers
        self._direct = direct
        self._queue = queue
        self._failures = failures
        self._refusals = refusals
        self._lanes = lanes
        self._running = transitions.running
        # The same turns, by the log of their session.
        self._logs: dict[UUID, RunningTurn] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = EndedTurns()

    @asynccontextmanager
    async def change(
        self,
        key: UUID,
        project_id: UUID,
        session_id: str,
        record: RequestRecord | None = None,
        *,
        excludes_copies: bool = False,
        waits: bool = True,
    ) -> AsyncIterator[TurnChanges]:
        """Run a transaction on a session's turns. Then publish the changes, and run the new turn.

        The parameters are those of sessions.store.lock.change.

        Yields:
            The changes, with the session's row locked. The commit follows the block.

        Raises:
            SessionMissing: if the project has no such session.
            DuplicateRequest: if the request is recorded already.
        """
        with ExitStack() as stack:
            changing = self._store.change(
                key, project_id, record, excludes_copies=excludes_copies, waits=waits
            )
            async with changing as change:
                # Hold delivery only once the row is locked, so that waiting for the lock delays no
                # watcher.
                stack.enter_context(self._publisher.hold_delivery(key))
                changes = TurnChanges.of(change, project_id, session_id)
                stack.callback(self._release_unstarted, changes)
                stack.callback(self._thaw, changes)
                yield changes
            self._publish(changes)
            if changes.is_full:
                # A slot may have become free before other tasks could see that the turn is queued.
                self._slots.wake()

    async def start(
        self, sending: Sending, opening: Opening, turn: NewTurn, record: RequestRecord | None
    ) -> RunningTurn | None:
        """Start a turn with one statement; see DirectTurns.start.

        If its request is known to be too large, one statement stores the turn as failed.

        Returns:
            The turn; None if it was not stored, because a transaction must start it.

        Raises:
            DuplicateRequest: if the request is recorded already.
        """
        if refusal := self._refusals.find(sending, opening, turn):
            refusing = self._failures.refuse(sending, opening, turn, record, refusal)
            async with self._lanes.start(sending.project_id), refusing as refused:
                if refused:
                    self._refusals.refused(refused.running.log, refused.running.after_seq, turn)
                    self._publish(refused.accepted)
                    self._announcements.started(refused.running)
                    self._publish(refused.ended)
                    return refused.running
        async with self._direct.start(sending, opening, turn, record) as news:
            if news is None:
                return None
            self._publish(news)
            return news.started

    def ended(self, turn_id: UUID) -> TurnRow | None:
        """Return a turn that has ended in this process; None if it is not remembered."""
        return self._ended.get(turn_id)

    def _publish(self, news: TurnNews) -> None:
        if news.settled:
            self._forget(news.settled)
        for row in news.ended:
            self._ended.add(row)
        self._announcements.committed(news)
        if news.started and not self.runs(news.started.turn_id):
            self._begin(news.started)

    def runs(self, turn_id: UUID) -> bool:
        """Whether this process runs the turn."""
        return turn_id in self._running

    def running(self) -> list[RunningTurn]:
        """Return the turns that this process runs."""
        return list(self._running.values())

    def get(self, turn_id: UUID) -> RunningTurn | None:
        """Return a turn; None if this process does not run it."""
        return self._running.get(turn_id)

    def running_in(self, session_log: UUID) -> RunningTurn | None:
        """Return the turn that this process runs for a session; None if it runs none."""
        return self._logs.get(session_log)

    def on_event(self, event: Event) -> None:
        """Cancel the turns that an event ends, no matter which process published it."""
        if event.type == events.TURN_END and event.data:
            with suppress(ValueError):
                self.cancel(UUID(event.data["turn_id"]))
        elif event.type in (events.DELETED, events.EXPIRED):
            for running in self._running.values():
                if running.log == event.log:
                    running.is_over.set()

    def cancel(self, turn_id: UUID) -> None:
        """Stop a turn that no longer belongs to this process, if it runs here."""
        if running := self._running.get(turn_id):
            running.is_over.set()

    @property
    def is_leaving(self) -> bool:
        """Whether this process starts no more turns, since it is shutting down."""
        return not self._slots.is_open

    async def drain(self, timeout_s: float) -> None:
        """Wait until the running turns have ended, for at most `timeout_s` seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    async def close(self) -> None:
        """Leave the running turns to other processes, or to this one after its restart."""
        self._slots.is_closed = True
        for running in self._running.values():
            running.is_left = True
            running.is_over.set()
        await self.drain(CLOSE_TIMEOUT_S)
        await cancel_all(self._tasks)

    def _begin(self, running: RunningTurn) -> None:
        self._slots.take(running.turn_id)
        self._running[running.turn_id] = self._logs[running.log] = running
        if not running.is_resumed:
            self._announcements.started(running)
        # A turn that starts when another turn ends belongs to no caller's trace.
        is_next = asyncio.current_task() in self._tasks
        task = asyncio.create_task(
            self._run(running), context=contextvars.Context() if is_next else None
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _forget(self, turn_id: UUID) -> None:
        running = self._running.pop(turn_id, None)
        if running and self._logs.get(running.log) is running:
            del self._logs[running.log]
        self._slots.release(turn_id)

    def _thaw(self, changes: TurnChanges) -> None:
        """Let the texts of frozen turns be published again, in case the turns have not ended."""
        for running in changes.frozen:
            running.text.is_frozen = False
            self._announcements.flush(running)

    def _release_unstarted(self, changes: TurnChanges) -> None:
        if changes.started and not self.runs(changes.started.turn_id):
            self._slots.release(changes.started.turn_id)

    async def _run(self, running: RunningTurn) -> None:
        begin_work("turns")
        is_resumed = True
        try:
            while is_resumed and not running.is_over.is_set():
                try:
                    outcome = await self._calls.outcome(running)
                except (DatabaseUnavailable, PoolExhausted, Contention) as e:
                    # The model has not been called yet, so the turn can wait.
                    log.debug("turn_retrying", turn_id=str(running.turn_id), error=str(e))
                    await asyncio.sleep(DATABASE_RETRY_S)
                    continue
                # If the process is shut down, a complete answer is still stored.
                is_complete = running.is_left and isinstance(outcome, Answer)
                if is_complete or not running.is_over.is_set():
                    is_resumed = await self._settle(running, outcome)
            if is_resumed and running.is_left:
                await self._settle(running, None)
        finally:
            self._forget(running.turn_id)

    async def _settle(self, running: RunningTurn, outcome: Answer | Fault | None) -> bool:
        """Write the outcome of a model call, retrying as often as necessary.

        If the outcome is None, nothing is written: the turn is left to another process.

        The model's work is done and paid for. So the turn stays with this process, and the model is
        not called again. If an answer cannot be stored for an unforeseen reason, it is dropped, and
        the turn is recorded as failed.

        Returns:
            Whether the turn resumes, because messages were sent to steer it.
        """
        turn_id = str(running.turn_id)
        self._announcements.flush(running)
        delay_s, is_locked = FIRST_RETRY_S, False
        while True:
            # A locked session must not keep the turns of other sessions from ending.
            lane = self._lanes.waits if is_locked else self._lanes.ends
            try:
                async with lane.place(running.project_id):
                    resume_seq = await self._write(running, outcome, waits=is_locked)
            except SessionMissing:
                return False
            except (DatabaseUnavailable, PoolExhausted, Contention) as e:
                if isinstance(e, LockTimeout) and not is_locked:
                    is_locked = True
                    continue
                log.warning("turn_end_retrying", turn_id=turn_id, error=str(e))
            except Exception:
                log.exception("turn_end_failed", turn_id=turn_id)
                outcome = internal_error(running.turn_id)
            else:
                if resume_seq:
                    running.end_seq = running.after_seq = resume_seq
                    running.parent_seq = 0
                return resume_seq > 0
            if self._slots.is_closed and outcome is not None:
                return False
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, LONGEST_RETRY_S)

    async def _write(
        self, running: RunningTurn, outcome: Answer | Fault | None, *, waits: bool
    ) -> int:
        """Write an outcome once; return the seq from which the turn resumes, or 0.

        If the session is locked, wait for it only if `waits` is true.
        """
        if isinstance(outcome, Answer):
            async with self._direct.end(running, outcome) as news:
                if news:
                    self._publish(news)
                    return 0
            async with self._queue.follow(running, outcome) as followed:
                if followed:
                    for change in followed.news:
                        self._publish(change)
                    return followed.resume_seq
        elif outcome:
            async with self._failures.fail(running, outcome) as news:
                if news:
                    self._publish(news)
                    return 0
        changing = self.change(running.key, running.project_id, running.session_id, waits=waits)
        async with changing as changes:
            if outcome is None:
                await self._handovers.give(changes, running)
                return 0
            return await self._transitions.settle(changes, running, outcome)
