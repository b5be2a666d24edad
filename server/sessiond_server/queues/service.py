"""The rules of the processing queues."""

import asyncio
import re
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sessiond_server.core import pagination
from sessiond_server.core.errors import Fault, invalid, session_not_found
from sessiond_server.core.ids import is_incarnation, session_key
from sessiond_server.core.limits import MAX_NAME_CHARACTERS
from sessiond_server.core.pagination import Page, Paging
from sessiond_server.core.validation import check_request_id, check_session_id, check_text
from sessiond_server.db.idempotency import DuplicateRequest, RequestRecord, content_hash
from sessiond_server.queues.store.leases import LeaseStore
from sessiond_server.queues.store.progress import Acknowledgement, Counts, ProgressStore
from sessiond_server.queues.store.queues import QueueStore, TooManyQueues
from sessiond_server.queues.store.rows import Leased, LeaseRef, Ranges
from sessiond_server.sessions.store.sessions import SessionRow, SessionStore

# The page "Limits" of the reference shows these comments.
MAX_QUEUES = 16  # queues of a project
MAX_SESSIONS = 100  # leases that one LeaseMessages returns, each of one session
DEFAULT_MESSAGES = 100  # messages of a lease
MAX_MESSAGES = 10_000  # messages of a lease
MAX_REQUEUED = 10_000  # seqs that one RequeueMessages names
DEFAULT_LEASE_MS = 60_000  # duration of a lease
MIN_LEASE_MS = 1_000  # duration of a lease
MAX_LEASE_MS = 3_600_000  # duration of a lease
MAX_WAIT_MS = 30_000  # how long a LeaseMessages call may wait for messages
MAX_ERROR_CHARACTERS = 1_024  # error of a failed message; longer ones are cut

# Interval at which a waiting worker checks for work. It holds no connection in between.
POLL_INTERVAL_S = 0.25
# A wait ends this long before the default deadline, which applies to callers that set none.
DEADLINE_MARGIN_S = 1.0

_QUEUE = re.compile(r"[a-z0-9_-]{1,64}")
_LEASE = "lease"


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """A worker's request for messages.

    Attributes:
        queue: name of the queue.
        worker: name of the worker, which may be empty.
        max_sessions: maximum number of leases; 0 = 1.
        max_messages: maximum number of messages in each lease; 0 = DEFAULT_MESSAGES.
        lease_ms: duration of the leases in milliseconds; None = DEFAULT_LEASE_MS.
        wait_ms: how long to wait for messages, in milliseconds; None = do not wait.
    """

    queue: str
    worker: str
    max_sessions: int
    max_messages: int
    lease_ms: int | None
    wait_ms: int | None


@dataclass(frozen=True, slots=True)
class RequeueSelector:
    """Selects messages to process again. Exactly one attribute is not None.

    Attributes:
        failed: all failed messages.
        from_seq: all messages from this seq on.
        seqs: the messages with these seqs.
    """

    failed: bool | None
    from_seq: int | None
    seqs: Sequence[int] | None


class Processing:
    """The rules of the queues. Methods take the caller's project_id."""

    def __init__(
        self,
        queues: QueueStore,
        leases: LeaseStore,
        progress: ProgressStore,
        sessions: SessionStore,
        *,
        is_draining: Callable[[], bool],
        default_deadline_s: float,
    ) -> None:
        """Create the service.

        Args:
            queues: store of the queues.
            leases: store of the leases.
            progress: store of the progress in the queues.
            sessions: store of the sessions.
            is_draining: returns whether this server is draining, in which case no worker may wait.
            default_deadline_s: deadline of calls that set none. Unit: seconds.
        """
        self._queues = queues
        self._leases = leases
        self._progress = progress
        self._sessions = sessions
        self._is_draining = is_draining
        self._max_wait_s = max(0.0, default_deadline_s - DEADLINE_MARGIN_S)

    async def lease(self, project_id: UUID, request: LeaseRequest) -> list[Leased]:
        """Lease messages. If there are none, wait for some if the request allows it.

        Raises:
            Fault: INVALID_FIELD; LIMIT_EXCEEDED if the queue is new and the project already has
                MAX_QUEUES.
        """
        check_queue(request.queue)
        check_text("worker", request.worker, MAX_NAME_CHARACTERS)
        max_sessions = bounded("max_sessions", request.max_sessions, 1, MAX_SESSIONS)
        max_messages = bounded("max_messages", request.max_messages, DEFAULT_MESSAGES, MAX_MESSAGES)
        duration_ms = checked_lease_ms(request.lease_ms)
        wait_ms = request.wait_ms or 0
        if not 0 <= wait_ms <= MAX_WAIT_MS:
            raise invalid("wait", f"is {wait_ms} ms; from 0 to 30 seconds are allowed")
        clock = asyncio.get_running_loop().time
        end = clock() + min(wait_ms / 1000, self._max_wait_s)
        while True:
            try:
                leases = await self._leases.lease(
                    project_id,
                    request.queue,
                    worker=request.worker,
                    max_sessions=max_sessions,
                    max_messages=max_messages,
                    duration_ms=duration_ms,
                    max_queues=MAX_QUEUES,
                )
            except TooManyQueues:
                raise Fault(
                    "LIMIT_EXCEEDED",
                    f"the project has {MAX_QUEUES} queues, the maximum; delete one (DeleteQueue) "
                    f"to create {request.queue!r}",
                    metadata={"what": "queues", "limit": MAX_QUEUES},
                ) from None
            left = end - clock()
            if leases or left <= 0 or self._is_draining():
                return leases
            await asyncio.sleep(min(POLL_INTERVAL_S, left))

    async def extend(self, project_id: UUID, lease_id: str, lease_ms: int | None) -> Leased:
        """Extend a lease to lease_ms (None = DEFAULT_LEASE_MS) from now.

        Raises:
            Fault: LEASE_LOST; INVALID_FIELD.
        """
        ref = decode_lease_id(lease_id)
        leased = await self._leases.extend(ref, project_id, checked_lease_ms(lease_ms))
        if leased is None:
            raise _lease_lost(lease_id)
        return leased

    async def acknowledge(
        self,
        project_id: UUID,
        lease_id: str,
        through_seq: int | None,
        failures: Sequence[tuple[int, str]],
        *,
        keep_lease: bool,
        request_id: str = "",
    ) -> None:
        """Record that leased messages have been processed.

        Args:
            project_id: the caller's project.
            lease_id: id of the lease.
            through_seq: seq of the last processed message; None = all messages of the lease.
            failures: pairs of (seq, error), one for each failed message.
            keep_lease: whether to keep the remaining messages leased instead of releasing them.
            request_id: makes the acknowledgement safe to repeat; "" for none.

        Raises:
            Fault: LEASE_LOST; INVALID_FIELD; REQUEST_ID_REUSED.
        """
        ref = decode_lease_id(lease_id)
        check_request_id(request_id)
        content = ("acknowledge", lease_id, through_seq, list(failures), keep_lease)
        try:
            is_done = await self._progress.acknowledge(
                ref,
                project_id,
                _record(ref.key, request_id, *content),
                lambda leased, is_cut: decide(
                    leased, through_seq, failures, keep_lease=keep_lease, is_cut=is_cut
                ),
            )
        except DuplicateRequest:
            return
        if not is_done:
            raise _lease_lost(lease_id)

    async def requeue(
        self,
        project_id: UUID,
        queue: str,
        session_id: str,
        selector: RequeueSelector,
        request_id: str = "",
    ) -> int:
        """Make messages of a session pending again.

        Returns:
            The number of messages that became pending.

        Raises:
            Fault: SESSION_NOT_FOUND; QUEUE_NOT_FOUND; INVALID_FIELD; REQUEST_ID_REUSED.
        """
        _check_selector(selector)
        check_request_id(request_id)
        session = await self._session(project_id, queue, session_id)
        chosen = (selector.failed, selector.from_seq, list(selector.seqs or ()))
        record = _record(session.key, request_id, "requeue", queue, *chosen)
        try:
            return await self._requeue(project_id, queue, session, selector, record)
        except DuplicateRequest as duplicate:
            return int(duplicate.result or 0)

    async def _requeue(
        self,
        project_id: UUID,
        queue: str,
        session: SessionRow,
        selector: RequeueSelector,
        record: RequestRecord | None,
    ) -> int:
        row = session.key, session.log, project_id, queue
        if selector.from_seq is not None:
            return await self._progress.requeue_from(*row, selector.from_seq, record)
        for i, seq in enumerate(selector.seqs or ()):
            if seq > session.last_seq:
                raise invalid(
                    f"seqs.seqs[{i}]", f"is {seq}; the session's last_seq is {session.last_seq}"
                )
        return await self._progress.requeue(*row, selector.seqs, record)

    async def counts(self, project_id: UUID, queue: str, session_id: str) -> Counts:
        """Return the counts of a session, or of the whole project if session_id is "".

        Raises:
            Fault: SESSION_NOT_FOUND; QUEUE_NOT_FOUND; INVALID_FIELD.
        """
        if session_id:
            session = await self._session(project_id, queue, session_id)
            return await self._progress.counts(project_id, queue, session.key)
        check_queue(queue)
        await self._check_known(project_id, queue)
        return await self._progress.counts(project_id, queue, None)

    async def failures(
        self, project_id: UUID, queue: str, session_id: str, page_size: int, page_token: str
    ) -> Page[tuple[int, str]]:
        """Return a page of a session's failed messages as (seq, error), ordered by seq.

        Raises:
            Fault: SESSION_NOT_FOUND; QUEUE_NOT_FOUND; INVALID_FIELD; INVALID_PAGE_TOKEN.
        """
        position_of = (pagination.seq, pagination.text)
        query = ("failures", queue, session_id)
        paging = Paging(page_size, page_token, query, *position_of, defaults=("",))
        after, incarnation = paging.after or (0, "")
        session = await self._session(project_id, queue, session_id)
        if not is_incarnation(incarnation, session.log):
            raise session_not_found(session_id)
        # One more row than requested shows whether there is a next page.
        found = await self._progress.failures(
            session.key, project_id, queue, after, paging.size + 1
        )
        return paging.page(found, lambda failure: (failure[0], session.log.hex))

    async def queues(self, project_id: UUID) -> list[str]:
        """Return the names of the project's queues, sorted."""
        return await self._queues.list(project_id)

    async def delete_queue(self, project_id: UUID, queue: str, *, allow_missing: bool) -> None:
        """Delete a queue and its progress.

        Raises:
            Fault: QUEUE_NOT_FOUND unless allow_missing is true; INVALID_FIELD.
        """
        check_queue(queue)
        if not await self._queues.delete(project_id, queue) and not allow_missing:
            raise _queue_not_found(queue)

    async def _session(self, project_id: UUID, queue: str, session_id: str) -> SessionRow:
        """Return a session, if it exists and the project has the queue."""
        check_session_id(session_id)
        check_queue(queue)
        session = await self._sessions.get(session_key(project_id, session_id), project_id)
        if session is None:
            raise session_not_found(session_id)
        await self._check_known(project_id, queue)
        return session

    async def _check_known(self, project_id: UUID, queue: str) -> None:
        if not await self._queues.has(project_id, queue):
            raise _queue_not_found(queue)


def _record(key: UUID, request_id: str, *content: object) -> RequestRecord | None:
    return RequestRecord(key, request_id, content_hash(*content)) if request_id else None


def decide(
    leased: Ranges,
    through_seq: int | None,
    failures: Sequence[tuple[int, str]],
    *,
    keep_lease: bool,
    is_cut: bool = False,
) -> Acknowledgement | None:
    """Return the changes that an acknowledgement makes; None if it covers removed messages.

    Args:
        leased: the ranges of the lease; at least one.
        through_seq: as in Processing.acknowledge.
        failures: as in Processing.acknowledge.
        keep_lease: as in Processing.acknowledge.
        is_cut: whether a rewind removed messages from the end of the lease.

    Raises:
        Fault: INVALID_FIELD if a seq is not in the lease, or occurs twice.
    """
    end = leased[-1][1]
    if is_cut and (
        through_seq is None or through_seq > end or any(seq > end for seq, _ in failures)
    ):
        return None
    through = end if through_seq is None else through_seq
    if not 0 <= through <= end:
        raise invalid(
            "through_seq", f"is {through}; 0 to {end}, the last seq of the lease, are allowed"
        )
    done = [(first, min(last, through)) for first, last in leased if first <= through]
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
            raise invalid(f"failures[{i}].seq", f"repeats seq {seq}")
        # PostgreSQL's text type cannot hold NUL.
        errors[seq] = error[:MAX_ERROR_CHARACTERS].replace("\0", "\N{REPLACEMENT CHARACTER}")
    rest = [(max(first, through + 1), last) for first, last in leased if last > through]
    return Acknowledgement(done, errors, rest if keep_lease else [])


def encode_lease_id(ref: LeaseRef) -> str:
    """Return the lease_id of a lease. Its random UUID makes it impossible to guess."""
    return pagination.encode_token(_LEASE, ref.key.hex, ref.log.hex, ref.queue, ref.lease_id.hex)


def decode_lease_id(lease_id: str) -> LeaseRef:
    """Return the lease that a lease_id refers to.

    Raises:
        Fault: INVALID_FIELD if the lease_id is malformed.
    """
    if not lease_id:
        raise invalid("lease_id", "is required")
    parsers = UUID, UUID, pagination.text, UUID
    return LeaseRef(
        *pagination.decode_token(
            lease_id, _LEASE, *parsers, field="lease_id", reason="INVALID_FIELD"
        )
    )


def check_queue(queue: str) -> None:
    if not queue:
        raise invalid("queue", "is required")
    if not _QUEUE.fullmatch(queue):
        raise invalid("queue", 'must be 1 to 64 characters of a-z, 0-9, "-" and "_"')


def _check_selector(selector: RequeueSelector) -> None:
    if selector.seqs is not None:
        if not 1 <= len(selector.seqs) <= MAX_REQUEUED:
            raise invalid(
                "seqs.seqs", f"has {len(selector.seqs)} seqs; 1 to {MAX_REQUEUED} are allowed"
            )
        known: set[int] = set()
        for i, seq in enumerate(selector.seqs):
            if seq < 1:
                raise invalid(f"seqs.seqs[{i}]", f"is {seq}; seqs begin with 1")
            if seq in known:
                raise invalid(f"seqs.seqs[{i}]", f"repeats seq {seq}")
            known.add(seq)
    elif selector.from_seq is not None:
        if selector.from_seq < 1:
            raise invalid("from_seq", f"is {selector.from_seq}; seqs begin with 1")
    elif selector.failed is None:
        raise invalid("which", "is required: set failed, from_seq or seqs")
    elif not selector.failed:
        raise invalid("failed", "must be true if it is set")


def bounded(field: str, value: int, default: int, most: int) -> int:
    if not 0 <= value <= most:
        raise invalid(field, f"is {value}; 1 to {most} are allowed, 0 = {default}")
    return value or default


def checked_lease_ms(lease_ms: int | None) -> int:
    if lease_ms is None:
        return DEFAULT_LEASE_MS
    if not MIN_LEASE_MS <= lease_ms <= MAX_LEASE_MS:
        raise invalid("lease_duration", f"is {lease_ms} ms; from 1 second to 1 hour are allowed")
    return lease_ms


def _queue_not_found(queue: str) -> Fault:
    return Fault(
        "QUEUE_NOT_FOUND",
        f"the project has no queue {queue!r}; the first lease of messages from a queue creates it",
        metadata={"queue": queue},
    )


def _lease_lost(lease_id: str) -> Fault:
    return Fault(
        "LEASE_LOST",
        "the lease has ended: it ran out and another worker has its messages, or it was "
        "acknowledged, or the session is gone",
        metadata={"lease_id": lease_id},
    )
