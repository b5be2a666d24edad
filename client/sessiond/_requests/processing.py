"""Requests of queue workers."""

from collections.abc import Iterable, Mapping
from datetime import timedelta

from sessiond._protocol.times import to_duration
from sessiond._requests.fields import filled
from sessiond._types.processing import FailedMessage, Failures, Lease
from sessiond.errors import invalid_field
from sessiond.v1 import processing_service_pb2


def lease_messages(
    queue: str,
    *,
    worker: str,
    max_sessions: int,
    max_messages: int,
    lease_duration: timedelta | float,
    wait: timedelta | float | None,
) -> processing_service_pb2.LeaseMessagesRequest:
    request = filled(
        processing_service_pb2.LeaseMessagesRequest(),
        queue=queue,
        worker=worker,
        max_sessions=max_sessions,
        max_messages=max_messages,
    )
    request.lease_duration.CopyFrom(to_duration(lease_duration, "lease_duration"))
    if wait is not None:
        request.wait.CopyFrom(to_duration(wait, "wait"))
    return request


def extend_lease(
    lease: Lease, lease_duration: timedelta | float
) -> processing_service_pb2.ExtendLeaseRequest:
    return processing_service_pb2.ExtendLeaseRequest(
        lease_id=lease.lease_id, lease_duration=to_duration(lease_duration, "lease_duration")
    )


def acknowledge_messages(
    lease: Lease, through_seq: int | None, failures: Failures, keep_lease: bool
) -> processing_service_pb2.AcknowledgeMessagesRequest:
    request = filled(
        processing_service_pb2.AcknowledgeMessagesRequest(lease_id=lease.lease_id),
        through_seq=through_seq,
        keep_lease=keep_lease,
    )
    if isinstance(failures, Mapping):
        failures = [FailedMessage(seq, error) for seq, error in failures.items()]
    for i, failure in enumerate(failures):
        try:
            request.failures.add(seq=failure.seq, error=failure.error)
        except (AttributeError, TypeError, ValueError) as error:
            raise invalid_field(f"failures[{i}]", f"cannot be sent: {error}") from error
    return request


def requeue_messages(
    queue: str, session_id: str, *, failed: bool, from_seq: int | None, seqs: Iterable[int] | None
) -> processing_service_pb2.RequeueMessagesRequest:
    if failed + (from_seq is not None) + (seqs is not None) != 1:
        raise invalid_field("which", "is required: give exactly one of failed, from_seq and seqs")
    request = filled(
        processing_service_pb2.RequeueMessagesRequest(),
        queue=queue,
        session_id=session_id,
        failed=failed or None,
        from_seq=from_seq,
    )
    if seqs is not None:
        # An empty list is sent too: that it needs one is the server's to say.
        request.seqs.SetInParent()
        try:
            request.seqs.seqs.extend(seqs)
        except (TypeError, ValueError) as error:
            raise invalid_field("seqs", f"cannot be sent: {error}") from error
    return request
