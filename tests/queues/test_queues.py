"""The queues of a project: listing and deleting them, deleted sessions, other projects."""

from typing import Any

import grpc
import pytest

from sessiond.v1 import processing_service_pb2 as pb
from sessiond.v1.session_service_pb2 import CreateSessionRequest, StoreMessagesRequest
from sessiond_server.core.ids import DEFAULT_PROJECT_ID, session_key
from sessiond_server.projects.service import Keys
from sessiond_server.projects.store import KeyStore
from sessiond_server.queues.store.leases import CHECK, ranges_to_lease
from sessiond_server.queues.store.queues import DISTRIBUTE
from sessiond_server.server import Running
from sessiond_server.settings import Settings

from ..support.queues import (
    Query,
    ack,
    asking,
    counts,
    failed,
    fill,
    lease,
    lease_one,
    ranges,
    run_out,
    wire_ack,
)
from ..support.wire import Wire, error_of, openai


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
    async def test_an_unknown_queue_is_not_found(self, wire: Wire, request_: Any) -> None:
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

    async def test_deleting_a_queue_deletes_its_progress(self, wire: Wire, query: Query) -> None:
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
        # A new queue of the same name starts from the beginning.
        assert {one.session_id: ranges(one) for one in await lease(wire, max_sessions=9)} == {
            "one": [(1, 10)],
            "two": [(1, 10)],
        }
        assert await counts(wire, "") == (0, 20, 0, 0)

    async def test_deleting_a_missing_queue_can_be_allowed(self, wire: Wire) -> None:
        await wire.processing.DeleteQueue(pb.DeleteQueueRequest(queue="none", allow_missing=True))

    async def test_a_queue_created_after_an_interrupted_deletion_has_no_progress(
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

    async def test_page_tokens_of_other_requests_are_refused(self, wire: Wire) -> None:
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


class TestDeletedSessions:
    async def test_leases_of_deleted_sessions_are_lost(self, wire: Wire, query: Query) -> None:
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
        # The rows from which other workers would lease are deleted.
        assert query("SELECT count(*) FROM processing WHERE is_ready") == [(0,)]

    async def test_a_recreated_session_starts_from_the_beginning(self, wire: Wire) -> None:
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

    async def test_a_row_of_an_earlier_session_with_the_same_id_is_removed(
        self, wire: Wire, query: Query
    ) -> None:
        await fill(wire)
        await ack(wire, await lease_one(wire), 7)
        await wire.delete("one")
        await fill(wire, count=3)
        leases = await lease(wire, max_sessions=9)
        assert [(one.session_id, ranges(one)) for one in leases] == [("one", [(1, 3)])]
        assert query("SELECT count(*) FROM processing") == [(1,)]

    async def test_leases_of_expired_sessions_are_lost(self, wire: Wire, query: Query) -> None:
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

    async def test_projects_have_separate_queues(self, wire: Wire, server: Running) -> None:
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


async def test_a_session_has_one_row_in_each_queue(wire: Wire, query: Query) -> None:
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


@pytest.mark.every_postgres
@pytest.mark.parametrize("statement", [CHECK, DISTRIBUTE], ids=["check", "distribute"])
async def test_the_search_for_news_scans_no_session_without_news(
    statement: str, query: Query
) -> None:
    """The planner has statistics from a time when all sessions had news."""
    query(
        "INSERT INTO sessions"
        " (key, project_id, session_id, log, state, created_at, active_at, used_at)"
        " SELECT gen_random_uuid(), %s, i::text, gen_random_uuid(), 1, now(), now(), now()"
        " FROM generate_series(1, 5000) AS i",
        [DEFAULT_PROJECT_ID],
    )
    query("ANALYZE sessions")
    query("UPDATE sessions SET has_news = false")
    plan = query(
        f"EXPLAIN {statement}", {"project_id": DEFAULT_PROJECT_ID, "queue": "q", "batch": 200}
    )
    assert any("sessions_news_idx on sessions" in row[0] for row in plan)
    # The update by key ("sessions s") may scan a table as small as this one.
    assert not any("Seq Scan on sessions  (" in row[0] for row in plan)


def test_requeued_messages_are_leased_before_the_next_ones() -> None:
    assert ranges_to_lease(5, 9, [], 3) == [(6, 8)]
    assert ranges_to_lease(9, 9, [], 3) == []
    assert ranges_to_lease(9, 9, [1, 2, 3, 5, 7, 8], 10) == [(1, 3), (5, 5), (7, 8)]
