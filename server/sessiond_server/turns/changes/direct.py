"""Starts and ends turns with one statement, in sessions that have no other open turn.

Most turns start and end in this way. Turns of different sessions that start at the same time share
a statement (turns/store/joined_starts.py). If a session has other open turns, or if a statement of
turns/store/starts.py or turns/store/ends.py stores nothing, the transactions of transitions.py
start and end its turns.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias
from uuid import UUID

from sessiond_server.core.events import EventPublisher, StoredMessages
from sessiond_server.core.json_text import parse_options
from sessiond_server.core.states import TurnState
from sessiond_server.db.idempotency import RequestRecord
from sessiond_server.messages.store.append import Appended
from sessiond_server.messages.store.rows import Rows
from sessiond_server.providers.base import Answer
from sessiond_server.turns.answers import Answers
from sessiond_server.turns.errors import printable
from sessiond_server.turns.requests.context import policy_of
from sessiond_server.turns.requests.refusals import source_of
from sessiond_server.turns.sending import Sending
from sessiond_server.turns.state import RunningTurn, TurnLease, TurnNews, TurnSlots
from sessiond_server.turns.store.ends import Ended, EndStore, ending_columns
from sessiond_server.turns.store.joined_starts import JoinedStartStore, StatementRefused
from sessiond_server.turns.store.openings import Opening
from sessiond_server.turns.store.rows import NewTurn, TurnRow, changes_of
from sessiond_server.turns.store.starts import Start, Started, StartStore
from sessiond_server.turns.waiting.joining import Joiner
from sessiond_server.turns.waiting.lanes import TurnLanes

# Sends with more bytes have statements of their own, so that shared statements stay small.
MAX_JOINED_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Starting:
    """A turn that waits for its statement.

    Attributes:
        start: the turn.
        holding: an open context that holds back the delivery of the session's events, from the
            statement until the turn's events are published.
    """

    start: Start
    holding: ExitStack


_Outcome: TypeAlias = Started | Literal["refused"] | None
"""The turn that was started; None if it was not stored; "refused" if its statement was refused."""


class DirectTurns:
    """Starts and ends turns. The caller must publish the yielded change before the block ends.

    Args:
        lanes: limits how many statements run at the same time.
        lease: the lease for turns that are started.
        slots: the process's slots. If none is free, no turn is started.
    """

    def __init__(
        self,
        starts: StartStore,
        joined: JoinedStartStore,
        ends: EndStore,
        lanes: TurnLanes,
        answers: Answers,
        publisher: EventPublisher,
        lease: TurnLease,
        slots: TurnSlots,
    ) -> None:
        self._starts = starts
        self._joined = joined
        self._ends = ends
        self._lanes = lanes
        self._joiner = Joiner(self._start_together, lanes)
        self._answers = answers
        self._publisher = publisher
        self._lease = lease
        self._slots = slots

    @asynccontextmanager
    async def start(
        self,
        sending: Sending,
        opening: Opening,
        turn: NewTurn,
        record: RequestRecord | None,
    ) -> AsyncIterator[TurnNews | None]:
        """Start a turn.

        Args:
            sending: the request.
            opening: the session as it was read.
            turn: the turn.
            record: record of the request; None for a request without a request_id.

        Yields:
            The started turn; None if nothing was stored.

        Raises:
            DuplicateRequest: if the request is recorded already.
        """
        append, head = turn.append, opening.head
        is_direct = append.is_plain and not sending.is_immediate and head.running_turn is None
        if not is_direct or not self._slots.try_take(turn.turn_id):
            yield None
            return
        news = None
        try:
            with ExitStack() as holding:
                if started := await self._stored(_Starting(Start(turn, record, head), holding)):
                    running = running_of(sending, opening, turn, started)
                    news = news_of(running, started.appended, started.message_log, turn.rows)
                    news.started = running
                yield news
        finally:
            if news is None:
                self._slots.release(turn.turn_id)

    async def close(self) -> None:
        """Cancel the turns that wait for their statements."""
        await self._joiner.close()

    async def _stored(self, starting: _Starting) -> Started | None:
        """Store a turn; return None if it was not stored.

        Raises:
            DuplicateRequest: if the request is recorded already.
        """
        turn = starting.start.turn
        project_id = turn.append.project_id
        # If the session has a message_id, PostgreSQL refuses the whole statement.
        if not turn.has_given_ids and turn.append.totals.content_bytes <= MAX_JOINED_BYTES:
            outcome = await self._joiner.ask(project_id, starting)
            if outcome != "refused":
                return outcome
            # Another turn of the shared statement may be the reason, so try this one alone.
            starting.holding.close()
        async with self._lanes.start(project_id):
            return await self._start_alone(starting)

    async def _start_alone(self, starting: _Starting) -> Started | None:
        key = starting.start.turn.append.key
        starting.holding.enter_context(self._publisher.hold_delivery(key))
        return await self._starts.start(starting.start, self._lease.holder, self._lease.stored_s)

    async def _start_together(self, many: Sequence[_Starting]) -> Sequence[_Outcome]:
        """Start turns of different sessions with one statement."""
        if len(many) == 1:
            return [await self._start_alone(many[0])]
        for one in many:
            key = one.start.turn.append.key
            one.holding.enter_context(self._publisher.hold_delivery(key))
        try:
            starts = [one.start for one in many]
            return await self._joined.starts(starts, self._lease.holder, self._lease.stored_s)
        except StatementRefused:
            return ["refused"] * len(many)

    @asynccontextmanager
    async def end(self, running: RunningTurn, answer: Answer) -> AsyncIterator[TurnNews | None]:
        """Store the answer of a turn and complete the turn.

        Yields:
            The ended turn; None if nothing was stored.
        """
        if running.row is None or running.parent_seq:
            yield None
            return
        encoded = self._answers.encoded(running, self._answers.messages(answer, running))
        if encoded is None:
            yield None
            return
        append, rows = encoded
        columns = {**fence_of(running), **columns_of_end(running, answer)}
        async with self._ends.connection() as connection:
            with self._publisher.hold_delivery(running.key):
                ended = await self._ends.end(
                    connection, append, rows, columns, drops_text=running.has_saved
                )
                if ended is None:
                    yield None
                    return
                news = news_of(running, ended.appended, ended.message_log, rows)
                news.ended.append(ended_row(running, answer, ended, ended.appended.last_seq))
                news.settled, news.is_idle = running.turn_id, True
                yield news


def running_of(sending: Sending, opening: Opening, turn: NewTurn, started: Started) -> RunningTurn:
    """Return the turn that a Send has started."""
    appended, count = started.appended, turn.append.totals.count
    row = turn.row(
        TurnState.RUNNING,
        started.created_at,
        first_seq=appended.first_seq if count else 0,
        end_seq=appended.last_seq if count else 0,
        started_at=started.created_at,
    )
    is_current = started.revision == opening.revision
    source = None
    if is_current and started.head:
        source = source_of(started.head, opening.revision, turn)
    return RunningTurn(
        turn.append.key,
        opening.head.log,
        sending.project_id,
        sending.session_id,
        turn.turn_id,
        turn.model,
        parse_options(turn.options_json, "options_json"),
        turn.timeout_ms / 1000,
        row.end_seq,
        appended.last_seq,
        appended.epoch,
        turn.keep_partial,
        parent_seq=0 if count else turn.parent_seq,
        row=row,
        head=started.head,
        policy=policy_of(opening.config) if is_current else None,
        source=source,
    )


def fence_of(running: RunningTurn) -> dict[str, Any]:
    """Return the part of EndStore's `columns` that names the turn which ends."""
    return {
        "turn": running.turn_id,
        "log": running.log,
        "answered_seq": running.text.answered_seq,
        "end_seq": running.end_seq,
    }


def columns_of_end(running: RunningTurn, answer: Answer) -> dict[str, Any]:
    """Return the part of EndStore's `columns` that the end of the turn sets."""
    changes, change_count = changes_of(running.report)
    stop_reason = printable(answer.stop_reason)
    return ending_columns(changes, change_count, stop_reason=stop_reason, usage=running.usage)


def ended_row(running: RunningTurn, answer: Answer, ended: Ended, last_seq: int) -> TurnRow:
    """Return the row of a turn that was completed, and whose last message is last_seq."""
    assert running.row is not None  # noqa: S101 - statements end only turns with known rows
    changes, change_count = changes_of(running.report)
    return replace(
        running.row,
        state=TurnState.COMPLETED,
        first_seq=ended.first_seq,
        end_seq=last_seq,
        last_seq=last_seq,
        partial_seq=0,
        stop_reason=printable(answer.stop_reason),
        usage=running.usage or running.row.usage,
        error=None,
        changes=changes,
        change_count=change_count,
        ended_at=ended.ended_at,
    )


def news_of(running: RunningTurn, appended: Appended, message_log: UUID, rows: Rows) -> TurnNews:
    """Return the news of messages that a turn has appended."""
    news = TurnNews(
        key=running.key,
        log=running.log,
        project_id=running.project_id,
        session_id=running.session_id,
        epoch=appended.epoch,
    )
    if rows:
        placed = enumerate(rows.bodies, appended.first_seq)
        news.has_appended = True
        news.stored.append((len(rows), sum(rows.sizes)))
        news.messages = StoredMessages(
            message_log, appended.epoch, [(seq, appended.created_us, body) for seq, body in placed]
        )
    return news
