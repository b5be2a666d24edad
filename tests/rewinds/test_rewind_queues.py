"""The effects of a rewind on the processing queues."""

import pytest

from sessiond.v1 import processing_service_pb2 as pb

from ..support.queues import ack, counts, failed, fill, lease, lease_one, ranges, requeue, wire_ack
from ..support.wire import Wire, error_of


async def test_messages_after_the_cut_are_pending_again(wire: Wire) -> None:
    await fill(wire)
    await ack(wire, await lease_one(wire))
    await wire.rewind("one", "x", "y", to_seq=6)
    assert await counts(wire) == (2, 0, 6, 0)
    assert ranges(await lease_one(wire)) == [(7, 8)]


async def test_failures_and_requeued_messages_after_the_cut_go(wire: Wire) -> None:
    await fill(wire)
    await ack(wire, await lease_one(wire), failures={3: "bad", 8: "worse"})
    await requeue(wire, seqs=[2, 9])
    await wire.rewind("one", to_seq=5)
    assert await failed(wire) == {3: "bad"}
    assert await counts(wire) == (1, 0, 3, 1)
    assert ranges(await lease_one(wire)) == [(2, 2)]


async def test_a_lease_of_removed_messages_is_lost(wire: Wire) -> None:
    await fill(wire)
    await ack(wire, await lease_one(wire, max_messages=6))
    leased = await lease_one(wire)
    assert ranges(leased) == [(7, 10)]
    await wire.rewind("one", "x", to_seq=6)
    assert (await error_of(wire_ack(wire, leased))).reason == "LEASE_LOST"
    again = await lease_one(wire)
    assert (ranges(again), again.attempt) == ([(7, 7)], 1)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"through_seq": 8},
        {"through_seq": 4, "failures": {7: "bad"}},
    ],
)
async def test_a_lease_loses_its_removed_messages(wire: Wire, fields: dict[str, object]) -> None:
    await fill(wire)
    leased = await lease_one(wire, max_messages=8)
    await wire.rewind("one", "x", "y", "z", to_seq=5)
    error = await error_of(ack(wire, leased, **fields))  # type: ignore[arg-type]
    assert error.reason == "LEASE_LOST"
    # The acknowledgement recorded nothing, and all remaining messages are pending.
    assert await counts(wire) == (8, 0, 0, 0)
    assert ranges(await lease_one(wire)) == [(1, 8)]


async def test_a_lease_keeps_the_messages_up_to_the_cut(wire: Wire) -> None:
    await fill(wire)
    leased = await lease_one(wire, max_messages=8)
    await wire.rewind("one", "x", to_seq=5)
    assert await lease(wire) == []
    extended = await wire.processing.ExtendLease(pb.ExtendLeaseRequest(lease_id=leased.lease_id))
    assert ranges(extended) == [(1, 5)]
    await ack(wire, leased, through_seq=3, keep_lease=True)
    await ack(wire, leased, through_seq=5)
    assert await counts(wire) == (1, 0, 5, 0)
    assert ranges(await lease_one(wire)) == [(6, 6)]


async def test_a_lease_up_to_the_cut_is_not_touched(wire: Wire) -> None:
    await fill(wire)
    leased = await lease_one(wire, max_messages=5)
    await wire.rewind("one", to_seq=5)
    await ack(wire, leased)
    assert await counts(wire) == (0, 0, 5, 0)
    assert await lease(wire) == []


async def test_ranges_after_the_cut_are_lost(wire: Wire) -> None:
    await fill(wire)
    await ack(wire, await lease_one(wire))
    await requeue(wire, seqs=[2, 3, 6, 9])
    leased = await lease_one(wire)
    assert ranges(leased) == [(2, 3), (6, 6), (9, 9)]
    await wire.rewind("one", to_seq=7)
    assert (await error_of(wire_ack(wire, leased))).reason == "LEASE_LOST"
    assert ranges(await lease_one(wire)) == [(2, 3), (6, 6)]
