"""What the server says about queues, and what a worker does with their messages."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from sessiond._protocol.times import from_timestamp
from sessiond._types.message import Message
from sessiond.v1 import processing_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class Lease:
    """Messages of one session that this worker alone may process, until the lease ends."""

    lease_id: str
    """Names the lease."""
    queue: str
    """The queue that it belongs to."""
    session_id: str
    """The session of the messages."""
    ranges: list[tuple[int, int]]
    """The messages' seqs as (first, last), ascending: one range, where nothing was re-queued."""
    expires_at: datetime
    """When it ends unless it is extended, in UTC."""
    attempt: int
    """How often these messages were leased, this time included: 1 = for the first time."""

    @property
    def first_seq(self) -> int:
        """The first message's seq."""
        return self.ranges[0][0]

    @property
    def last_seq(self) -> int:
        """The last message's seq."""
        return self.ranges[-1][1]

    @property
    def message_count(self) -> int:
        """How many messages are leased."""
        return sum(last - first + 1 for first, last in self.ranges)

    @property
    def seqs(self) -> list[int]:
        """The messages' seqs, ascending."""
        return [seq for first, last in self.ranges for seq in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class ProcessingCounts:
    """How many messages are in which status. Together they are all messages."""

    pending: int
    """Not processed yet, or to be processed again."""
    running: int
    """Leased."""
    success: int
    """Processed."""
    failed: int
    """Given up on."""


@dataclass(frozen=True, slots=True)
class FailedMessage:
    """A message that a worker gave up on."""

    seq: int
    """Its seq."""
    error: str
    """Why, for people to read."""


Failures: TypeAlias = Mapping[int, str] | Iterable[FailedMessage]
Handler: TypeAlias = Callable[[Lease, list[Message]], object]


def lease_of(lease: pb.Lease) -> Lease:
    ranges = [(r.first_seq, r.last_seq) for r in lease.ranges]
    return Lease(
        lease.lease_id,
        lease.queue,
        lease.session_id,
        ranges,
        from_timestamp(lease.expire_time),
        lease.attempt,
    )


def counts_of(counts: pb.ProcessingCounts) -> ProcessingCounts:
    return ProcessingCounts(counts.pending, counts.running, counts.success, counts.failed)


def seconds_of(duration: timedelta | float) -> float:
    """Of a timedelta, or of seconds as they are."""
    return duration.total_seconds() if isinstance(duration, timedelta) else duration
