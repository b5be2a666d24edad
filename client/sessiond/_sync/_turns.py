# Generated from _async/_turns.py by scripts/generate-sync-client. Do not edit.
"""The calls of ConversationService about turns, by session id; `client.sessions` has them."""

from collections.abc import Generator
from contextlib import closing, suppress
from typing import Unpack

from sessiond._protocol.retry import Deadline
from sessiond._protocol.status import error_of_turn
from sessiond._requests import messages as message_requests
from sessiond._requests import turns as turn_requests
from sessiond._requests import watch as watch_requests
from sessiond._requests.turns import OnTimeout, Prompt, Sending, SendOptions
from sessiond._sync._attachments import parts_of
from sessiond._sync._connection import Connection
from sessiond._sync._handlers import Handlers
from sessiond._sync._lazy import Lazy
from sessiond._sync._streams import event_batches, overdue, send_steps, turn_batches
from sessiond._types.event import Event
from sessiond._types.message import Message
from sessiond._types.turn import ENDED, SentMessage, Turn, sent_message
from sessiond.errors import DeadlineExceeded, ServerUnavailable, SessiondError
from sessiond.v1 import message_pb2, turn_pb2

WAIT_TIMEOUT_S = 60.0
# Of an abort after a wait that took too long, on top of it.
ABORT_TIMEOUT_S = 5.0


class TurnCalls:
    """The calls about turns, with keyword arguments in the place of requests."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(
        self,
        session_id: str,
        prompt: Prompt | None = None,
        *,
        timeout: float | None = None,
        **keywords: Unpack[SendOptions],
    ) -> SentMessage:
        """Start a turn: the server appends what is sent, asks the model with all of the history, and appends the answer.

        Without prompt, messages and attachments, the model goes on from the history as it is: after tool results that were stored, or after
        a turn that failed. This returns when the server has taken the turn on; the turn then needs no client.

        Args:
            prompt: what the user says; or a dict of it and the keywords, e.g. {"prompt": "...", "attachments": ["a.png"]}.
            keywords: these, none of them required:
            messages: stored as they are, 1 to 100, as store_messages takes them, in the place of prompt and attachments.
            format: whose messages the dicts and JSON texts in messages are: "openai", "anthropic" or "gemini".
            attachments: files that go with the prompt: the path of each, its URL, (content, media type), or a dict with one of "path",
                "data" (bytes or base64), "uri" and "asset_id", and "media_type" and "name". What is above 256 KiB is uploaded as an
                asset first.
            mode: where a turn is running: "enqueue" waits and has a turn of its own; "immediate" steers the turn that is running.
            model: to ask. Default: the session's, or the server's default.
            options: go into the request to the model as they are (temperature, max_tokens, tools, ...): a JSON object of at most 64 KiB.
            turn_timeout: ends the turn when it runs for longer: a timedelta or seconds, from 1 second. Default: the server's limit.
            request_id: the same again joins the first turn.
        Returns: the id of the message, the last one where there were several: a str, as its `Message.id` will be, with the turn as
            `turn_id`. Empty where nothing was sent.
        Raises: SessionNotFound, SessionDestroyed, InvalidJson, UnknownRole, ParentNotFound, MessageTooLarge, BatchTooLarge, AssetNotFound,
            RequestIdReused, ModelNotConfigured, LimitExceeded (of turns that wait): nothing is stored. What uploading attachments raises.
        """
        sending = Sending(session_id, prompt, keywords)
        return self._send(sending, timeout)

    def send_and_wait(
        self,
        session_id: str,
        prompt: Prompt | None = None,
        *,
        timeout: float = WAIT_TIMEOUT_S,
        on_timeout: OnTimeout = "leave",
        **keywords: Unpack[SendOptions],
    ) -> Message:
        """Start a turn and wait for its answer, over broken connections and a server that restarts.

        Args:
            timeout: of the whole wait, that for the turns before it included. Unit: seconds. Default: 60. math.inf = none.
            on_timeout: what becomes of the turn when the time is over, or the caller is cancelled: "leave" it, then it goes on, and
                wait_for_turn waits for it; or "abort" it. With "abort" a connection that breaks may abort it, too.
            the rest: as in send.
        Returns: the turn's final answer; with mode "immediate", that of the turn that it steered.
        Raises: what send raises; DeadlineExceeded (a TimeoutError), whose metadata name the turn_id; and a TurnFailed: ModelAccessDenied,
            ModelRateLimited, ModelRequestRejected, ModelUnavailable, ModelTimedOut, ModelAnswerInvalid, ContextTooLarge, TurnTimedOut,
            TurnAborted, TurnLost.
        """
        sending = Sending(session_id, prompt, keywords)
        return self._send_and_wait(sending, timeout, turn_requests.aborts(on_timeout))

    def stream(
        self,
        session_id: str,
        prompt: Prompt | None = None,
        *,
        abort_on_exit: bool = False,
        timeout: float | None = None,
        **keywords: Unpack[SendOptions],
    ) -> Lazy[Event]:
        """Start a turn and get its events while they happen: what was sent, "assistant.message_delta" as the model writes, its messages.

        Connections that break are made again; deltas may be missed meanwhile, messages are not.

        Args:
            abort_on_exit: abort the turn when the iteration ends before it. A connection that breaks may abort it, too. Default: it goes
                on.
            timeout: of the whole stream. Unit: seconds. Default: none.
            the rest: as in send.
        Returns: a lazy listing that ends after the turn; nothing is sent before it is iterated over, and iterating again joins the same
            turn. A turn that fails raises at the end, as send_and_wait does.
        """
        sending = Sending(session_id, prompt, keywords)
        return Lazy(lambda: self._stream(sending, timeout, abort_on_exit))

    def wait_for_turn(
        self, session_id: str, turn_id: str, *, timeout: float = WAIT_TIMEOUT_S
    ) -> Message:
        """Wait for the answer of a turn that was sent before, here or elsewhere.

        Args:
            timeout: of the whole wait. Unit: seconds. Default: 60. math.inf = none.
        Returns, raises: as send_and_wait; also TurnNotFound.
        """
        deadline = Deadline(timeout)
        may_have_missed_it = True

        def opened(is_open: bool) -> None:
            nonlocal may_have_missed_it
            may_have_missed_it = may_have_missed_it or not is_open

        try:
            # Watching begins before the first look, so that the end does not fall between them.
            request = watch_requests.watch(session_id, after_seq=None)
            batches = event_batches(
                self._connection, request, deadline.remaining(), opened=opened, heartbeats=True
            )
            with closing(batches):
                for events in batches:
                    # Without events it is a heartbeat: now and then it looks all the same.
                    if (
                        may_have_missed_it
                        or not events
                        or any(_is_end(event, turn_id) for event in events)
                    ):
                        may_have_missed_it = False
                        turn = self._turn(session_id, turn_id, deadline.remaining())
                        if turn.state in ENDED:
                            return self._answer(turn, None, deadline)
        except DeadlineExceeded as error:
            raise overdue(session_id, turn_id, error) from error
        raise ServerUnavailable("the stream ended, which a server never does without an error")

    def abort(
        self,
        session_id: str,
        turn_id: str | None = None,
        *,
        include_queued: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> list[Turn]:
        """End turns before they are done. What they appended is kept, what the model had written so far is not.

        Args:
            turn_id: the turn, running or waiting. Default: the one that is running.
            include_queued: end those that wait, too. Only without turn_id.
        Returns: the turns that this call ended. Empty = there was nothing to end.
        Raises: SessionNotFound, TurnNotFound, RequestIdReused.
        """
        request = turn_requests.abort(
            session_id, turn_id, include_queued=include_queued, request_id=request_id
        )
        response = self._connection.call(
            self._connection.stubs.conversations.Abort, request, timeout
        )
        return [Turn(turn) for turn in response.turns]

    def get_turn(self, session_id: str, turn_id: str, *, timeout: float | None = None) -> Turn:
        """How a turn stands, or how it ended. Raises: SessionNotFound, TurnNotFound."""
        return Turn(self._turn(session_id, turn_id, timeout))

    def list_turns(
        self,
        session_id: str,
        *,
        state: str | None = None,
        page_size: int | None = None,
        timeout: float | None = None,
    ) -> Lazy[Turn]:
        """The turns of a session, the newest first, fetched page by page while they are iterated over.

        Args:
            state: "queued", "running", "completed", "failed" or "aborted". Default: all.
            page_size: how many turns a call brings, 1 to 500. Default: 50.
            timeout: of each call.
        Raises: SessionNotFound, when it is iterated over.
        """
        request = turn_requests.list_turns(session_id, state=state, page_size=page_size)
        return Lazy(lambda: turn_batches(self._connection, request, timeout))

    def _send(self, sending: Sending, timeout: float | None) -> SentMessage:
        self._prepare(sending)
        request = sending.request
        timeout = self._connection.settings.timeout if timeout is None else timeout
        with closing(send_steps(self._connection, request, timeout)) as steps:
            for step in steps:
                if step.HasField("turn"):
                    return sent_message(request.session_id, step.message_id, step.turn.turn_id)
        raise ServerUnavailable(
            "the stream ended without a turn, which a server never does without an error"
        )

    def _send_and_wait(self, sending: Sending, timeout: float, aborts: bool) -> Message:
        deadline = Deadline(timeout)
        self._prepare(sending)
        request = sending.request
        request.abort_on_disconnect = aborts
        turn = turn_pb2.Turn()
        seen: message_pb2.Message | None = None
        try:
            with closing(send_steps(self._connection, request, deadline.remaining())) as steps:
                for step in steps:
                    if step.HasField("turn"):
                        turn = step.turn
                    for event in step.events:
                        if (
                            event.type == "assistant.message"
                            and event.message.turn.turn_id == turn.turn_id
                        ):
                            seen = event.message
            return self._answer(turn, seen, deadline)
        except DeadlineExceeded as error:
            if aborts and (turn_id := error.metadata.get("turn_id")):
                # The server does it by itself, unless it is the connection to it that broke.
                with suppress(SessiondError):
                    self.abort(request.session_id, turn_id, timeout=ABORT_TIMEOUT_S)
            raise

    def _stream(
        self,
        sending: Sending,
        timeout: float | None,
        aborts: bool,
        handlers: Handlers | None = None,
    ) -> Generator[list[Event], None]:
        """handlers: those who are to get all of it."""
        deadline = Deadline(timeout)
        if handlers:
            handlers.ready()
        self._prepare(sending)
        sending.request.abort_on_disconnect = aborts
        with closing(send_steps(self._connection, sending.request, deadline.remaining())) as steps:
            for step in steps:
                if step.events:
                    yield [Event(event) for event in step.events]

    def _prepare(self, sending: Sending) -> None:
        if sending.attachments:
            sending.take_parts(parts_of(self._connection, sending.attachments))

    def _turn(self, session_id: str, turn_id: str, timeout: float | None) -> turn_pb2.Turn:
        request = turn_requests.get_turn(session_id, turn_id)
        return self._connection.call(self._connection.stubs.conversations.GetTurn, request, timeout)

    def _answer(
        self, turn: turn_pb2.Turn, seen: message_pb2.Message | None, deadline: Deadline
    ) -> Message:
        """The answer of a turn that has ended. seen: the last of its messages that came."""
        if turn.state != turn_pb2.TURN_STATE_COMPLETED:
            raise error_of_turn(turn)
        if seen is None or seen.seq != turn.last_seq:
            # It came while a connection was down, or before the client joined.
            request = message_requests.get_message(turn.session_id, turn.last_seq)
            seen = self._connection.call(
                self._connection.stubs.sessions.GetMessage, request, deadline.remaining()
            )
        return Message(turn.session_id, seen)


def _is_end(event: Event, turn_id: str) -> bool:
    return event.type == "assistant.turn_end" and event.data.get("turn_id") == turn_id
