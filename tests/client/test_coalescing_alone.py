"""Appends that come one after the other are sent at once. Concurrent ones are gathered."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from sessiond import AsyncClient, errors
from sessiond._async._coalescing import Coalescer
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import StoreMessagesRequest, StoreMessagesResponse

from .batch_responses import HELLO, STORED, answered
from .conftest import FakeServer


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[AsyncClient]:
    server.on("StoreMessages", STORED)
    server.on("BatchStoreMessages", answered)
    async with AsyncClient(server.target) as client:
        yield client


@pytest.fixture
def gatherings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many calls waited for the end of a tick; one number for each tick with waiting calls."""
    found: list[int] = []
    next_calls = Coalescer._next_calls

    def noted(self: Coalescer) -> list[object]:
        calls = next_calls(self)
        if calls:
            found.append(len(calls))
        return calls  # type: ignore[return-value]

    monkeypatch.setattr(Coalescer, "_next_calls", noted)
    return found


async def test_only_the_first_of_a_row_of_calls_waits_for_the_end_of_the_tick(
    client: AsyncClient, server: FakeServer, gatherings: list[int]
) -> None:
    for _ in range(5):
        await client.sessions.store_message("s", HELLO)
    assert gatherings == [1]
    assert len(server.of("StoreMessages")) == 5


async def test_calls_that_come_together_are_gathered_again(
    client: AsyncClient, server: FakeServer, gatherings: list[int]
) -> None:
    for _ in range(2):
        await client.sessions.store_message("s", HELLO)
    for _ in range(2):
        await asyncio.gather(*(client.sessions.store_message(f"s{i}", HELLO) for i in range(10)))
    assert gatherings == [1, 9, 10]
    assert [len(batch.requests) for batch in server.of("BatchStoreMessages")] == [9, 10]


async def test_a_call_to_a_session_waits_for_the_call_that_was_sent_at_once(
    client: AsyncClient, server: FakeServer
) -> None:
    await client.sessions.store_message("s", HELLO)
    arrived, can_end = asyncio.Event(), asyncio.Event()
    order: list[str] = []

    async def late(request: StoreMessagesRequest, context: object) -> StoreMessagesResponse:
        order.append(request.request_id)
        arrived.set()
        await can_end.wait()
        return STORED

    server.on("StoreMessages", late)
    first = asyncio.create_task(client.sessions.store_message("s", HELLO, request_id="1"))
    await arrived.wait()
    second = asyncio.create_task(client.sessions.store_message("s", HELLO, request_id="2"))
    # If the second append had been sent, it would have arrived before this call.
    server.on("GetSession", Session())
    await client.sessions.get("s")
    assert order == ["1"]
    can_end.set()
    await asyncio.gather(first, second)
    assert order == ["1", "2"]


async def test_a_call_that_was_sent_at_once_ends_at_its_deadline_and_when_it_is_cancelled(
    client: AsyncClient, server: FakeServer
) -> None:
    await client.sessions.store_message("s", HELLO)
    arrived, left = asyncio.Event(), asyncio.Event()

    async def never(request: object, context: object) -> StoreMessagesResponse:
        arrived.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        raise AssertionError

    server.on("StoreMessages", never)
    # On a slow machine, the time may be over before the server has the call.
    timeout = 0.01
    while not arrived.is_set():
        with pytest.raises(errors.DeadlineExceeded):
            await client.sessions.store_message("s", HELLO, timeout=timeout)
        timeout *= 2
    await left.wait()
    arrived.clear(), left.clear()
    call = asyncio.create_task(client.sessions.store_message("s", HELLO))
    await arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await left.wait()
    server.on("StoreMessages", STORED)
    assert (await client.sessions.store_message("s", HELLO)).last_seq == STORED.last_seq


async def test_a_call_that_was_sent_at_once_fails_with_its_own_error(
    client: AsyncClient, server: FakeServer
) -> None:
    await client.sessions.store_message("s", HELLO)

    async def refused(request: object, context: grpc.aio.ServicerContext) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such session")

    server.on("StoreMessages", refused)
    with pytest.raises(errors.SessiondError) as caught:
        await client.sessions.store_message("s", HELLO)
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
