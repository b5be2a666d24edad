"""Queues turns, and ends turns while others wait in the queue, with few statements.

The module handles only the common cases, e.g. no waiting turn is held, and none has a parent_seq.
In all other cases, and if a statement of turns/store/queue.py or turns/store/ends.py stores
nothing, a transaction of transitions.py makes the change.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from google.protobuf.message import DecodeError

from sessiond.v1.message_pb2 import Message
from sessiond_server.core.events import EventPublisher
from sessiond_server.core.pg_time import from_pg_us
from sessiond_server.core.states import TurnState
from sessiond_server.db.idempotency import RequestRecord
from sessiond_server.formats.read import read
from sessiond_server.messages.store.rows import Rows
from sessiond_server.providers.base import Answer
from sessiond_server.turns.answers import Answers
from sessiond_server.turns.changes.direct import columns_of_end, ended_row, fence_of, news_of
from sessiond_server.turns.sending import Accepted, Sending
from sessiond_server.turns.state import RunningTurn, TurnLease, TurnNews, TurnSlots
from sessiond_server.turns.store.ends import Ended, EndStore
from sessiond_server.turns.store.openings import Opening
from sessiond_server.turns.store.queue import TurnQueueStore, WaitingTurn
from sessiond_server.turns.store.rows import NewTurn, TurnRow


@dataclass(frozen=True, slots=True)
class Followed:
    """What follows the answer of a turn.

    Attributes:
        news: the changes, which must be published in this order.
        resume_seq: the seq from which the turn resumes; 0 if the turn is over.
    """

    news: Sequence[TurnNews]
    resume_seq: int


class DirectQueue:
    """The queues of sessions."""

    def __init__(
        self,
        store: TurnQueueStore,
        ends: EndStore,
        answers: Answers,
        publisher: EventPublisher,
        lease: TurnLease,
        slots: TurnSlots,
    ) -> None:
        """Create the queues.

        Args:
            store: the queues in the database.
            ends: the statements that end turns.
            answers: the answers of models.
            publisher: holds back the delivery of a session's events during a change.
            lease: the lease for turns that are started.
            slots: the process's slots. If none is free, no turn is started.
        """
        self._store = store
        self._ends = ends
        self._answers = answers
        self._publisher = publisher
        self._lease = lease
        self._slots = slots

    async def add(
        self, sending: Sending, opening: Opening, turn: NewTurn, record: RequestRecord | None
    ) -> Accepted | None:
        """Queue a turn in a session that runs another one.

        Args:
            sending: the request.
            opening: the session as it was read.
            turn: the turn.
            record: record of the request; None for a request without a request_id.

        Returns:
            The result; None if nothing was stored.

        Raises:
            DuplicateRequest: if the request is recorded already.
        """
        if opening.head.running_turn is None or turn.has_given_ids:
            return None
        queued = await self._store.add(turn, record, opening.head.log, steers=sending.is_immediate)
        if queued is None:
            return None
        steers = queued.running_turn if sending.is_immediate else None
        row = turn.row(TurnState.QUEUED, queued.created_at, steers=steers)
        return Accepted(row, queued.last_seq, True, queued.epoch)

    @asynccontextmanager
    async def follow(self, running: RunningTurn, answer: Answer) -> AsyncIterator[Followed | None]:
        """Store the answer of a turn, and start the next turn or let the steered turn resume.

        The caller must publish the news before the block ends.

        Yields:
            What follows; None if nothing was stored.
        """
        if running.row is None or running.parent_seq:
            yield None
            return
        waiting = await self._store.next(running.key, running.project_id, running.log)
        steering = [one for one in waiting if one.steers == running.turn_id]
        is_simple = not any(one.is_held or (one.steers and one not in steering) for one in waiting)
        if not waiting or not is_simple:
            yield None
            return
        answers = self._answers.messages(answer, running)
        if steering:
            # If the answer calls tools, the steering messages must wait for the results.
            if any(read(message).calls for message in answers):
                yield None
                return
            with self._publisher.hold_delivery(running.key):
                yield await self._joined(running, answers, steering)
            return
        following = waiting[0]
        if following.parent_seq or not self._slots.try_take(following.turn_id):
            yield None
            return
        followed = None
        try:
            with self._publisher.hold_delivery(running.key):
                followed = await self._next(running, answer, answers, following)
                yield followed
        finally:
            if followed is None:
                self._slots.release(following.turn_id)

    async def _joined(
        self, running: RunningTurn, answers: Sequence[Message], steering: Sequence[WaitingTurn]
    ) -> Followed | None:
        """Store an answer and the messages that steer the turn, which then resumes."""
        messages, places = list(answers), list[tuple[int, int]]()
        for one in steering:
            try:
                sent = one.messages
            except DecodeError:
                return None
            # The stored messages carry the id of the turn that was queued for them. That turn does
            # not start, so they get the id of the running turn.
            for message in sent:
                message.turn.turn_id = str(running.turn_id)
            places.append((len(messages), len(messages) + len(sent) - 1))
            messages += sent
        encoded = self._answers.encoded(running, messages)
        if encoded is None:
            return None
        append, rows = encoded
        last = len(messages) - 1
        columns = {
            **fence_of(running),
            "seen_at": steering[0].seen_at,
            "joined": [one.turn_id for one in steering],
            "firsts": [last - place for place, _ in places],
            "lasts": [last - place for _, place in places],
        }
        joined = await self._ends.join(append, rows, columns)
        if joined is None:
            return None
        appended, message_log = joined
        return Followed([news_of(running, appended, message_log, rows)], appended.last_seq)

    async def _next(
        self,
        running: RunningTurn,
        answer: Answer,
        answers: Sequence[Message],
        following: WaitingTurn,
    ) -> Followed | None:
        """Store an answer, complete its turn, and start the next one."""
        try:
            sent = following.messages
        except DecodeError:
            return None
        encoded = self._answers.encoded(running, [*answers, *sent]) if sent else None
        if encoded is None:
            return None
        append, rows = encoded
        columns = {
            **fence_of(running),
            "seen_at": following.seen_at,
            **columns_of_end(running, answer),
            "next": following.turn_id,
            "later": len(sent),
            "holder": self._lease.holder,
            "lease_s": self._lease.stored_s,
        }
        ended = await self._ends.follow(append, rows, columns, drops_text=running.has_saved)
        if ended is None:
            return None
        # The end of the turn is published after its messages, and before those of the next turn.
        end_seq, count = ended.appended.last_seq - len(sent), len(answers)
        answered = replace(ended.appended, last_seq=end_seq)
        news = news_of(running, answered, ended.message_log, _part(rows, 0, count))
        news.ended.append(ended_row(running, answer, ended, end_seq))
        news.settled = running.turn_id
        started = self._running(running, following, ended, end_seq + 1)
        stored = replace(ended.appended, first_seq=end_seq + 1)
        start = news_of(started, stored, ended.message_log, _part(rows, count, len(rows)))
        start.started = started
        return Followed([news, start], 0)

    def _running(
        self, before: RunningTurn, following: WaitingTurn, ended: Ended, first_seq: int
    ) -> RunningTurn:
        appended = ended.appended
        row = TurnRow(
            turn_id=following.turn_id,
            state=TurnState.RUNNING,
            model=following.model,
            message_id=following.message_id,
            timeout_ms=following.timeout_ms,
            first_seq=first_seq,
            end_seq=appended.last_seq,
            created_at=from_pg_us(following.created_us),
            started_at=ended.ended_at,
        )
        return RunningTurn(
            before.key,
            before.log,
            before.project_id,
            before.session_id,
            following.turn_id,
            following.model,
            following.options,
            following.timeout_ms / 1000,
            appended.last_seq,
            appended.last_seq,
            appended.epoch,
            following.keep_partial,
            row=row,
        )


def _part(rows: Rows, start: int, stop: int) -> Rows:
    """Return the messages from place `start` up to, but without, place `stop`."""
    return Rows(
        rows.roles[start:stop],
        rows.formats[start:stop],
        rows.sizes[start:stop],
        rows.tokens[start:stop],
        rows.times[start:stop],
        rows.bodies[start:stop],
    )
