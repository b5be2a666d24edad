# Generated from compat/copilot/_async.py by scripts/generate-sync-client. Do not edit.
"""The clients of `sessiond.compat.copilot`."""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, Unpack, overload

from sessiond._protocol.retry import Deadline
from sessiond._protocol.settings import DEFAULT_TIMEOUT_S, Tls
from sessiond._requests.options import ListSessionsOptions
from sessiond._sync._client import Client
from sessiond._sync._session import Session
from sessiond._types.event import EventHandler
from sessiond._types.message import Message
from sessiond.compat.copilot import _options as _copilot
from sessiond.compat.copilot._options import (
    ConfigInput,
    MessageOptions,
    PingResponse,
    PromptInput,
    ResumeConfig,
    SessionConfig,
    SessionMetadata,
)
from sessiond.compat.copilot._sync_history import History, Reader
from sessiond.compat.copilot._sync_lifecycle import Lifecycle
from sessiond.errors import DeadlineExceeded, SessionNotFound, TurnFailed, TurnNotFound

log = logging.getLogger("sessiond")


class SyncCopilotClient:
    """The SDK's client, on top of sessiond's. Sessions are on the server and outlive clients.

    Every call may raise a SessiondError, which is a RuntimeError.
    """

    def __init__(
        self,
        options: Mapping[str, Any] | None = None,
        *,
        target: str | None = None,
        api_key: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        tls: Tls = False,
        **keywords: Any,
    ) -> None:
        """Read the settings; the connection is opened later.

        Args:
            options: options of the SDK about its local process (cli_path, cwd, env, log_level,
                ...), which are ignored.
            target: HOST:PORT of a sessiond server. Default: $SESSIOND_TARGET, or localhost:50051.
            api_key: an API key of sessiond. Default: $SESSIOND_API_KEY, or none.
            timeout: seconds for a call, except for those that wait for a turn. Default: 30.
                None = no deadline.
            tls: as in sessiond.Client.
            **keywords: more options of the SDK.

        Raises:
            TypeError: an option is unknown.
            ValueError: the target or the API key is malformed.
            OSError: the certificate file of `tls` cannot be read.
        """
        _copilot.check_client_options(options, keywords)
        self._client = Client(target, api_key=api_key, timeout=timeout, tls=tls)
        self._reader = Reader(self._client._connection)
        self._lifecycle = Lifecycle(self._client._connection)

    def start(self) -> None:
        """Open the connection, which otherwise the first call opens."""
        self._client.start()

    def stop(self) -> None:
        """Close the connection. Sessions are kept, and running turns continue."""
        self._lifecycle.end()
        self._reader.close()
        self._client.stop()

    def force_stop(self) -> None:
        """The same as stop()."""
        self.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def create_session(
        self, config: ConfigInput | None = None, **keywords: Unpack[SessionConfig]
    ) -> "SyncCopilotSession":
        """Create a session, or continue the existing session with the same id.

        An existing session keeps its messages and settings. Only infinite_sessions=True still
        takes effect: the session no longer expires.

        Args:
            config: the settings; see SessionConfig.
            **keywords: more settings.

        Raises:
            TypeError: a setting is unknown, given twice, or not supported.
            ValueError: the system_message is malformed.
        """
        wanted = _copilot.RequestedSettings("create_session", config, keywords)
        self._lifecycle.ready()
        if wanted.session_id is None:
            session = self._client.create_session(**wanted.settings)
        else:
            session = self._client.get_or_create_session(wanted.session_id, **wanted.settings)
            if wanted.never_expires and not session.info.never_expires:
                session.update(never_expires=True)
            if wanted.model and session.info.model != wanted.model:
                log.warning(
                    "session %r already exists and keeps its model %r",
                    wanted.session_id,
                    session.info.model,
                )
        return self._handle(session, wanted)

    def resume_session(
        self, session_id: str, config: ConfigInput | None = None, **keywords: Unpack[ResumeConfig]
    ) -> "SyncCopilotSession":
        """Continue a session, destroyed or not.

        Args:
            session_id: the session's id.
            config: settings to change, as in create_session. Default: none.
            **keywords: more settings to change.

        Raises:
            SessionNotFound: the session does not exist, or is deleted or expired. A RuntimeError.
            TypeError: a setting is unknown, given twice, or not supported.
            ValueError: the system_message is malformed.
        """
        wanted = _copilot.RequestedSettings("resume_session", config, keywords)
        if wanted.session_id not in (None, session_id):
            raise TypeError("resume_session() got two different ids")
        self._lifecycle.ready()
        session = self._client.resume_session(session_id)
        if changes := wanted.changes:
            session.update(**changes)
        return self._handle(session, wanted)

    def delete_session(self, session_id: str) -> None:
        """Delete a session and its messages permanently.

        Raises:
            SessionNotFound: the session does not exist. A RuntimeError.
        """
        self._lifecycle.ready()
        self._client.delete_session(session_id)

    def list_sessions(
        self, filter: Mapping[str, Any] | None = None, **filters: Unpack[ListSessionsOptions]
    ) -> list[SessionMetadata]:
        """Return all sessions, including destroyed ones, most recently active first.

        Fields of a session can be read as attributes and as keys: `info.session_id`,
        `info["sessionId"]`, `info.get("summary")`.

        Args:
            filter: filters of `sessiond.Client.list_sessions`, e.g. {"session_id_prefix": "user-"}.
            **filters: more filters.

        Raises:
            TypeError: a filter is unknown. The SDK's filters by directory and repository are
                unknown too.
        """
        found = self._client.list_sessions(**_copilot.filters_of(filter, filters)).to_list()
        return [SessionMetadata(info._pb) for info in found]

    def get_session_metadata(self, session_id: str) -> SessionMetadata | None:
        """Return a session as list_sessions does. None = it does not exist."""
        try:
            return SessionMetadata((self._client.sessions.get(session_id))._pb)
        except SessionNotFound:
            return None

    def get_last_session_id(self) -> str | None:
        """Return the id of the project's most recently active session. None = no session."""
        for info in self._client.list_sessions(page_size=1):
            return info.session_id
        return None

    @overload
    def on_lifecycle(self, type_or_handler: EventHandler) -> Callable[[], None]: ...

    @overload
    def on_lifecycle(self, type_or_handler: str, handler: EventHandler) -> Callable[[], None]: ...

    def on_lifecycle(
        self, type_or_handler: str | EventHandler, handler: EventHandler | None = None
    ) -> Callable[[], None]:
        """Call a function, in the background, with lifecycle events of the project's sessions.

        Call it as `on_lifecycle(handler)` or `on_lifecycle("session.deleted", handler)`. Events
        caused by other clients are included.

        Args:
            type_or_handler: the type of events, or the function.
            handler: the function, if a type is given.

        Returns:
            A function that removes the handler.
        """
        return self._lifecycle.add(*_copilot.handler_of("on_lifecycle", type_or_handler, handler))

    def ping(self, message: str | None = None) -> PingResponse:
        """Send a small request to the server.

        Args:
            message: text to repeat in the answer. Default: none.

        Raises:
            Unavailable: the server does not answer.
        """
        self.get_last_session_id()
        return _copilot.pong(message)

    def _handle(self, session: Session, wanted: _copilot.RequestedSettings) -> "SyncCopilotSession":
        made = SyncCopilotSession(session, self._reader)
        if wanted.on_event:
            made.on(wanted.on_event)
        return made


class SyncCopilotSession:
    """The SDK's session, on top of sessiond's. Clients create it."""

    def __init__(self, session: Session, reader: Reader) -> None:
        self._session = session
        self._reader = reader
        # Ids of turns that no call has waited for.
        self._sent: deque[str] = deque(maxlen=_copilot.MAX_SENT)
        self._subscriptions: list[Callable[[], None]] = []
        self._is_destroyed = False

    @property
    def session_id(self) -> str:
        """The session's id, unique in its project."""
        return self._session.session_id

    @property
    def workspace_path(self) -> None:
        """Always None: a session has no directory."""
        return None

    def send(self, options: PromptInput | None = None, **keywords: Unpack[MessageOptions]) -> str:
        """Start a turn, and return once the server has accepted it. Turns run one at a time.

        Args:
            options: the prompt, or a dict as MessageOptions.
            **keywords: more options.

        Returns:
            The message's id, which get_messages() returns as its `id`.

        Raises:
            TypeError: an option is unknown or given twice, or the prompt is missing.
            SessionDestroyed: destroy() was called. A RuntimeError.
        """
        sent = self._session.send(**_copilot.options_of(options, keywords))
        self._sent.append(sent.turn_id)
        return sent

    def send_and_wait(
        self,
        options: PromptInput | None = None,
        timeout: float | None = None,
        **keywords: Unpack[MessageOptions],
    ) -> Message:
        """Start a turn, and wait for its answer and for handlers to be called with it.

        Args:
            options: as in send.
            timeout: seconds for the whole wait. Default: 60.
            **keywords: as in send.

        Returns:
            The answer of this turn. Its `type` is "assistant.message", and `data.content` or
            `content` is its text.

        Raises:
            TimeoutError: the timeout passed; the turn continues.
            TurnFailed: the turn ended without an answer. A RuntimeError.
            TypeError: an option is unknown or given twice, or the prompt is missing.
            SessionDestroyed: destroy() was called. A RuntimeError.
        """
        values = _copilot.options_of(options, keywords)
        try:
            return self._session.send_and_wait(
                timeout=_copilot.WAIT_TIMEOUT_S if timeout is None else timeout, **values
            )
        except DeadlineExceeded as error:
            if turn_id := error.metadata.get("turn_id"):
                self._sent.append(turn_id)
            raise

    @overload
    def on(self, type_or_handler: EventHandler) -> Callable[[], None]: ...

    @overload
    def on(self, type_or_handler: str, handler: EventHandler) -> Callable[[], None]: ...

    def on(
        self, type_or_handler: str | EventHandler, handler: EventHandler | None = None
    ) -> Callable[[], None]:
        """Call a function, in the background, with the session's events until destroy().

        Call it as `on(handler)` or `on("assistant.message", handler)`. All events of turns that
        this object starts are delivered, in order.

        Args:
            type_or_handler: the type of events, or the function.
            handler: the function, if a type is given.

        Returns:
            A function that removes the handler earlier.
        """
        type_, function = _copilot.handler_of("on", type_or_handler, handler)
        unsubscribe = self._session.on(type_, function) if type_ else self._session.on(function)
        self._subscriptions.append(unsubscribe)
        return unsubscribe

    def get_messages(self) -> History:
        """Return all messages, oldest first.

        Each message has `role`, `content`, `id`, `type` and `data.content`, as attributes and as
        keys. The history of an async session is awaitable. Using it as a list without awaiting it
        blocks the event loop while the messages are fetched.
        """
        return self._reader.history(self.session_id, self._session.get_messages())

    def get_events(self) -> History:
        """The same as get_messages(): only messages are stored."""
        return self.get_messages()

    def abort(self) -> None:
        """End the running turn. The session stays usable."""
        self._session.abort()

    def set_model(self, model: str) -> None:
        """Use another model from the next turn on."""
        self._session.update(model=model)

    def destroy(self, timeout: float = _copilot.DESTROY_TIMEOUT_S) -> None:
        """Close the session for all its users, once the turns started by this object have ended.

        The session is kept and can be resumed. A second call does nothing.

        Args:
            timeout: seconds to wait for the turns. Turns still running after that are aborted.
                Default: 60.

        Raises:
            SessionNotFound: the session is deleted or expired. A RuntimeError.
        """
        if self._is_destroyed:
            return
        self._wait_for_sent_turns(timeout)
        for unsubscribe in self._subscriptions:
            unsubscribe()
        self._session.destroy()
        self._is_destroyed = True

    def disconnect(self) -> None:
        """The same as destroy()."""
        self.destroy()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.destroy()

    def _wait_for_sent_turns(self, timeout: float) -> None:
        """Wait for the turns that were sent, and for handlers to be called with their answers."""
        if not self._sent:
            return
        deadline = Deadline(timeout)
        # Fetch the queued turns first, so that a turn that starts in between is in at least one
        # list.
        waiting = [turn.turn_id for turn in self._session.turns(state="queued")]
        running = [turn.turn_id for turn in self._session.turns(state="running")]
        # The lists begin with the newest turn.
        for turn_id in dict.fromkeys(reversed([*waiting, *running])):
            if turn_id in self._sent:
                try:
                    answer = self._session.wait_for_turn(
                        turn_id, timeout=deadline.remaining() or 0.0
                    )
                    self._session._handlers.wait_delivered(answer.seq)
                except (TurnFailed, TurnNotFound):
                    continue
                except DeadlineExceeded:
                    log.warning(
                        "destroying session %r, although a turn is still running after %g seconds",
                        self.session_id,
                        timeout,
                    )
                    break
        self._sent.clear()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(session_id={self.session_id!r})"
