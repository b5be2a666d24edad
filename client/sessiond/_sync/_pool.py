# Generated from _async/_pool.py by scripts/generate-sync-client. Do not edit.
"""A pool that lends sessions: a limited number at a time, each a new copy of one template."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from types import TracebackType
from typing import Any, Self
from weakref import finalize

from sessiond._protocol.retry import Deadline
from sessiond._requests.input import MessageInput, check_list
from sessiond._requests.options import SessionSettings
from sessiond._sync._client import Client
from sessiond._sync._places import Places
from sessiond._sync._session import Session
from sessiond._sync._wire import Mailbox, Mutex, Signal, in_background
from sessiond._types.session import SessionInfo
from sessiond.errors import (
    ClientClosed,
    PoolClosed,
    SessiondError,
    SessionNotFound,
    invalid_field,
)

log = logging.getLogger("sessiond")

ACQUIRE_TIMEOUT_S = 30.0
LEASE_TIMEOUT_S = 600.0
# If the program dies, a copy expires after this many lease timeouts without activity.
IDLE_TTL_FACTOR = 2
# The pool's own template also expires. It is created again when the pool needs it.
TEMPLATE_IDLE_TTL_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class _ActiveLease:
    """A session on loan.

    The object must not refer to the session's handle, because the lease ends when the handle is
    garbage-collected.
    """

    due: float
    """Time of expiry, by time.monotonic()."""
    finalizer: finalize[..., Session]


# Commands to the reaper, which ends leases in the background.


@dataclass(frozen=True, slots=True)
class _Reclaim:
    """End the lease of a session whose handle has been garbage-collected."""

    session_id: str


@dataclass(frozen=True, slots=True)
class _Delete:
    """Delete a session, or destroy it."""

    session_id: str
    keep: bool


@dataclass(frozen=True, slots=True)
class _Wake:
    """Check the leases again: a lease was added, or the pool was closed."""


class SessionPool:
    """Lends sessions, at most `size` at a time. Each borrower gets a new copy of the template.

    No session is lent twice: a returned session is deleted. A session is also taken back when its
    handle is garbage-collected, or `lease_timeout` seconds after it was lent. So keep the handle as
    long as you need the session.

        async with AsyncSessionPool(client, 5, model="gpt-5") as pool:
            async with pool.lease() as session:
                answer = await session.send_and_wait("Hello")

    Creating a pool makes no call.

    Args:
        client: makes the calls. The pool does not close it.
        size: maximum number of sessions on loan, at least 1. Default: 5.
        template: the session to copy, or its id. The pool does not change or delete it. Default:
            the pool creates a template, and deletes it when the pool is closed.
        model: model of the sessions. Default: the template's, or none.
        config: config of the sessions. Default: the template's, or none.
        messages: messages of the pool's own template: any number of values that store_messages
            accepts. Not together with template.
        session_id_prefix: prefix of the sessions' ids. Default: none.
        lease_timeout: seconds after which a session is taken back. Default: 600. None = never.
        keep: destroy returned sessions instead of deleting them, so that they stay readable.

    Raises:
        InvalidField: if an argument is out of range.
    """

    def __init__(
        self,
        client: Client,
        size: int = 5,
        *,
        template: Session | str | None = None,
        model: str | None = None,
        config: Mapping[str, Any] | None = None,
        messages: Iterable[MessageInput] | None = None,
        session_id_prefix: str | None = None,
        lease_timeout: float | None = LEASE_TIMEOUT_S,
        keep: bool = False,
    ) -> None:
        if not isinstance(size, int) or size < 1:
            raise invalid_field("size", f"is {size!r}; it must be a whole number of at least 1")
        if lease_timeout is not None and not (
            isinstance(lease_timeout, int | float) and 0 < lease_timeout < math.inf
        ):
            raise invalid_field(
                "lease_timeout",
                f"is {lease_timeout!r}; it must be a number of seconds above 0, or None",
            )
        if messages is not None:
            check_list(messages)
            if template is not None:
                raise invalid_field(
                    "messages", "belong to the pool's own template; give them without a template"
                )
        self._prefix = session_id_prefix or ""
        if not isinstance(self._prefix, str):
            raise invalid_field(
                "session_id_prefix", f"must be a string, not {type(session_id_prefix).__name__}"
            )
        self._client = client
        self._size = size
        self._given_template = template.session_id if isinstance(template, Session) else template
        self._model = model
        self._config = config
        self._messages = None if messages is None else list(messages)
        self._lease_timeout = lease_timeout
        self._keep = keep
        self._template: SessionInfo | None = None
        self._template_mutex = Mutex()
        self._places = Places(size)
        # Guards the leases. Code that holds it never waits.
        self._lock = Lock()
        self._leases: dict[str, _ActiveLease] = {}
        self._closed = False
        self._commands: Mailbox[_Reclaim | _Delete | _Wake] = Mailbox()
        self._has_reaper = False
        self._reaper_ended = Signal()

    @property
    def size(self) -> int:
        """Maximum number of sessions on loan at a time."""
        return self._size

    @property
    def available(self) -> int:
        """Number of sessions that can be borrowed without waiting."""
        return self._places.free

    @property
    def leased(self) -> int:
        """Number of sessions on loan, or about to be."""
        return self._size - self._places.free

    def initialize(self) -> None:
        """Create or look up the template now, instead of at the first acquire().

        Raises:
            PoolClosed: if the pool is closed, or belongs to another event loop or process.
            SessionNotFound: if the given template does not exist any longer.
        """
        self._template_after(None)

    def acquire(self, *, timeout: float | None = ACQUIRE_TIMEOUT_S) -> Session:
        """Borrow a session. Waiting callers are served in the order of their calls.

        Args:
            timeout: how long to wait for a session, in seconds. Default: 30. None = forever.

        Returns:
            The session's handle. When it is garbage-collected, the session is taken back.

        Raises:
            PoolTimeout: if all sessions stayed on loan. It is a TimeoutError.
            PoolClosed: if the pool is closed, or belongs to another event loop or process.
            SessionNotFound: if the given template does not exist any longer.
        """
        self._places.take(Deadline(timeout))
        session_id = f"{self._prefix}{uuid.uuid4()}"
        try:
            info = self._copy(session_id)
            return self._lend(info)
        except PoolClosed:
            self._places.free_one()
            self._delete(session_id, keep=False)
            raise
        except BaseException:
            self._places.free_one()
            # The server may have created the copy although the call failed.
            self._commands.put(_Delete(session_id, keep=False))
            raise

    def release(self, session: Session) -> None:
        """Return a session to the pool, which deletes it, or destroys it if `keep` is set.

        After close() this does nothing.

        Args:
            session: the handle of the session.

        Raises:
            InvalidField: if the session is not, or no longer, on loan from this pool.
        """
        if not isinstance(session, Session):
            raise invalid_field("session", f"must be a handle, not {type(session).__name__}")
        session_id = session.session_id
        if self._end_lease(session_id) or self._closed:
            return
        raise invalid_field(
            "session",
            f"{session_id!r} is not on loan from this pool: it was returned, taken back, or is not"
            " the pool's",
        )

    @contextmanager
    def lease(self, *, timeout: float | None = ACQUIRE_TIMEOUT_S) -> Iterator[Session]:
        """Borrow a session for the duration of a block.

        Args:
            timeout: how long to wait for a session, in seconds. Default: 30. None = forever.

        Yields:
            The session's handle.

        Raises:
            SessiondError: as in acquire.
        """
        session = self.acquire(timeout=timeout)
        try:
            yield session
        finally:
            if not self._end_lease(session.session_id) and not self._closed:
                log.warning(
                    "session %r was taken back before its block was done", session.session_id
                )

    def close(self) -> None:
        """Take all sessions back, and delete the pool's own template.

        Calls that wait for a session raise PoolClosed. In a forked process this does nothing, since
        the parent takes its sessions back.
        """
        if self._places.are_inherited:
            return
        with self._lock:
            self._closed = True
            self._places.close()
            leases, self._leases = self._leases, {}
        self._commands.put(_Wake())
        for session_id, lease in leases.items():
            lease.finalizer.detach()
            self._places.free_one()
            self._delete(session_id, self._keep)
        with self._template_mutex:
            if self._has_reaper and self._places.are_here:
                # The reaper may still be deleting a session.
                self._reaper_ended.wait(None)
            template, self._template = self._template, None
            if template and self._given_template is None:
                self._delete(template.session_id, keep=False)

    def __enter__(self) -> Self:
        self.initialize()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _copy(self, session_id: str) -> SessionInfo:
        options = SessionSettings(model=self._model, config=self._config)
        if self._lease_timeout is not None:
            options["idle_ttl"] = max(1.0, IDLE_TTL_FACTOR * self._lease_timeout)
        template = self._template_after(None)
        try:
            return (self._client.sessions.copy(template.session_id, session_id, **options)).session
        except SessionNotFound:
            if self._given_template is not None:
                raise
        # The pool's own template has expired.
        template = self._template_after(template)
        return (self._client.sessions.copy(template.session_id, session_id, **options)).session

    def _template_after(self, gone: SessionInfo | None) -> SessionInfo:
        """Return the template. Create or fetch it first if there is none, or if it is still `gone`.

        Args:
            gone: the template that has expired. None = no template is known to have expired.
        """
        with self._template_mutex:
            self._places.check_open()
            if not self._has_reaper:
                self._has_reaper = True
                in_background(self._reap)
            if self._template is gone or self._template is None:
                self._template = (
                    self._new_template()
                    if self._given_template is None
                    else self._client.sessions.get(self._given_template)
                )
            return self._template

    def _new_template(self) -> SessionInfo:
        sessions = self._client.sessions
        template = sessions.create(
            f"{self._prefix}template-{uuid.uuid4()}",
            model=self._model,
            config=self._config,
            idle_ttl=TEMPLATE_IDLE_TTL_S,
        )
        if self._messages:
            try:
                sessions.import_messages(template.session_id, self._messages)
            except SessiondError:
                self._delete(template.session_id, keep=False)
                raise
        return template

    def _lend(self, info: SessionInfo) -> Session:
        session = self._client._handle(info)
        with self._lock:
            self._places.check_open()
            # The garbage collector may call the finalizer at any time, even while the lock is held.
            # So the finalizer only sends a command.
            finalizer = finalize(session, self._commands.put, _Reclaim(info.session_id))
            finalizer.atexit = False
            due = (
                math.inf if self._lease_timeout is None else time.monotonic() + self._lease_timeout
            )
            self._leases[info.session_id] = _ActiveLease(due, finalizer)
        self._commands.put(_Wake())
        return session

    def _end_lease(self, session_id: str) -> bool:
        """End the lease of a session, if any; return whether there was one."""
        with self._lock:
            lease = self._leases.pop(session_id, None)
        if lease is None:
            return False
        lease.finalizer.detach()
        # Free the place before the deletion: the next waiter need not wait for it.
        self._places.free_one()
        try:
            self._delete(session_id, self._keep)
        except BaseException:
            self._commands.put(_Delete(session_id, self._keep))
            raise
        return True

    def _delete(self, session_id: str, keep: bool) -> None:
        """Delete or destroy a session. A failure is logged, and the session expires later."""
        sessions = self._client.sessions
        try:
            if keep:
                self._preserve(session_id)
            else:
                sessions.delete(session_id, allow_missing=True)
        except (SessionNotFound, ClientClosed):
            pass
        except SessiondError as error:
            log.warning(
                "session %r of a pool could not be deleted, and is left to expire: %s",
                session_id,
                error,
            )

    def _preserve(self, session_id: str) -> None:
        """Destroy a session, but keep it: with the idle_ttl of the given template, or forever."""
        template = self._template
        if template and self._given_template is not None and template.idle_ttl:
            self._client.sessions.update(session_id, idle_ttl=template.idle_ttl)
        else:
            self._client.sessions.update(session_id, never_expires=True)
        self._client.sessions.destroy(session_id)

    def _reap(self) -> None:
        """End overdue and abandoned leases until the pool is closed and no work is left."""
        try:
            while self._reap_next():
                pass
        finally:
            self._reaper_ended.set()

    def _reap_next(self) -> bool:
        """Wait for a command or an expiry, and handle it; return whether to continue."""
        with self._lock:
            due = min((lease.due for lease in self._leases.values()), default=math.inf)
            is_closed = self._closed
        wait = 0.0 if is_closed else None if math.isinf(due) else max(0.0, due - time.monotonic())
        match self._commands.take(wait):
            case _Reclaim(session_id):
                if self._end_lease(session_id):
                    log.warning(
                        "session %r was taken back: its handle was dropped without a release",
                        session_id,
                    )
            case _Delete(session_id, keep):
                self._delete(session_id, keep)
            case None:
                self._reclaim_overdue()
                return not is_closed
        return True

    def _reclaim_overdue(self) -> None:
        now = time.monotonic()
        with self._lock:
            overdue = [session_id for session_id, lease in self._leases.items() if lease.due <= now]
        for session_id in overdue:
            if self._end_lease(session_id):
                log.warning(
                    "session %r was taken back: it was on loan for longer than %s seconds",
                    session_id,
                    self._lease_timeout,
                )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self._size}, leased={self.leased})"
