"""Limits of concurrent calls and of connections, and a missing database."""

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack

import grpc
import psycopg
import pytest

from sessiond.v1 import conversation_service_pb2 as conversations
from sessiond.v1.session_service_pb2 import GetSessionRequest
from sessiond.v1.session_service_pb2_grpc import SessionServiceStub
from sessiond_server.server import Running, serving
from sessiond_server.settings import Settings

from ..support.waiting import PATIENCE_S, until_waiting
from ..support.wire import Wire, end_of, error_of, taken_apart
from .calls import CALLS, call


class TestOverload:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(
            update={
                "max_concurrent_rpcs": 3,
                "max_watchers": 5,
                "pool_size": 1,
                "pool_timeout_s": 0.2,
                "lock_timeout_s": 0.0,
            }
        )

    async def test_watchers_and_other_calls_have_separate_limits(self, wire: Wire) -> None:
        await wire.create("one")
        watchers = [
            wire.conversations.Watch(conversations.WatchRequest(session_id="one")) for _ in range(5)
        ]
        for watcher in watchers:
            await watcher.read()
        for made in (CALLS["Watch"]("one"), CALLS["Send"]("one")):
            error = await error_of(
                call(
                    wire,
                    "Watch" if "heartbeat_interval" in made.DESCRIPTOR.fields_by_name else "Send",
                    made,
                )
            )
            assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        await wire.store("one", "x")
        watchers[0].cancel()
        async with asyncio.timeout(PATIENCE_S):
            while await end_of(call(wire, "Send", CALLS["Send"]("one"))):
                await asyncio.sleep(0.01)
        assert len(await wire.read("one")) == 3

    async def test_calls_above_the_limit_are_refused_with_a_retry_delay(
        self, wire: Wire, database_url: str
    ) -> None:
        await wire.create("one")
        with psycopg.connect(database_url) as blocker:
            blocker.execute("SELECT * FROM sessions FOR UPDATE")
            waiting = [asyncio.ensure_future(wire.store("one", "x")) for _ in range(3)]
            await until_waiting(database_url)
            error = await error_of(wire.get("one"))
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert error.retry_s
        await asyncio.gather(*waiting, return_exceptions=True)

    async def test_an_exhausted_pool_is_overloaded(self, wire: Wire, database_url: str) -> None:
        await wire.create("one")
        with psycopg.connect(database_url) as blocker:
            blocker.execute("SELECT * FROM sessions FOR UPDATE")
            waiting = asyncio.ensure_future(wire.store("one", "x"))
            await until_waiting(database_url)
            error = await error_of(wire.get("one"))
        assert (error.reason, error.retry_s) == ("OVERLOADED", 0.5)
        await waiting


async def test_a_burst_of_calls_is_answered_or_refused_as_overloaded(
    wire: Wire, server: Running
) -> None:
    await wire.create("one")
    async with AsyncExitStack() as stack:
        # A connection carries at most 1,000 calls at once.
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(
                    f"127.0.0.1:{server.port}", [("grpc.use_local_subchannel_pool", 1)]
                )
            )
            for _ in range(3)
        ]
        stubs = [SessionServiceStub(channel) for channel in channels]
        calls = [
            stub.GetSession(GetSessionRequest(session_id="one"), timeout=120)
            for _ in range(833)
            for stub in stubs
        ]
        ended = await asyncio.gather(*map(_ended, calls))
    assert len(ended) == 3 * 833
    assert set(ended) <= {"OK", "OVERLOADED with a retry delay"}
    assert ended.count("OK") >= 1000


async def _ended(call: Awaitable[object]) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as e:
        if e.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            error = taken_apart(e)
            return f"{error.reason} with {'a' if error.retry_s else 'no'} retry delay"
        return e.code().name
    return "OK"


async def test_an_unreachable_database_is_unavailable(settings: Settings) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    async with (
        serving(settings.model_copy(update={"pool_timeout_s": 0.2}), nowhere) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        error = await error_of(Wire(channel).get("x"))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
    assert error.retry_s == 1.0
