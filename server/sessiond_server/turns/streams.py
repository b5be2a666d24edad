"""Streams a turn's events to the Send call: the session's watch stream, filtered by turn id."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from uuid import UUID

import structlog

from sessiond.v1 import event_pb2
from sessiond.v1.conversation_service_pb2 import SendResponse, WatchResponse
from sessiond_server.core import events
from sessiond_server.core.cancellation import cancel_all, run_to_completion
from sessiond_server.core.errors import Fault, invalid, session_not_found
from sessiond_server.core.states import TurnState
from sessiond_server.core.validation import check_session_id
from sessiond_server.messages.store.history import LogHead
from sessiond_server.turns.errors import fault_of_turn
from sessiond_server.turns.runner import TurnRunner
from sessiond_server.turns.sending import Accepted, Sending
from sessiond_server.turns.service import Turns
from sessiond_server.turns.store.rows import TurnRow
from sessiond_server.watch.encoding import Chunk
from sessiond_server.watch.hub import WatchHub
from sessiond_server.watch.options import WatchOptions

# How often to look up a turn that runs in another process, in case its end is not published.
POLL_MS = 2_000
HEARTBEAT_S = 15.0

# How long GetTurn may wait for a turn, and the pause between two look-ups.
MAX_WAIT_MS = 30_000
WAIT_INTERVAL_S = 0.25

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """A response of Send. If no field is set, it is a heartbeat.

    Attributes:
        events: the encoded `events` of a SendResponse.
        turn: see SendResponse.
        message_id: see SendResponse.
    """

    events: bytes = b""
    turn: TurnRow | None = None
    message_id: str = ""


class TurnStreams:
    """The streams of Send."""

    def __init__(self, turns: Turns, runner: TurnRunner, watching: WatchHub) -> None:
        self._turns = turns
        self._runner = runner
        self._watching = watching
        self._aborting: set[asyncio.Task[None]] = set()

    async def send(
        self, sending: Sending, *, after_seq: int, abort_on_disconnect: bool
    ) -> AsyncGenerator[Step, None]:
        """Start a turn or rejoin it, and stream its events.

        Args:
            sending: the request that starts the turn.
            after_seq: leave out events of messages up to this seq.
            abort_on_disconnect: abort the turn if the generator is closed before the turn is over.

        Yields:
            The turn as accepted, its events, and the turn as it ended.

        Raises:
            Fault: with the reasons of Send.
        """
        if after_seq < 0:
            raise invalid("after_seq", "is negative; 0 = the beginning")
        opening = await self._turns.open(sending)
        # Watch before the turn starts, so that none of its events is missed.
        live = self._watch(sending, None, None, opening.head)
        try:
            # If the Send steers a running turn, the stream begins with that turn's text so far.
            first = await anext(live)
            sent = asyncio.ensure_future(self._turns.send(sending, opening))
            try:
                accepted = await run_to_completion(sent)
            except asyncio.CancelledError:
                if abort_on_disconnect:
                    sent.add_done_callback(partial(self._abort_accepted, sending))
                raise
            follower = TurnFollower(self._turns, self._runner, sending, accepted.turn)
            if after_seq > accepted.after_seq:
                last_seq = await self._turns.last_seq(sending.project_id, sending.session_id)
                after_seq = max(accepted.after_seq, min(after_seq, last_seq))
            else:
                after_seq = accepted.after_seq
            try:
                if not accepted.is_new and not await follower.is_over_at(after_seq):
                    await live.aclose()
                    live = self._watch(sending, after_seq, accepted.epoch)
                    first = await anext(live)
                    # Look the turn up only now that the watch has begun. If it is still running,
                    # the watch receives the event of its end.
                    await follower.is_over_at(after_seq)
                yield Step(
                    turn=await self._effective_turn(sending, follower.own),
                    message_id=sending.message_id or str(accepted.turn.message_id or ""),
                )
                async for step in follower.steps(first, live, after_seq):
                    yield step
                turn = await self._effective_turn(sending, follower.own)
                if turn.state != TurnState.COMPLETED:
                    raise fault_of_turn(turn.error, turn.turn_id)
                yield Step(turn=turn)
            except (GeneratorExit, asyncio.CancelledError):
                # The client has left. (After a server error, it may rejoin the turn.)
                if abort_on_disconnect:
                    self._abort_accepted(sending, sent)
                raise
        finally:
            await live.aclose()

    async def wait(self, project_id: UUID, session_id: str, turn_id: str, wait_ms: int) -> TurnRow:
        """Return a turn as Turns.get does, once it has ended or the time is over.

        Args:
            project_id: the caller's project.
            session_id: the session.
            turn_id: the turn.
            wait_ms: how long to wait for the end. Unit: milliseconds.

        Raises:
            Fault: as Turns.get; INVALID_FIELD if wait_ms is out of range.
        """
        if not 0 <= wait_ms <= MAX_WAIT_MS:
            raise invalid("wait", f"is {wait_ms} ms; from 0 to 30 seconds are allowed")
        clock = asyncio.get_running_loop().time
        end = clock() + wait_ms / 1000
        while True:
            row = await self._turns.get(project_id, session_id, turn_id)
            left = end - clock()
            if row.ended_at or left <= 0 or self._runner.is_leaving:
                return row
            await asyncio.sleep(min(WAIT_INTERVAL_S, left))

    async def close(self) -> None:
        """Cancel the aborts in progress."""
        await cancel_all(self._aborting)

    def _watch(
        self,
        sending: Sending,
        after_seq: int | None,
        after_epoch: int | None,
        known: LogHead | None = None,
    ) -> AsyncGenerator[Sequence[Chunk], None]:
        session_id = check_session_id(sending.session_id)
        options = WatchOptions(session_id, after_seq, POLL_MS, after_epoch)
        return self._watching.chunks(sending.project_id, options, known)

    async def _effective_turn(self, sending: Sending, own: TurnRow) -> TurnRow:
        """Return the turn that a Send is part of: its own, or the one that it steers."""
        effective = own.joined or (own.steers if own.state == TurnState.QUEUED else None)
        if effective is None:
            return own
        return await self._turns.get(sending.project_id, sending.session_id, str(effective))

    def _abort_accepted(self, sending: Sending, sent: "asyncio.Future[Accepted]") -> None:
        """Abort the turn of a client that has left, if it was accepted."""
        if sent.cancelled() or sent.exception():
            return
        task = asyncio.create_task(self._abort(sending, str(sent.result().turn.turn_id)))
        self._aborting.add(task)
        task.add_done_callback(self._aborting.discard)

    async def _abort(self, sending: Sending, turn_id: str) -> None:
        try:
            await self._turns.abort(
                sending.project_id, sending.session_id, turn_id, include_queued=False, request_id=""
            )
        except Exception as e:
            log.info("abort_on_disconnect_failed", turn_id=turn_id, error=str(e))


class TurnFollower:
    """Filters a session's events for one Send, until the turn is over.

    Attributes:
        own: the turn that the Send created, as last read.
    """

    def __init__(self, turns: Turns, runner: TurnRunner, sending: Sending, own: TurnRow) -> None:
        self._turns = turns
        self._runner = runner
        self._sending = sending
        self.own = own
        # Every message up to this seq has been passed on.
        self._seen = 0
        # The ended turn: the Send's own, or the one that it steered. None while the turn goes on.
        self._ended: TurnRow | None = None

    async def steps(
        self,
        first: Sequence[Chunk],
        responses: AsyncGenerator[Sequence[Chunk], None],
        after_seq: int,
    ) -> AsyncGenerator[Step, None]:
        """Filter the events of a watch stream until the turn is over.

        Args:
            first: the first response of the watch stream.
            responses: the following responses.
            after_seq: seq of the message after which the watch stream begins.

        Yields:
            Events, and heartbeats.

        Raises:
            Fault: with the reasons of WatchHub.watch; SESSION_NOT_FOUND if the session is deleted.
        """
        self._seen = after_seq
        chunks, yielded_at = first, time.monotonic()
        # Whether the turn's end has already been published, or never will be.
        is_published = self._ended is not None
        while True:
            messages = [_messages_of(chunk) if chunk.last_seq else () for chunk in chunks]
            if self.own.state == TurnState.QUEUED and self._may_have_joined(messages):
                await self._ended_turn()
            if self.own.state == TurnState.QUEUED and self._may_be_answered(messages):
                await self._turns.wake(self._sending.project_id, self._sending.session_id)
            found, has_ended = self._filter(chunks, messages)
            if found or time.monotonic() - yielded_at >= HEARTBEAT_S:
                yielded_at = time.monotonic()
                yield Step(found)
            if has_ended or not (chunks or self._runner.runs(self.own.turn_id)):
                # Another process may have stored the end without having published it yet. If it is
                # still not published at the next look-up, that process is gone.
                is_published = has_ended or self._ended is not None
                self._ended = self._ended or await self._ended_turn()
            if is_published and self._ended and self._ended.end_seq <= self._seen:
                return
            if is_published and not chunks and await self._is_cut():
                return
            chunks = await anext(responses)

    async def is_over_at(self, seq: int) -> bool:
        """Look up the turn. Return whether it is over and has no message after `seq`."""
        self._ended = await self._ended_turn()
        return self._ended is not None and self._ended.end_seq <= seq

    async def _is_cut(self) -> bool:
        """Whether the turn is over, and a rewind has removed its last messages."""
        project_id, session_id = self._sending.project_id, self._sending.session_id
        return self._ended is not None and self._ended.end_seq > await self._turns.last_seq(
            project_id, session_id
        )

    async def _ended_turn(self) -> TurnRow | None:
        """If the turn that the Send is part of is over, return it, else None."""
        if row := self._runner.ended(self.own.turn_id):
            self.own = row
            return row
        project_id, session_id = self._sending.project_id, self._sending.session_id
        try:
            self.own = turn = await self._turns.own(project_id, session_id, str(self.own.turn_id))
            if turn.state == TurnState.JOINED:
                turn = await self._turns.own(project_id, session_id, str(turn.joined))
        except Fault as fault:
            if fault.reason == "TURN_NOT_FOUND":
                # The session has been deleted and created again.
                raise session_not_found(session_id) from None
            raise
        return None if turn.state in (TurnState.QUEUED, TurnState.RUNNING) else turn

    def _may_have_joined(self, messages: Iterable[Sequence[event_pb2.Event]]) -> bool:
        """Whether another turn has begun, which the held messages may have joined."""
        ids = {str(turn_id) for turn_id in (self.own.turn_id, self.own.steers) if turn_id}
        return bool(self.own.steers or self.own.held_until) and any(
            event.message.turn.turn_id not in {"", *ids} for event in chain(*messages)
        )

    def _may_be_answered(self, messages: Iterable[Sequence[event_pb2.Event]]) -> bool:
        """Whether the stored messages may contain the results that the turn waits for."""
        return bool(self.own.steers or self.own.held_until) and any(
            not event.message.turn.turn_id for event in chain(*messages)
        )

    def _filter(
        self, chunks: Sequence[Chunk], messages: Sequence[Sequence[event_pb2.Event]]
    ) -> tuple[bytes, bool]:
        """Return the turn's events, and whether one ends this turn or the turn that it steers.

        Args:
            chunks: the watched events.
            messages: the message events of each chunk.
        """
        ids = (self.own.turn_id, self.own.joined, self.own.steers)
        mine = {str(turn_id) for turn_id in ids if turn_id}
        found: list[bytes] = []
        has_ended = False
        for chunk, stored in zip(chunks, messages, strict=True):
            if chunk.rewound_to is not None:
                self._seen = min(self._seen, chunk.rewound_to)
            elif chunk.last_seq:
                # The stream may begin with messages from before the turn, whose seqs are lower.
                self._seen = max(self._seen, chunk.last_seq)
                own = [event for event in stored if event.message.turn.turn_id in mine]
                found.append(SendResponse(events=own).SerializeToString())
            elif chunk.turn_id in mine:
                # SendResponse.events has the same number as WatchResponse.events.
                found.append(chunk.encoded)
                has_ended |= chunk.type == events.TURN_END
        return b"".join(found), has_ended


def _messages_of(chunk: Chunk) -> Sequence[event_pb2.Event]:
    return WatchResponse.FromString(chunk.encoded).events
