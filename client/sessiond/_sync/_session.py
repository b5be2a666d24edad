# Generated from _async/_session.py by scripts/generate-sync-client. Do not edit.
"""The handle of one session."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Unpack, overload

from sessiond._export.records import Progress
from sessiond._requests.input import MessageInput
from sessiond._requests.options import (
    AppendOptions,
    CopyOptions,
    EventOptions,
    ReadOptions,
    SessionChanges,
)
from sessiond._requests.turns import OnTimeout, Prompt, Sending, SendOptions, aborts
from sessiond._sync._bookmarks import Bookmarks, SessionBookmarks
from sessiond._sync._handlers import Handlers
from sessiond._sync._lazy import Lazy
from sessiond._sync._sessions import Sessions
from sessiond._sync._tasks import SessionTasks, Tasks
from sessiond._sync._turns import WAIT_TIMEOUT_S
from sessiond._sync._wire import Source
from sessiond._types.event import Event, EventHandler
from sessiond._types.message import Message
from sessiond._types.session import SessionCopy, SessionInfo, StoredRange, TokenCounts
from sessiond._types.turn import SentMessage, Turn


class Session:
    """One session: the calls of `client.sessions` without its id. Clients make it; it holds no connection of its own.

    `send`, `send_and_wait` and `stream` first see to it that the handlers given by `on` are called with what comes of them.

    Attributes:
        info: the session as it was at the last answer about it; refresh() asks again.
        tasks: what an agent tracks in the session.
        bookmarks: named places in it.
    """

    def __init__(
        self,
        sessions: Sessions,
        tasks: Tasks,
        bookmarks: Bookmarks,
        info: SessionInfo,
    ) -> None:
        self._sessions = sessions
        self._of_client = (sessions, tasks, bookmarks)
        self.info = info
        self.tasks = SessionTasks(tasks, info.session_id)
        self.bookmarks = SessionBookmarks(bookmarks, info.session_id)
        self._handlers = Handlers(sessions._connection, info.session_id)

    @property
    def session_id(self) -> str:
        """The session's name within its project."""
        return self.info.session_id

    def refresh(self, *, timeout: float | None = None) -> SessionInfo:
        """Ask the server how the session is now. Returns the new `info`. Raises: SessionNotFound."""
        self.info = self._sessions.get(self.session_id, timeout=timeout)
        return self.info

    def get_messages(self, **options: Unpack[ReadOptions]) -> Lazy[Message]:
        """The messages, streamed while they are iterated over: `client.sessions.get_messages` of this session."""
        return self._sessions.get_messages(self.session_id, **options)

    def get_message(self, seq: int, *, timeout: float | None = None) -> Message:
        """One message. seq: from 1. Raises: SessionNotFound, MessageNotFound."""
        return self._sessions.get_message(self.session_id, seq, timeout=timeout)

    def events(self, after_seq: int | None = None, **options: Unpack[EventOptions]) -> Lazy[Event]:
        """What happens in the session, while it happens: `client.sessions.events` of this session."""
        return self._sessions.events(self.session_id, after_seq, **options)

    @overload
    def on(self, type_or_handler: EventHandler) -> Callable[[], None]: ...

    @overload
    def on(self, type_or_handler: str, handler: EventHandler) -> Callable[[], None]: ...

    def on(
        self, type_or_handler: str | EventHandler, handler: EventHandler | None = None
    ) -> Callable[[], None]:
        """Have a function called with what happens in the session: `on(handler)` with every event, `on("assistant.message", handler)` with
        those of one type.

        Handlers are called in the background, one after the other, in the order in which they were given. One that raises is logged (logger
        "sessiond"), and the others go on. They get all that comes of what this handle sends from now on; of what others do, what
        comes from shortly after this call on, a server that is away for a while notwithstanding. To miss nothing from a certain message on,
        iterate over events(after_seq). The watching ends when the last
        handler is taken away, when the client stops, or when the session is gone.

        Returns: a function without arguments that takes the handler away again.
        """
        if isinstance(type_or_handler, str):
            if handler is None:
                raise TypeError("on() takes a handler besides the type")
            return self._handlers.add(type_or_handler, handler)
        return self._handlers.add(None, type_or_handler)

    def send(
        self,
        prompt: Prompt | None = None,
        *,
        timeout: float | None = None,
        **keywords: Unpack[SendOptions],
    ) -> SentMessage:
        """Start a turn; the server has taken it on when this returns: `client.sessions.send` to this session.

        Where the handle has handlers (`on`), they get all of the turn's events. Returns the message's id, with the turn's as `turn_id`.
        """
        sending = Sending(self.session_id, prompt, keywords)
        self._handlers.ready()
        return self._sessions._send(sending, timeout)

    def send_and_wait(
        self,
        prompt: Prompt | None = None,
        *,
        timeout: float = WAIT_TIMEOUT_S,
        on_timeout: OnTimeout = "leave",
        **keywords: Unpack[SendOptions],
    ) -> Message:
        """Start a turn and wait for its answer: `client.sessions.send_and_wait` to this session.

        Where the handle has handlers (`on`), they have been called with the events up to the answer when this returns; unless they take
        longer than 5 seconds for them, or call this themselves.
        """
        sending = Sending(self.session_id, prompt, keywords)
        is_abort = aborts(on_timeout)
        self._handlers.ready()
        answer = self._sessions._send_and_wait(sending, timeout, is_abort)
        self._handlers.handed_out(answer.seq)
        return answer

    def stream(
        self,
        prompt: Prompt | None = None,
        *,
        abort_on_exit: bool = False,
        timeout: float | None = None,
        **keywords: Unpack[SendOptions],
    ) -> Lazy[Event]:
        """Start a turn and get its events while they happen: `client.sessions.stream` to this session."""
        sending = Sending(self.session_id, prompt, keywords)
        return Lazy(lambda: self._sessions._stream(sending, timeout, abort_on_exit, self._handlers))

    def wait_for_turn(self, turn_id: str, *, timeout: float = WAIT_TIMEOUT_S) -> Message:
        """Wait for the answer of a turn that was sent before: `client.sessions.wait_for_turn` of this session."""
        return self._sessions.wait_for_turn(self.session_id, turn_id, timeout=timeout)

    def abort(
        self,
        turn_id: str | None = None,
        *,
        include_queued: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> list[Turn]:
        """End the turn that is running, or this one: `client.sessions.abort` in this session. Returns the turns that it ended."""
        return self._sessions.abort(
            self.session_id,
            turn_id,
            include_queued=include_queued,
            request_id=request_id,
            timeout=timeout,
        )

    def get_turn(self, turn_id: str, *, timeout: float | None = None) -> Turn:
        """How a turn stands, or how it ended. Raises: SessionNotFound, TurnNotFound."""
        return self._sessions.get_turn(self.session_id, turn_id, timeout=timeout)

    def turns(
        self,
        *,
        state: str | None = None,
        page_size: int | None = None,
        timeout: float | None = None,
    ) -> Lazy[Turn]:
        """The turns, the newest first: `client.sessions.list_turns` of this session."""
        return self._sessions.list_turns(
            self.session_id, state=state, page_size=page_size, timeout=timeout
        )

    def store_message(
        self,
        blob: MessageInput,
        format: str = "openai",
        *,
        metadata: Mapping[str, Any] | None = None,
        parent_seq: int | None = None,
        **options: Unpack[AppendOptions],
    ) -> StoredRange:
        """Append one message; it is committed when this returns: `client.sessions.store_message` to this session."""
        return self._sessions.store_message(
            self.session_id, blob, format, metadata=metadata, parent_seq=parent_seq, **options
        )

    def store_messages(
        self,
        messages: Iterable[MessageInput],
        format: str = "openai",
        **options: Unpack[AppendOptions],
    ) -> StoredRange:
        """Append a batch of at most 1,000, whole or not at all: `client.sessions.store_messages` to this session."""
        return self._sessions.store_messages(self.session_id, messages, format, **options)

    def import_messages(
        self,
        messages: Source[MessageInput],
        format: str = "openai",
        **options: Unpack[AppendOptions],
    ) -> StoredRange:
        """Append any number of messages, whole or not at all: `client.sessions.import_messages` to this session."""
        return self._sessions.import_messages(self.session_id, messages, format, **options)

    def update(self, **changes: Unpack[SessionChanges]) -> SessionInfo:
        """Change settings, all or none: `client.sessions.update` of this session. Returns the new `info`."""
        self.info = self._sessions.update(self.session_id, **changes)
        return self.info

    def copy(self, new_session_id: str | None = None, **options: Unpack[CopyOptions]) -> "Session":
        """Make an independent session that begins as this one is, or was: `client.sessions.copy` of this session. Returns its handle."""
        result = self._sessions.copy(self.session_id, new_session_id, **options)
        return Session(*self._of_client, result.session)

    def copies(
        self, *, page_size: int | None = None, timeout: float | None = None
    ) -> Lazy[SessionCopy]:
        """The copies of this session that still exist, the newest first: `client.sessions.copies` of this session."""
        return self._sessions.copies(self.session_id, page_size=page_size, timeout=timeout)

    def get_token_counts(self, *, timeout: float | None = None) -> TokenCounts:
        """How many tokens the messages have. Raises: SessionNotFound."""
        return self._sessions.get_token_counts(self.session_id, timeout=timeout)

    def destroy(
        self, *, request_id: str | None = None, timeout: float | None = None
    ) -> SessionInfo:
        """Close the session to appends. It stays listed and readable. Returns the new `info`. Raises: SessionNotFound."""
        self.info = self._sessions.destroy(self.session_id, request_id=request_id, timeout=timeout)
        return self.info

    def resume(self, *, request_id: str | None = None, timeout: float | None = None) -> SessionInfo:
        """Make the session active again. Returns the new `info`. Raises: SessionNotFound."""
        self.info = self._sessions.resume(self.session_id, request_id=request_id, timeout=timeout)
        return self.info

    def delete(
        self,
        *,
        allow_missing: bool = False,
        etag: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Remove the session and its messages for good. Raises: SessionNotFound (unless allow_missing), ETagMismatch."""
        self._sessions.delete(
            self.session_id,
            allow_missing=allow_missing,
            etag=etag,
            request_id=request_id,
            timeout=timeout,
        )

    def export(self, *, assets: bool = True, timeout: float | None = None) -> dict[str, Any]:
        """The session with all that is in it as one dict that json.dumps takes: `client.sessions.export` of this session."""
        return self._sessions.export(self.session_id, assets=assets, timeout=timeout)

    def export_lines(self, *, assets: bool = True, timeout: float | None = None) -> Lazy[str]:
        """The same as lines of JSON, made while they are iterated over: `client.sessions.export_lines` of this session."""
        return self._sessions.export_lines(self.session_id, assets=assets, timeout=timeout)

    def export_to(
        self,
        path: str | os.PathLike[str],
        *,
        format: str = "jsonl",
        assets: bool = True,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> SessionInfo:
        """The same as a file: `client.sessions.export_to` of this session. Returns the session as it was exported."""
        return self._sessions.export_to(
            self.session_id, path, format=format, assets=assets, progress=progress, timeout=timeout
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(session_id={self.session_id!r}, state={self.info.state!r})"
