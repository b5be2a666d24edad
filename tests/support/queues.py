"""Calls of ProcessingService."""

from collections.abc import Callable
from typing import Any

from sessiond.v1 import processing_service_pb2 as pb

from .wire import Wire

Query = Callable[..., list[tuple[Any, ...]]]


def asking(
    queue: str = "q", *, lease_s: float | None = None, wait_s: float | None = None, **fields: Any
) -> pb.LeaseMessagesRequest:
    request = pb.LeaseMessagesRequest(queue=queue, **fields)
    if lease_s is not None:
        request.lease_duration.FromMilliseconds(int(lease_s * 1000))
    if wait_s is not None:
        request.wait.FromMilliseconds(int(wait_s * 1000))
    return request


async def lease(wire: Wire, queue: str = "q", **fields: Any) -> list[pb.Lease]:
    return list((await wire.processing.LeaseMessages(asking(queue, **fields))).leases)


async def lease_one(wire: Wire, queue: str = "q", **fields: Any) -> pb.Lease:
    [one] = await lease(wire, queue, **fields)
    return one


def ranges(leased: pb.Lease) -> list[tuple[int, int]]:
    return [(r.first_seq, r.last_seq) for r in leased.ranges]


async def ack(
    wire: Wire,
    leased: pb.Lease | str,
    through_seq: int | None = None,
    failures: Any = (),
    **fields: Any,
) -> None:
    request = pb.AcknowledgeMessagesRequest(
        lease_id=leased if isinstance(leased, str) else leased.lease_id, **fields
    )
    if through_seq is not None:
        request.through_seq = through_seq
    for seq, error in dict(failures).items():
        request.failures.add(seq=seq, error=error)
    await wire.processing.AcknowledgeMessages(request)


def wire_ack(wire: Wire, leased: pb.Lease) -> Any:
    return wire.processing.AcknowledgeMessages(
        pb.AcknowledgeMessagesRequest(lease_id=leased.lease_id)
    )


async def requeue(
    wire: Wire,
    session_id: str = "one",
    queue: str = "q",
    *,
    seqs: list[int] | None = None,
    **which: Any,
) -> int:
    if seqs is not None:
        which["seqs"] = pb.SeqList(seqs=seqs)
    answer = await wire.processing.RequeueMessages(
        pb.RequeueMessagesRequest(queue=queue, session_id=session_id, **which)
    )
    return int(answer.message_count)


async def counts(
    wire: Wire, session_id: str = "one", queue: str = "q"
) -> tuple[int, int, int, int]:
    """Return pending, running, success, failed; check that they add up to all messages."""
    c = await wire.processing.GetProcessingCounts(
        pb.GetProcessingCountsRequest(queue=queue, session_id=session_id)
    )
    sessions = [await wire.get(session_id)] if session_id else await wire.list()
    assert c.pending + c.running + c.success + c.failed == sum(
        session.last_seq for session in sessions
    )
    return c.pending, c.running, c.success, c.failed


async def failed(
    wire: Wire, session_id: str = "one", queue: str = "q", page_size: int = 0
) -> dict[int, str]:
    request = pb.ListFailedMessagesRequest(queue=queue, session_id=session_id, page_size=page_size)
    found: dict[int, str] = {}
    while True:
        page = await wire.processing.ListFailedMessages(request)
        assert not page_size or len(page.failures) <= page_size
        found |= {failure.seq: failure.error for failure in page.failures}
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def fill(wire: Wire, session_id: str = "one", count: int = 10) -> None:
    await wire.create(session_id, get_or_create=True)
    await wire.store(session_id, *["x"] * count)


def run_out(query: Query) -> None:
    """Let all leases expire."""
    query(
        "UPDATE processing SET lease_until = now() - interval '1 s',"
        " ready_at = now() - interval '1 s' WHERE lease_id IS NOT NULL"
    )
