"""`client.processing` of both clients, against a real server."""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

import sessiond
from sessiond import FailedMessage, Lease, ProcessingCounts, errors
from sessiond._async._processing import AsyncProcessing
from sessiond._sync._processing import Processing
from sessiond.v1 import processing_service_pb2 as pb
from sessiond_server.server import Running, serving
from sessiond_server.settings import Settings

from ..support.waiting import PATIENCE_S
from .conftest import Colour, FakeServer


@pytest.fixture
async def running(settings: Settings, database_url: str) -> AsyncIterator[Running]:
    async with serving(settings, database_url) as server:
        yield server


@pytest.fixture
async def client(colour: Colour, running: Running) -> AsyncIterator[Any]:
    client = colour.client(f"127.0.0.1:{running.port}")
    yield client
    await colour.call(client.stop)


@pytest.fixture
async def q(colour: Colour, client: Any) -> Any:
    """The calls as coroutines for both clients. A session "one" with ten messages exists."""

    class Calls:
        def __getattr__(self, name: str) -> Any:
            async def call(*args: Any, **kwargs: Any) -> Any:
                return await colour.call(getattr(client.processing, name), *args, **kwargs)

            return call

    await fill(colour, client, "one", 10)
    return Calls()


async def fill(colour: Colour, client: Any, session_id: str, count: int) -> None:
    await colour.call(client.create_session, session_id)
    await colour.call(
        client.sessions.store_messages,
        session_id,
        [{"role": "user", "content": f"{n}"} for n in range(1, count + 1)],
    )


def handler_of(colour: Colour, function: Any) -> Any:
    """Make the handler a coroutine function for the async client."""

    async def handle(lease: Lease, messages: Any) -> None:
        await asyncio.sleep(0)
        function(lease, messages)

    return handle if colour.is_async else function


def test_both_clients_have_the_same_calls() -> None:
    names = {name for name in vars(Processing) if not name.startswith("_")}
    assert names == {name for name in vars(AsyncProcessing) if not name.startswith("_")}
    for name in names:
        ours, theirs = (
            inspect.signature(getattr(Processing, name)),
            inspect.signature(getattr(AsyncProcessing, name)),
        )
        assert list(ours.parameters) == list(theirs.parameters)


async def test_lease_extend_acknowledge(q: Any) -> None:
    [lease] = await q.lease("a", worker="me", max_messages=4, lease_duration=30)
    assert (lease.queue, lease.session_id, lease.ranges, lease.attempt) == ("a", "one", [(1, 4)], 1)
    assert (lease.first_seq, lease.last_seq, lease.message_count, lease.seqs) == (
        1,
        4,
        4,
        [1, 2, 3, 4],
    )
    extended = await q.extend(lease, 600)
    assert (extended.expires_at - lease.expires_at).total_seconds() > 500
    await q.acknowledge(lease, through_seq=2, failures={1: "bad"}, keep_lease=True)
    assert await q.counts("a", "one") == ProcessingCounts(pending=6, running=2, success=1, failed=1)
    await q.acknowledge(lease, failures=[FailedMessage(4, "worse")])
    assert await q.counts("a") == ProcessingCounts(pending=6, running=0, success=2, failed=2)
    with pytest.raises(errors.LeaseLost):
        await q.acknowledge(lease)
    with pytest.raises(errors.LeaseLost) as caught:
        await q.extend(lease)
    assert caught.value.metadata["lease_id"] == lease.lease_id


async def test_release(q: Any) -> None:
    [lease] = await q.lease("a")
    await q.release(lease)
    [again] = await q.lease("a", wait=5)
    assert (again.ranges, again.attempt) == (lease.ranges, 2)
    assert await q.lease("a", wait=0.1) == []


async def test_requeue_and_failures(colour: Colour, client: Any, q: Any) -> None:
    [lease] = await q.lease("a")
    await q.acknowledge(lease, failures={2: "b", 7: "g", 9: "i"})
    failures = [FailedMessage(2, "b"), FailedMessage(7, "g"), FailedMessage(9, "i")]
    assert await colour.collect(client.processing.failed_messages("a", "one")) == failures
    assert (
        await colour.collect(client.processing.failed_messages("a", "one", page_size=1)) == failures
    )
    assert await q.requeue("a", "one", failed=True) == 3
    [lease] = await q.lease("a")
    assert (lease.ranges, lease.message_count, lease.seqs) == (
        [(2, 2), (7, 7), (9, 9)],
        3,
        [2, 7, 9],
    )
    await q.acknowledge(lease)
    assert await q.requeue("a", "one", seqs=[3, 4]) == 2
    assert await q.requeue("a", "one", from_seq=4) == 6
    assert await q.counts("a", "one") == ProcessingCounts(pending=8, running=0, success=2, failed=0)


async def test_queues(q: Any) -> None:
    for name in ("b", "a"):
        await q.lease(name)
    assert await q.queues() == ["a", "b"]
    await q.delete_queue("a")
    assert await q.queues() == ["b"]
    with pytest.raises(errors.QueueNotFound) as caught:
        await q.delete_queue("a")
    assert caught.value.metadata["queue"] == "a"
    await q.delete_queue("a", allow_missing=True)
    with pytest.raises(errors.QueueNotFound):
        await q.counts("a")
    with pytest.raises(errors.SessionNotFound):
        await q.counts("b", "nobody")


@pytest.mark.parametrize(
    ("call", "arguments", "field"),
    [
        ("lease", {"queue": "a", "max_messages": "x"}, "max_messages"),
        ("lease", {"queue": 5}, "queue"),
        ("lease", {"queue": "a", "wait": float("nan")}, "wait"),
        ("lease", {"queue": "A"}, "queue"),
        ("requeue", {"queue": "a", "session_id": "one"}, "which"),
        ("requeue", {"queue": "a", "session_id": "one", "failed": True, "from_seq": 1}, "which"),
        ("requeue", {"queue": "a", "session_id": "one", "seqs": ["x"]}, "seqs[0]"),
        ("requeue", {"queue": "a", "session_id": "one", "seqs": []}, "seqs.seqs"),
    ],
)
async def test_a_bad_value_names_its_field(
    q: Any, call: str, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.InvalidField) as caught:
        await getattr(q, call)(**arguments)
    assert [violation.field for violation in caught.value.field_violations] == [field]


async def test_failures_that_cannot_be_sent_name_the_field(q: Any) -> None:
    [lease] = await q.lease("a")
    for failures in ({"x": "e"}, {1: 5}, [7]):
        with pytest.raises(errors.InvalidField) as caught:
            await q.acknowledge(lease, failures=failures)
        assert [violation.field for violation in caught.value.field_violations] == ["failures[0]"]


class TestWork:
    async def test_processes_all_in_order(self, colour: Colour, client: Any, q: Any) -> None:
        await fill(colour, client, "two", 25)
        seen: list[tuple[str, int, str]] = []

        def handle(lease: Lease, messages: list[sessiond.Message]) -> None:
            assert [message.seq for message in messages] == lease.seqs
            seen.extend(
                (message.session_id, message.seq, str(message.content)) for message in messages
            )

        assert (
            await q.work("a", handler_of(colour, handle), max_messages=4, stop_when_empty=True)
            == 35
        )
        for name, count in (("one", 10), ("two", 25)):
            assert [(seq, text) for session_id, seq, text in seen if session_id == name] == [
                (n, f"{n}") for n in range(1, count + 1)
            ]
        assert await q.counts("a") == ProcessingCounts(pending=0, running=0, success=35, failed=0)
        assert await q.work("a", handler_of(colour, handle), stop_when_empty=True) == 0

    async def test_an_async_client_takes_plain_handlers_too(
        self, running: Running, colour: Colour, client: Any, q: Any
    ) -> None:
        seen: list[int] = []
        await q.work("a", lambda lease, messages: seen.extend(lease.seqs), stop_when_empty=True)
        assert seen == list(range(1, 11))

    async def test_requeued_messages_are_handed_over_alone(self, colour: Colour, q: Any) -> None:
        seen: list[int] = []

        def handle(lease: Lease, messages: list[sessiond.Message]) -> None:
            seen.extend(message.seq for message in messages)

        await q.work("a", handler_of(colour, handle), stop_when_empty=True)
        seen.clear()
        await q.requeue("a", "one", seqs=[2, 5, 6])
        assert await q.work("a", handler_of(colour, handle), stop_when_empty=True) == 3
        assert seen == [2, 5, 6]

    async def test_failed_messages_come_again_until_they_are_given_up_on(
        self, colour: Colour, client: Any, q: Any, caplog: Any
    ) -> None:
        attempts: list[int] = []

        def handle(lease: Lease, messages: list[sessiond.Message]) -> None:
            if lease.first_seq == 4:
                attempts.append(lease.attempt)
                raise RuntimeError("no good" + "!" * 2000)

        with caplog.at_level(logging.WARNING, "sessiond"):
            options = {
                "max_messages": 3,
                "max_attempts": 3,
                "retry_delay": 0,
                "stop_when_empty": True,
            }
            assert await q.work("a", handler_of(colour, handle), **options) == 7
        assert attempts == [1, 2, 3]
        assert sum("failed in session 'one'" in record.message for record in caplog.records) == 3
        failures = await colour.collect(client.processing.failed_messages("a", "one"))
        assert [failure.seq for failure in failures] == [4, 5, 6]
        assert failures[0].error.startswith("RuntimeError: no good!!")
        assert len(failures[0].error) == 1024
        assert await q.counts("a") == ProcessingCounts(pending=0, running=0, success=7, failed=3)

    async def test_any_error_can_be_sent(
        self, colour: Colour, client: Any, q: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def handle(lease: Lease, messages: list[sessiond.Message]) -> None:
            raise RuntimeError("file \udcff\0")

        for package in ("_async", "_sync"):
            # pytest cannot log the text, because it contains a lone surrogate.
            monkeypatch.setattr(
                logging.getLogger(f"sessiond.{package}._processing"), "disabled", True
            )
        await q.work("a", handler_of(colour, handle), max_attempts=1, stop_when_empty=True)
        failures = await colour.collect(client.processing.failed_messages("a", "one"))
        assert {failure.error for failure in failures} == {"RuntimeError: file ?\ufffd"}

    async def test_failed_messages_wait_before_they_come_again(
        self, colour: Colour, client: Any, q: Any
    ) -> None:
        await fill(colour, client, "two", 1)
        calls: list[str] = []

        def handle(lease: Lease, messages: list[sessiond.Message]) -> None:
            calls.append(lease.session_id)
            if lease.session_id == "one" and lease.attempt == 1:
                raise RuntimeError("for now")

        # The worker processes session "two", and ends without a wait for the retry of session
        # "one".
        assert (
            await q.work("a", handler_of(colour, handle), retry_delay=1.0, stop_when_empty=True)
            == 1
        )
        assert calls == ["one", "two"]
        assert await q.counts("a", "one") == ProcessingCounts(
            pending=0, running=10, success=0, failed=0
        )
        [lease] = await q.lease("a", wait=20)
        assert (lease.session_id, lease.attempt) == ("one", 2)

    async def test_messages_that_kill_workers_are_given_up_on(
        self, colour: Colour, client: Any, q: Any
    ) -> None:
        for _ in range(2):
            [lease] = await q.lease("a")
            await q.release(lease)

        def never(lease: Lease, messages: list[sessiond.Message]) -> None:
            raise AssertionError("called")

        assert await q.work("a", never, max_attempts=2, stop_when_empty=True) == 0
        failures = await colour.collect(client.processing.failed_messages("a", "one"))
        assert {failure.error for failure in failures} == {"leased 2 times without an outcome"}
        assert len(failures) == 10

    async def test_the_lease_is_extended_while_the_handler_runs(
        self, colour: Colour, client: Any, q: Any
    ) -> None:
        """The handler runs for longer than the duration of the lease."""
        ended: list[Any] = []

        async def handle(lease: Lease, messages: list[sessiond.Message]) -> None:
            await q_others(lease)

        async def q_others(lease: Lease) -> None:
            # No other worker gets the lease for twice its first duration.
            assert await other.processing.lease("a", wait=2.5) == []
            ended.append(lease)

        def handle_sync(lease: Lease, messages: list[sessiond.Message]) -> None:
            assert other_sync.processing.lease("a", wait=2.5) == []
            ended.append(lease)

        async with sessiond.AsyncClient(client.target) as other:
            with sessiond.Client(client.target) as other_sync:
                work = handle if colour.is_async else handle_sync
                assert await q.work("a", work, lease_duration=1, stop_when_empty=True) == 10
        assert len(ended) == 1

    async def test_a_lost_lease_counts_for_nothing(
        self, colour: Colour, client: Any, q: Any
    ) -> None:
        with sessiond.Client(client.target) as other:

            def handle(lease: Lease, messages: list[sessiond.Message]) -> None:
                other.delete_session("one")

            if colour.is_async:

                async def handler(lease: Lease, messages: list[sessiond.Message]) -> None:
                    await asyncio.to_thread(handle, lease, messages)
            else:
                handler = handle  # type: ignore[assignment]
            assert await q.work("a", handler, stop_when_empty=True) == 0

    async def test_an_interrupted_worker_gives_back(self, colour: Colour, q: Any) -> None:
        class Stop(BaseException):
            pass

        def handle(lease: Lease, messages: list[sessiond.Message]) -> None:
            raise Stop

        with pytest.raises(Stop):
            await q.work("a", handler_of(colour, handle))
        assert await q.counts("a") == ProcessingCounts(pending=10, running=0, success=0, failed=0)

    async def test_ends_when_the_client_is_stopped(
        self, colour: Colour, client: Any, q: Any
    ) -> None:
        working = asyncio.create_task(q.work("a", handler_of(colour, lambda lease, messages: None)))
        with sessiond.Client(client.target) as other:
            async with asyncio.timeout(PATIENCE_S):
                while (
                    await asyncio.to_thread(other.processing.queues) != ["a"]
                    or (await asyncio.to_thread(other.processing.counts, "a")).success < 10
                ):
                    await asyncio.sleep(0.02)
        await colour.call(client.stop)
        with pytest.raises(errors.ClientClosed):
            await working

    async def test_a_cancelled_task_gives_back(self, running: Running) -> None:
        async with sessiond.AsyncClient(f"127.0.0.1:{running.port}") as client:
            session = await client.create_session("one")
            await session.store_message({"role": "user", "content": "x"})
            started = asyncio.Event()

            async def handle(lease: Lease, messages: list[sessiond.Message]) -> None:
                started.set()
                await asyncio.Event().wait()

            working = asyncio.create_task(client.processing.work("a", handle))
            await started.wait()
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working
            assert (await client.processing.counts("a")).pending == 1


class TestAgain:
    """Tests which calls are retried."""

    @pytest.fixture
    async def client(self, colour: Colour, server: FakeServer) -> AsyncIterator[Any]:
        client = colour.client(server.target)
        yield client
        await colour.call(client.stop)

    @pytest.mark.parametrize(
        ("method", "call", "arguments", "is_repeated"),
        [
            ("LeaseMessages", "lease", ["a"], False),
            ("ExtendLease", "extend", [], True),
            ("AcknowledgeMessages", "acknowledge", [], True),
            ("RequeueMessages", "requeue", ["a", "one"], True),
            ("GetProcessingCounts", "counts", ["a"], True),
            ("ListQueues", "queues", [], True),
            ("DeleteQueue", "delete_queue", ["a"], False),
        ],
    )
    async def test_again(
        self,
        colour: Colour,
        client: Any,
        server: FakeServer,
        impatient: None,
        method: str,
        call: str,
        arguments: list[Any],
        is_repeated: bool,
    ) -> None:
        lease = Lease("l", "a", "one", [(1, 2)], None, 1)  # type: ignore[arg-type]
        answer = getattr(
            pb,
            next(
                m.output_type.name
                for m in pb.DESCRIPTOR.services_by_name["ProcessingService"].methods
                if m.name == method
            ),
        )
        server.on(method, server.abort(grpc.StatusCode.UNAVAILABLE, "away"), answer())
        if call in ("extend", "acknowledge"):
            arguments = [lease]
        options = {"failed": True} if call == "requeue" else {}
        made = colour.call(getattr(client.processing, call), *arguments, **options)
        if is_repeated:
            await made
        else:
            with pytest.raises(errors.Unavailable):
                await made
        assert len(server.of(method)) == 1 + is_repeated
        if method in ("AcknowledgeMessages", "RequeueMessages"):
            first, second = (request.request_id for request in server.of(method))
            assert first == second != ""

    async def test_the_wait_is_added_to_the_timeout(
        self, colour: Colour, client: Any, server: FakeServer
    ) -> None:
        server.on("LeaseMessages", pb.LeaseMessagesResponse())
        await colour.call(client.processing.lease, "a", wait=25)
        await colour.call(client.processing.lease, "a", wait=25, timeout=5)
        first, second = [call.remaining_s for call in server.received]
        assert first is not None
        assert 45 < first < 56
        assert second is not None
        assert second < 6
