"""Acknowledgements of leased messages, and messages to process again."""

from typing import Any

import grpc
import pytest

from sessiond.v1 import processing_service_pb2 as pb

from ..support.queues import (
    Query,
    ack,
    counts,
    failed,
    fill,
    lease,
    lease_one,
    ranges,
    requeue,
    run_out,
    wire_ack,
)
from ..support.wire import Wire, error_of, openai


class TestAcknowledge:
    async def test_a_part_of_a_lease_can_be_acknowledged(self, wire: Wire) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire), 4)
        assert await counts(wire) == (6, 0, 4, 0)
        again = await lease_one(wire)
        assert (ranges(again), again.attempt) == ([(5, 10)], 1)

    async def test_acknowledging_nothing_releases_the_messages(self, wire: Wire) -> None:
        await fill(wire)
        for attempt in (1, 2, 3):
            leased = await lease_one(wire)
            assert (ranges(leased), leased.attempt) == ([(1, 10)], attempt)
            await ack(wire, leased, 0)
            assert await counts(wire) == (10, 0, 0, 0)
        # Progress resets the attempts.
        await ack(wire, await lease_one(wire), 1)
        assert (await lease_one(wire)).attempt == 1

    async def test_a_through_seq_before_the_lease_acknowledges_nothing(self, wire: Wire) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire), 5)
        await ack(wire, await lease_one(wire), 3)
        assert ranges(await lease_one(wire)) == [(6, 10)]

    async def test_failures_do_not_stop_the_queue(self, wire: Wire) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire), 5, {2: "two", 5: "x" * 2000})
        assert await counts(wire) == (5, 0, 3, 2)
        assert await failed(wire) == {2: "two", 5: "x" * 1024}
        await ack(wire, await lease_one(wire), failures={10: "nul \0 and\nline"})
        assert await counts(wire) == (0, 0, 7, 3)
        assert (await failed(wire))[10] == "nul \ufffd and\nline"
        assert await lease(wire) == []

    async def test_keep_lease_keeps_the_rest_leased(self, wire: Wire) -> None:
        await fill(wire)
        leased = await lease_one(wire)
        await ack(wire, leased, 3, {1: "e"}, keep_lease=True)
        assert await counts(wire) == (0, 7, 2, 1)
        assert await lease(wire) == []
        await ack(wire, leased, 3, keep_lease=True)
        assert ranges(
            await wire.processing.ExtendLease(pb.ExtendLeaseRequest(lease_id=leased.lease_id))
        ) == [(4, 10)]
        await ack(wire, leased, 0, keep_lease=True)
        await ack(wire, leased, 6, keep_lease=True)
        assert await counts(wire) == (0, 4, 5, 1)
        # An acknowledgement of the last message ends the lease, even with keep_lease.
        await ack(wire, leased, keep_lease=True)
        assert await counts(wire) == (0, 0, 9, 1)
        assert (await error_of(wire_ack(wire, leased))).reason == "LEASE_LOST"

    async def test_messages_appended_during_a_lease_are_leased_next(self, wire: Wire) -> None:
        await fill(wire, count=2)
        leased = await lease_one(wire)
        await wire.store("one", "x", "y")
        await ack(wire, leased)
        assert ranges(await lease_one(wire)) == [(3, 4)]

    async def test_a_second_acknowledgement_is_refused(self, wire: Wire) -> None:
        await fill(wire)
        leased = await lease_one(wire)
        await ack(wire, leased)
        error = await error_of(wire_ack(wire, leased))
        assert (error.code, error.reason, error.metadata["lease_id"]) == (
            grpc.StatusCode.ABORTED,
            "LEASE_LOST",
            leased.lease_id,
        )

    async def test_an_expired_lease_can_be_acknowledged(self, wire: Wire, query: Query) -> None:
        await fill(wire)
        leased = await lease_one(wire)
        run_out(query)
        assert await counts(wire) == (10, 0, 0, 0)
        await ack(wire, leased)
        assert await counts(wire) == (0, 0, 10, 0)

    async def test_a_lease_that_was_taken_over_cannot_be_acknowledged(
        self, wire: Wire, query: Query
    ) -> None:
        await fill(wire)
        lost = await lease_one(wire)
        run_out(query)
        taken = await lease_one(wire)
        assert taken.attempt == 2
        assert (await error_of(wire_ack(wire, lost))).reason == "LEASE_LOST"
        assert await counts(wire) == (0, 10, 0, 0)
        await ack(wire, taken)

    @pytest.mark.parametrize(
        ("through_seq", "failures", "field"),
        [
            (-1, [], "through_seq"),
            (11, [], "through_seq"),
            (5, [(6, "")], "failures[0].seq"),
            (5, [(4, ""), (0, "")], "failures[1].seq"),
            (5, [(2, "")], "failures[0].seq"),
            (None, [(11, "")], "failures[0].seq"),
            (None, [(7, "a"), (7, "b")], "failures[1].seq"),
            (0, [(3, "")], "failures[0].seq"),
        ],
    )
    async def test_malformed_requests_change_nothing(
        self, wire: Wire, through_seq: int | None, failures: list[tuple[int, str]], field: str
    ) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire), 2)
        leased = await lease_one(wire)
        request = pb.AcknowledgeMessagesRequest(lease_id=leased.lease_id, through_seq=through_seq)
        for seq, error in failures:
            request.failures.add(seq=seq, error=error)
        refused = await error_of(wire.processing.AcknowledgeMessages(request))
        assert (refused.code, refused.reason, list(refused.fields)) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
            [field],
        )
        assert await counts(wire) == (0, 8, 2, 0)
        await ack(wire, leased)


class TestRequeue:
    async def test_failed_messages_are_processed_again(self, wire: Wire) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire), failures={1: "a", 2: "b", 3: "c", 7: "d"})
        assert await requeue(wire, failed=True) == 4
        assert await requeue(wire, failed=True) == 0
        assert await counts(wire) == (4, 0, 6, 0)
        assert await failed(wire) == {}
        await wire.store("one", "new")
        leased = await lease_one(wire)
        assert (ranges(leased), leased.attempt) == ([(1, 3), (7, 7)], 1)
        assert await counts(wire) == (1, 4, 6, 0)
        await ack(wire, leased, failures={2: "again"})
        assert await counts(wire) == (1, 0, 9, 1)
        assert await failed(wire) == {2: "again"}
        assert ranges(await lease_one(wire)) == [(11, 11)]

    async def test_messages_by_seq_are_processed_again(self, wire: Wire) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire), 8, {4: "e"})
        assert await requeue(wire, seqs=[9, 8, 4, 2, 3, 10]) == 4
        assert await requeue(wire, seqs=[2, 5]) == 1
        assert await counts(wire) == (7, 0, 3, 0)
        first = await lease_one(wire, max_messages=2)
        assert ranges(first) == [(2, 3)]
        # Leased messages stay leased.
        assert await requeue(wire, seqs=[2, 3, 1]) == 1
        assert await counts(wire) == (6, 2, 2, 0)
        await ack(wire, first)
        second = await lease_one(wire)
        assert ranges(second) == [(1, 1), (4, 5), (8, 8)]
        await ack(wire, second, 4, keep_lease=True)
        assert await counts(wire) == (2, 2, 6, 0)
        await ack(wire, second, 5)
        third = await lease_one(wire)
        assert ranges(third) == [(8, 8)]
        await ack(wire, third)
        assert ranges(await lease_one(wire)) == [(9, 10)]

    async def test_a_failure_between_the_ranges_is_refused(self, wire: Wire) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire))
        await requeue(wire, seqs=[2, 6])
        leased = await lease_one(wire)
        error = await error_of(
            wire.processing.AcknowledgeMessages(
                pb.AcknowledgeMessagesRequest(
                    lease_id=leased.lease_id, failures=[pb.ProcessingFailure(seq=4)]
                )
            )
        )
        assert list(error.fields) == ["failures[0].seq"]
        await ack(wire, leased, 4)
        assert ranges(await lease_one(wire)) == [(6, 6)]

    async def test_all_messages_from_a_seq_on_are_processed_again(self, wire: Wire) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire), failures={2: "a", 9: "b"})
        assert await requeue(wire, seqs=[8]) == 1
        # The five are 5, 6, 7, 9 and 10, because 8 is pending already.
        assert await requeue(wire, from_seq=5) == 5
        assert await counts(wire) == (6, 0, 3, 1)
        assert await failed(wire) == {2: "a"}
        assert ranges(await lease_one(wire)) == [(5, 10)]
        assert await requeue(wire, from_seq=11) == 0

    async def test_requeueing_from_a_seq_ends_a_lease_of_these_messages(self, wire: Wire) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire), 4)
        leased = await lease_one(wire)
        assert await requeue(wire, from_seq=3) == 8
        assert await counts(wire) == (8, 0, 2, 0)
        assert (await error_of(wire_ack(wire, leased))).reason == "LEASE_LOST"
        leased = await lease_one(wire)
        assert (ranges(leased), leased.attempt) == ([(3, 10)], 1)
        # None of these messages is processed, but a worker has leased them.
        assert await requeue(wire, from_seq=8) == 8
        assert (await error_of(wire_ack(wire, leased))).reason == "LEASE_LOST"

    async def test_requeueing_from_a_seq_leaves_a_lease_of_others(self, wire: Wire) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire))
        await requeue(wire, seqs=[1, 2])
        leased = await lease_one(wire)
        assert await requeue(wire, from_seq=6) == 5
        assert await counts(wire) == (5, 2, 3, 0)
        await ack(wire, leased)
        assert await counts(wire) == (5, 0, 5, 0)
        await requeue(wire, seqs=[1, 2])
        leased = await lease_one(wire)
        assert await requeue(wire, from_seq=2) == 5
        assert await counts(wire) == (10, 0, 0, 0)

    async def test_unprocessed_messages_are_not_counted(self, wire: Wire) -> None:
        await lease(wire)
        await fill(wire)
        assert (
            await requeue(wire, failed=True)
            == await requeue(wire, from_seq=1)
            == await requeue(wire, seqs=[1])
            == 0
        )
        assert await counts(wire) == (10, 0, 0, 0)
        assert ranges(await lease_one(wire)) == [(1, 10)]

    async def test_10_000_seqs_are_requeued(self, wire: Wire) -> None:
        await wire.create("one")
        await wire.import_("one", [[openai("x")] * 1000] * 20)
        await ack(wire, await lease_one(wire, max_messages=10_000))
        await ack(wire, await lease_one(wire, max_messages=10_000))
        odd = list(range(1, 20_000, 2))
        assert await requeue(wire, seqs=odd) == 10_000
        leased = await lease_one(wire, max_messages=10_000)
        assert ranges(leased) == [(seq, seq) for seq in odd]
        await ack(wire, leased, failures=dict.fromkeys(odd[:600], "e"))
        assert await counts(wire) == (0, 0, 19_400, 600)
        assert len(await failed(wire)) == 600

    @pytest.mark.parametrize(
        ("which", "field"),
        [
            ({}, "which"),
            ({"failed": False}, "failed"),
            ({"from_seq": 0}, "from_seq"),
            ({"from_seq": -3}, "from_seq"),
            ({"seqs": []}, "seqs.seqs"),
            ({"seqs": [1] * 10_001}, "seqs.seqs"),
            ({"seqs": [1, 0]}, "seqs.seqs[1]"),
            ({"seqs": [1, 2, 11]}, "seqs.seqs[2]"),
            ({"seqs": [3, 3]}, "seqs.seqs[1]"),
        ],
    )
    async def test_malformed_requests_name_the_field(
        self, wire: Wire, which: dict[str, Any], field: str
    ) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire))
        if "seqs" in which:
            which = {"seqs": pb.SeqList(seqs=which["seqs"])}
        error = await error_of(
            wire.processing.RequeueMessages(
                pb.RequeueMessagesRequest(queue="q", session_id="one", **which)
            )
        )
        assert (error.reason, list(error.fields)) == ("INVALID_FIELD", [field])
        assert await counts(wire) == (0, 0, 10, 0)
