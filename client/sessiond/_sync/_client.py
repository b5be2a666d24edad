# Generated from _async/_client.py by scripts/generate-sync-client. Do not edit.
"""The client: where everything begins."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self, Unpack

from sessiond._protocol.settings import DEFAULT_TIMEOUT_S, ChannelOptions, Tls, settings
from sessiond._requests import watch as watch_requests
from sessiond._requests.options import SessionFilters, SessionSettings
from sessiond._sync._admin import Admin
from sessiond._sync._assets import Assets
from sessiond._sync._bookmarks import Bookmarks
from sessiond._sync._connection import Connection
from sessiond._sync._lazy import Lazy
from sessiond._sync._processing import Processing
from sessiond._sync._session import Session
from sessiond._sync._sessions import Sessions
from sessiond._sync._streams import event_batches
from sessiond._sync._tasks import Tasks
from sessiond._sync._wire import Metadata, Stubs
from sessiond._types.event import Event
from sessiond._types.session import SessionInfo


class Client:
    """A sessiond server, seen from here. One client holds one connection and serves any number of concurrent calls.

    The connection is made at the first call, or by start(), and ended by stop() or the end of a `with` block.

    Attributes:
        sessions: the calls of SessionService, by session id.
        tasks: the calls of TaskService, by session id; `session.tasks` are the same for one session.
        bookmarks: the calls of BookmarkService, by session id; `session.bookmarks` are the same for one session.
        processing: queues of messages for background workers.
        assets: files that messages refer to.
        admin: the calls of AdminService: projects and API keys.
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
        """Settings are read here; nothing is connected yet.

        Args:
            target: HOST:PORT of the server, or another name that gRPC resolves. Default: $SESSIOND_TARGET, or localhost:50051.
            api_key: names the project and lets in. Default: $SESSIOND_API_KEY, or none. Without TLS it travels readable.
            timeout: deadline of a call over all its attempts. Unit: seconds. Default: 30. None = none.
            tls: False = plain text; True = TLS with the well-known certificate authorities; a path = TLS with the authority
                in this PEM file; grpc.ChannelCredentials for anything else.
            options: gRPC channel arguments, which win over the client's own.
        Raises: ValueError for a target or an API key that cannot be one, OSError for a certificate file that cannot be read.
        """
        self._connection = Connection(settings(target, api_key, timeout, tls, options))
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
        """The generated stubs on this client's connection, e.g. `client.stubs.admin`. They take and give protobuf messages, neither retry
        nor translate errors, and send no API key by themselves: give them `metadata=client.metadata`.
        """
        return self._connection.stubs

    @property
    def metadata(self) -> Metadata:
        """The gRPC metadata that is sent with every call: the API key."""
        return self._connection.metadata

    def start(self) -> Self:
        """Open the connection now, or again after stop(). The server is not called yet. Returns the client."""
        self._connection.open()
        return self

    def stop(self) -> None:
        """End what runs, and close the connection. Calls raise ClientClosed from now on."""
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
        **settings: Unpack[SessionSettings],
    ) -> Session:
        """Make a session.

        Args:
            session_id: 1 to 256 characters, unique in the project. Default: the server makes a UUIDv7.
            get_or_create: answer the existing session, as it is, where there is one of this id.
            settings: model, user, title, config, metadata, idle_ttl, never_expires, request_id, timeout, as in `sessions.create`.
        Returns: its handle.
        Raises: SessionAlreadyExists, InvalidField, RequestIdReused.
        """
        info = self.sessions.create(session_id, get_or_create=get_or_create, **settings)
        return self._handle(info)

    def get_session(self, session_id: str, *, timeout: float | None = None) -> Session:
        """The handle of an existing session, which stays in its state. Raises: SessionNotFound."""
        return self._handle(self.sessions.get(session_id, timeout=timeout))

    def resume_session(
        self, session_id: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> Session:
        """Go on with a session, destroyed or not; it is active afterwards. Returns its handle. Raises: SessionNotFound."""
        info = self.sessions.resume(session_id, request_id=request_id, timeout=timeout)
        return self._handle(info)

    def get_or_create_session(
        self, session_id: str, **settings: Unpack[SessionSettings]
    ) -> Session:
        """Go on with a session, or make it where there is none; it is active afterwards.

        Args:
            settings: as in create_session; a session that exists keeps its own.
        Returns: its handle.
        Raises: InvalidField, RequestIdReused.
        """
        session = self.create_session(session_id, get_or_create=True, **settings)
        if session.info.state != "active":
            session.resume(timeout=settings.get("timeout"))
        return session

    def list_sessions(self, **filters: Unpack[SessionFilters]) -> Lazy[SessionInfo]:
        """The project's sessions, the most recently active first, fetched while they are iterated over.

        Args:
            filters: session_id_prefix, user, state, model, config_contains, metadata_contains, created_from, created_before,
                active_from, active_before, order, page_size, timeout, as in `sessions.list`.
        Returns: a lazy listing; nothing is called before it is iterated over.
        """
        return self.sessions.list(**filters)

    def events(
        self, *, types: Sequence[str] | None = None, timeout: float | None = None
    ) -> Lazy[Event]:
        """What becomes of the project's sessions ("session.created", "session.deleted", ...), while it happens, without end.

        These events are told once: what happens while a connection is down is missed. Messages are events of their session alone:
        `client.sessions.events`.

        Args:
            types: events of these types only. Default: all.
            timeout: of the whole stream. Unit: seconds. Default: none.
        Returns: a lazy listing to iterate over; nothing is called before.
        """
        request = watch_requests.watch("", after_seq=None)
        wanted = watch_requests.event_types(types)
        return Lazy(lambda: event_batches(self._connection, request, timeout, types=wanted))

    def delete_session(
        self,
        session_id: str,
        *,
        allow_missing: bool = False,
        etag: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Remove a session and its messages for good. Raises: SessionNotFound (unless allow_missing), ETagMismatch."""
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
