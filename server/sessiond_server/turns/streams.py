"""What a Send is told of its turn, from the acceptance to the end: the session's events, as a watcher has them, that are the turn's."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

import structlog

from sessiond.v1 import event_pb2
from sessiond.v1.conversation_service_pb2 import WatchResponse
from sessiond_server.core import events
from sessiond_server.core.cancellation import cancel_all, run_to_completion
from sessiond_server.core.errors import Fault, invalid, session_not_found
from sessiond_server.core.validation import check_session_id
from sessiond_server.turns.errors import fault_of_turn
from sessiond_server.turns.runner import TurnRunner
from sessiond_server.turns.service import Accepted, Sending, Turns
from sessiond_server.turns.store import COMPLETED, JOINED, QUEUED, RUNNING, TurnRow
from sessiond_server.watch.hub import WatchHub, WatchOptions

# How often the database is asked after a turn that runs elsewhere, should its end not be told.
LOOK_MS = 2_000
HEARTBEAT_S = 15.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """A piece of what a Send is told; nothing of it set = a heartbeat. turn, message_id: as in SendResponse."""

    events: Sequence[event_pb2.Event] = ()
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
        """Start a turn, or join it, and tell what happens in it.

        Args:
            after_seq: events of messages up to it are left out.
            abort_on_disconnect: abort the turn when the generator is closed before the turn is over.
        Raises: Fault, with the reasons that Send names.
        """
        if after_seq < 0:
            raise invalid("after_seq", "is negative; 0 stands for the beginning")
        # Before anything happens in the turn, so that nothing of it is missed.
        live = self._watching.watch(
            sending.project_id, WatchOptions(check_session_id(sending.session_id), None, LOOK_MS)
        )
        async with aclosing(live):
            await anext(live)
            sent = asyncio.ensure_future(self._turns.send(sending))
            try:
                accepted = await run_to_completion(sent)
            except asyncio.CancelledError:
                if abort_on_disconnect:
                    self._abort_once(sending, sent)
                raise
            following = _Following(self._turns, self._runner, sending, accepted.turn)
            try:
                yield Step(
                    turn=await self._leading(sending, accepted.turn),
                    message_id=str(accepted.turn.message_id or ""),
                )
                if accepted.is_new:
                    async for step in following.steps(live, max(after_seq, accepted.after_seq)):
                        yield step
                else:
                    await live.aclose()
                    async for step in self._again(
                        following, sending, max(after_seq, accepted.after_seq)
                    ):
                        yield step
                turn = await self._leading(sending, following.own)
                if turn.state != COMPLETED:
                    raise fault_of_turn(turn.error, turn.turn_id)
                yield Step(turn=turn)
            except (GeneratorExit, asyncio.CancelledError):
                # Nobody listens any more. After any error of ours, a client may join again.
                if abort_on_disconnect:
                    self._abort(sending.project_id, sending.session_id, str(accepted.turn.turn_id))
                raise

    async def _again(
        self, following: "_Following", sending: Sending, after_seq: int
    ) -> AsyncGenerator[Step, None]:
        """What happened in a turn that began before, and what happens still."""
        if await following.is_over_at(after_seq):
            return
        async with aclosing(
            self._watching.watch(
                sending.project_id, WatchOptions(sending.session_id, after_seq, LOOK_MS)
            )
        ) as chunks:
            async for step in following.steps(chunks, after_seq):
                yield step

    async def close(self) -> None:
        """End what runs."""
        await cancel_all(self._aborting)

    async def _leading(self, sending: Sending, own: TurnRow) -> TurnRow:
        """The turn that a Send is a part of: its own, or the one that it steers."""
        leader = own.joined or (own.steers if own.state == QUEUED else None)
        return (
            await self._turns.get(sending.project_id, sending.session_id, str(leader))
            if leader
            else own
        )

    def _abort_once(self, sending: Sending, sent: "asyncio.Future[Accepted]") -> None:
        """Abort what is accepted only after the client has left."""

        def accepted(sent: "asyncio.Future[Accepted]") -> None:
            if not (sent.cancelled() or sent.exception()):
                self._abort(sending.project_id, sending.session_id, str(sent.result().turn.turn_id))

        sent.add_done_callback(accepted)

    def _abort(self, project_id: UUID, session_id: str, turn_id: str) -> None:
        async def abort() -> None:
            try:
                await self._turns.abort(
                    project_id, session_id, turn_id, include_queued=False, request_id=""
                )
            except Exception as e:
                log.info("turn of a client that left not aborted", turn_id=turn_id, error=str(e))

        task = asyncio.create_task(abort())
        self._aborting.add(task)
        task.add_done_callback(self._aborting.discard)


class _Following:
    """One Send's way with its turn. own: the turn as it was looked at last."""

    def __init__(self, turns: Turns, runner: TurnRunner, sending: Sending, own: TurnRow) -> None:
        self._turns = turns
        self._runner = runner
        self._sending = sending
        self.own = own
        # Up to this seq all is passed on.
        self._seen = 0
        # The turn that leads, once it is over.
        self._ended: TurnRow | None = None
        self._told_at = time.monotonic()

    async def steps(
        self, chunks: AsyncGenerator[bytes, None], after_seq: int
    ) -> AsyncGenerator[Step, None]:
        """What happens after a seq, until the turn is over. Raises: Fault, those of WatchHub.watch."""
        self._seen = after_seq
        async for chunk in chunks:
            has_ended = False
            if chunk:
                events, has_ended = self._of_turn(WatchResponse.FromString(chunk).events)
                if events:
                    self._told_at = time.monotonic()
                    yield Step(events)
            if time.monotonic() - self._told_at >= HEARTBEAT_S:
                self._told_at = time.monotonic()
                yield Step()
            if self._ended is None and (
                has_ended or not (chunk or self._runner.runs(self.own.turn_id))
            ):
                self._ended = await self._look()
            if self._ended and self._ended.end_seq <= self._seen:
                return

    async def is_over_at(self, seq: int) -> bool:
        """Whether nothing comes after a seq any more."""
        self._ended = await self._look()
        return self._ended is not None and self._ended.end_seq <= seq

    async def _look(self) -> TurnRow | None:
        """The turn that leads, where it is over."""
        project_id, session_id = self._sending.project_id, self._sending.session_id
        try:
            self.own = leader = await self._turns.own(project_id, session_id, str(self.own.turn_id))
            if leader.state == JOINED:
                leader = await self._turns.own(project_id, session_id, str(leader.joined))
        except Fault as fault:
            if fault.reason == "TURN_NOT_FOUND":
                # The session has been deleted, and made anew since.
                raise session_not_found(session_id) from None
            raise
        return None if leader.state in (QUEUED, RUNNING) else leader

    def _of_turn(self, watched: Sequence[event_pb2.Event]) -> tuple[list[event_pb2.Event], bool]:
        """Those of the events that are the turn's, and whether they tell of its end, or of that of the turn it steers."""
        mine = {
            str(turn_id)
            for turn_id in (self.own.turn_id, self.own.joined, self.own.steers)
            if turn_id
        }
        found, has_ended = [], False
        for event in watched:
            if event.seq:
                # What was watched before the turn began may be older.
                self._seen = max(self._seen, event.seq)
                if event.message.turn.turn_id in mine:
                    found.append(event)
            elif event.HasField("data") and event.data.fields["turn_id"].string_value in mine:
                found.append(event)
                has_ended |= event.type == events.TURN_END
        return found, has_ended
