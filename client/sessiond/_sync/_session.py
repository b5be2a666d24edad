# Generated from _async/_session.py by scripts/generate-sync-client. Do not edit.
"""The handle of one session."""

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Unpack, cast, overload

from sessiond._export.records import Progress
from sessiond._protocol.checks import check_function
from sessiond._requests.input import MessageInput
from sessiond._requests.options import (
    AppendOptions,
    CopySettings,
    EventOptions,
    PreviewOptions,
    ReadOptions,
    RewindOptions,
    SessionUpdate,
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
from sessiond._types.session import (
    RewindResult,
    SessionCopy,
    SessionInfo,
    StoredRange,
    TokenCounts,
)
from sessiond._types.turn import SentMessage, Turn, TurnPreview


class Session:
    """A session's handle: the calls of `client.sessions` without the id. Clients create handles.

    `send`, `send_and_wait` and `stream` first wait until the handlers added with `on` can receive
    the new events.

    Attributes:
        info: the session as returned by the last call about it; refresh() fetches it again.
        tasks: the session's tasks.
        bookmarks: the session's bookmarks.
    """

    def __init__(
        self,
        sessions: Sessions,
        tasks: Tasks,
        bookmarks: Bookmarks,
        info: SessionInfo,
    ) -> None:
        self._sessions = sessions
        self._client_calls = (sessions, tasks, bookmarks)
        self.info = info
        self.tasks = SessionTasks(tasks, info.session_id)
        self.bookmarks = SessionBookmarks(bookmarks, info.session_id)
        self._handlers = Handlers(sessions._connection, info.session_id)

    @property
    def session_id(self) -> str:
        """The session's id, unique in its project."""
        return self.info.session_id

    def refresh(self, *, timeout: float | None = None) -> SessionInfo:
        """Fetch the session's current state; return the new `info`. See `client.sessions.get`."""
        self.info = self._sessions.get(self.session_id, timeout=timeout)
        return self.info

    def get_messages(
        self,
        *,
        after_seq: int | None = None,
        after_bookmark: str | None = None,
        after_message_id: str | None = None,
        **options: Unpack[ReadOptions],
    ) -> Lazy[Message]:
        """Read messages, streamed during the iteration; see `client.sessions.get_messages`."""
        return self._sessions.get_messages(
            self.session_id,
            after_seq=after_seq,
            after_bookmark=after_bookmark,
            after_message_id=after_message_id,
            **options,
        )

    def get_message(
        self,
        seq: int | None = None,
        *,
        message_id: str | None = None,
        timeout: float | None = None,
    ) -> Message:
        """Return one message; see `client.sessions.get_message`."""
        return self._sessions.get_message(
            self.session_id, seq, message_id=message_id, timeout=timeout
        )

    def events(self, after_seq: int | None = None, **options: Unpack[EventOptions]) -> Lazy[Event]:
        """Follow the session: stored messages, then live events; see `client.sessions.events`."""
        return self._sessions.events(self.session_id, after_seq, **options)

    @overload
    def on(self, type_or_handler: EventHandler) -> Callable[[], None]: ...

    @overload
    def on(self, type_or_handler: str, handler: EventHandler) -> Callable[[], None]: ...

    def on(
        self, type_or_handler: str | EventHandler, handler: EventHandler | None = None
    ) -> Callable[[], None]:
        """Call a function with the session's events: `on(handler)` or `on(type, handler)`.

        Handlers are called in the background, one after the other, in the order in which they were
        added. If a handler raises, the error is logged (logger "sessiond"), and the other handlers
        are still called. Handlers get all events caused by later sends of this handle. Events that
        other clients cause reach the handlers only from a moment after this call. During an outage,
        handlers miss all events but messages. To miss no message, use events(after_seq). The watch
        ends when the last handler is removed, the client is closed, or the session is gone.

        Args:
            type_or_handler: the type of the events, e.g. "assistant.message"; or the handler.
            handler: the handler, after a type. It takes an Event; an awaitable result is awaited.

        Returns:
            A function without arguments that removes the handler.
        """
        if isinstance(type_or_handler, str):
            check_function(handler, "handler")
            return self._handlers.add(type_or_handler, cast("EventHandler", handler))
        check_function(type_or_handler, "type_or_handler")
        return self._handlers.add(None, type_or_handler)

    def send(
        self,
        prompt: Prompt | None = None,
        *,
        timeout: float | None = None,
        **keywords: Unpack[SendOptions],
    ) -> SentMessage:
        """Start a turn; return when the server has accepted it. See `client.sessions.send`.

        Handlers of this handle (`on`) get all of the turn's events.
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
        """Start a turn and wait for its answer; see `client.sessions.send_and_wait`.

        When this returns, the handlers of this handle (`on`) have been called with the events up to
        the answer, unless they take longer than 5 seconds, or this is called from within a handler.
        """
        sending = Sending(self.session_id, prompt, keywords)
        is_abort = aborts(on_timeout)
        self._handlers.ready()
        answer = self._sessions._send_and_wait(sending, timeout, is_abort)
        self._handlers.wait_delivered(answer.seq)
        return answer

    def stream(
        self,
        prompt: Prompt | None = None,
        *,
        abort_on_exit: bool = False,
        timeout: float | None = None,
        **keywords: Unpack[SendOptions],
    ) -> Lazy[Event]:
        """Start a turn and stream its events; see `client.sessions.stream`."""
        sending = Sending(self.session_id, prompt, keywords)
        return Lazy(lambda: self._sessions._stream(sending, timeout, abort_on_exit, self._handlers))

    def wait_for_turn(self, turn_id: str, *, timeout: float = WAIT_TIMEOUT_S) -> Message:
        """Wait for the answer of an earlier turn; see `client.sessions.wait_for_turn`."""
        return self._sessions.wait_for_turn(self.session_id, turn_id, timeout=timeout)

    def preview_turn(
        self, prompt: str | None = None, **keywords: Unpack[PreviewOptions]
    ) -> TurnPreview:
        """Return the request that a send would make now; see `client.sessions.preview_turn`."""
        return self._sessions.preview_turn(self.session_id, prompt, **keywords)

    def abort(
        self,
        turn_id: str | None = None,
        *,
        include_queued: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> list[Turn]:
        """Abort the running turn, or a given one; see `client.sessions.abort`."""
        return self._sessions.abort(
            self.session_id,
            turn_id,
            include_queued=include_queued,
            request_id=request_id,
            timeout=timeout,
        )

    def get_turn(self, turn_id: str, *, timeout: float | None = None) -> Turn:
        """Return a turn, with its state and outcome; see `client.sessions.get_turn`."""
        return self._sessions.get_turn(self.session_id, turn_id, timeout=timeout)

    def turns(
        self,
        *,
        state: str | None = None,
        page_size: int | None = None,
        timeout: float | None = None,
    ) -> Lazy[Turn]:
        """List the turns, the newest first; see `client.sessions.list_turns`."""
        return self._sessions.list_turns(
            self.session_id, state=state, page_size=page_size, timeout=timeout
        )

    def store_message(
        self,
        blob: MessageInput,
        format: str | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        parent_seq: int | None = None,
        message_id: str | None = None,
        **options: Unpack[AppendOptions],
    ) -> StoredRange:
        """Append one message, committed on return; see `client.sessions.store_message`."""
        return self._sessions.store_message(
            self.session_id,
            blob,
            format,
            metadata=metadata,
            parent_seq=parent_seq,
            message_id=message_id,
            **options,
        )

    def store_messages(
        self,
        messages: Iterable[MessageInput],
        format: str | None = None,
        **options: Unpack[AppendOptions],
    ) -> StoredRange:
        """Append at most 1,000 messages, all or nothing; see `client.sessions.store_messages`."""
        return self._sessions.store_messages(self.session_id, messages, format, **options)

    def import_messages(
        self,
        messages: Source[MessageInput],
        format: str | None = None,
        **options: Unpack[AppendOptions],
    ) -> StoredRange:
        """Append many messages, all or nothing; see `client.sessions.import_messages`."""
        return self._sessions.import_messages(self.session_id, messages, format, **options)

    def rewind(
        self,
        *,
        to_seq: int | None = None,
        drop_last: int | None = None,
        to_bookmark: str | None = None,
        before_message_id: str | None = None,
        messages: Iterable[MessageInput] | None = None,
        format: str | None = None,
        return_removed: int = 0,
        **options: Unpack[RewindOptions],
    ) -> RewindResult:
        """Remove the newest messages, or replace them; see `client.sessions.rewind`."""
        return self._sessions.rewind(
            self.session_id,
            to_seq=to_seq,
            drop_last=drop_last,
            to_bookmark=to_bookmark,
            before_message_id=before_message_id,
            messages=messages,
            format=format,
            return_removed=return_removed,
            **options,
        )

    def pop(self, **options: Unpack[RewindOptions]) -> Message | None:
        """Remove the newest message and return it, or None; see `client.sessions.pop`."""
        return self._sessions.pop(self.session_id, **options)

    def clear(self, **options: Unpack[RewindOptions]) -> RewindResult:
        """Remove all messages; see `client.sessions.clear`."""
        return self._sessions.clear(self.session_id, **options)

    def regenerate(
        self,
        *,
        branch: bool = False,
        copy_to: str | None = None,
        model: str | None = None,
        options: Mapping[str, Any] | None = None,
        turn_timeout: timedelta | float | None = None,
        abort_turn: bool = False,
        timeout: float = WAIT_TIMEOUT_S,
        on_timeout: OnTimeout = "leave",
    ) -> Message:
        """Replace the last answer by a new one; see `client.sessions.regenerate`."""
        self._handlers.ready()
        answer = self._sessions.regenerate(
            self.session_id,
            branch=branch,
            copy_to=copy_to,
            model=model,
            options=options,
            turn_timeout=turn_timeout,
            abort_turn=abort_turn,
            timeout=timeout,
            on_timeout=on_timeout,
        )
        self._handlers.wait_delivered(answer.seq)
        return answer

    def update(
        self,
        *,
        config_patch: Mapping[str, Any] | None = None,
        metadata_patch: Mapping[str, Any] | None = None,
        etag: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
        **settings: Unpack[SessionUpdate],
    ) -> SessionInfo:
        """Change settings, all or nothing; return the new `info`. See `client.sessions.update`."""
        self.info = self._sessions.update(
            self.session_id,
            config_patch=config_patch,
            metadata_patch=metadata_patch,
            etag=etag,
            request_id=request_id,
            timeout=timeout,
            **settings,
        )
        return self.info

    def copy(
        self,
        new_session_id: str | None = None,
        *,
        up_to_seq: int | None = None,
        up_to_bookmark: str | None = None,
        keep_processing_status: bool = False,
        keep_task_links: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
        **settings: Unpack[CopySettings],
    ) -> "Session":
        """Create a copy of the session; return its handle. See `client.sessions.copy`."""
        result = self._sessions.copy(
            self.session_id,
            new_session_id,
            up_to_seq=up_to_seq,
            up_to_bookmark=up_to_bookmark,
            keep_processing_status=keep_processing_status,
            keep_task_links=keep_task_links,
            request_id=request_id,
            timeout=timeout,
            **settings,
        )
        return Session(*self._client_calls, result.session)

    def copies(
        self, *, page_size: int | None = None, timeout: float | None = None
    ) -> Lazy[SessionCopy]:
        """List the copies that still exist, the newest first; see `client.sessions.copies`."""
        return self._sessions.copies(self.session_id, page_size=page_size, timeout=timeout)

    def get_token_counts(self, *, timeout: float | None = None) -> TokenCounts:
        """Return the number of tokens; see `client.sessions.get_token_counts`."""
        return self._sessions.get_token_counts(self.session_id, timeout=timeout)

    def destroy(
        self, *, request_id: str | None = None, timeout: float | None = None
    ) -> SessionInfo:
        """Close the session to appends; return the new `info`. See `client.sessions.destroy`."""
        self.info = self._sessions.destroy(self.session_id, request_id=request_id, timeout=timeout)
        return self.info

    def resume(self, *, request_id: str | None = None, timeout: float | None = None) -> SessionInfo:
        """Make the session active again; return the new `info`. See `client.sessions.resume`."""
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
        """Delete the session and its messages permanently; see `client.sessions.delete`."""
        self._sessions.delete(
            self.session_id,
            allow_missing=allow_missing,
            etag=etag,
            request_id=request_id,
            timeout=timeout,
        )

    def export(self, *, assets: bool = True, timeout: float | None = None) -> dict[str, Any]:
        """Return the whole session as one dict; see `client.sessions.export`."""
        return self._sessions.export(self.session_id, assets=assets, timeout=timeout)

    def export_lines(self, *, assets: bool = True, timeout: float | None = None) -> Lazy[str]:
        """Export the session as lines of JSON; see `client.sessions.export_lines`."""
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
        """Export the session to a file; see `client.sessions.export_to`."""
        return self._sessions.export_to(
            self.session_id, path, format=format, assets=assets, progress=progress, timeout=timeout
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(session_id={self.session_id!r}, status={self.info.status!r})"
