"""Repeated acknowledgements and requeues with the same request_id."""

import pytest

from sessiond.v1 import processing_service_pb2 as pb

from ..support.queues import ack, lease, lease_one
from ..support.wire import Wire, error_of


@pytest.fixture
async def five(wire: Wire) -> Wire:
    await wire.create("one")
    await wire.store("one", *"abcde")
    return wire


async def counts(wire: Wire) -> tuple[int, int, int, int]:
    request = pb.GetProcessingCountsRequest(queue="q", session_id="one")
    found = await wire.processing.GetProcessingCounts(request)
    return found.pending, found.running, found.success, found.failed


async def test_an_acknowledgement_whose_answer_was_lost_is_repeated(five: Wire) -> None:
    leased = await lease_one(five)
    for _ in range(2):
        await ack(five, leased, 3, {2: "bad"}, request_id="a")
    assert await counts(five) == (2, 0, 2, 1)
    assert (await error_of(ack(five, leased, 3))).reason == "LEASE_LOST"


async def test_a_repetition_does_not_touch_the_lease_of_the_next_worker(five: Wire) -> None:
    first = await lease_one(five, max_messages=2)
    await ack(five, first, request_id="a")
    await lease_one(five, max_messages=2)
    await ack(five, first, request_id="a")
    assert await counts(five) == (1, 2, 2, 0)


async def test_a_kept_lease_is_acknowledged_once_for_each_id(five: Wire) -> None:
    leased = await lease_one(five)
    for through, request_id in ((1, "a"), (1, "a"), (2, "b"), (2, "b")):
        await ack(five, leased, through, {through: "bad"}, keep_lease=True, request_id=request_id)
    assert await counts(five) == (0, 3, 0, 2)


async def test_another_content_is_refused(five: Wire) -> None:
    leased = await lease_one(five)
    await ack(five, leased, 3, request_id="a")
    error = await error_of(ack(five, leased, 4, request_id="a"))
    assert (error.reason, list(error.fields)) == ("REQUEST_ID_REUSED", ["request_id"])


async def test_a_refused_acknowledgement_leaves_its_id_free(five: Wire) -> None:
    leased = await lease_one(five)
    assert (await error_of(ack(five, leased, 9, request_id="a"))).reason == "INVALID_FIELD"
    await ack(five, leased, 5, request_id="a")
    error = await error_of(ack(five, leased, 5, request_id="b"))
    assert error.reason == "LEASE_LOST"
    assert (await error_of(ack(five, leased, 5, request_id="b"))).reason == "LEASE_LOST"


async def test_requeueing_again_returns_the_first_number(five: Wire) -> None:
    await ack(five, await lease_one(five), 5, {2: "bad", 3: "bad"})
    request = pb.RequeueMessagesRequest(queue="q", session_id="one", from_seq=2, request_id="a")
    first = await five.processing.RequeueMessages(request)
    assert first.message_count == 4
    [leased] = await lease(five)
    await ack(five, leased)
    assert await five.processing.RequeueMessages(request) == first
    assert await counts(five) == (0, 0, 5, 0)
