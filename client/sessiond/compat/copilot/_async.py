"""The clients of `sessiond.compat.copilot`."""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, Unpack, overload

from sessiond._async._client import AsyncClient
from sessiond._async._session import AsyncSession
from sessiond._protocol.retry import Deadline
from sessiond._protocol.settings import DEFAULT_TIMEOUT_S, Tls
from sessiond._requests.options import ListSessionsOptions
from sessiond._types.event import EventHandler
from sessiond._types.message import Message
from sessiond.compat.copilot import _options as _copilot
from sessiond.compat.copilot._async_history import AsyncHistory, Reader
from sessiond.compat.copilot._async_lifecycle import AsyncLifecycle
from sessiond.compat.copilot._options import (
    ConfigInput,
    MessageOptions,
    PingResponse,
    PromptInput,
    ResumeConfig,
    SessionConfig,
    SessionMetadata,
)
from sessiond.errors import DeadlineExceeded, SessionNotFound, TurnFailed, TurnNotFound

log = logging.getLogger("sessiond")


class AsyncCopilotClient:
    """The SDK's client, over one of sessiond: sessions are on the server, and outlive every client.

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
        """Settings are read here; nothing is connected yet.

        Args:
            target: HOST:PORT of a sessiond server. Default: $SESSIOND_TARGET, or localhost:50051.
            api_key: Default: $SESSIOND_API_KEY, or none.
            timeout: deadline of a call that does not wait for a turn. Unit: seconds. Default: 30.
            tls: as of sessiond.Client.
            options, keywords: the SDK's, about the process that it starts (cli_path, cwd, env, log_level, ...): without effect.
        Raises: TypeError for other options; ValueError, OSError as sessiond.Client does.
        """
        _copilot.check_client_options(options, keywords)
        self._client = AsyncClient(target, api_key=api_key, timeout=timeout, tls=tls)
        self._reader = Reader(self._client._connection)
        self._lifecycle = AsyncLifecycle(self._client._connection)

    async def start(self) -> None:
        """Open the connection, as the first call does otherwise."""
        await self._client.start()

    async def stop(self) -> None:
        """Close the connection. Sessions stay as they are, and turns that run go on."""
        self._lifecycle.end()
        self._reader.close()
        await self._client.stop()

    async def force_stop(self) -> None:
        """The same as stop()."""
        await self.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def create_session(
        self, config: ConfigInput | None = None, **keywords: Unpack[SessionConfig]
    ) -> "AsyncCopilotSession":
        """Make a session; where there is one of this id, go on with that one, which keeps its messages and
        settings, except that it does not expire any more where infinite_sessions is True.

        Args:
            config, keywords: what it shall be: see SessionConfig.
        Raises: TypeError, ValueError for what is not to be had.
        """
        wanted = _copilot.Wanted("create_session", config, keywords)
        await self._lifecycle.ready()
        if wanted.session_id is None:
            session = await self._client.create_session(**wanted.settings)
        else:
            session = await self._client.get_or_create_session(wanted.session_id, **wanted.settings)
            if wanted.never_expires and not session.info.never_expires:
                await session.update(never_expires=True)
            if wanted.model and session.info.model != wanted.model:
                log.warning(
                    "session %r was there, and keeps its model %r",
                    wanted.session_id,
                    session.info.model,
                )
        return self._handle(session, wanted)

    async def resume_session(
        self, session_id: str, config: ConfigInput | None = None, **keywords: Unpack[ResumeConfig]
    ) -> "AsyncCopilotSession":
        """Go on with a session, destroyed or not.

        Args:
            config, keywords: settings to change, as in create_session. Default: it keeps its own.
        Raises: SessionNotFound (a RuntimeError) where there is none, or none any more.
        """
        wanted = _copilot.Wanted("resume_session", config, keywords)
        if wanted.session_id not in (None, session_id):
            raise TypeError("resume_session() got two ids")
        await self._lifecycle.ready()
        session = await self._client.resume_session(session_id)
        if changes := wanted.changes:
            await session.update(**changes)
        return self._handle(session, wanted)

    async def delete_session(self, session_id: str) -> None:
        """Remove a session and its messages for good. Raises: SessionNotFound (a RuntimeError)."""
        await self._lifecycle.ready()
        await self._client.delete_session(session_id)

    async def list_sessions(
        self, filter: Mapping[str, Any] | None = None, **filters: Unpack[ListSessionsOptions]
    ) -> list[SessionMetadata]:
        """All sessions, destroyed ones too, the most recently active first. Each reads by attribute and by key: `info.session_id`,
        `info["sessionId"]`, `info.get("summary")`.

        Args:
            filter, filters: as of `sessiond.Client.list_sessions`, e.g. session_id_prefix="user-". The SDK's own, about directories and
                repositories, raise TypeError.
        """
        found = await self._client.list_sessions(**_copilot.filters_of(filter, filters)).to_list()
        return [SessionMetadata(info._pb) for info in found]

    async def get_session_metadata(self, session_id: str) -> SessionMetadata | None:
        """A session as it would be listed. None = there is none."""
        try:
            return SessionMetadata((await self._client.sessions.get(session_id))._pb)
        except SessionNotFound:
            return None

    async def get_last_session_id(self) -> str | None:
        """Of the project's most recently active session. None = there is none."""
        async for info in self._client.list_sessions(page_size=1):
            return info.session_id
        return None

    @overload
    def on_lifecycle(self, type_or_handler: EventHandler) -> Callable[[], None]: ...

    @overload
    def on_lifecycle(self, type_or_handler: str, handler: EventHandler) -> Callable[[], None]: ...

    def on_lifecycle(
        self, type_or_handler: str | EventHandler, handler: EventHandler | None = None
    ) -> Callable[[], None]:
        """Have a function called, in the background, with what becomes of the project's sessions, whoever does it: `on_lifecycle(handler)`,
        or `on_lifecycle("session.deleted", handler)`. Returns a function that ends it.
        """
        return self._lifecycle.add(*_copilot.handler_of("on_lifecycle", type_or_handler, handler))

    async def ping(self, message: str | None = None) -> PingResponse:
        """Ask the server for something small. Raises: Unavailable where it does not answer."""
        await self.get_last_session_id()
        return _copilot.pong(message)

    def _handle(self, session: AsyncSession, wanted: _copilot.Wanted) -> "AsyncCopilotSession":
        made = AsyncCopilotSession(session, self._reader)
        if wanted.on_event:
            made.on(wanted.on_event)
        return made


class AsyncCopilotSession:
    """The SDK's session, over one of sessiond. Clients make it."""

    def __init__(self, session: AsyncSession, reader: Reader) -> None:
        self._session = session
        self._reader = reader
        # Turns that nobody is known to have waited for.
        self._sent: deque[str] = deque(maxlen=_copilot.MAX_SENT)
        self._subscriptions: list[Callable[[], None]] = []
        self._is_destroyed = False

    @property
    def session_id(self) -> str:
        """The session's name within its project."""
        return self._session.session_id

    @property
    def workspace_path(self) -> None:
        """None: a session has no directory."""
        return None

    async def send(
        self, options: PromptInput | None = None, **keywords: Unpack[MessageOptions]
    ) -> str:
        """Start a turn, and return when the server has taken it on. Turns run one after the other.

        Args:
            options, keywords: the prompt, or what MessageOptions has.
        Returns: the message's id, as its `id` in get_messages().
        Raises: TypeError for what is not known; SessionDestroyed (a RuntimeError) after destroy().
        """
        sent = await self._session.send(**_copilot.options_of(options, keywords))
        self._sent.append(sent.turn_id)
        return sent

    async def send_and_wait(
        self,
        options: PromptInput | None = None,
        timeout: float | None = None,
        **keywords: Unpack[MessageOptions],
    ) -> Message:
        """Start a turn, and wait for its answer, and for handlers to have been called with it.

        Args:
            options, keywords: as in send.
            timeout: of the whole wait. Unit: seconds. Default: 60.
        Returns: the answer of this very turn: `type` is "assistant.message", `data.content`, or `content`, the text.
        Raises: TimeoutError when the time is over, and the turn goes on; TurnFailed (a RuntimeError) for a turn that fails.
        """
        values = _copilot.options_of(options, keywords)
        try:
            return await self._session.send_and_wait(
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
        """Have a function called, in the background, with what happens: `on(handler)`, or `on("assistant.message", handler)`. All events of
        what this handle sends come, in order. destroy() ends it. Returns a function that ends it earlier.
        """
        type_, function = _copilot.handler_of("on", type_or_handler, handler)
        unsubscribe = self._session.on(type_, function) if type_ else self._session.on(function)
        self._subscriptions.append(unsubscribe)
        return unsubscribe

    def get_messages(self) -> AsyncHistory:
        """All messages, the oldest first. Each has `role`, `content`, `id`, and `type` and `data.content`, by attribute and by key.

        To be awaited, or used as a list as it is: then the messages are fetched when it is first looked at, and the event loop waits for
        that.
        """
        return self._reader.history(self.session_id, self._session.get_messages())

    def get_events(self) -> AsyncHistory:
        """The same as get_messages(): only messages are kept."""
        return self.get_messages()

    async def abort(self) -> None:
        """End the turn that is running. The session stays usable."""
        await self._session.abort()

    async def set_model(self, model: str) -> None:
        """Ask another model from the next turn on."""
        await self._session.update(model=model)

    async def destroy(self, timeout: float = _copilot.DESTROY_TIMEOUT_S) -> None:
        """Close the session, which is kept to be resumed, after the turns that this handle has sent; called again, it does nothing.

        The session is closed to everybody who has it, since there is one for all.

        Args:
            timeout: for the turns; those that still run then are aborted. Unit: seconds. Default: 60.
        Raises: SessionNotFound (a RuntimeError) where it is deleted or expired.
        """
        if self._is_destroyed:
            return
        await self._settle(timeout)
        _copilot.end_all(self._subscriptions)
        await self._session.destroy()
        self._is_destroyed = True

    async def disconnect(self) -> None:
        """The same as destroy()."""
        await self.destroy()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.destroy()

    async def _settle(self, timeout: float) -> None:
        """Wait for the turns that were sent, and for handlers to have been called with their answers."""
        if not self._sent:
            return
        deadline = Deadline(timeout)
        # In this order: a turn that begins to run meanwhile is in one of them.
        waiting = [turn.turn_id async for turn in self._session.turns(state="queued")]
        running = [turn.turn_id async for turn in self._session.turns(state="running")]
        # The turns are listed with the newest first.
        for turn_id in dict.fromkeys(reversed([*waiting, *running])):
            if turn_id in self._sent:
                try:
                    answer = await self._session.wait_for_turn(
                        turn_id, timeout=deadline.remaining() or 0.0
                    )
                    await self._session._handlers.wait_delivered(answer.seq)
                except (TurnFailed, TurnNotFound):
                    continue
                except DeadlineExceeded:
                    log.warning(
                        "session %r is destroyed although a turn is not done after %g seconds",
                        self.session_id,
                        timeout,
                    )
                    break
        self._sent.clear()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(session_id={self.session_id!r})"
