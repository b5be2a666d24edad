"""Deadlines, cancellation and closing of appends that are sent in one batch."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from sessiond import AsyncClient, errors
from sessiond.v1.session_service_pb2 import BatchStoreMessagesResponse

from ..support.waiting import PATIENCE_S, until_async
from .batch_responses import HELLO, STORED, answered, result, waiting
from .conftest import FakeServer

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[AsyncClient]:
    server.on("StoreMessages", STORED)
    async with AsyncClient(server.target) as client:
        yield client


class TestDeadlines:
    async def hold(self, request: object, context: object) -> None:
        await asyncio.Event().wait()

    async def test_each_has_its_own(self, client: AsyncClient, server: FakeServer) -> None:
        going_on = asyncio.Event()

        async def wait(request: object, context: object) -> None:
            await going_on.wait()

        server.on(
            "BatchStoreMessages", [wait, BatchStoreMessagesResponse(results=[result(0), result(1)])]
        )
        hasty = asyncio.create_task(client.sessions.store_message("s0", HELLO, timeout=0.5))
        patient = asyncio.create_task(client.sessions.store_message("s1", HELLO, timeout=500))
        with pytest.raises(errors.DeadlineExceeded):
            await hasty
        assert not patient.done()
        going_on.set()
        assert (await patient).last_seq == 11
        [received] = server.received
        assert received.remaining_s
        assert 1 < received.remaining_s < 501

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

    async def test_of_one_that_is_not_sent_yet(
        self, client: AsyncClient, server: FakeServer
    ) -> None:
        server.on("StoreMessages", self.hold)
        first = asyncio.create_task(client.sessions.store_message("hot", HELLO, timeout=500))
        await until_async(lambda: bool(server.of("StoreMessages")), "it is sent")
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
        async with asyncio.timeout(PATIENCE_S):
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
            await asyncio.Event().wait()

        server.on("BatchStoreMessages", [wait])
        calls = [
            asyncio.create_task(client.sessions.store_message(f"s{i}", HELLO)) for i in range(3)
        ]
        await begun.wait()
        for call in calls:
            call.cancel()
        async with asyncio.timeout(PATIENCE_S):
            await server.cancelled.wait()
        # The sessions are no longer busy, so an append is sent at once.
        server.on("StoreMessages", STORED)
        await client.sessions.store_message("s1", HELLO, timeout=5)

    async def test_before_the_batch_sends_nothing(
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

    async def test_of_one_that_is_sent_alone(self, client: AsyncClient, server: FakeServer) -> None:
        for ticks in range(6):
            call = asyncio.create_task(client.sessions.store_message("s", HELLO))
            for _ in range(ticks):
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert (await client.sessions.store_message("s", HELLO, timeout=5)).last_seq == 1


class TestClosing:
    async def test_ends_calls_in_flight_and_waiting_calls(
        self, client: AsyncClient, server: FakeServer
    ) -> None:
        begun = asyncio.Event()

        async def wait(request: object, context: object) -> None:
            begun.set()
            await asyncio.Event().wait()

        server.on("BatchStoreMessages", [wait])
        calls = [
            asyncio.create_task(client.sessions.store_message(f"s{i}", HELLO)) for i in range(3)
        ]
        await begun.wait()
        calls += [asyncio.create_task(client.sessions.store_message("s0", HELLO)) for _ in range(2)]
        await until_async(lambda: len(waiting(client)) == 2, "they wait")
        await client.stop()
        async with asyncio.timeout(PATIENCE_S):
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
