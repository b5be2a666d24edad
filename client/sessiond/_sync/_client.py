# Generated from _async/_client.py by scripts/generate-sync-client. Do not edit.
"""The client of a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from sessiond._protocol.settings import (
    DEFAULT_TIMEOUT_S,
    ChannelOptions,
    ClientSettings,
    Tls,
    settings,
)
from sessiond._requests.options import SessionFilter, SessionSettings
from sessiond._sync._admin import Admin
from sessiond._sync._assets import Assets
from sessiond._sync._bookmarks import Bookmarks
from sessiond._sync._connection import Connection
from sessiond._sync._lazy import Lazy
from sessiond._sync._processing import Processing
from sessiond._sync._session import Session
from sessiond._sync._sessions import Sessions
from sessiond._sync._tasks import Tasks
from sessiond._sync._wire import Metadata, Stubs
from sessiond._types.event import Event
from sessiond._types.session import SessionInfo

if TYPE_CHECKING:
    from sessiond._sync._wire import UnaryMethod

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class Client:
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
        self._connection = Connection(settings)
        self.sessions = Sessions(self._connection)
        self.tasks = Tasks(self._connection)
        self.bookmarks = Bookmarks(self._connection)
        self.processing = Processing(self._connection)
        self.assets = Assets(self._connection)
        self.admin = Admin(self._connection)

    @property
    def target(self) -> str:
        """The server's address."""
        return self._connection.settings.target

    @property
    def stubs(self) -> Stubs:
        """The generated stubs on this client's connection, e.g. `client.stubs.admin`.

        The stubs take and return protobuf messages. They do not retry, translate errors or send the
        API key: pass `metadata=client.metadata`.
        """
        return self._connection.stubs

    @property
    def metadata(self) -> Metadata:
        """The gRPC metadata sent with every call: the API key."""
        return self._connection.metadata

    def call(
        self,
        method: Callable[[Stubs], UnaryMethod[_Request, _Response]],
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
        return self._connection.call(method, request, timeout, is_repeatable=is_repeatable)

    def start(self) -> Self:
        """Open the connection now, or again after stop(), without calling the server.

        Returns:
            The client itself.
        """
        self._connection.open()
        return self

    def stop(self) -> None:
        """End the running calls and close the connection. Further calls raise ClientClosed."""
        self._connection.close()

    def close(self) -> None:
        """The same as stop()."""
        self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def create_session(
        self,
        session_id: str | None = None,
        *,
        get_or_create: bool = False,
        state: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
        **settings: Unpack[SessionSettings],
    ) -> Session:
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
        info = self.sessions.create(
            session_id,
            get_or_create=get_or_create,
            state=state,
            request_id=request_id,
            timeout=timeout,
            **settings,
        )
        return self._handle(info)

    def get_session(self, session_id: str, *, timeout: float | None = None) -> Session:
        """Return the handle of an existing session, whatever its status.

        Args:
            session_id: the session.
            timeout: deadline over all attempts, in seconds. Default: the client's.

        Raises:
            SessionNotFound: if there is no such session.
        """
        return self._handle(self.sessions.get(session_id, timeout=timeout))

    def resume_session(
        self, session_id: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> Session:
        """Make a session active, even if it is destroyed, and return its handle.

        Args:
            session_id: the session.
            request_id: makes the call safe to repeat, at most 128 characters. Default: a random
                one.
            timeout: deadline over all attempts, in seconds. Default: the client's.

        Raises:
            SessionNotFound: if there is no such session.
        """
        info = self.sessions.resume(session_id, request_id=request_id, timeout=timeout)
        return self._handle(info)

    def get_or_create_session(
        self,
        session_id: str,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
        **settings: Unpack[SessionSettings],
    ) -> Session:
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
        session = self.create_session(
            session_id, get_or_create=True, request_id=request_id, timeout=timeout, **settings
        )
        if session.info.status != "active":
            session.resume(timeout=timeout)
        return session

    def list_sessions(
        self,
        *,
        order: str | None = None,
        page_size: int | None = None,
        with_state: bool = False,
        timeout: float | None = None,
        **conditions: Unpack[SessionFilter],
    ) -> Lazy[SessionInfo]:
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
    ) -> Lazy[Event]:
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

    def delete_session(
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
        self.sessions.delete(
            session_id,
            allow_missing=allow_missing,
            etag=etag,
            request_id=request_id,
            timeout=timeout,
        )

    def _handle(self, info: SessionInfo) -> Session:
        return Session(self.sessions, self.tasks, self.bookmarks, info)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.target!r})"
