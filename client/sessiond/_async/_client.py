"""The client of a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from sessiond._async._admin import AsyncAdmin
from sessiond._async._assets import AsyncAssets
from sessiond._async._bookmarks import AsyncBookmarks
from sessiond._async._connection import AsyncConnection
from sessiond._async._lazy import AsyncLazy
from sessiond._async._processing import AsyncProcessing
from sessiond._async._session import AsyncSession
from sessiond._async._sessions import AsyncSessions
from sessiond._async._tasks import AsyncTasks
from sessiond._async._wire import AsyncStubs, Metadata
from sessiond._protocol.settings import (
    DEFAULT_TIMEOUT_S,
    ChannelOptions,
    ClientSettings,
    Tls,
    settings,
)
from sessiond._requests.options import SessionFilter, SessionSettings
from sessiond._types.event import Event
from sessiond._types.session import SessionInfo

if TYPE_CHECKING:
    from sessiond._async._wire import UnaryMethod

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class AsyncClient:
    """A connection to a sessiond server, for any number of concurrent calls.

    The connection is opened by the first call or by start(), and closed by stop() or at the end of
    a `with` block. Creating a client only reads its settings and does not connect.

    Args:
        target: HOST:PORT of the server, or another name that gRPC resolves. Default:
            $SESSIOND_TARGET, or localhost:50051.
        api_key: the API key, which also determines the project. Default: $SESSIOND_API_KEY, or
            none. Without TLS the key is sent unencrypted.
        timeout: deadline of a call over all its attempts, in seconds. Default: 30. None = no
            deadline.
        tls: False = no TLS; True = TLS with the system's certificate authorities; a path = TLS with
            the certificate authority in this PEM file; grpc.ChannelCredentials for anything else.
        options: gRPC channel arguments, which override the client's own.

    Attributes:
        sessions: calls about sessions, messages and turns, by session id.
        tasks: calls about tasks, by session id; `session.tasks` has those of one session.
        bookmarks: calls about bookmarks, by session id; `session.bookmarks` has those of one
            session.
        processing: queues of messages for background workers.
        assets: files that messages refer to.
        admin: projects and API keys.

    Raises:
        InvalidField: if an argument is malformed.
        OSError: if the certificate file cannot be read.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        tls: Tls = False,
        options: ChannelOptions | None = None,
    ) -> None:
        self._connect(settings(target, api_key, timeout, tls, options))

    @classmethod
    def _of(cls, settings: ClientSettings) -> Self:
        """Return a client with the settings of another one."""
        client = cls.__new__(cls)
        client._connect(settings)
        return client

    def _connect(self, settings: ClientSettings) -> None:
        self._connection = AsyncConnection(settings)
        self.sessions = AsyncSessions(self._connection)
        self.tasks = AsyncTasks(self._connection)
        self.bookmarks = AsyncBookmarks(self._connection)
        self.processing = AsyncProcessing(self._connection)
        self.assets = AsyncAssets(self._connection)
        self.admin = AsyncAdmin(self._connection)

    @property
    def target(self) -> str:
        """The server's address."""
        return self._connection.settings.target

    @property
    def stubs(self) -> AsyncStubs:
        """The generated stubs on this client's connection, e.g. `client.stubs.admin`.

        The stubs take and return protobuf messages. They do not retry, translate errors or send the
        API key: pass `metadata=client.metadata`.
        """
        return self._connection.stubs

    @property
    def metadata(self) -> Metadata:
        """The gRPC metadata sent with every call: the API key."""
        return self._connection.metadata

    async def call(
        self,
        method: Callable[[AsyncStubs], UnaryMethod[_Request, _Response]],
        request: _Request,
        *,
        is_repeatable: bool = False,
        timeout: float | None = None,
    ) -> _Response:
        """Make a unary call of the generated stubs, with the API key and typed errors.

        Use this for features that the other calls do not offer, e.g. a page of a list by its token:
        `client.call(lambda stubs: stubs.sessions.ListSessions, request, is_repeatable=True)`.

        Args:
            method: selects the method of the stubs.
            request: the protobuf request; not modified.
            is_repeatable: retry the call after transient errors. A change is safe to repeat only if
                its request has a request_id.
            timeout: deadline over all attempts, in seconds. Default: the client's.

        Returns:
            The protobuf response.

        Raises:
            SessiondError: if the call failed.
        """
        return await self._connection.call(method, request, timeout, is_repeatable=is_repeatable)

    async def start(self) -> Self:
        """Open the connection now, or again after stop(), without calling the server.

        Returns:
            The client itself.
        """
        self._connection.open()
        return self

    async def stop(self) -> None:
        """End the running calls and close the connection. Further calls raise ClientClosed."""
        await self._connection.close()

    async def close(self) -> None:
        """The same as stop()."""
        await self.stop()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def create_session(
        self,
        session_id: str | None = None,
        *,
        get_or_create: bool = False,
        state: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
        **settings: Unpack[SessionSettings],
    ) -> AsyncSession:
        """Create a session.

        Args:
            session_id: 1 to 1,024 characters, unique in the project. Default: a UUIDv7.
            get_or_create: if the session exists already, return it unchanged.
            state: the session's state, a JSON object of at most 1 MiB. Default: {}.
            request_id: makes the call safe to repeat, at most 128 characters. Default: a random
                one.
            timeout: deadline over all attempts, in seconds. Default: the client's.
            **settings: model, user, title, config, metadata, idle_ttl, never_expires. Default:
                no value, except for idle_ttl: the server's default.

        Returns:
            The session's handle.

        Raises:
            SessionAlreadyExists: if the id is taken, unless get_or_create is set.
            InvalidField: if a value is malformed.
            RequestIdReused: if the request_id was used with other content.
        """
        info = await self.sessions.create(
            session_id,
            get_or_create=get_or_create,
            state=state,
            request_id=request_id,
            timeout=timeout,
            **settings,
        )
        return self._handle(info)

    async def get_session(self, session_id: str, *, timeout: float | None = None) -> AsyncSession:
        """Return the handle of an existing session, whatever its status.

        Args:
            session_id: the session.
            timeout: deadline over all attempts, in seconds. Default: the client's.

        Raises:
            SessionNotFound: if there is no such session.
        """
        return self._handle(await self.sessions.get(session_id, timeout=timeout))

    async def resume_session(
        self, session_id: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> AsyncSession:
        """Make a session active, even if it is destroyed, and return its handle.

        Args:
            session_id: the session.
            request_id: makes the call safe to repeat, at most 128 characters. Default: a random
                one.
            timeout: deadline over all attempts, in seconds. Default: the client's.

        Raises:
            SessionNotFound: if there is no such session.
        """
        info = await self.sessions.resume(session_id, request_id=request_id, timeout=timeout)
        return self._handle(info)

    async def get_or_create_session(
        self,
        session_id: str,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
        **settings: Unpack[SessionSettings],
    ) -> AsyncSession:
        """Return a session's handle, after creating or resuming the session if necessary.

        Args:
            session_id: 1 to 1,024 characters.
            request_id: makes the call safe to repeat, at most 128 characters. Default: a random
                one.
            timeout: deadline over all attempts, in seconds. Default: the client's.
            **settings: model, user, title, config, metadata, idle_ttl, never_expires, for a new
                session. An existing session keeps its settings.

        Raises:
            InvalidField: if a value is malformed.
            RequestIdReused: if the request_id was used with other content.
        """
        session = await self.create_session(
            session_id, get_or_create=True, request_id=request_id, timeout=timeout, **settings
        )
        if session.info.status != "active":
            await session.resume(timeout=timeout)
        return session

    def list_sessions(
        self,
        *,
        order: str | None = None,
        page_size: int | None = None,
        with_state: bool = False,
        timeout: float | None = None,
        **conditions: Unpack[SessionFilter],
    ) -> AsyncLazy[SessionInfo]:
        """List the project's sessions, fetched page by page during the iteration.

        Args:
            order: "active_desc" (default: the most recently active first), "active_asc",
                "created_desc", "created_asc" or "id_asc".
            page_size: sessions per call, 1 to 500. Default: 50.
            with_state: also fetch the states of the sessions.
            timeout: deadline of each call, in seconds. Default: the client's.
            **conditions: session_id_prefix, user, status, model, config_contains,
                metadata_contains, created_from, created_before, active_from, active_before. Only
                sessions that meet all given conditions are listed.

        Returns:
            A lazy list; no call is made until it is iterated over.
        """
        return self.sessions.list(
            order=order,
            page_size=page_size,
            with_state=with_state,
            timeout=timeout,
            **conditions,
        )

    def events(
        self, *, types: Sequence[str] | None = None, timeout: float | None = None
    ) -> AsyncLazy[Event]:
        """Follow the lifecycle of the project's sessions, forever.

        Lifecycle events, such as "session.created" and "session.deleted", are not stored: events
        published while the connection is down are missed. To follow the messages of a session, use
        `client.sessions.events`.

        Args:
            types: yield only events of these types. Default: all.
            timeout: deadline of the whole stream, in seconds. Default: no deadline.

        Returns:
            A lazy list that never ends; no call is made until it is iterated over.
        """
        return self.sessions.events("", types=types, timeout=timeout)

    async def delete_session(
        self,
        session_id: str,
        *,
        allow_missing: bool = False,
        etag: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Delete a session and its messages permanently.

        Args:
            session_id: the session.
            allow_missing: do nothing if there is no such session.
            etag: the call fails unless this is the session's current etag. Default: no check.
            request_id: makes the call safe to repeat, at most 128 characters. Default: a random
                one.
            timeout: deadline over all attempts, in seconds. Default: the client's.

        Raises:
            SessionNotFound: if there is no such session, unless allow_missing is set.
            ETagMismatch: if the session's current etag differs.
        """
        await self.sessions.delete(
            session_id,
            allow_missing=allow_missing,
            etag=etag,
            request_id=request_id,
            timeout=timeout,
        )

    def _handle(self, info: SessionInfo) -> AsyncSession:
        return AsyncSession(self.sessions, self.tasks, self.bookmarks, info)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.target!r})"
