"""Requests of queue workers. All raise InvalidField for a value that cannot be sent."""

from collections.abc import Iterable, Mapping
from datetime import timedelta

from sessiond._protocol.checks import listed
from sessiond._requests.fields import filled, put_items, request_id_or_new
from sessiond._types.processing import FailedMessage, Failures, Lease
from sessiond.errors import invalid_field
from sessiond.v1 import processing_service_pb2 as pb


def lease_messages(
    queue: str,
    *,
    worker: str,
    max_sessions: int,
    max_messages: int,
    lease_duration: timedelta | float,
    wait: timedelta | float | None,
) -> pb.LeaseMessagesRequest:
    return filled(
        pb.LeaseMessagesRequest(),
        queue=queue,
        worker=worker,
        max_sessions=max_sessions,
        max_messages=max_messages,
        lease_duration=lease_duration,
        wait=wait,
    )


def lease_id_of(lease: Lease) -> str:
    if not isinstance(lease, Lease):
        raise invalid_field("lease", f"must be a Lease, not {type(lease).__name__}")
    return lease.lease_id


def acknowledge_messages(
    lease: Lease, through_seq: int | None, failures: Failures, keep_lease: bool
) -> pb.AcknowledgeMessagesRequest:
    request = filled(
        pb.AcknowledgeMessagesRequest(),
        lease_id=lease_id_of(lease),
        through_seq=through_seq,
        keep_lease=keep_lease,
        request_id=request_id_or_new(None),
    )
    if isinstance(failures, Mapping):
        failures = [FailedMessage(seq, error) for seq, error in failures.items()]
    for i, failure in enumerate(listed(failures, "failures")):
        try:
            request.failures.add(seq=failure.seq, error=failure.error)
        except (AttributeError, TypeError, ValueError) as error:
            raise invalid_field(f"failures[{i}]", f"cannot be sent: {error}") from error
    return request


def requeue_messages(
    queue: str, session_id: str, *, failed: bool, from_seq: int | None, seqs: Iterable[int] | None
) -> pb.RequeueMessagesRequest:
    if bool(failed) + (from_seq is not None) + (seqs is not None) != 1:
        raise invalid_field("which", "is required: give exactly one of failed, from_seq and seqs")
    request = filled(
        pb.RequeueMessagesRequest(),
        queue=queue,
        session_id=session_id,
        failed=failed or None,  # False would select this option too.
        from_seq=from_seq,
        request_id=request_id_or_new(None),
    )
    if seqs is not None:
        # An empty list is also sent, so that the server refuses it.
        request.seqs.SetInParent()
        put_items(request.seqs.seqs, seqs, "seqs")
    return request
