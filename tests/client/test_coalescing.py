"""Appends that are made at the same time travel together, and their callers cannot tell."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from sessiond import AsyncClient, errors
from sessiond._async import _coalescing
from sessiond.v1.session_service_pb2 import (
    BatchStoreMessagesError,
    BatchStoreMessagesRequest,
    BatchStoreMessagesResponse,
    BatchStoreMessagesResult,
    StoreMessagesResponse,
)

from .conftest import Abort, FakeServer

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
HELLO = {"role": "user", "content": "hello"}
STORED = StoreMessagesResponse(first_seq=1, last_seq=1)


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[AsyncClient]:
    server.on("StoreMessages", STORED)
    async with AsyncClient(server.target) as client:
        yield client


def result(index: int, refused: Abort | None = None) -> BatchStoreMessagesResult:
    if refused is None:
        return BatchStoreMessagesResult(
            index=index, response=StoreMessagesResponse(first_seq=index + 10, last_seq=index + 10)
        )
    error = BatchStoreMessagesError(code=refused.code.value[0], message=refused.text)
    for detail in refused.details:
        error.details.add().Pack(detail)
    return BatchStoreMessagesResult(index=index, error=error)


class Answers:
    """A step that answers each request of a batch: what `outcomes` has for its session, or that it is stored."""

    def __init__(self, **outcomes: Abort) -> None:
        self.outcomes = outcomes

    async def __call__(
        self, request: BatchStoreMessagesRequest, context: Any
    ) -> list[BatchStoreMessagesResponse]:
        return [
            BatchStoreMessagesResponse(
                results=[
                    result(i, self.outcomes.get(one.session_id))
                    for i, one in reversed(list(enumerate(request.requests)))
                ]
            )
        ]


answered = Answers()


async def test_calls_at_the_same_time_travel_together(
    client: AsyncClient, server: FakeServer
) -> None:
    server.on("BatchStoreMessages", answered)
    stored = await asyncio.gather(
        *(client.sessions.store_message(f"s{i}", HELLO) for i in range(10))
    )
    assert [one.last_seq for one in stored] == list(range(10, 20))
    [batch] = server.of("BatchStoreMessages")
    assert [request.session_id for request in batch.requests] == [f"s{i}" for i in range(10)]
    assert len({request.request_id for request in batch.requests}) == 10
    assert not server.of("StoreMessages")


async def test_a_call_that_is_alone_goes_alone(client: AsyncClient, server: FakeServer) -> None:
    for _ in range(3):
        await client.sessions.store_message("s", HELLO)
    assert len(server.of("StoreMessages")) == 3
    assert not server.of("BatchStoreMessages")


async def test_what_comes_while_others_are_under_way_waits_for_company(
    client: AsyncClient, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_coalescing, "MAX_WAIT_S", 60)
    landing = asyncio.Event()

    async def late(request: object, context: object) -> StoreMessagesResponse:
        await landing.wait()
        return STORED

    server.on("StoreMessages", late)
    server.on("BatchStoreMessages", answered)
    calls = []
    for i in range(7):
        calls.append(asyncio.create_task(client.sessions.store_message(f"s{i}", HELLO)))
        await asyncio.sleep(0.02)
    assert len(server.of("StoreMessages")) == 2
    assert not server.of("BatchStoreMessages")
    landing.set()
    await asyncio.gather(*calls)
    assert [len(batch.requests) for batch in server.of("BatchStoreMessages")] == [5]


async def test_a_slow_server_is_not_waited_for(client: AsyncClient, server: FakeServer) -> None:
    async def late(request: object, context: object) -> StoreMessagesResponse:
        await asyncio.sleep(0.5)
        return STORED

    server.on("StoreMessages", late)
    began = time.monotonic()
    calls = []
    for i in range(8):
        calls.append(asyncio.create_task(client.sessions.store_message(f"s{i}", HELLO)))
        await asyncio.sleep(2 * _coalescing.MAX_WAIT_S)
    await asyncio.gather(*calls)
    assert time.monotonic() - began < 1.5
    assert len(server.of("StoreMessages")) == 8


async def test_a_second_call_to_a_session_waits_for_the_first(
    client: AsyncClient, server: FakeServer
) -> None:
    """It would wait at the server, and hold up a batch there."""
    landing = asyncio.Event()

    async def late(request: Any, context: object) -> StoreMessagesResponse:
        if request.session_id == "hot":
            await landing.wait()
        return STORED

    server.on("StoreMessages", late)
    server.on("BatchStoreMessages", answered)
    first = asyncio.create_task(client.sessions.store_message("hot", HELLO))
    await asyncio.sleep(0.05)
    others = [asyncio.create_task(client.sessions.store_message("hot", HELLO)) for _ in range(3)]
    await client.sessions.store_message("cold", HELLO)
    assert [request.session_id for request in server.of("StoreMessages")] == ["hot", "cold"]
    landing.set()
    await asyncio.gather(first, *others)
    [batch] = server.of("BatchStoreMessages")
    assert [request.session_id for request in batch.requests] == ["hot"] * 3


async def test_each_has_its_own_error(client: AsyncClient, server: FakeServer) -> None:
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    server.on(
        "BatchStoreMessages",
        Answers(
            missing=server.abort(
                grpc.StatusCode.NOT_FOUND,
                "there is no session",
                reason="SESSION_NOT_FOUND",
                metadata={"session_id": "missing"},
            ),
            bad=server.abort(
                invalid,
                "messages[0].json: is not JSON",
                reason="INVALID_JSON",
                fields={"messages[0].json": "is not JSON"},
            ),
        ),
    )
    good, missing, bad, last = await asyncio.gather(
        *(
            client.sessions.store_message(name, HELLO)
            for name in ("good", "missing", "bad", "last")
        ),
        return_exceptions=True,
    )
    assert (good.last_seq, last.last_seq) == (10, 13)  # type: ignore[union-attr]
    assert isinstance(missing, errors.SessionNotFound)
    assert missing.metadata["session_id"] == "missing"
    assert isinstance(bad, errors.InvalidJson)
    assert [(v.field, v.description) for v in bad.field_violations] == [
        ("messages[0].json", "is not JSON")
    ]
    assert str(bad).startswith(
        "messages[0].json: is not JSON"
    ) or "messages[0].json: is not JSON" in str(bad)


@pytest.mark.usefixtures("impatient")
async def test_each_is_tried_again_by_itself(client: AsyncClient, server: FakeServer) -> None:
    busy = server.abort(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", reason="OVERLOADED", retry_after_s=0.001
    )
    server.on("BatchStoreMessages", Answers(busy=busy))
    await asyncio.gather(
        *(client.sessions.store_message(name, HELLO) for name in ("one", "busy", "two"))
    )
    [batch] = server.of("BatchStoreMessages")
    [again] = server.of("StoreMessages")
    assert again == batch.requests[1]


@pytest.mark.usefixtures("impatient")
async def test_a_batch_that_fails_is_tried_again_with_the_same_request_ids(
    client: AsyncClient, server: FakeServer
) -> None:
    server.on(
        "BatchStoreMessages",
        server.abort(UNAVAILABLE, "gone"),
        server.abort(UNAVAILABLE, "gone"),
        answered,
    )
    await asyncio.gather(*(client.sessions.store_message(f"s{i}", HELLO) for i in range(20)))
    sent: dict[str, set[str]] = {}
    for batch in [*server.of("BatchStoreMessages")]:
        for request in batch.requests:
            sent.setdefault(request.session_id, set()).add(request.request_id)
    assert len(sent) == 20
    assert {len(ids) for ids in sent.values()} == {1}


@pytest.mark.usefixtures("impatient")
async def test_a_stream_that_ends_too_early_is_tried_again(
    client: AsyncClient, server: FakeServer
) -> None:
    half = BatchStoreMessagesResponse(results=[result(0), result(99)])
    server.on("BatchStoreMessages", [half], answered)
    stored = await asyncio.gather(
        *(client.sessions.store_message(f"s{i}", HELLO) for i in range(2))
    )
    assert [one.last_seq for one in stored] == [10, 1]
    assert [request.session_id for request in server.of("StoreMessages")] == ["s1"]


async def test_results_are_handed_out_as_they_come(client: AsyncClient, server: FakeServer) -> None:
    going_on = asyncio.Event()

    async def wait(request: object, context: object) -> None:
        await going_on.wait()

    responses = [BatchStoreMessagesResponse(results=[result(i)]) for i in range(2)]
    server.on("BatchStoreMessages", [responses[0], wait, responses[1]])
    fast, slow = [
        asyncio.create_task(client.sessions.store_message(f"s{i}", HELLO)) for i in range(2)
    ]
    assert (await fast).last_seq == 10
    assert not slow.done()
    # What waits at the server holds up nobody else.
    await client.sessions.store_message("s0", HELLO)
    going_on.set()
    assert (await slow).last_seq == 11


class TestDeadlines:
    async def hold(self, request: object, context: object) -> None:
        await asyncio.sleep(60)

    async def test_each_has_its_own(self, client: AsyncClient, server: FakeServer) -> None:
        async def wait(request: object, context: object) -> None:
            await asyncio.sleep(0.6)

        server.on(
            "BatchStoreMessages", [wait, BatchStoreMessagesResponse(results=[result(0), result(1)])]
        )
        began = time.monotonic()
        hasty = asyncio.create_task(client.sessions.store_message("s0", HELLO, timeout=0.2))
        patient = asyncio.create_task(client.sessions.store_message("s1", HELLO, timeout=20))
        with pytest.raises(errors.DeadlineExceeded):
            await hasty
        assert 0.15 < time.monotonic() - began < 0.5
        assert (await patient).last_seq == 11
        [received] = server.received
        assert received.remaining_s
        assert 15 < received.remaining_s < 21

    async def test_none_at_all(self, client: AsyncClient, server: FakeServer) -> None:
        server.on("BatchStoreMessages", answered)
        await asyncio.gather(
            *(
                client.sessions.store_message(f"s{i}", HELLO, timeout=t)
                for i, t in enumerate((5, float("inf")))
            )
        )
        [received] = server.received
        assert received.remaining_s is None or received.remaining_s > 1e6

    async def test_of_one_that_waits_for_its_departure(
        self, client: AsyncClient, server: FakeServer
    ) -> None:
        server.on("StoreMessages", self.hold)
        first = asyncio.create_task(client.sessions.store_message("hot", HELLO, timeout=20))
        await asyncio.sleep(0.05)
        with pytest.raises(errors.DeadlineExceeded):
            await client.sessions.store_message("hot", HELLO, timeout=0.1)
        assert len(server.of("StoreMessages")) == 1
        first.cancel()

    async def test_a_batch_that_nobody_waits_for_is_cancelled(
        self, client: AsyncClient, server: FakeServer
    ) -> None:
        server.on("BatchStoreMessages", [self.hold])
        calls = [
            client.sessions.store_message(f"s{i}", HELLO, timeout=t)
            for i, t in enumerate((0.1, 0.2))
        ]
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(end) for end in ends] == [errors.DeadlineExceeded] * 2
        async with asyncio.timeout(5):
            await server.cancelled.wait()


class TestCancellation:
    async def test_of_one_does_not_disturb_the_others(
        self, client: AsyncClient, server: FakeServer
    ) -> None:
        begun, going_on = asyncio.Event(), asyncio.Event()

        async def wait(request: object, context: object) -> None:
            begun.set()
            await going_on.wait()

        server.on(
            "BatchStoreMessages",
            [wait, BatchStoreMessagesResponse(results=[result(i) for i in range(3)])],
        )
        calls = [
            asyncio.create_task(client.sessions.store_message(f"s{i}", HELLO)) for i in range(3)
        ]
        await begun.wait()
        calls[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls[1]
        going_on.set()
        assert [(await calls[i]).last_seq for i in (0, 2)] == [10, 12]

    async def test_of_all_cancels_the_batch(self, client: AsyncClient, server: FakeServer) -> None:
        begun = asyncio.Event()

        async def wait(request: object, context: object) -> None:
            begun.set()
            await asyncio.sleep(60)

        server.on("BatchStoreMessages", [wait])
        calls = [
            asyncio.create_task(client.sessions.store_message(f"s{i}", HELLO)) for i in range(3)
        ]
        await begun.wait()
        for call in calls:
            call.cancel()
        async with asyncio.timeout(5):
            await server.cancelled.wait()
        # And the sessions are free again.
        server.on("StoreMessages", STORED)
        await client.sessions.store_message("s1", HELLO, timeout=5)

    async def test_before_the_departure_sends_nothing(
        self, client: AsyncClient, server: FakeServer
    ) -> None:
        server.on("BatchStoreMessages", answered)
        calls = [
            asyncio.create_task(client.sessions.store_message(f"s{i}", HELLO)) for i in range(3)
        ]
        await asyncio.sleep(0)
        calls[0].cancel()
        await asyncio.wait(calls)
        [batch] = server.of("BatchStoreMessages")
        assert [request.session_id for request in batch.requests] == ["s1", "s2"]

    async def test_of_one_that_goes_alone(self, client: AsyncClient, server: FakeServer) -> None:
        for ticks in range(6):
            call = asyncio.create_task(client.sessions.store_message("s", HELLO))
            for _ in range(ticks):
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert (await client.sessions.store_message("s", HELLO, timeout=5)).last_seq == 1


class TestClosing:
    async def test_ends_what_is_under_way_and_what_waits(
        self, client: AsyncClient, server: FakeServer
    ) -> None:
        begun = asyncio.Event()

        async def wait(request: object, context: object) -> None:
            begun.set()
            await asyncio.sleep(60)

        server.on("BatchStoreMessages", [wait])
        calls = [
            asyncio.create_task(client.sessions.store_message(f"s{i}", HELLO)) for i in range(3)
        ]
        await begun.wait()
        calls += [asyncio.create_task(client.sessions.store_message("s0", HELLO)) for _ in range(2)]
        await asyncio.sleep(0.05)
        await client.stop()
        async with asyncio.timeout(5):
            ends = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(end) for end in ends] == [errors.ClientClosed] * 5
        with pytest.raises(errors.ClientClosed):
            await client.sessions.store_message("s", HELLO)

    async def test_and_opening_again(self, client: AsyncClient, server: FakeServer) -> None:
        server.on("BatchStoreMessages", answered)
        for _ in range(2):
            await asyncio.gather(*(client.sessions.store_message(f"s{i}", HELLO) for i in range(3)))
            await client.stop()
            await client.start()
        assert len(server.of("BatchStoreMessages")) == 2


async def test_a_server_that_does_not_know_batches_gets_single_calls(
    client: AsyncClient, server: FakeServer
) -> None:
    server.on(
        "BatchStoreMessages", server.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
    )
    for _ in range(2):
        stored = await asyncio.gather(
            *(client.sessions.store_message(f"s{i}", HELLO) for i in range(5))
        )
        assert [one.last_seq for one in stored] == [1] * 5
    assert len(server.of("BatchStoreMessages")) == 1
    assert len(server.of("StoreMessages")) == 10


async def test_large_ones_go_alone(client: AsyncClient, server: FakeServer) -> None:
    server.on("BatchStoreMessages", answered)
    large = {"role": "user", "content": "x" * _coalescing.MAX_SHARED_BYTES}
    await asyncio.gather(
        *(
            client.sessions.store_message(f"s{i}", message)
            for i, message in enumerate((HELLO, large, HELLO))
        )
    )
    [single] = server.of("StoreMessages")
    assert single.session_id == "s1"
    [batch] = server.of("BatchStoreMessages")
    assert len(batch.requests) == 2


async def test_batches_have_limits(client: AsyncClient, server: FakeServer) -> None:
    server.on("BatchStoreMessages", answered)
    message = {"role": "user", "content": "x" * 60_000}
    await asyncio.gather(*(client.sessions.store_message(f"s{i}", HELLO) for i in range(1000)))
    assert (
        max(len(batch.requests) for batch in server.of("BatchStoreMessages"))
        <= _coalescing.MAX_REQUESTS
    )
    server.received.clear()
    await asyncio.gather(*(client.sessions.store_message(f"s{i}", message) for i in range(60)))
    assert (
        max(batch.ByteSize() for batch in server.of("BatchStoreMessages"))
        <= 1.1 * _coalescing.MAX_BATCH_BYTES
    )


async def test_two_clients_have_nothing_to_do_with_each_other(server: FakeServer) -> None:
    server.on("StoreMessages", STORED)
    async with (
        AsyncClient(server.target, api_key="a") as one,
        AsyncClient(server.target, api_key="b") as two,
    ):
        await asyncio.gather(*(client.sessions.store_message("s", HELLO) for client in (one, two)))
    assert {call.metadata["authorization"] for call in server.received} == {"Bearer a", "Bearer b"}
