"""The calls about turns, by session id; `client.sessions` has them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Unpack

from sessiond._async._attachments import FileExtractor, parts_of
from sessiond._async._connection import AsyncCalls
from sessiond._async._handlers import AsyncHandlers
from sessiond._async._lazy import AsyncLazy
from sessiond._async._streams import event_batches, overdue, page_batches, send_steps
from sessiond._protocol.retry import Deadline
from sessiond._protocol.status import answer_removed, error_of_turn
from sessiond._requests import turns as turn_requests
from sessiond._requests import watch as watch_requests
from sessiond._requests.fields import filled
from sessiond._requests.options import PreviewOptions
from sessiond._requests.turns import OnTimeout, Prompt, Sending, SendOptions
from sessiond._types.event import Event
from sessiond._types.message import Message
from sessiond._types.turn import ENDED, SentMessage, Turn, TurnPreview, sent_message
from sessiond.errors import DeadlineExceeded, MessageNotFound, ServerUnavailable, SessiondError
from sessiond.v1 import conversation_service_pb2 as pb
from sessiond.v1 import message_pb2, turn_pb2
from sessiond.v1.session_service_pb2 import GetMessageRequest

WAIT_TIMEOUT_S = 60.0
# Deadline of the abort that is sent when a wait has exceeded its deadline.
ABORT_TIMEOUT_S = 5.0


class AsyncTurnCalls(AsyncCalls):
    """The calls about turns, with keyword arguments instead of requests."""

    async def send(
        self,
        session_id: str,
        prompt: Prompt | None = None,
        *,
        timeout: float | None = None,
        **keywords: Unpack[SendOptions],
    ) -> SentMessage:
        """Start a turn: the server appends the prompt, calls the model, and appends its answer.

        The model gets the whole history. If no prompt, messages or attachments are given, the model
        continues from the existing history, e.g. after stored tool results or a failed turn. The
        call returns when the server has accepted the turn; from then on the turn does not depend on
        the client.

        Args:
            session_id: the session.
            prompt: the user's text; or a dict of the text and keywords: {"prompt": "...", ...}.
            timeout: deadline over all attempts, in seconds.
            **keywords: messages, format, extract_files, attachments, mode, model, options,
                turn_timeout, keep_partial, expected_epoch, parent_seq, request_id.

        Returns:
            The id of the sent message, or of the last one if several were sent: a str that equals
            its `Message.id`, with the turn's id as `turn_id`. "" if no message was sent.

        Raises:
            SessionNotFound: if there is no such session.
            SessionDestroyed: if the session is destroyed.
            InvalidJson: if a message is not a JSON object.
            UnknownRole: if a message has no role, or a role that its format does not have.
            ParentNotFound: if no message has a given parent_seq.
            MessageTooLarge: if a message exceeds the server's size limit.
            BatchTooLarge: if there are too many messages or bytes.
            AssetNotFound: if there is no such asset.
            RequestIdReused: if the request_id was used with other content.
            ModelNotConfigured: if the server has no such model.
            LimitExceeded: if too many turns are waiting in the session.
            SessiondError: as in assets.upload, for attachments.
        """
        sending = Sending(session_id, prompt, keywords)
        return await self._send(sending, timeout)

    async def send_and_wait(
        self,
        session_id: str,
        prompt: Prompt | None = None,
        *,
        timeout: float = WAIT_TIMEOUT_S,
        on_timeout: OnTimeout = "leave",
        **keywords: Unpack[SendOptions],
    ) -> Message:
        """Start a turn and wait for its answer, even if connections break or the server restarts.

        Args:
            session_id: the session.
            prompt: as in send.
            timeout: deadline of the whole wait, in seconds, including the wait for earlier turns.
                Default: 60. math.inf = no deadline.
            on_timeout: what happens to the turn when the deadline passes or the caller is
                cancelled. "leave" lets the turn continue, and wait_for_turn can wait for it.
                "abort" aborts it; with "abort", a broken connection may also abort it.
            **keywords: messages, format, extract_files, attachments, mode, model, options,
                turn_timeout, keep_partial, expected_epoch, parent_seq, request_id, as in send.

        Returns:
            The turn's final answer; with mode "immediate", the final answer of the turn that was
            steered.

        Raises:
            SessiondError: as in send.
            DeadlineExceeded: if the deadline passed. It is a TimeoutError whose metadata has the
                turn_id.
            TurnFailed: if the turn ended without an answer: ModelAccessDenied, ModelRateLimited,
                ModelRequestRejected, ModelUnavailable, ModelTimedOut, ModelAnswerInvalid,
                ContextTooLarge, TurnTimedOut, TurnAborted or TurnLost.
        """
        sending = Sending(session_id, prompt, keywords)
        return await self._send_and_wait(sending, timeout, turn_requests.aborts(on_timeout))

    def stream(
        self,
        session_id: str,
        prompt: Prompt | None = None,
        *,
        abort_on_exit: bool = False,
        timeout: float | None = None,
        **keywords: Unpack[SendOptions],
    ) -> AsyncLazy[Event]:
        """Start a turn and stream its events: the prompt, the model's deltas, and its messages.

        After a broken connection the client reconnects, and continues with the next character. A
        stream that joins a running turn begins with "assistant.message_partial", the text so far.

        Args:
            session_id: the session.
            prompt: as in send.
            abort_on_exit: abort the turn if the iteration ends before the turn does; a broken
                connection may then abort it too. Default: the turn continues.
            timeout: deadline of the whole stream, in seconds. Default: no deadline.
            **keywords: messages, format, extract_files, attachments, mode, model, options,
                turn_timeout, keep_partial, expected_epoch, parent_seq, request_id, as in send.

        Returns:
            A lazy list that ends with the turn; nothing is sent until it is iterated over.
            Iterating again joins the same turn. If the turn fails, iterating raises the same errors
            as send_and_wait.
        """
        sending = Sending(session_id, prompt, keywords)
        return AsyncLazy(lambda: self._stream(sending, timeout, abort_on_exit))

    async def wait_for_turn(
        self, session_id: str, turn_id: str, *, timeout: float = WAIT_TIMEOUT_S
    ) -> Message:
        """Wait for the answer of a turn that was started earlier, by any client.

        Args:
            session_id: the session.
            turn_id: the turn.
            timeout: deadline of the whole wait, in seconds. Default: 60. math.inf = no deadline.

        Returns:
            The turn's final answer.

        Raises:
            SessionNotFound: if there is no such session.
            TurnNotFound: if there is no such turn.
            DeadlineExceeded: if the deadline passed.
            TurnFailed: if the turn ended without an answer, as in send_and_wait.
            MessageNotFound: if a rewind has removed the answer since.
        """
        deadline = Deadline(timeout)
        may_have_missed_it = True

        def opened(is_open: bool) -> None:
            nonlocal may_have_missed_it
            may_have_missed_it = may_have_missed_it or not is_open

        try:
            # Watch before looking the turn up, so that an end in between is not missed.
            request = watch_requests.watch(session_id, after_seq=None)
            batches = event_batches(
                self._connection, request, deadline.remaining(), opened=opened, heartbeats=True
            )
            async with aclosing(batches):
                async for events in batches:
                    # A batch without events is a heartbeat, at which the turn is looked up again.
                    if (
                        may_have_missed_it
                        or not events
                        or any(_is_end(event, turn_id) for event in events)
                    ):
                        may_have_missed_it = False
                        turn = await self._turn(session_id, turn_id, deadline.remaining())
                        if turn.state in ENDED:
                            return await self._answer(turn, None, deadline)
        except DeadlineExceeded as error:
            raise overdue(session_id, turn_id, error) from error
        raise ServerUnavailable("the stream ended before the turn did")

    async def preview_turn(
        self,
        session_id: str,
        prompt: str | None = None,
        **keywords: Unpack[PreviewOptions],
    ) -> TurnPreview:
        """Return the request that a send would make now, without calling the model.

        Nothing is stored. If the turn would begin a new window (config.context), the preview shows
        the new window, but does not store it. The prompt and the messages do not count towards the
        window.

        Args:
            session_id: the session.
            prompt: the user's text. Default: the history as it is.
            **keywords: messages, format, model, options, parent_seq, as in send; timeout.

        Returns:
            The request as the model's API would get it, and its differences from the stored
            messages.

        Raises:
            SessionNotFound: if there is no such session.
            ModelNotConfigured: if the server has no such model.
            ContextTooLarge: if the history or the request is too large.
            FormatUnreadable: if the history has a message that the server cannot give to a model.
            ModelRequestRejected: if no message of the history can be sent.
            SessiondError: as in send, for messages.
        """
        request = turn_requests.preview(session_id, prompt, keywords)
        response = await self._connection.call(
            lambda stubs: stubs.conversations.PreviewTurn, request, keywords.get("timeout")
        )
        return TurnPreview(response)

    async def abort(
        self,
        session_id: str,
        turn_id: str | None = None,
        *,
        include_queued: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> list[Turn]:
        """Abort turns. Their appended messages are kept, and so is an unfinished text.

        Args:
            session_id: the session.
            turn_id: the turn, running or queued. Default: the running turn.
            include_queued: also abort the queued turns. Only without turn_id.
            request_id: makes the call safe to repeat.
            timeout: deadline over all attempts, in seconds.

        Returns:
            The turns that this call aborted; may be empty.

        Raises:
            SessionNotFound: if there is no such session.
            TurnNotFound: if there is no such turn.
            RequestIdReused: if the request_id was used with other content.
        """
        request = turn_requests.abort(
            session_id, turn_id, include_queued=include_queued, request_id=request_id
        )
        response = await self._connection.call(
            lambda stubs: stubs.conversations.Abort, request, timeout
        )
        return [Turn(turn) for turn in response.turns]

    async def get_turn(
        self, session_id: str, turn_id: str, *, timeout: float | None = None
    ) -> Turn:
        """Return a turn, with its state and outcome.

        Args:
            session_id: the session.
            turn_id: the turn.
            timeout: deadline over all attempts, in seconds.

        Raises:
            SessionNotFound: if there is no such session.
            TurnNotFound: if there is no such turn.
        """
        return Turn(await self._turn(session_id, turn_id, timeout))

    def list_turns(
        self,
        session_id: str,
        *,
        state: str | None = None,
        page_size: int | None = None,
        timeout: float | None = None,
    ) -> AsyncLazy[Turn]:
        """List the turns of a session, the newest first, fetched page by page.

        Args:
            session_id: the session.
            state: only turns in this state: "queued", "running", "completed", "failed" or
                "aborted". Default: all.
            page_size: turns per call, 1 to 500. Default: 50.
            timeout: deadline of each call, in seconds.

        Returns:
            A lazy list; no call is made until it is iterated over. Iterating raises
            SessionNotFound if there is no such session.
        """
        request = filled(
            pb.ListTurnsRequest(), session_id=session_id, state=state, page_size=page_size
        )
        return AsyncLazy(
            lambda: page_batches(
                self._connection,
                lambda stubs: stubs.conversations.ListTurns,
                request,
                timeout,
                "turns",
                Turn,
            )
        )

    async def _send(self, sending: Sending, timeout: float | None) -> SentMessage:
        await self._prepare(sending)
        request = sending.request
        timeout = self._connection.settings.timeout if timeout is None else timeout
        async with aclosing(send_steps(self._connection, request, timeout)) as steps:
            async for step in steps:
                if step.HasField("turn"):
                    return sent_message(request.session_id, step.message_id, step.turn.turn_id)
        raise ServerUnavailable("the stream ended before it named the turn")

    async def _send_and_wait(self, sending: Sending, timeout: float, aborts: bool) -> Message:
        deadline = Deadline(timeout)
        await self._prepare(sending)
        request = sending.request
        filled(request, abort_on_disconnect=aborts)
        turn = turn_pb2.Turn()
        seen: message_pb2.Message | None = None
        try:
            async with aclosing(
                send_steps(self._connection, request, deadline.remaining())
            ) as steps:
                async for step in steps:
                    if step.HasField("turn"):
                        turn = step.turn
                    for event in step.events:
                        if (
                            event.type == "assistant.message"
                            and event.message.turn.turn_id == turn.turn_id
                        ):
                            seen = event.message
            return await self._answer(turn, seen, deadline)
        except DeadlineExceeded as error:
            if aborts and (turn_id := error.metadata.get("turn_id")):
                # The server aborts the turn by itself, unless the connection to it is broken.
                with suppress(SessiondError):
                    await self.abort(request.session_id, turn_id, timeout=ABORT_TIMEOUT_S)
            raise

    async def _stream(
        self,
        sending: Sending,
        timeout: float | None,
        aborts: bool,
        handlers: AsyncHandlers | None = None,
    ) -> AsyncGenerator[list[Event], None]:
        """Yield the events of a turn, once the handlers, if any, are ready to receive them."""
        deadline = Deadline(timeout)
        if handlers:
            await handlers.ready()
        await self._prepare(sending)
        filled(sending.request, abort_on_disconnect=aborts)
        async with aclosing(
            send_steps(self._connection, sending.request, deadline.remaining())
        ) as steps:
            async for step in steps:
                if step.events:
                    yield [Event(event) for event in step.events]

    async def _prepare(self, sending: Sending) -> None:
        extractor = FileExtractor(self._connection, sending.extract_files)
        for message in sending.request.messages:
            if (stored := await extractor.take(message)) is not message:
                message.CopyFrom(stored)
        if sending.attachments:
            sending.take_parts(await parts_of(self._connection, sending.attachments))

    async def _turn(self, session_id: str, turn_id: str, timeout: float | None) -> turn_pb2.Turn:
        request = filled(pb.GetTurnRequest(), session_id=session_id, turn_id=turn_id)
        return await self._connection.call(
            lambda stubs: stubs.conversations.GetTurn, request, timeout
        )

    async def _answer(
        self, turn: turn_pb2.Turn, seen: message_pb2.Message | None, deadline: Deadline
    ) -> Message:
        """Return the answer of an ended turn; `seen` is the last message received from the turn."""
        if turn.state != turn_pb2.TURN_STATE_COMPLETED:
            raise error_of_turn(turn)
        if seen is None or seen.seq != turn.last_seq:
            # The answer came while a connection was down, or before the client joined.
            request = GetMessageRequest(session_id=turn.session_id, seq=turn.last_seq)
            try:
                seen = await self._connection.call(
                    lambda stubs: stubs.sessions.GetMessage, request, deadline.remaining()
                )
            except MessageNotFound as error:
                raise answer_removed(turn) from error
            if seen.turn.turn_id != turn.turn_id:
                # After a rewind, the seq names another message.
                raise answer_removed(turn)
        return Message(turn.session_id, seen)


def _is_end(event: Event, turn_id: str) -> bool:
    return event.type == "assistant.turn_end" and event.data.get("turn_id") == turn_id
