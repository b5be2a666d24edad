# Generated from sessiond/_async/_pool.py by scripts/generate-sync-client: do not edit.
"""Sessions on loan: some at a time, each a fresh copy of one template."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from types import TracebackType
from typing import Any, Self
from weakref import finalize

from sessiond._protocol.retry import Deadline
from sessiond._requests.input import MessageInput
from sessiond._requests.options import SessionSettings
from sessiond._sync._client import Client
from sessiond._sync._session import Session
from sessiond._sync._wire import Mailbox, Mutex, Signal, in_background
from sessiond._types.session import SessionInfo
from sessiond.errors import ClientClosed, PoolClosed, PoolTimeout, SessiondError, SessionNotFound

log = logging.getLogger("sessiond")

ACQUIRE_TIMEOUT_S = 30.0
LEASE_TIMEOUT_S = 600.0
# A copy lives for so many lease timeouts without use, so that those of a program that died go away by themselves.
IDLE_TTL_FACTOR = 2
# The pool's own template, likewise. One that has expired is made again.
TEMPLATE_IDLE_TTL_S = 24 * 3600.0


class _Waiter:
    """Somebody who waits for a place."""

    def __init__(self) -> None:
        self.signal = Signal()
        self.has_place = False


@dataclass(frozen=True, slots=True)
class _Lease:
    """A session that is on loan. It does not hold the handle, whose end is the end of the loan."""

    due: float
    """When it is taken back, by time.monotonic()."""
    finalizer: finalize[..., Session]


@dataclass(frozen=True, slots=True)
class _TakeBack:
    """Word to the keeper: nobody has this session any more."""

    session_id: str


@dataclass(frozen=True, slots=True)
class _Remove:
    """Word to the keeper: this session is to be removed, or preserved."""

    session_id: str
    keep: bool


@dataclass(frozen=True, slots=True)
class _Look:
    """Word to the keeper: there is something new, a lease or the end."""


class SessionPool:
    """Lends sessions: at most `size` at a time, each a copy of the template as it is then, made for the one who borrows it.

    Nobody gets a session that was used before: one that comes back is deleted. A session also comes back when its handle is given up
    (garbage-collected) without a word, and `lease_timeout` after it was lent. So keep the handle for as long as the session is needed.

        async with AsyncSessionPool(client, 5, messages=[{"role": "system", "content": "Be brief."}]) as pool:
            async with pool.lease() as session:
                answer = await session.send_and_wait("Hello")
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
        """Nothing is called yet.

        Args:
            client: makes the calls; it is not closed with the pool.
            size: how many sessions are on loan at the most, at least 1. Default: 5.
            template: the session to copy, or its id. It is left alone. Default: the pool makes one, and deletes it when it is closed.
            model: of the sessions. Default: the template's, or none.
            config: of the sessions, likewise.
            messages: what the pool's own template begins with: any number of what store_messages takes, in OpenAI's format where they are
                dicts. Not together with template.
            session_id_prefix: what the ids of the sessions begin with. Default: nothing.
            lease_timeout: when a session is taken back from whoever has it. Unit: seconds. Default: 600. None = never.
            keep: destroy the sessions that come back, so that they stay readable, in the place of deleting them.
        Raises: ValueError.
        """
        if size < 1:
            raise ValueError(f"size is {size}; it must be at least 1")
        if lease_timeout is not None and not 0 < lease_timeout < math.inf:
            raise ValueError(
                f"lease_timeout is {lease_timeout}; it must be a number of seconds above 0, or None"
            )
        if template is not None and messages is not None:
            raise ValueError(
                "messages are those of the pool's own template; there is none where a template is given"
            )
        self._client = client
        self._size = size
        self._given = template.session_id if isinstance(template, Session) else template
        self._model = model
        self._config = config
        self._messages = None if messages is None else list(messages)
        self._prefix = session_id_prefix or ""
        self._lease_timeout = lease_timeout
        self._keep = keep
        self._template: SessionInfo | None = None
        self._beginning = Mutex()
        # What follows changes under the lock, which nobody holds while waiting for something.
        self._lock = Lock()
        self._free = size
        self._waiters: deque[_Waiter] = deque()
        self._leases: dict[str, _Lease] = {}
        self._closed = False
        self._mail: Mailbox[_TakeBack | _Remove | _Look] = Mailbox()
        self._has_keeper = False
        self._keeper_ended = Signal()

    @property
    def size(self) -> int:
        """How many sessions are on loan at the most."""
        return self._size

    @property
    def available(self) -> int:
        """How many can be had without waiting."""
        return self._free

    @property
    def leased(self) -> int:
        """How many are on loan, or about to be."""
        return self._size - self._free

    def initialize(self) -> None:
        """Make the template, or look it up, now; otherwise the first acquire does it. Raises: PoolClosed, SessionNotFound."""
        self._template_after(None)

    def acquire(self, *, timeout: float | None = ACQUIRE_TIMEOUT_S) -> Session:
        """Borrow a session. Who came first gets one first.

        Args:
            timeout: how long to wait for one to become free. Unit: seconds. Default: 30. None = without end.
        Returns: its handle. Keep it: when it is garbage-collected, the session is taken back.
        Raises: PoolTimeout (a TimeoutError), PoolClosed, SessionNotFound where a given template is gone.
        """
        deadline = Deadline(timeout)
        self._take_place(deadline)
        session_id = f"{self._prefix}{uuid.uuid4()}"
        try:
            info = self._copy(session_id)
            return self._lend(info)
        except PoolClosed:
            self._free_place()
            self._remove(session_id, keep=False)
            raise
        except BaseException:
            self._free_place()
            # The copy may have been made all the same.
            self._mail.put(_Remove(session_id, keep=False))
            raise

    def release(self, session: Session) -> None:
        """Give a session back. It is deleted, or destroyed where the pool keeps them. After close() there is nothing to do.

        Raises: ValueError for a session that is not on loan from this pool: given back or taken back already, or another's.
        """
        session_id = session.session_id
        if self._give_back(session_id) or self._closed:
            return
        raise ValueError(
            f"session {session_id!r} is not on loan from this pool: it was given back or taken back, or is another's"
        )

    @contextmanager
    def lease(self, *, timeout: float | None = ACQUIRE_TIMEOUT_S) -> Iterator[Session]:
        """Borrow a session for a block. timeout, and what is raised: as in acquire."""
        session = self.acquire(timeout=timeout)
        try:
            yield session
        finally:
            if not self._give_back(session.session_id) and not self._closed:
                log.warning(
                    "session %r had been taken back before its block was done", session.session_id
                )

    def close(self) -> None:
        """End it: who waits gets PoolClosed, what is on loan is taken back, and the template is deleted where it is the pool's own."""
        with self._lock:
            self._closed = True
            waiters, self._waiters = self._waiters, deque()
            leases, self._leases = self._leases, {}
        for waiter in waiters:
            waiter.signal.set()
        self._mail.put(_Look())
        for session_id, lease in leases.items():
            lease.finalizer.detach()
            self._free_place()
            self._remove(session_id, self._keep)
        with self._beginning:
            if self._has_keeper:
                # It may have something in hand still.
                self._keeper_ended.wait(None)
            template, self._template = self._template, None
            if template and self._given is None:
                self._remove(template.session_id, keep=False)

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

    def _take_place(self, deadline: Deadline) -> None:
        with self._lock:
            self._check_open()
            # Nobody waits while there is one: who frees a place gives it to the next.
            if self._free:
                self._free -= 1
                return
            waiter = _Waiter()
            self._waiters.append(waiter)
        try:
            waiter.signal.wait(deadline.remaining())
        except BaseException:
            if not self._leave_queue(waiter) and waiter.has_place:
                self._free_place()
            raise
        if self._leave_queue(waiter):
            raise PoolTimeout(
                f"all {self._size} sessions of the pool were on loan for the whole timeout"
            )
        if not waiter.has_place:
            self._check_open()

    def _leave_queue(self, waiter: _Waiter) -> bool:
        """Whether it was still in the queue, and so has no place."""
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                return True
            return False

    def _free_place(self) -> None:
        """Somebody's place is free: the next one's, or nobody's."""
        with self._lock:
            if self._waiters:
                waiter = self._waiters.popleft()
                waiter.has_place = True
                waiter.signal.set()
            else:
                self._free += 1

    def _check_open(self) -> None:
        if self._closed:
            raise PoolClosed("the pool is closed")

    def _copy(self, session_id: str) -> SessionInfo:
        options = SessionSettings(model=self._model, config=self._config)
        if self._lease_timeout is not None:
            options["idle_ttl"] = max(1.0, IDLE_TTL_FACTOR * self._lease_timeout)
        template = self._template_after(None)
        try:
            return (self._client.sessions.copy(template.session_id, session_id, **options)).session
        except SessionNotFound:
            if self._given is not None:
                raise
        # It has expired.
        template = self._template_after(template)
        return (self._client.sessions.copy(template.session_id, session_id, **options)).session

    def _template_after(self, gone: SessionInfo | None) -> SessionInfo:
        """The template, made or looked up where there is none, or where it is the one that is gone."""
        with self._beginning:
            self._check_open()
            if not self._has_keeper:
                self._has_keeper = True
                in_background(self._look_after)
            if self._template is gone or self._template is None:
                self._template = (
                    self._new_template()
                    if self._given is None
                    else self._client.sessions.get(self._given)
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
                self._remove(template.session_id, keep=False)
                raise
        return template

    def _lend(self, info: SessionInfo) -> Session:
        session = self._client._handle(info)
        with self._lock:
            self._check_open()
            # The collector may run anywhere, also under the lock: it only leaves word.
            finalizer = finalize(session, self._mail.put, _TakeBack(info.session_id))
            finalizer.atexit = False
            due = (
                math.inf if self._lease_timeout is None else time.monotonic() + self._lease_timeout
            )
            self._leases[info.session_id] = _Lease(due, finalizer)
        self._mail.put(_Look())
        return session

    def _give_back(self, session_id: str) -> bool:
        """End a loan. Answers whether there was one."""
        with self._lock:
            lease = self._leases.pop(session_id, None)
        if lease is None:
            return False
        lease.finalizer.detach()
        # Before the session is removed: the next one gets another, and need not wait for that.
        self._free_place()
        try:
            self._remove(session_id, self._keep)
        except BaseException:
            self._mail.put(_Remove(session_id, self._keep))
            raise
        return True

    def _remove(self, session_id: str, keep: bool) -> None:
        """Delete a session, or keep it destroyed. What fails is logged: the session then expires."""
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
                "session %r of a pool could not be removed, and is left to expire: %s",
                session_id,
                error,
            )

    def _preserve(self, session_id: str) -> None:
        """Destroy a session, and have it live as long as its template does."""
        template = self._template
        if template and self._given is not None and template.idle_ttl:
            self._client.sessions.update(session_id, idle_ttl=template.idle_ttl)
        else:
            self._client.sessions.update(session_id, never_expires=True)
        self._client.sessions.destroy(session_id)

    def _look_after(self) -> None:
        """Take back what is overdue or given up, until the pool is closed and nothing is left to do."""
        try:
            while self._look_after_next():
                pass
        finally:
            self._keeper_ended.set()

    def _look_after_next(self) -> bool:
        """Answers whether there is more to come."""
        with self._lock:
            due = min((lease.due for lease in self._leases.values()), default=math.inf)
            is_closed = self._closed
        wait = 0.0 if is_closed else None if math.isinf(due) else max(0.0, due - time.monotonic())
        match self._mail.take(wait):
            case _TakeBack(session_id):
                if self._give_back(session_id):
                    log.warning(
                        "session %r was taken back: its handle was given up without a release",
                        session_id,
                    )
            case _Remove(session_id, keep):
                self._remove(session_id, keep)
            case None:
                self._take_back_overdue()
                return not is_closed
        return True

    def _take_back_overdue(self) -> None:
        now = time.monotonic()
        with self._lock:
            overdue = [session_id for session_id, lease in self._leases.items() if lease.due <= now]
        for session_id in overdue:
            if self._give_back(session_id):
                log.warning(
                    "session %r was taken back: it was on loan for longer than %s seconds",
                    session_id,
                    self._lease_timeout,
                )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self._size}, leased={self.leased})"
