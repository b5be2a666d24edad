"""Concurrent appends are sent in one batch, without any difference for their callers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from sessiond import AsyncClient, errors
from sessiond._async import _coalescing
from sessiond.v1.session_service_pb2 import BatchStoreMessagesResponse, StoreMessagesResponse

from ..support.waiting import until_async
from .batch_responses import HELLO, STORED, Answers, answered, result, waiting
from .conftest import FakeServer

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[AsyncClient]:
    server.on("StoreMessages", STORED)
    async with AsyncClient(server.target) as client:
        yield client


async def test_concurrent_calls_are_sent_together(client: AsyncClient, server: FakeServer) -> None:
    server.on("BatchStoreMessages", answered)
    stored = await asyncio.gather(
        *(client.sessions.store_message(f"s{i}", HELLO) for i in range(10))
    )
    assert [one.last_seq for one in stored] == list(range(10, 20))
    [batch] = server.of("BatchStoreMessages")
    assert [request.session_id for request in batch.requests] == [f"s{i}" for i in range(10)]
    assert len({request.request_id for request in batch.requests}) == 10
    assert not server.of("StoreMessages")


async def test_a_single_call_is_sent_alone(client: AsyncClient, server: FakeServer) -> None:
    for _ in range(3):
        await client.sessions.store_message("s", HELLO)
    assert len(server.of("StoreMessages")) == 3
    assert not server.of("BatchStoreMessages")


async def test_calls_wait_while_others_are_in_flight(
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
        if i < 2:
            await until_async(lambda count=i + 1: len(server.of("StoreMessages")) == count, "sent")
    await until_async(lambda: len(waiting(client)) == 5, "the others wait")
    assert len(server.of("StoreMessages")) == 2
    assert not server.of("BatchStoreMessages")
    landing.set()
    await asyncio.gather(*calls)
    assert [len(batch.requests) for batch in server.of("BatchStoreMessages")] == [5]


async def test_a_slow_server_is_not_waited_for(client: AsyncClient, server: FakeServer) -> None:
    landing = asyncio.Event()

    async def late(request: object, context: object) -> StoreMessagesResponse:
        await landing.wait()
        return STORED

    server.on("StoreMessages", late)
    calls = []
    for i in range(8):
        calls.append(asyncio.create_task(client.sessions.store_message(f"s{i}", HELLO)))
        await until_async(
            lambda count=i + 1: len(server.of("StoreMessages")) == count, "it is sent"
        )
    landing.set()
    await asyncio.gather(*calls)


async def test_a_second_call_to_a_session_waits_for_the_first(
    client: AsyncClient, server: FakeServer
) -> None:
    """At the server, the second call would wait for the first, and delay its whole batch."""
    landing = asyncio.Event()

    async def late(request: Any, context: object) -> StoreMessagesResponse:
        if request.session_id == "hot":
            await landing.wait()
        return STORED

    server.on("StoreMessages", late)
    server.on("BatchStoreMessages", answered)
    first = asyncio.create_task(client.sessions.store_message("hot", HELLO))
    await until_async(lambda: bool(server.of("StoreMessages")), "it is sent")
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
async def test_each_call_of_a_batch_is_retried_alone(
    client: AsyncClient, server: FakeServer
) -> None:
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
async def test_a_failed_batch_is_retried_with_the_same_request_ids(
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
async def test_a_stream_that_ends_early_is_retried(client: AsyncClient, server: FakeServer) -> None:
    half = BatchStoreMessagesResponse(results=[result(0), result(99)])
    server.on("BatchStoreMessages", [half], answered)
    stored = await asyncio.gather(
        *(client.sessions.store_message(f"s{i}", HELLO) for i in range(2))
    )
    assert [one.last_seq for one in stored] == [10, 1]
    assert [request.session_id for request in server.of("StoreMessages")] == ["s1"]


async def test_results_are_returned_as_they_come(client: AsyncClient, server: FakeServer) -> None:
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
    # An append that waits at the server must not delay appends to other sessions.
    await client.sessions.store_message("s0", HELLO)
    going_on.set()
    assert (await slow).last_seq == 11


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


async def test_large_requests_are_sent_alone(client: AsyncClient, server: FakeServer) -> None:
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


async def test_two_clients_do_not_share_batches(server: FakeServer) -> None:
    server.on("StoreMessages", STORED)
    async with (
        AsyncClient(server.target, api_key="a") as one,
        AsyncClient(server.target, api_key="b") as two,
    ):
        await asyncio.gather(*(client.sessions.store_message("s", HELLO) for client in (one, two)))
    assert {call.metadata["authorization"] for call in server.received} == {"Bearer a", "Bearer b"}
