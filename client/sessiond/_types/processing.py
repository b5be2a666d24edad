"""Leases of messages, and their processing statuses."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from sessiond._protocol.times import from_timestamp
from sessiond._types.message import Message
from sessiond.v1 import processing_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class Lease:
    """The exclusive right to process some messages of one session, until the lease expires."""

    lease_id: str
    """Identifies the lease."""
    queue: str
    """Name of the queue."""
    session_id: str
    """The id of the messages' session."""
    ranges: list[tuple[int, int]]
    """The messages' seqs as (first, last), ascending. One range unless messages were requeued."""
    expires_at: datetime
    """Time of expiry unless the lease is extended, in UTC."""
    attempt: int
    """How many times these messages were leased, this lease included. 1 = the first time."""

    @property
    def first_seq(self) -> int:
        """The seq of the first message."""
        return self.ranges[0][0]

    @property
    def last_seq(self) -> int:
        """The seq of the last message."""
        return self.ranges[-1][1]

    @property
    def message_count(self) -> int:
        """Number of leased messages."""
        return sum(last - first + 1 for first, last in self.ranges)

    @property
    def seqs(self) -> list[int]:
        """The messages' seqs, ascending."""
        return [seq for first, last in self.ranges for seq in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class ProcessingCounts:
    """Number of messages in each processing status. Their sum is the number of all messages."""

    pending: int
    """Not processed yet, or requeued."""
    running: int
    """Leased."""
    success: int
    """Processed."""
    failed: int
    """Reported as failed by a worker."""


@dataclass(frozen=True, slots=True)
class FailedMessage:
    """A message whose processing failed."""

    seq: int
    """The message's seq."""
    error: str
    """The cause, for people to read."""


Failures: TypeAlias = Mapping[int, str] | Iterable[FailedMessage]
Handler: TypeAlias = Callable[[Lease, list[Message]], object]


def lease_of(lease: pb.Lease) -> Lease:
    return Lease(
        lease.lease_id,
        lease.queue,
        lease.session_id,
        [(r.first_seq, r.last_seq) for r in lease.ranges],
        from_timestamp(lease.expire_time),
        lease.attempt,
    )


def counts_of(counts: pb.ProcessingCounts) -> ProcessingCounts:
    return ProcessingCounts(counts.pending, counts.running, counts.success, counts.failed)


def seconds_of(duration: timedelta | float) -> float:
    return duration.total_seconds() if isinstance(duration, timedelta) else duration
