"""Transitions of turns: start, append, steer, end. Each runs in a transaction of runner.change.

The transaction that ends a turn also starts the next one, so that a queue never waits while its
process has a free slot.
"""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import structlog

from sessiond.v1.message_pb2 import FORMAT_OPENAI, Message
from sessiond.v1.turn_pb2 import MessageTurn
from sessiond_server.assets.service import asset_not_found
from sessiond_server.assets.store.assets import AssetMissing
from sessiond_server.core.errors import Fault
from sessiond_server.core.limits import Limits
from sessiond_server.core.states import SessionStatus, TurnState
from sessiond_server.formats.incomplete import incomplete_answer
from sessiond_server.formats.read import read
from sessiond_server.formats.token_counts import Tokenizer
from sessiond_server.messages.append import append_of
from sessiond_server.messages.duplicates import already_exists
from sessiond_server.messages.refusals import parent_missing
from sessiond_server.messages.store.append import Appended
from sessiond_server.messages.store.message_ids import MessageIdTaken
from sessiond_server.messages.target import Target
from sessiond_server.messages.validation import MessageValidator
from sessiond_server.providers.base import Answer, ModelFault
from sessiond_server.providers.routing import Models
from sessiond_server.sessions.store.lock import SavepointRefused
from sessiond_server.turns.answers import messages_of
from sessiond_server.turns.errors import error_of, internal_error, parent_not_found, printable
from sessiond_server.turns.requests.window import has_results
from sessiond_server.turns.state import RunningTurn, TurnChanges, TurnLease, TurnSlots
from sessiond_server.turns.store.rows import Ending, OwnedTurn, QueuedTurn, SavedText
from sessiond_server.turns.store.texts import TextStore
from sessiond_server.turns.store.turns import StartFailed, TurnStore

log = structlog.get_logger(__name__)


class TurnTransitions:
    """Changes turns within the transaction of a TurnChanges, and records the changes there.

    Args:
        lease: the lease for turns that are started.
        slots: the process's slots. If none is free, queued turns stay queued until any process
            starts them.

    Attributes:
        running: the turns that this process runs, by id. The runner adds and removes them.
    """

    def __init__(
        self,
        store: TurnStore,
        texts: TextStore,
        models: Models,
        limits: Limits,
        tokenizer: Tokenizer,
        lease: TurnLease,
        slots: TurnSlots,
    ) -> None:
        self.running: dict[UUID, RunningTurn] = {}
        self._store = store
        self._texts = texts
        self._models = models
        self._limits = limits
        self._tokenizer = tokenizer
        self._lease = lease
        self._slots = slots

    async def start_next(self, changes: TurnChanges) -> None:
        """Start the next queued turn of a session that runs none.

        In a destroyed session, abort the queued turns instead.
        """
        change = changes.change
        if change.state == SessionStatus.DESTROYED:
            for turn_id in await self._store.queued_ids(change):
                await self.abort(changes, turn_id, "the session was destroyed")
        while queued := await self._store.next_queued(change):
            if queued.is_held:
                return
            if not self._slots.try_take(queued.turn_id):
                changes.is_full = True
                return
            ended = len(changes.ended)
            try:
                # A turn that cannot start must not undo the end of the previous turn.
                async with self._store.savepoint(change):
                    changes.started = await self._start(changes, queued)
                return
            except Fault as e:
                fault = e
            except StartFailed as e:
                log.error("turn_start_failed", turn_id=str(queued.turn_id), exc_info=e.__cause__)
                fault = internal_error(queued.turn_id)
            finally:
                if changes.started is None:
                    del changes.ended[ended:]
                    self._slots.release(queued.turn_id)
            await self.fail(changes, queued.turn_id, fault)
        changes.is_idle = True

    async def abort(
        self, changes: TurnChanges, turn_id: UUID, why: str, *, keeps_text: bool = True
    ) -> None:
        """End a turn as aborted, unless it has already ended. For keeps_text, see `fail`."""
        await self.fail(changes, turn_id, Fault("TURN_ABORTED", why), keeps_text=keeps_text)

    async def fail(
        self,
        changes: TurnChanges,
        turn_id: UUID,
        fault: Fault,
        running: RunningTurn | None = None,
        *,
        keeps_text: bool = True,
    ) -> None:
        """End a turn with a Fault, unless it has already ended.

        The turn ends as aborted for TURN_ABORTED, and as failed for any other reason. If keeps_text
        is true, the text that its model has written is kept as an incomplete message.
        """
        running = running or self.running.get(turn_id)
        partial_seq = 0
        if keeps_text:
            partial_seq = await self.append_partial(changes, turn_id, running)
        elif running:
            changes.freeze(running)
        ending = Ending(
            TurnState.ABORTED if fault.reason == "TURN_ABORTED" else TurnState.FAILED,
            end_seq=partial_seq or None,
            partial_seq=partial_seq,
            usage=running.usage if running else None,
            error=error_of(fault, changes.session_id, turn_id),
            report=running.report if running else None,
        )
        await self._end(changes, turn_id, ending, running)

    async def fail_orphans(self, changes: TurnChanges, last_seq: int) -> None:
        """Fail the queued turns whose parent message was removed by a rewind to `last_seq`.

        Otherwise a turn would continue another message that later gets the parent's seq.
        """
        for turn_id in await self._store.queued_ids(changes.change, last_seq + 1):
            fault = Fault(
                "PARENT_NOT_FOUND",
                f"parent_seq: a rewind of session {changes.session_id!r} to seq {last_seq} removed "
                "the message that the turn was to continue",
                metadata={"session_id": changes.session_id, "last_seq": last_seq},
            )
            await self.fail(changes, turn_id, fault)

    async def adopt(self, changes: TurnChanges, turn_id: UUID) -> None:
        """Run a turn that this process started by a commit that was not acknowledged."""
        owned = await self._store.find(changes.change, turn_id)
        if owned and owned.turn.state == TurnState.RUNNING and owned.holder == self._lease.holder:
            log.info("turn_adopted", turn_id=str(turn_id))
            changes.started = await self.resumed(changes, owned)

    async def resumed(self, changes: TurnChanges, owned: OwnedTurn) -> RunningTurn:
        """Return a RunningTurn with which this process continues a turn that was started before."""
        return await self._running(changes, owned, owned.turn.end_seq)

    async def settle(
        self, changes: TurnChanges, running: RunningTurn, outcome: Answer | Fault
    ) -> int:
        """Write the outcome of a model call.

        Returns:
            The seq from which the turn resumes if messages were sent to steer it; 0 if the turn is
            over.
        """
        change, turn_id = changes.change, running.turn_id
        owned = await self._store.find(change, turn_id) if change.log == running.log else None
        if owned and owned.turn.state == TurnState.RUNNING:
            if owned.turn.end_seq > running.end_seq:
                # An earlier commit of this turn has succeeded without an acknowledgement. The turn
                # resumes after the messages of that commit.
                changes.has_appended = True
                return owned.turn.end_seq
            if change.state == SessionStatus.DESTROYED:
                outcome = Fault("TURN_ABORTED", "the session was destroyed")
            if isinstance(outcome, Answer):
                try:
                    if resume_seq := await self._append_answer(changes, running, outcome):
                        return resume_seq
                except Fault as fault:
                    outcome = fault
            if isinstance(outcome, Fault):
                await self.fail(changes, turn_id, outcome, running)
            await self.start_next(changes)
        elif owned and owned.turn.state == TurnState.COMPLETED:
            # Only this process completes the turn, so it must also publish the end. It has not
            # done so yet, because its earlier commit was not acknowledged.
            changes.ended.append(owned.turn)
            changes.has_appended = True
            # If turns have followed meanwhile, the last of them publishes that the session is idle.
            is_last = owned.turn.end_seq == change.last_seq
            changes.is_idle = is_last and not (await self._store.open(change)).count
        changes.settled = turn_id
        return 0

    async def _end(
        self, changes: TurnChanges, turn_id: UUID, ending: Ending, running: RunningTurn | None
    ) -> None:
        if row := await self._store.end(changes.change, turn_id, ending):
            changes.ended.append(row)
            if running is None or running.has_saved:
                await self._texts.drop(changes.change, turn_id)

    async def append_partial(
        self,
        changes: TurnChanges,
        turn_id: UUID,
        running: RunningTurn | None,
        *,
        always: bool = False,
    ) -> int:
        """Append the text of an answer that is cut off, as an incomplete message.

        Args:
            changes: the transaction.
            turn_id: the turn.
            running: the turn, if this process runs it.
            always: append the text even if the turn's keep_partial is false.

        Returns:
            The message's seq; 0 if there is no text, or if it must not be kept.
        """
        change = changes.change
        if running:
            # The message is made now, so watchers must not receive any later text.
            changes.freeze(running)
            text = running.text.since(0) if always or running.keep_partial else ""
            saved = SavedText(running.model, running.text.answered_seq, running.parent_seq, text)
        elif found := await self._texts.to_keep(change, turn_id):
            saved = found
        else:
            return 0
        if not saved.text.strip() or change.state == SessionStatus.DESTROYED:
            return 0
        try:
            provider = self._models.route(saved.model).provider
            name, message_format = provider.name, provider.format
        except ModelFault:
            # The turn's provider is not in the settings of this server.
            name, message_format = "", FORMAT_OPENAI
        message = Message(
            format=message_format,
            json=incomplete_answer(message_format, saved.text, self._limits.max_message_bytes),
            incomplete=True,
            turn=MessageTurn(turn_id=str(turn_id), model=printable(saved.model), provider=name),
        )
        await self._set_parent(changes, message, saved.answered_seq, saved.parent_seq)
        # The turn must end even if its text cannot be stored.
        try:
            async with change.savepoint():
                return (await self._append(changes, turn_id, [message], is_answer=True)).last_seq
        except Fault as fault:
            log.warning("partial_answer_dropped", turn_id=str(turn_id), reason=fault.reason)
        except SavepointRefused as e:
            log.warning("partial_answer_dropped", turn_id=str(turn_id), error=str(e))
        return 0

    async def _set_parent(
        self, changes: TurnChanges, answer: Message, answered_seq: int, parent_seq: int
    ) -> None:
        """Set the parent_seq of an answer, unless the answer continues the newest branch."""
        change = changes.change
        if parent_seq:
            answer.parent_seq = parent_seq if parent_seq != change.last_seq else 0
        elif answered_seq not in (0, change.last_seq) and not await self._store.is_continued(
            change, answered_seq
        ):
            answer.parent_seq = answered_seq

    async def _start(self, changes: TurnChanges, queued: QueuedTurn) -> RunningTurn:
        owned = await self._store.start(
            changes.change, queued.turn_id, self._lease.holder, self._lease.stored_s
        )
        turn_id, messages, parent_seq = queued.turn_id, queued.messages, owned.turn.parent_seq
        last_seq = (await self._store.open(changes.change)).last_seq if parent_seq else 0
        if parent_seq > last_seq:
            raise parent_not_found(changes.session_id, parent_seq, last_seq)
        # Held messages continue the branch of the calls whose results they wait for, so they do not
        # join a turn that continues another parent.
        held = [] if parent_seq else await self._store.steering(changes.change, turn_id)
        # Held messages were sent before the results that they wait for, but are appended after
        # them.
        is_first = queued.was_held or any(has_results(message) for message in messages)
        end_seq = 0 if is_first else await self._join(changes, turn_id, held)
        if messages:
            end_seq = (await self._append(changes, turn_id, messages)).last_seq
        if is_first:
            end_seq = await self._join(changes, turn_id, held) or end_seq
        return await self._running(changes, owned, end_seq)

    async def _join(
        self, changes: TurnChanges, turn_id: UUID, steering: Sequence[QueuedTurn]
    ) -> int:
        """Append messages that were sent to steer a turn, as a part of that turn.

        Returns:
            The last seq; 0 if nothing was appended.
        """
        last_seq = 0
        for queued in steering:
            messages = queued.messages
            # The messages carry the id of their own turn, which does not start now.
            for sent in messages:
                sent.turn.turn_id = str(turn_id)
            try:
                appended = await self._append(changes, turn_id, messages)
            except Fault as fault:
                await self.fail(changes, queued.turn_id, fault)
                continue
            await self._store.join(changes.change, queued.turn_id, turn_id, appended)
            last_seq = appended.last_seq
        return last_seq

    async def _running(self, changes: TurnChanges, owned: OwnedTurn, end_seq: int) -> RunningTurn:
        change, turn = changes.change, owned.turn
        return RunningTurn(
            change.key,
            change.log,
            changes.project_id,
            changes.session_id,
            turn.turn_id,
            turn.model,
            owned.options,
            turn.timeout_ms / 1000,
            end_seq,
            end_seq or (await self._store.open(change)).last_seq,
            change.epoch,
            owned.keep_partial,
            parent_seq=0 if end_seq else turn.parent_seq,
            row=turn,
        )

    async def _append_answer(
        self, changes: TurnChanges, running: RunningTurn, answer: Answer
    ) -> int:
        """Append the answer. Then append the queued steering messages, or else end the turn.

        Returns:
            The seq from which the turn resumes; 0 if the turn is over.

        Raises:
            Fault: MODEL_ANSWER_INVALID if the answer cannot be stored.
        """
        change, turn_id = changes.change, running.turn_id
        route = self._models.route(running.model)
        messages = messages_of(answer, running, route)
        has_calls = any(read(message).calls for message in messages)
        await self._set_parent(changes, messages[0], running.text.answered_seq, running.parent_seq)
        try:
            appended = await self._append(changes, turn_id, messages, is_answer=True)
        except Fault as fault:
            raise Fault(
                "MODEL_ANSWER_INVALID",
                f"the model's answer cannot be stored: {fault.message}",
                metadata={"model": running.model, "provider": route.provider.name},
            ) from None
        last_seq, resume_seq = appended.last_seq, 0
        if has_calls:
            # If the turn resumed with the steering messages now, the model would be told that the
            # results are missing, although a later Send brings them.
            await self._store.hold(change, turn_id)
        else:
            steering = await self._store.steering(change, turn_id)
            resume_seq = await self._join(changes, turn_id, steering)
        if not resume_seq:
            ending = Ending(
                TurnState.COMPLETED,
                last_seq,
                last_seq,
                printable(answer.stop_reason),
                running.usage,
                report=running.report,
            )
            await self._end(changes, turn_id, ending, running)
        return resume_seq

    async def _append(
        self,
        changes: TurnChanges,
        turn_id: UUID,
        messages: Sequence[Message],
        *,
        is_answer: bool = False,
    ) -> Appended:
        """Append messages of the running turn.

        Raises:
            Fault: with the reasons of StoreMessages.
        """
        validator = MessageValidator(self._limits, self._tokenizer, keep_turn=True)
        rows = validator.encode(messages)
        target = Target(changes.project_id, changes.session_id, None, "")
        append = append_of(target, validator)
        while True:
            try:
                appended = await self._store.append(changes.change, turn_id, append, rows)
                break
            except AssetMissing as e:
                if not is_answer:
                    raise asset_not_found(
                        e.sha256.hex(), validator.asset_fields[e.sha256]
                    ) from None
                # The model wrote text that merely looks like a reference to an asset.
                append = replace(
                    append,
                    asset_refs=tuple(ref for ref in append.asset_refs if ref[1] != e.sha256),
                    assets=tuple(sha256 for sha256 in append.assets if sha256 != e.sha256),
                )
            except MessageIdTaken as e:
                raise already_exists(changes.session_id, append.message_ids, e.stored) from None
        if appended is None:
            raise parent_missing(append, changes.session_id, changes.change.last_seq)
        changes.has_appended = True
        changes.stored.append((append.totals.count, append.totals.content_bytes))
        return appended
