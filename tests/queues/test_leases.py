"""Leases of messages: their order, their duration, and waits for messages."""

import asyncio
import time
from collections import Counter
from typing import Any

import grpc
import pytest

from sessiond.v1 import processing_service_pb2 as pb
from sessiond_server.queues import service
from sessiond_server.server import Running, drain
from sessiond_server.settings import Settings

from ..support.queues import (
    Query,
    ack,
    asking,
    fill,
    lease,
    lease_one,
    ranges,
    run_out,
)
from ..support.waiting import PATIENCE_S, until_async
from ..support.wire import Wire, error_of


class TestLease:
    async def test_messages_are_leased_in_order_until_none_is_left(self, wire: Wire) -> None:
        await fill(wire)
        first = await lease_one(wire, max_messages=4)
        assert (first.queue, first.session_id, ranges(first), first.attempt) == (
            "q",
            "one",
            [(1, 4)],
            1,
        )
        await ack(wire, first)
        second = await lease_one(wire)
        assert ranges(second) == [(5, 10)]
        await ack(wire, second)
        assert await lease(wire) == []
        await wire.store("one", "y")
        assert ranges(await lease_one(wire)) == [(11, 11)]

    async def test_a_session_without_messages_is_not_leased(self, wire: Wire) -> None:
        assert await lease(wire) == []
        await wire.create("empty")
        assert await lease(wire) == []
        await wire.store("empty", "x")
        assert ranges(await lease_one(wire)) == [(1, 1)]

    async def test_a_leased_session_is_not_leased_again(self, wire: Wire) -> None:
        await fill(wire)
        await lease_one(wire, max_messages=2)
        assert await lease(wire, max_sessions=100) == []
        await wire.store("one", "more")
        assert await lease(wire, max_sessions=100) == []

    async def test_a_lease_has_100_messages_and_60_seconds_by_default(self, wire: Wire) -> None:
        for name in "ab":
            await fill(wire, name, 150)
        before = time.time()
        leased = await lease_one(wire)
        assert ranges(leased) == [(1, 100)]
        assert before + 59.9 < leased.expire_time.ToNanoseconds() / 1e9 < time.time() + 60.1

    async def test_sessions_that_wait_longest_come_first(self, wire: Wire) -> None:
        for name in ("c", "a", "b"):
            await fill(wire, name, 3)
        assert [one.session_id for one in await lease(wire, max_sessions=2)] == ["c", "a"]
        assert [one.session_id for one in await lease(wire, max_sessions=2)] == ["b"]

    async def test_sessions_take_turns(self, wire: Wire) -> None:
        for name in ("a", "b"):
            await fill(wire, name, 4)
        order = []
        for _ in range(4):
            leased = await lease_one(wire, max_messages=2)
            order.append((leased.session_id, *ranges(leased)[0]))
            await ack(wire, leased)
        assert order == [("a", 1, 2), ("b", 1, 2), ("a", 3, 4), ("b", 3, 4)]

    async def test_every_queue_has_all_messages(self, wire: Wire) -> None:
        await fill(wire, count=3)
        await ack(wire, await lease_one(wire))
        # A queue that was created after the distribution also receives all messages.
        assert ranges(await lease_one(wire, "late")) == [(1, 3)]
        await wire.store("one", "x")
        assert ranges(await lease_one(wire)) == [(4, 4)]

    async def test_more_sessions_than_a_distribution_takes_are_all_leased(self, wire: Wire) -> None:
        for first in range(0, 450, 25):
            await asyncio.gather(*(fill(wire, f"s{first + i}", 1) for i in range(25)))
        found: Counter[str] = Counter()
        while leases := await lease(wire, max_sessions=100):
            found.update(one.session_id for one in leases)
        assert found == Counter({f"s{i}": 1 for i in range(450)})

    async def test_a_destroyed_session_is_still_processed(self, wire: Wire) -> None:
        await fill(wire)
        await wire.destroy("one")
        assert ranges(await lease_one(wire)) == [(1, 10)]

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"queue": ""}, "queue"),
            ({"queue": "Q"}, "queue"),
            ({"queue": "a b"}, "queue"),
            ({"queue": "x" * 65}, "queue"),
            ({"queue": "q\n"}, "queue"),
            ({"worker": "x" * 257}, "worker"),
            ({"worker": "a\0"}, "worker"),
            ({"max_sessions": -1}, "max_sessions"),
            ({"max_sessions": 101}, "max_sessions"),
            ({"max_messages": -1}, "max_messages"),
            ({"max_messages": 10_001}, "max_messages"),
            ({"lease_s": 0.999}, "lease_duration"),
            ({"lease_s": -5}, "lease_duration"),
            ({"lease_s": 3600.001}, "lease_duration"),
            ({"wait_s": -0.001}, "wait"),
            ({"wait_s": 30.001}, "wait"),
        ],
    )
    async def test_malformed_requests_name_the_field(
        self, wire: Wire, fields: dict[str, Any], field: str
    ) -> None:
        error = await error_of(wire.processing.LeaseMessages(asking(**fields)))
        assert (error.code, error.reason, list(error.fields)) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
            [field],
        )
        assert not (await wire.processing.ListQueues(pb.ListQueuesRequest())).queues

    async def test_the_largest_request_is_accepted(self, wire: Wire, query: Query) -> None:
        await fill(wire)
        leased = await lease_one(
            wire, "x" * 64, worker="w" * 256, max_sessions=100, max_messages=10_000, lease_s=3600
        )
        assert leased.queue == "x" * 64
        assert query("SELECT worker FROM processing") == [("w" * 256,)]

    async def test_a_project_has_at_most_16_queues(self, wire: Wire) -> None:
        names = [f"q{i:02}" for i in range(16)]
        for name in reversed(names):
            await lease(wire, name)
        error = await error_of(wire.processing.LeaseMessages(asking("one-too-many")))
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LIMIT_EXCEEDED")
        assert (error.metadata["what"], error.metadata["limit"]) == ("queues", "16")
        assert (await wire.processing.ListQueues(pb.ListQueuesRequest())).queues == names
        await lease(wire, names[3])

    async def test_queues_created_at_once_stay_within_the_limit(self, wire: Wire) -> None:
        made = await asyncio.gather(
            *(lease(wire, f"q{i}") for i in range(24)), return_exceptions=True
        )
        assert sum(isinstance(one, BaseException) for one in made) == 8
        assert len((await wire.processing.ListQueues(pb.ListQueuesRequest())).queues) == 16


class TestWait:
    async def test_a_lease_waits_for_messages(self, wire: Wire, query: Query) -> None:
        await wire.create("one")
        waiting = asyncio.create_task(lease(wire, wait_s=20))
        await until_async(lambda: query("SELECT queue FROM queues") != [], "the call waits")
        await wire.store("one", "x")
        [leased] = await waiting
        assert ranges(leased) == [(1, 1)]

    async def test_a_wait_ends_without_messages(self, wire: Wire) -> None:
        assert await lease(wire, wait_s=0.3) == []

    async def test_a_waiting_lease_takes_over_one_that_runs_out(self, wire: Wire) -> None:
        await fill(wire)
        lost = await lease_one(wire, lease_s=1)
        taken = await lease_one(wire, wait_s=20)
        assert (ranges(taken), taken.attempt) == ([(1, 10)], 2)
        assert taken.lease_id != lost.lease_id

    async def test_waiting_leases_hold_no_connection(self, wire: Wire) -> None:
        waiting = [
            asyncio.create_task(lease(wire, f"q{i}", wait_s=30))
            for i in range(16)
            for _ in range(4)
        ]
        await fill(wire)
        found: list[pb.Lease] = []
        for done in asyncio.as_completed(waiting):
            found += await done
            if len(found) == 16:
                break
        for task in waiting:
            task.cancel()
        assert Counter(one.queue for one in found) == Counter({f"q{i}": 1 for i in range(16)})

    async def test_a_drain_ends_waiting_leases(
        self, wire: Wire, server: Running, query: Query
    ) -> None:
        waiting = asyncio.create_task(lease(wire, wait_s=30))
        await until_async(lambda: query("SELECT queue FROM queues") != [], "the call waits")
        await drain(server, delay_s=0, timeout_s=20)
        assert await waiting == []


class TestShortDeadline:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"default_deadline_s": PATIENCE_S})

    @pytest.fixture(autouse=True)
    def long_margin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(service, "DEADLINE_MARGIN_S", PATIENCE_S - 0.5)

    async def test_a_wait_ends_before_the_servers_own_deadline(self, wire: Wire) -> None:
        assert await lease(wire, wait_s=30) == []


class TestExtend:
    async def test_the_duration_counts_from_the_call(self, wire: Wire) -> None:
        await fill(wire)
        leased = await lease_one(wire, lease_s=1)
        request = pb.ExtendLeaseRequest(lease_id=leased.lease_id)
        extended = await wire.processing.ExtendLease(request)
        assert extended.expire_time.ToNanoseconds() - leased.expire_time.ToNanoseconds() > 50e9
        request.lease_duration.FromSeconds(3600)
        longest = await wire.processing.ExtendLease(request)
        assert longest.expire_time.ToNanoseconds() - leased.expire_time.ToNanoseconds() > 3500e9
        leased.expire_time.CopyFrom(longest.expire_time)
        assert longest == leased

    async def test_an_expired_lease_can_be_extended_unless_it_was_taken_over(
        self, wire: Wire, query: Query
    ) -> None:
        await fill(wire)
        leased = await lease_one(wire)
        run_out(query)
        await wire.processing.ExtendLease(pb.ExtendLeaseRequest(lease_id=leased.lease_id))
        assert await lease(wire) == []
        run_out(query)
        await lease_one(wire)
        error = await error_of(
            wire.processing.ExtendLease(pb.ExtendLeaseRequest(lease_id=leased.lease_id))
        )
        assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "LEASE_LOST")
        assert error.metadata["lease_id"] == leased.lease_id

    @pytest.mark.parametrize("seconds", [0, -1, 3601])
    async def test_a_duration_out_of_range_is_refused(self, wire: Wire, seconds: int) -> None:
        await fill(wire)
        request = pb.ExtendLeaseRequest(lease_id=(await lease_one(wire)).lease_id)
        request.lease_duration.seconds = seconds
        assert list((await error_of(wire.processing.ExtendLease(request))).fields) == [
            "lease_duration"
        ]


@pytest.mark.parametrize(
    "lease_id", ["", "l", "é", "bm90anNvbg", "WzEsImxlYXNlIiwxLDIsMyw0XQ", "x" * 5000]
)
async def test_a_malformed_lease_id_is_refused(wire: Wire, lease_id: str) -> None:
    for made in (
        wire.processing.ExtendLease(pb.ExtendLeaseRequest(lease_id=lease_id)),
        wire.processing.AcknowledgeMessages(pb.AcknowledgeMessagesRequest(lease_id=lease_id)),
    ):
        error = await error_of(made)
        assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["lease_id"])
