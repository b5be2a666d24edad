"""The processing queues: what the protocol promises, and what happens at the same moment."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import psycopg
import pytest

from sessiond.v1 import processing_service_pb2 as pb
from sessiond.v1.error_reason_pb2 import ErrorReason
from sessiond.v1.session_service_pb2 import CreateSessionRequest, StoreMessagesRequest
from sessiond_server.core.ids import DEFAULT_PROJECT_ID, session_key
from sessiond_server.projects.service import Keys
from sessiond_server.projects.store import KeyStore
from sessiond_server.queues.store.leases import CHECK, ranges_to_lease
from sessiond_server.queues.store.queues import DISTRIBUTE
from sessiond_server.server import Running, drain
from sessiond_server.settings import Settings

from ..support.wire import Wire, error_of, openai

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
    return answer.message_count


async def counts(
    wire: Wire, session_id: str = "one", queue: str = "q"
) -> tuple[int, int, int, int]:
    """Pending, running, success, failed. They sum up to all messages, whatever happens."""
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
    """All leases are over."""
    query(
        "UPDATE processing SET lease_until = now() - interval '1 s', ready_at = now() - interval '1 s' WHERE lease_id IS NOT NULL"
    )


class TestLease:
    async def test_messages_in_their_order_then_none(self, wire: Wire) -> None:
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

    async def test_nothing_where_there_is_nothing(self, wire: Wire) -> None:
        assert await lease(wire) == []
        await wire.create("empty")
        assert await lease(wire) == []
        await wire.store("empty", "x")
        assert ranges(await lease_one(wire)) == [(1, 1)]

    async def test_one_worker_at_a_time_in_a_session(self, wire: Wire) -> None:
        await fill(wire)
        await lease_one(wire, max_messages=2)
        assert await lease(wire, max_sessions=100) == []
        await wire.store("one", "more")
        assert await lease(wire, max_sessions=100) == []

    async def test_defaults(self, wire: Wire) -> None:
        for name in "ab":
            await fill(wire, name, 150)
        leased = await lease_one(wire)
        assert ranges(leased) == [(1, 100)]
        assert 55 < leased.expire_time.ToNanoseconds() / 1e9 - time.time() < 65

    async def test_those_that_wait_longest_come_first(self, wire: Wire) -> None:
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
        # Made when the session was distributed already.
        assert ranges(await lease_one(wire, "late")) == [(1, 3)]
        await wire.store("one", "x")
        assert ranges(await lease_one(wire)) == [(4, 4)]

    async def test_more_sessions_than_one_distribution(self, wire: Wire) -> None:
        await asyncio.gather(*(fill(wire, f"s{i}", 1) for i in range(450)))
        found: Counter[str] = Counter()
        while leases := await lease(wire, max_sessions=100):
            found.update(one.session_id for one in leases)
        assert found == Counter({f"s{i}": 1 for i in range(450)})

    async def test_a_destroyed_session_is_processed_all_the_same(self, wire: Wire) -> None:
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

    async def test_the_largest_request(self, wire: Wire, query: Query) -> None:
        await fill(wire)
        leased = await lease_one(
            wire, "x" * 64, worker="w" * 256, max_sessions=100, max_messages=10_000, lease_s=3600
        )
        assert leased.queue == "x" * 64
        assert query("SELECT worker FROM processing") == [("w" * 256,)]

    async def test_a_project_has_16_queues(self, wire: Wire) -> None:
        names = [f"q{i:02}" for i in range(16)]
        for name in reversed(names):
            await lease(wire, name)
        error = await error_of(wire.processing.LeaseMessages(asking("one-too-many")))
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LIMIT_EXCEEDED")
        assert (error.metadata["what"], error.metadata["limit"]) == ("queues", "16")
        assert (await wire.processing.ListQueues(pb.ListQueuesRequest())).queues == names
        await lease(wire, names[3])

    async def test_queues_made_at_once_stay_within_the_limit(self, wire: Wire) -> None:
        made = await asyncio.gather(
            *(lease(wire, f"q{i}") for i in range(24)), return_exceptions=True
        )
        assert sum(isinstance(one, BaseException) for one in made) == 8
        assert len((await wire.processing.ListQueues(pb.ListQueuesRequest())).queues) == 16


class TestWait:
    async def test_waits_until_there_is_work(self, wire: Wire) -> None:
        await wire.create("one")
        waiting = asyncio.create_task(lease(wire, wait_s=20))
        async with asyncio.timeout(20):
            while not (await wire.processing.ListQueues(pb.ListQueuesRequest())).queues:
                await asyncio.sleep(0.01)
        await wire.store("one", "x")
        [leased] = await waiting
        assert ranges(leased) == [(1, 1)]

    async def test_waits_no_longer_than_it_is_told(self, wire: Wire) -> None:
        assert await lease(wire, wait_s=0.3) == []

    async def test_takes_over_when_a_lease_runs_out(self, wire: Wire) -> None:
        await fill(wire)
        lost = await lease_one(wire, lease_s=1)
        taken = await lease_one(wire, wait_s=20)
        assert (ranges(taken), taken.attempt) == ([(1, 10)], 2)
        assert taken.lease_id != lost.lease_id

    async def test_waits_hold_no_connection(self, wire: Wire) -> None:
        waiting = [
            asyncio.create_task(lease(wire, f"q{i}", wait_s=5)) for i in range(16) for _ in range(4)
        ]
        await fill(wire)
        found = [one for leases in await asyncio.gather(*waiting) for one in leases]
        assert Counter(one.queue for one in found) == Counter({f"q{i}": 1 for i in range(16)})

    async def test_a_draining_server_lets_nobody_wait(self, wire: Wire, server: Running) -> None:
        waiting = asyncio.create_task(lease(wire, wait_s=30))
        async with asyncio.timeout(20):
            while not (await wire.processing.ListQueues(pb.ListQueuesRequest())).queues:
                await asyncio.sleep(0.01)
        await drain(server, delay_s=0, timeout_s=20)
        assert await waiting == []


class TestShortDeadline:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"default_deadline_s": 1.5})

    async def test_a_wait_ends_before_the_servers_own_deadline(self, wire: Wire) -> None:
        assert await lease(wire, wait_s=30) == []


class TestExtend:
    async def test_lasts_from_now_on(self, wire: Wire) -> None:
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

    async def test_one_that_ran_out_lives_again_unless_it_was_taken(
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
    async def test_limits(self, wire: Wire, seconds: int) -> None:
        await fill(wire)
        request = pb.ExtendLeaseRequest(lease_id=(await lease_one(wire)).lease_id)
        request.lease_duration.seconds = seconds
        assert list((await error_of(wire.processing.ExtendLease(request))).fields) == [
            "lease_duration"
        ]


@pytest.mark.parametrize(
    "lease_id", ["", "l", "é", "bm90anNvbg", "WzEsImxlYXNlIiwxLDIsMyw0XQ", "x" * 5000]
)
async def test_what_is_no_lease_id_is_refused(wire: Wire, lease_id: str) -> None:
    for made in (
        wire.processing.ExtendLease(pb.ExtendLeaseRequest(lease_id=lease_id)),
        wire.processing.AcknowledgeMessages(pb.AcknowledgeMessagesRequest(lease_id=lease_id)),
    ):
        error = await error_of(made)
        assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["lease_id"])


class TestAcknowledge:
    async def test_a_part(self, wire: Wire) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire), 4)
        assert await counts(wire) == (6, 0, 4, 0)
        again = await lease_one(wire)
        assert (ranges(again), again.attempt) == ([(5, 10)], 1)

    async def test_none_is_a_release(self, wire: Wire) -> None:
        await fill(wire)
        for attempt in (1, 2, 3):
            leased = await lease_one(wire)
            assert (ranges(leased), leased.attempt) == ([(1, 10)], attempt)
            await ack(wire, leased, 0)
            assert await counts(wire) == (10, 0, 0, 0)
        # Progress starts anew.
        await ack(wire, await lease_one(wire), 1)
        assert (await lease_one(wire)).attempt == 1

    async def test_what_lies_before_the_lease_is_none_of_it(self, wire: Wire) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire), 5)
        await ack(wire, await lease_one(wire), 3)
        assert ranges(await lease_one(wire)) == [(6, 10)]

    async def test_failures_hold_nothing_up(self, wire: Wire) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire), 5, {2: "two", 5: "x" * 2000})
        assert await counts(wire) == (5, 0, 3, 2)
        assert await failed(wire) == {2: "two", 5: "x" * 1024}
        await ack(wire, await lease_one(wire), failures={10: "nul \0 and\nline"})
        assert await counts(wire) == (0, 0, 7, 3)
        assert (await failed(wire))[10] == "nul \ufffd and\nline"
        assert await lease(wire) == []

    async def test_the_lease_goes_on(self, wire: Wire) -> None:
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
        # With the last one it ends, whatever was asked for.
        await ack(wire, leased, keep_lease=True)
        assert await counts(wire) == (0, 0, 9, 1)
        assert (await error_of(wire_ack(wire, leased))).reason == "LEASE_LOST"

    async def test_more_at_once_after_the_end(self, wire: Wire) -> None:
        """Messages that came while the session was leased are leased next."""
        await fill(wire, count=2)
        leased = await lease_one(wire)
        await wire.store("one", "x", "y")
        await ack(wire, leased)
        assert ranges(await lease_one(wire)) == [(3, 4)]

    async def test_once(self, wire: Wire) -> None:
        await fill(wire)
        leased = await lease_one(wire)
        await ack(wire, leased)
        error = await error_of(wire_ack(wire, leased))
        assert (error.code, error.reason, error.metadata["lease_id"]) == (
            grpc.StatusCode.ABORTED,
            "LEASE_LOST",
            leased.lease_id,
        )

    async def test_late_but_nobody_took_it(self, wire: Wire, query: Query) -> None:
        await fill(wire)
        leased = await lease_one(wire)
        run_out(query)
        assert await counts(wire) == (10, 0, 0, 0)
        await ack(wire, leased)
        assert await counts(wire) == (0, 0, 10, 0)

    async def test_late_and_somebody_took_it(self, wire: Wire, query: Query) -> None:
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


def wire_ack(wire: Wire, leased: pb.Lease) -> Any:
    return wire.processing.AcknowledgeMessages(
        pb.AcknowledgeMessagesRequest(lease_id=leased.lease_id)
    )


class TestRequeue:
    async def test_failed_ones(self, wire: Wire) -> None:
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

    async def test_named_ones(self, wire: Wire) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire), 8, {4: "e"})
        assert await requeue(wire, seqs=[9, 8, 4, 2, 3, 10]) == 4
        assert await requeue(wire, seqs=[2, 5]) == 1
        assert await counts(wire) == (7, 0, 3, 0)
        first = await lease_one(wire, max_messages=2)
        assert ranges(first) == [(2, 3)]
        # What is leased stays so.
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

    async def test_a_seq_between_the_ranges(self, wire: Wire) -> None:
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

    async def test_all_from_a_seq_on(self, wire: Wire) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire), failures={2: "a", 9: "b"})
        assert await requeue(wire, seqs=[8]) == 1
        # 5, 6, 7, 9, 10; 8 is pending already.
        assert await requeue(wire, from_seq=5) == 5
        assert await counts(wire) == (6, 0, 3, 1)
        assert await failed(wire) == {2: "a"}
        assert ranges(await lease_one(wire)) == [(5, 10)]
        assert await requeue(wire, from_seq=11) == 0

    async def test_all_from_a_seq_on_ends_a_lease_of_them(self, wire: Wire) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire), 4)
        leased = await lease_one(wire)
        assert await requeue(wire, from_seq=3) == 8
        assert await counts(wire) == (8, 0, 2, 0)
        assert (await error_of(wire_ack(wire, leased))).reason == "LEASE_LOST"
        leased = await lease_one(wire)
        assert (ranges(leased), leased.attempt) == ([(3, 10)], 1)
        # Nothing processed there, but somebody is at it.
        assert await requeue(wire, from_seq=8) == 8
        assert (await error_of(wire_ack(wire, leased))).reason == "LEASE_LOST"

    async def test_all_from_a_seq_on_leaves_a_lease_of_others(self, wire: Wire) -> None:
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

    async def test_what_was_never_processed(self, wire: Wire) -> None:
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

    async def test_10_000_seqs(self, wire: Wire) -> None:
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
    async def test_malformed_requests(self, wire: Wire, which: dict[str, Any], field: str) -> None:
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


class TestQueues:
    @pytest.mark.parametrize(
        "request_",
        [
            pb.RequeueMessagesRequest(queue="none", session_id="one", failed=True),
            pb.GetProcessingCountsRequest(queue="none", session_id="one"),
            pb.GetProcessingCountsRequest(queue="none"),
            pb.ListFailedMessagesRequest(queue="none", session_id="one"),
            pb.DeleteQueueRequest(queue="none"),
        ],
    )
    async def test_an_unknown_queue(self, wire: Wire, request_: Any) -> None:
        await fill(wire)
        await lease(wire)
        error = await error_of(
            wire.method(type(request_).__name__.removesuffix("Request"))(request_)
        )
        assert (error.code, error.reason, error.metadata["queue"]) == (
            grpc.StatusCode.NOT_FOUND,
            "QUEUE_NOT_FOUND",
            "none",
        )
        request_.queue = "NO"
        error = await error_of(
            wire.method(type(request_).__name__.removesuffix("Request"))(request_)
        )
        assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["queue"])

    async def test_deleting_one_forgets_its_progress(self, wire: Wire, query: Query) -> None:
        for name in ("one", "two"):
            await fill(wire, name)
        for queue in ("q", "other"):
            await ack(wire, await lease_one(wire, queue), failures={1: "e"})
        held = await lease_one(wire)
        await wire.processing.DeleteQueue(pb.DeleteQueueRequest(queue="q"))
        assert (await wire.processing.ListQueues(pb.ListQueuesRequest())).queues == ["other"]
        assert (
            query("SELECT DISTINCT queue FROM processing")
            == query("SELECT DISTINCT queue FROM processing_exceptions")
            == [("other",)]
        )
        assert (await error_of(wire_ack(wire, held))).reason == "LEASE_LOST"
        assert await counts(wire, "", "other") == (10, 0, 9, 1)
        # A queue of the same name begins anew.
        assert {one.session_id: ranges(one) for one in await lease(wire, max_sessions=9)} == {
            "one": [(1, 10)],
            "two": [(1, 10)],
        }
        assert await counts(wire, "") == (0, 20, 0, 0)

    async def test_a_missing_one_may_be_allowed(self, wire: Wire) -> None:
        await wire.processing.DeleteQueue(pb.DeleteQueueRequest(queue="none", allow_missing=True))

    async def test_a_deletion_that_was_interrupted_leaves_no_progress(
        self, wire: Wire, query: Query
    ) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire), failures={1: "e"})
        query("DELETE FROM queues")
        leased = await lease_one(wire)
        assert (ranges(leased), leased.attempt) == ([(1, 10)], 1)
        assert await failed(wire) == {}

    async def test_failures_are_listed_by_pages(self, wire: Wire) -> None:
        await fill(wire, count=1000)
        errors = {seq: f"e{seq}" for seq in range(3, 900)}
        await ack(wire, await lease_one(wire, max_messages=1000), failures=errors)
        assert list((await failed(wire)).items()) == list(errors.items())
        assert await failed(wire, page_size=300) == errors
        sizes = {}
        for asked in (0, 7, 500, 501, 2**31 - 1):
            page = await wire.processing.ListFailedMessages(
                pb.ListFailedMessagesRequest(queue="q", session_id="one", page_size=asked)
            )
            sizes[asked] = len(page.failures)
        assert sizes == {0: 50, 7: 7, 500: 500, 501: 500, 2**31 - 1: 500}

    async def test_page_tokens_belong_to_their_question(self, wire: Wire) -> None:
        for name in ("one", "two"):
            await fill(wire, name)
        await lease(wire, "other")
        await ack(wire, await lease_one(wire), failures={1: "e", 2: "f"})
        token = (
            await wire.processing.ListFailedMessages(
                pb.ListFailedMessagesRequest(queue="q", session_id="one", page_size=1)
            )
        ).next_page_token
        for request in (
            pb.ListFailedMessagesRequest(queue="q", session_id="two", page_token=token),
            pb.ListFailedMessagesRequest(queue="other", session_id="one", page_token=token),
        ):
            error = await error_of(wire.processing.ListFailedMessages(request))
            assert (error.code, error.reason) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                "INVALID_PAGE_TOKEN",
            )


class TestSessionsThatGo:
    async def test_deleted(self, wire: Wire, query: Query) -> None:
        for name in ("one", "two"):
            await fill(wire, name)
        held = await lease_one(wire)
        await wire.delete("one")
        await wire.delete("two")
        assert (await error_of(wire_ack(wire, held))).reason == "LEASE_LOST"
        error = await error_of(
            wire.processing.ExtendLease(pb.ExtendLeaseRequest(lease_id=held.lease_id))
        )
        assert error.reason == "LEASE_LOST"
        run_out(query)
        assert await lease(wire, max_sessions=9) == []
        assert await counts(wire, "") == (0, 0, 0, 0)
        # What was in the way is gone.
        assert query("SELECT count(*) FROM processing WHERE is_ready") == [(0,)]

    async def test_made_anew(self, wire: Wire) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire), failures={1: "e"})
        await wire.store("one", "x")
        held = await lease_one(wire)
        await wire.delete("one")
        await fill(wire, count=3)
        assert await counts(wire) == (3, 0, 0, 0)
        assert await failed(wire) == {}
        assert (await error_of(wire_ack(wire, held))).reason == "LEASE_LOST"
        leased = await lease_one(wire)
        assert (ranges(leased), leased.attempt) == ([(1, 3)], 1)
        assert await counts(wire) == (0, 3, 0, 0)

    async def test_made_anew_beside_its_predecessors_row(self, wire: Wire, query: Query) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire), 7)
        await wire.delete("one")
        await fill(wire, count=3)
        leases = await lease(wire, max_sessions=9)
        assert [(one.session_id, ranges(one)) for one in leases] == [("one", [(1, 3)])]
        assert query("SELECT count(*) FROM processing") == [(1,)]

    async def test_expired(self, wire: Wire, query: Query) -> None:
        await fill(wire)
        held = await lease_one(wire, lease_s=1)
        await fill(wire, "two")
        query("UPDATE sessions SET idle_ttl_ms = 1000, used_at = now() - interval '1 h'")
        run_out(query)
        assert (await error_of(wire_ack(wire, held))).reason == "LEASE_LOST"
        assert await lease(wire, max_sessions=9) == []


class TestProjects:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"require_keys": True})

    async def test_have_their_own_queues(self, wire: Wire, server: Running) -> None:
        keys = Keys(KeyStore(server.database))
        headers = {}
        for name in ("blue", "red"):
            secret = (await keys.create_key(name, create_project=True)).secret
            headers[name] = {"metadata": (("authorization", f"Bearer {secret}"),)}
            create = CreateSessionRequest()
            create.session.session_id = "one"
            await wire.sessions.CreateSession(create, **headers[name])
        await wire.sessions.StoreMessages(
            StoreMessagesRequest(session_id="one", messages=[openai("x")] * 3), **headers["blue"]
        )

        p = wire.processing
        assert not (await p.LeaseMessages(asking(), **headers["red"])).leases
        [leased] = (await p.LeaseMessages(asking(), **headers["blue"])).leases
        for made in (
            p.AcknowledgeMessages(
                pb.AcknowledgeMessagesRequest(lease_id=leased.lease_id), **headers["red"]
            ),
            p.ExtendLease(pb.ExtendLeaseRequest(lease_id=leased.lease_id), **headers["red"]),
        ):
            assert (await error_of(made)).reason == "LEASE_LOST"
        await p.LeaseMessages(asking("red-only"), **headers["red"])
        assert (await p.ListQueues(pb.ListQueuesRequest(), **headers["blue"])).queues == ["q"]
        assert (await p.ListQueues(pb.ListQueuesRequest(), **headers["red"])).queues == [
            "q",
            "red-only",
        ]
        await p.DeleteQueue(pb.DeleteQueueRequest(queue="q"), **headers["red"])
        await p.AcknowledgeMessages(
            pb.AcknowledgeMessagesRequest(lease_id=leased.lease_id), **headers["blue"]
        )
        found = await p.GetProcessingCounts(
            pb.GetProcessingCountsRequest(queue="q"), **headers["blue"]
        )
        assert (found.success, found.pending) == (3, 0)
        error = await error_of(
            p.GetProcessingCounts(pb.GetProcessingCountsRequest(queue="q"), **headers["red"])
        )
        assert error.reason == "QUEUE_NOT_FOUND"


class TestRaces:
    """What happens at the same moment. Each test runs many rounds, in which the order falls out one way and the other."""

    async def test_an_append_with_the_last_acknowledgement_is_not_lost(self, wire: Wire) -> None:
        await wire.create("one")
        seen = 0
        for round_ in range(300):
            await wire.store("one", "x")
            leased = await lease_one(wire)
            assert ranges(leased)[0][0] == seen + 1
            together: list[Any] = [ack(wire, leased), wire.store("one", "y")]
            if round_ % 2:
                together.append(lease(wire, "other"))
            random.Random(round_).shuffle(together)
            found = await asyncio.gather(*together)
            for others in found:
                for other in others if isinstance(others, list) else []:
                    await ack(wire, other)
            seen = ranges(leased)[-1][1]
            leased = await lease_one(wire)
            assert ranges(leased) == [(seen + 1, (await wire.get("one")).last_seq)]
            await ack(wire, leased)
            assert await lease(wire) == []
            seen = ranges(leased)[-1][1]

    async def test_an_acknowledgement_knows_of_what_was_distributed_before_its_lock(
        self, wire: Wire, database_url: str
    ) -> None:
        """A distributor has the row locked, finds it ready and leaves it as it is; the acknowledgement waits for it."""
        await fill(wire)
        leased = await lease_one(wire)
        with psycopg.connect(database_url) as distributor:
            distributor.execute("SELECT * FROM processing FOR UPDATE")
            acknowledging = asyncio.create_task(ack(wire, leased))
            with psycopg.connect(database_url, autocommit=True) as watcher:
                async with asyncio.timeout(20):
                    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
                    while watcher.execute(waiting).fetchone() != (1,):
                        await asyncio.sleep(0.01)
            await wire.store("one", "x")
            distributor.execute("UPDATE sessions SET has_news = false")
        await acknowledging
        assert ranges(await lease_one(wire)) == [(11, 11)]

    async def test_an_append_with_a_lease_that_finds_nothing_is_not_lost(
        self, wire: Wire, query: Query
    ) -> None:
        await fill(wire, count=1)
        await ack(wire, await lease_one(wire))
        for _ in range(100):
            # Ready, though there is nothing: the lease is about to say so.
            query("UPDATE processing SET is_ready = true")
            taken, _, more = await asyncio.gather(lease(wire), wire.store("one", "x"), lease(wire))
            taken = [*taken, *more] or await lease(wire)
            assert len(taken) == 1
            await ack(wire, taken[0])
            # The store may have come after the lease was made.
            for rest in await lease(wire):
                await ack(wire, rest)
            last_seq = (await wire.get("one")).last_seq
            assert await counts(wire) == (0, 0, last_seq, 0)

    async def test_every_message_once_and_one_worker_a_session(self, wire: Wire) -> None:
        """Writers, workers of two queues and requeues of everything at once."""
        sessions = [f"s{i}" for i in range(12)]
        for name in sessions:
            await wire.create(name)
        at_work: set[tuple[str, str]] = set()
        seen: dict[tuple[str, str], list[int]] = {
            (queue, name): [] for queue in ("a", "b") for name in sessions
        }
        writing = 0

        async def write(number: int) -> None:
            nonlocal writing
            writing += 1
            rng = random.Random(number)
            for _ in range(30):
                await wire.store(rng.choice(sessions), *["x"] * rng.randint(1, 5))
            writing -= 1

        async def work(queue: str, number: int) -> None:
            rng = random.Random(number)
            idle = 0
            while writing or idle < 3:
                leases = await lease(
                    wire, queue, max_sessions=rng.randint(1, 4), max_messages=rng.randint(1, 20)
                )
                idle = 0 if leases else idle + 1
                for one in leases:
                    assert (queue, one.session_id) not in at_work
                    at_work.add((queue, one.session_id))
                for one in leases:
                    [(first, last)] = ranges(one)
                    through = rng.choice([None, first, (first + last) // 2])
                    seen[queue, one.session_id] += range(
                        first, (last if through is None else through) + 1
                    )
                    at_work.discard((queue, one.session_id))
                    await ack(wire, one, through)

        await asyncio.gather(
            *(write(i) for i in range(6)), *(work(queue, i) for queue in "ab" for i in range(4))
        )
        for queue in "ab":
            for name in sessions:
                last_seq = (await wire.get(name)).last_seq
                assert seen[queue, name] == list(range(1, last_seq + 1))
            pending, running, success, _ = await counts(wire, "", queue)
            assert (pending, running) == (0, 0)
            assert success

    async def test_a_queue_made_during_a_distribution_has_every_session(self, wire: Wire) -> None:
        for round_ in range(20):
            names = [f"{round_}-{i}" for i in range(5)]
            await asyncio.gather(*(fill(wire, name, 1) for name in names))
            made = await asyncio.gather(
                lease(wire, "first", max_sessions=100),
                *(lease(wire, f"new{i}", max_sessions=100) for i in range(3)),
                *(wire.store(name, "y") for name in names),
            )
            for i, leases in enumerate(made[1:4]):
                found = {one.session_id for one in leases}
                while more := await lease(wire, f"new{i}", max_sessions=100):
                    found |= {one.session_id for one in more}
                assert found == {f"{r}-{j}" for r in range(round_ + 1) for j in range(5)}
            for i in range(3):
                await wire.processing.DeleteQueue(pb.DeleteQueueRequest(queue=f"new{i}"))
            for one in made[0]:
                await ack(wire, one)

    async def test_a_registration_waits_for_a_distribution(
        self, wire: Wire, database_url: str
    ) -> None:
        """A distributor has read the queues and cleared the marks, and commits only after the registration began."""
        await lease(wire, "old")
        await fill(wire)
        with psycopg.connect(database_url) as distributor:
            lock = "SELECT pg_advisory_xact_lock(hashtextextended('queues of ' || %s::text, 0))"
            distributor.execute(lock, [DEFAULT_PROJECT_ID])
            distributor.execute("UPDATE sessions SET has_news = false")
            registering = asyncio.create_task(lease(wire, "new"))
            with psycopg.connect(database_url, autocommit=True) as watcher:
                async with asyncio.timeout(20):
                    waiting = (
                        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                    )
                    while watcher.execute(waiting).fetchone() != (1,):
                        await asyncio.sleep(0.01)
        assert [one.session_id for one in await registering] == ["one"]

    async def test_a_lease_that_comes_second_waits_for_the_distribution(self, wire: Wire) -> None:
        for round_ in range(30):
            await asyncio.gather(*(fill(wire, f"{round_}-{i}", 1) for i in range(4)))
            found = await asyncio.gather(*(lease(wire) for _ in range(4)))
            assert sum(map(len, found)) == 4

    async def test_a_lease_that_was_taken_over_is_acknowledged_once(
        self, wire: Wire, query: Query
    ) -> None:
        await fill(wire, count=1)
        for _ in range(40):
            old = await lease_one(wire)
            run_out(query)
            results = await asyncio.gather(ack(wire, old), lease(wire), return_exceptions=True)
            if isinstance(results[0], BaseException):
                assert isinstance(results[1], list)
                await ack(wire, results[1][0])
            else:
                assert results[1] == []
            assert await counts(wire) == (0, 0, (await wire.get("one")).last_seq, 0)
            await wire.store("one", "x")

    async def test_requeues_with_everything_else(self, wire: Wire) -> None:
        await fill(wire, count=50)
        await ack(wire, await lease_one(wire), 0)

        async def work(number: int) -> None:
            rng = random.Random(number)
            for _ in range(40):
                for one in await lease(wire, max_messages=rng.randint(1, 30)):
                    seqs = [seq for first, last in ranges(one) for seq in range(first, last + 1)]
                    some = rng.sample(seqs, len(seqs) // 3)
                    results = await asyncio.gather(
                        ack(wire, one, failures=dict.fromkeys(some, "e")), return_exceptions=True
                    )
                    assert results[0] is None or "not held" in str(results[0])

        async def put_back(number: int) -> None:
            rng = random.Random(number)
            for _ in range(25):
                match rng.randrange(3):
                    case 0:
                        await requeue(wire, failed=True)
                    case 1:
                        await requeue(wire, from_seq=rng.randint(1, 50))
                    case _:
                        await requeue(wire, seqs=rng.sample(range(1, 51), 10))
                await counts(wire)

        await asyncio.gather(*(work(i) for i in range(4)), *(put_back(i) for i in range(2)))
        await requeue(wire, failed=True)
        while leases := await lease(wire):
            await ack(wire, leases[0])
        assert await counts(wire) == (0, 0, 50, 0)

    async def test_deletions_with_everything_else(self, wire: Wire) -> None:
        async def churn(name: str) -> None:
            for _ in range(15):
                await fill(wire, name, 3)
                await wire.delete(name, allow_missing=True)

        async def work() -> None:
            for _ in range(40):
                for one in await lease(wire, max_sessions=3):
                    results = await asyncio.gather(
                        ack(wire, one, failures={1: "e"}), return_exceptions=True
                    )
                    assert results[0] is None or "not held" in str(results[0])

        async def delete() -> None:
            for _ in range(10):
                await wire.processing.DeleteQueue(
                    pb.DeleteQueueRequest(queue="q", allow_missing=True)
                )

        await asyncio.gather(
            *(churn(f"s{i}") for i in range(4)), *(work() for _ in range(3)), delete()
        )
        await fill(wire, "last", 2)
        assert {one.session_id for one in await lease(wire, max_sessions=100)} == {"last"}


async def test_a_row_a_session_and_queue(wire: Wire, query: Query) -> None:
    await fill(wire, count=500)
    for queue in "ab":
        while leases := await lease(wire, queue):
            await ack(wire, leases[0])
    key = session_key(DEFAULT_PROJECT_ID, "one")
    assert query(
        "SELECT queue, done_seq, is_ready, lease_id FROM processing WHERE key = %s ORDER BY queue",
        [key],
    ) == [
        ("a", 500, False, None),
        ("b", 500, False, None),
    ]
    assert query("SELECT count(*) FROM processing_exceptions") == [(0,)]


@pytest.mark.parametrize("statement", [CHECK, DISTRIBUTE], ids=["check", "distribute"])
async def test_looking_for_news_passes_by_no_session_without(statement: str, query: Query) -> None:
    """Also where the planner's statistics are of a time when all sessions had news."""
    query(
        "INSERT INTO sessions (key, project_id, session_id, log, state, created_at, active_at, used_at)"
        " SELECT gen_random_uuid(), %s, i::text, gen_random_uuid(), 1, now(), now(), now() FROM generate_series(1, 5000) AS i",
        [DEFAULT_PROJECT_ID],
    )
    query("ANALYZE sessions")
    query("UPDATE sessions SET has_news = false")
    plan = query(
        f"EXPLAIN {statement}", {"project_id": DEFAULT_PROJECT_ID, "queue": "q", "batch": 200}
    )
    assert any("sessions_news_idx on sessions" in row[0] for row in plan)
    # But for the update by key ("sessions s"), for which a table as small as this one may be read through.
    assert not any("Seq Scan on sessions  (" in row[0] for row in plan)


def test_requeued_messages_are_leased_before_the_next_ones() -> None:
    assert ranges_to_lease(5, 9, [], 3) == [(6, 8)]
    assert ranges_to_lease(9, 9, [], 3) == []
    assert ranges_to_lease(9, 9, [1, 2, 3, 5, 7, 8], 10) == [(1, 3), (5, 5), (7, 8)]


def test_reasons_are_those_of_the_protos() -> None:
    for reason in ("LEASE_LOST", "QUEUE_NOT_FOUND", "LIMIT_EXCEEDED"):
        assert f"ERROR_REASON_{reason}" in ErrorReason.keys()  # noqa: SIM118
