"""The rules of the processing queues."""

import asyncio
import re
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sessiond_server.core import pagination
from sessiond_server.core.errors import Fault, invalid, session_not_found
from sessiond_server.core.ids import session_key
from sessiond_server.core.limits import MAX_NAME_CHARACTERS
from sessiond_server.core.pagination import Page, Paging
from sessiond_server.core.validation import check_session_id, check_text
from sessiond_server.queues.store import (
    Acknowledgement,
    Counts,
    HeldLease,
    Leased,
    LeaseGone,
    LeaseRef,
    ProcessingStore,
    QueueState,
    Ranges,
    TooManyQueues,
)
from sessiond_server.sessions.store.sessions import SessionRow, SessionStore

MAX_QUEUES = 16
MAX_SESSIONS = 100
DEFAULT_MESSAGES = 100
MAX_MESSAGES = 10_000
MAX_REQUEUED = 10_000
DEFAULT_LEASE_MS = 60_000
MIN_LEASE_MS = 1_000
MAX_LEASE_MS = 3_600_000
MAX_WAIT_MS = 30_000
MAX_ERROR_CHARACTERS = 1_024

# How often somebody who waits for work looks for some. In between he holds nothing.
LOOK_S = 0.25
# A wait ends so much before the deadline that the server sets where the caller has none.
MARGIN_S = 1.0

_QUEUE = re.compile(r"[a-z0-9_-]{1,64}")
_LEASE = "lease"


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """What a worker asks for; zeros are defaults. lease_ms, wait_ms: None = unset."""

    queue: str
    worker: str
    max_sessions: int
    max_messages: int
    lease_ms: int | None
    wait_ms: int | None


@dataclass(frozen=True, slots=True)
class RequeueSelector:
    """Messages to process again: exactly one is not None."""

    failed: bool | None
    from_seq: int | None
    seqs: Sequence[int] | None


class Processing:
    """The rules of the queues. Ids are the caller's; project_id is who calls.

    Args:
        is_draining: whether this server is about to stop, so that nobody should wait here.
        default_deadline_s: of callers that set none.
    """

    def __init__(
        self,
        store: ProcessingStore,
        sessions: SessionStore,
        *,
        is_draining: Callable[[], bool],
        default_deadline_s: float,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._is_draining = is_draining
        self._max_wait_s = max(0.0, default_deadline_s - MARGIN_S)

    async def lease(self, project_id: UUID, ask: LeaseRequest) -> list[Leased]:
        """Take work, and wait for it where there is none and the caller wants to.

        Raises: Fault INVALID_FIELD, LIMIT_EXCEEDED.
        """
        _check_queue(ask.queue)
        check_text("worker", ask.worker, MAX_NAME_CHARACTERS)
        max_sessions = _bounded("max_sessions", ask.max_sessions, 1, MAX_SESSIONS)
        max_messages = _bounded("max_messages", ask.max_messages, DEFAULT_MESSAGES, MAX_MESSAGES)
        duration_ms = _lease_ms(ask.lease_ms)
        wait_ms = ask.wait_ms or 0
        if not 0 <= wait_ms <= MAX_WAIT_MS:
            raise invalid("wait", f"is {wait_ms} ms; from 0 to 30 seconds are allowed")
        loop = asyncio.get_running_loop()
        end = loop.time() + min(wait_ms / 1000, self._max_wait_s)
        while True:
            try:
                leases = await self._store.lease(
                    project_id,
                    ask.queue,
                    worker=ask.worker,
                    max_sessions=max_sessions,
                    max_messages=max_messages,
                    duration_ms=duration_ms,
                    max_queues=MAX_QUEUES,
                    choose=lambda standing: choose(standing, max_messages),
                )
            except TooManyQueues:
                raise Fault(
                    "LIMIT_EXCEEDED",
                    f"the project has {MAX_QUEUES} queues, which is the most; delete one (DeleteQueue) to make {ask.queue!r}",
                    metadata={"what": "queues", "limit": MAX_QUEUES},
                ) from None
            left = end - loop.time()
            if leases or left <= 0 or self._is_draining():
                return leases
            await asyncio.sleep(min(LOOK_S, left))

    async def extend(self, project_id: UUID, lease_id: str, lease_ms: int | None) -> Leased:
        """Raises: Fault LEASE_LOST, INVALID_FIELD."""
        ref, duration_ms = decode_lease_id(lease_id), _lease_ms(lease_ms)
        try:
            return await self._store.extend(ref, project_id, duration_ms)
        except LeaseGone:
            raise _lease_lost(lease_id) from None

    async def acknowledge(
        self,
        project_id: UUID,
        lease_id: str,
        through_seq: int | None,
        failures: Sequence[tuple[int, str]],
        *,
        keep_lease: bool,
    ) -> None:
        """Raises: Fault LEASE_LOST, INVALID_FIELD."""
        ref = decode_lease_id(lease_id)
        if through_seq is not None and through_seq < 0:
            raise invalid("through_seq", "is negative")
        try:
            await self._store.acknowledge(
                ref,
                project_id,
                lambda held: decide(held, through_seq, failures, keep_lease=keep_lease),
            )
        except LeaseGone:
            raise _lease_lost(lease_id) from None

    async def requeue(
        self, project_id: UUID, queue: str, session_id: str, which: RequeueSelector
    ) -> int:
        """Answers how many messages are pending now that were not before.

        Raises: Fault SESSION_NOT_FOUND, QUEUE_NOT_FOUND, INVALID_FIELD.
        """
        check_session_id(session_id)
        _check_queue(queue)
        _check_which(which)
        session = await self._session(project_id, session_id)
        await self._check_known(project_id, queue)
        if which.seqs is not None:
            for i, seq in enumerate(which.seqs):
                if seq > session.last_seq:
                    raise invalid(
                        f"seqs.seqs[{i}]", f"is {seq}; the session's last_seq is {session.last_seq}"
                    )
            return await self._store.requeue_seqs(
                session.key, session.log, project_id, queue, which.seqs
            )
        if which.from_seq is not None:
            return await self._store.requeue_from(
                session.key, session.log, project_id, queue, which.from_seq
            )
        return await self._store.requeue_failed(session.key, session.log, project_id, queue)

    async def counts(self, project_id: UUID, queue: str, session_id: str) -> Counts:
        """Of a session; of the whole project where session_id is empty. Raises: Fault SESSION_NOT_FOUND, QUEUE_NOT_FOUND."""
        if session_id:
            check_session_id(session_id)
        _check_queue(queue)
        session = await self._session(project_id, session_id) if session_id else None
        await self._check_known(project_id, queue)
        return await self._store.counts(project_id, queue, session.key if session else None)

    async def failures(
        self, project_id: UUID, queue: str, session_id: str, page_size: int, page_token: str
    ) -> Page[tuple[int, str]]:
        """Raises: Fault SESSION_NOT_FOUND, QUEUE_NOT_FOUND, INVALID_FIELD, INVALID_PAGE_TOKEN."""
        check_session_id(session_id)
        _check_queue(queue)
        paging = Paging(page_size, page_token, ("failures", queue, session_id), pagination.seq)
        after = paging.after[0] if paging.after else 0
        session = await self._session(project_id, session_id)
        await self._check_known(project_id, queue)
        # One more than asked for says whether there is a next page.
        found = await self._store.failures(session.key, project_id, queue, after, paging.size + 1)
        return paging.page(found, lambda failure: failure[:1])

    async def queues(self, project_id: UUID) -> list[str]:
        """By name."""
        return await self._store.queues(project_id)

    async def delete_queue(self, project_id: UUID, queue: str, *, allow_missing: bool) -> None:
        """Raises: Fault QUEUE_NOT_FOUND."""
        _check_queue(queue)
        if not await self._store.delete_queue(project_id, queue) and not allow_missing:
            raise _queue_not_found(queue)

    async def _session(self, project_id: UUID, session_id: str) -> SessionRow:
        row = await self._sessions.get(session_key(project_id, session_id), project_id)
        if row is None:
            raise session_not_found(session_id)
        return row

    async def _check_known(self, project_id: UUID, queue: str) -> None:
        if not await self._store.has_queue(project_id, queue):
            raise _queue_not_found(queue)


def choose(standing: QueueState, max_messages: int) -> Ranges:
    """What to lease: messages that are pending again, else the next ones."""
    if standing.again:
        return ranges_of(standing.again[:max_messages])
    first, last = standing.done_seq + 1, min(standing.last_seq, standing.done_seq + max_messages)
    return [(first, last)] if first <= last else []


def ranges_of(seqs: Sequence[int]) -> Ranges:
    """Ascending seqs as ranges."""
    ranges: Ranges = []
    for seq in seqs:
        if ranges and ranges[-1][1] == seq - 1:
            ranges[-1] = (ranges[-1][0], seq)
        else:
            ranges.append((seq, seq))
    return ranges


def decide(
    held: HeldLease,
    through_seq: int | None,
    failures: Sequence[tuple[int, str]],
    *,
    keep_lease: bool,
) -> Acknowledgement:
    """What an acknowledgement of a lease comes to. Raises: Fault INVALID_FIELD."""
    last = held.ranges[-1][1]
    through = last if through_seq is None else through_seq
    if through > last:
        raise invalid("through_seq", f"is {through}; the lease ends with {last}")
    done = [(first, min(last, through)) for first, last in held.ranges if first <= through]
    firsts = [first for first, _ in done]
    errors: dict[int, str] = {}
    for i, (seq, error) in enumerate(failures):
        at = bisect(firsts, seq) - 1
        if at < 0 or seq > done[at][1]:
            raise invalid(
                f"failures[{i}].seq",
                f"is {seq}, which is not among the messages of the lease up to through_seq",
            )
        if seq in errors:
            raise invalid(f"failures[{i}].seq", f"is {seq}, as an earlier one is")
        # PostgreSQL takes no NUL.
        errors[seq] = error[:MAX_ERROR_CHARACTERS].replace("\0", "\N{REPLACEMENT CHARACTER}")
    rest = (
        [(max(first, through + 1), last) for first, last in held.ranges if last > through]
        if keep_lease
        else []
    )
    return Acknowledgement(done, errors, rest)


def counts_by_status(counts: Counts) -> Mapping[str, int]:
    """Pending, running, success and failed messages: together all there are."""
    return {
        "pending": counts.messages - counts.done + counts.again - counts.leased,
        "running": counts.leased,
        "success": counts.done - counts.again - counts.failed,
        "failed": counts.failed,
    }


def encode_lease_id(ref: LeaseRef) -> str:
    """Names the lease; its UUID is what cannot be guessed."""
    return pagination.encode_token(_LEASE, ref.key.hex, ref.log.hex, ref.queue, ref.lease_id.hex)


def decode_lease_id(lease_id: str) -> LeaseRef:
    """Raises: Fault INVALID_FIELD for what no server made."""
    if not lease_id:
        raise invalid("lease_id", "is required")
    key, log, queue, random = pagination.decode_token(
        lease_id, _LEASE, UUID, UUID, _queue, UUID, field="lease_id", reason="INVALID_FIELD"
    )
    return LeaseRef(key, log, queue, random)


def _queue(value: Any) -> str:
    try:
        return _check_queue(value)
    except Fault as fault:
        raise ValueError(value) from fault


def _check_queue(queue: str) -> str:
    if not queue:
        raise invalid("queue", "is required")
    if not _QUEUE.fullmatch(queue):
        raise invalid("queue", 'must be 1 to 64 characters of a-z, 0-9, "-" and "_"')
    return queue


def _check_which(which: RequeueSelector) -> None:
    if which.seqs is not None:
        if not 1 <= len(which.seqs) <= MAX_REQUEUED:
            raise invalid(
                "seqs.seqs", f"has {len(which.seqs)} seqs; 1 to {MAX_REQUEUED} are allowed"
            )
        known: set[int] = set()
        for i, seq in enumerate(which.seqs):
            if seq < 1:
                raise invalid(f"seqs.seqs[{i}]", f"is {seq}; seqs begin with 1")
            if seq in known:
                raise invalid(f"seqs.seqs[{i}]", f"is {seq}, as an earlier one is")
            known.add(seq)
    elif which.from_seq is not None:
        if which.from_seq < 1:
            raise invalid("from_seq", f"is {which.from_seq}; seqs begin with 1")
    elif which.failed is None:
        raise invalid("which", "is required: set failed, from_seq or seqs")
    elif not which.failed:
        raise invalid("failed", "must be true where it is set")


def _bounded(field: str, value: int, default: int, most: int) -> int:
    if not 0 <= value <= most:
        raise invalid(field, f"is {value}; 1 to {most} are allowed, 0 = {default}")
    return value or default


def _lease_ms(lease_ms: int | None) -> int:
    if lease_ms is None:
        return DEFAULT_LEASE_MS
    if not MIN_LEASE_MS <= lease_ms <= MAX_LEASE_MS:
        raise invalid("lease_duration", f"is {lease_ms} ms; from 1 second to 1 hour are allowed")
    return lease_ms


def _queue_not_found(queue: str) -> Fault:
    return Fault(
        "QUEUE_NOT_FOUND",
        f"the project has no queue {queue!r}; the first lease of messages makes it",
        metadata={"queue": queue},
    )


def _lease_lost(lease_id: str) -> Fault:
    return Fault(
        "LEASE_LOST",
        "the lease is not held any more: it ran out and another worker has its messages, or it was acknowledged, or the session is gone",
        metadata={"lease_id": lease_id},
    )
