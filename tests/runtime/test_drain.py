"""Draining: calls that have arrived finish, and streams end with SERVER_DRAINING."""

import asyncio
from collections import Counter

import grpc
import psycopg
import pytest

from sessiond.v1.session_service_pb2 import GetMessagesRequest, GetSessionRequest
from sessiond.v1.session_service_pb2_grpc import SessionServiceStub
from sessiond_server.rpc.admission import Admission
from sessiond_server.server import Running, drain

from ..support.waiting import PATIENCE_S, until_async
from ..support.wire import Wire, openai, taken_apart


async def test_calls_under_way_are_finished(wire: Wire, server: Running, database_url: str) -> None:
    await wire.create("one")
    with psycopg.connect(database_url) as blocker:
        blocker.execute("SELECT * FROM sessions FOR UPDATE")
        call = asyncio.ensure_future(wire.store("one", "x"))
        await until_async(lambda: server.admission.calls > 0, "the call arrived")
        draining = asyncio.ensure_future(drain(server, delay_s=0, timeout_s=PATIENCE_S))
        await until_async(lambda: server.admission.is_draining, "the server drains")
    assert (await call).last_seq == 1
    await draining


async def test_streams_end_with_server_draining(wire: Wire, server: Running) -> None:
    await wire.create("one")
    for _ in range(8):
        await wire.store("one", *[openai("x" * 1000)] * 1000)
    batches = aiter(wire.sessions.GetMessages(GetMessagesRequest(session_id="one")))
    first = await anext(batches)
    draining = asyncio.ensure_future(drain(server, delay_s=0, timeout_s=PATIENCE_S))
    # Do not read meanwhile, because the stream could otherwise end before the drain begins.
    await until_async(lambda: server.admission.is_draining, "the server drains")
    last = first
    try:
        async for batch in batches:
            last = batch
    except grpc.aio.AioRpcError as e:
        error = taken_apart(e)
    await draining
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING")
    assert error.retry_s
    assert last.messages[-1].seq < 8000
    assert last.resume_token


async def test_no_call_is_cancelled_while_callers_send_one_after_the_other(
    wire: Wire, server: Running
) -> None:
    await wire.create("one")
    ended: Counter[grpc.StatusCode] = Counter()
    answered = asyncio.Event()

    async def caller() -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options) as channel:
            stub = SessionServiceStub(channel)
            try:
                while True:
                    await stub.GetSession(GetSessionRequest(session_id="one"), timeout=PATIENCE_S)
                    ended[grpc.StatusCode.OK] += 1
                    if ended[grpc.StatusCode.OK] == 200:
                        answered.set()
            except grpc.aio.AioRpcError as e:
                ended[e.code()] += 1

    callers = [asyncio.create_task(caller()) for _ in range(40)]
    async with asyncio.timeout(PATIENCE_S):
        await answered.wait()
        await drain(server, delay_s=0, timeout_s=PATIENCE_S)
        await asyncio.gather(*callers)
    # The callers end with an error once no server listens.
    assert ended.pop(grpc.StatusCode.OK) >= 200
    assert ended == {grpc.StatusCode.UNAVAILABLE: 40}


async def test_a_call_that_arrives_last_is_held_and_answered(
    wire: Wire, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def until_it_arrived(self: Admission) -> None:
        await until_async(lambda: self.calls > 0, "the call arrived")

    monkeypatch.setattr(Admission, "wait_until_quiet", until_it_arrived)
    await wire.create("one")
    draining = asyncio.ensure_future(drain(server, delay_s=0, timeout_s=PATIENCE_S))
    call = asyncio.ensure_future(wire.store("one", "x"))
    assert (await call).last_seq == 1
    assert server.admission.is_draining
    await draining


async def test_a_call_that_takes_longer_than_the_drain_ends_with_server_draining(
    wire: Wire, server: Running, database_url: str
) -> None:
    await wire.create("one")
    with psycopg.connect(database_url) as blocker:
        blocker.execute("SELECT * FROM sessions FOR UPDATE")
        call = asyncio.ensure_future(wire.store("one", "x"))
        await until_async(lambda: server.admission.calls > 0, "the call arrived")
        async with asyncio.timeout(PATIENCE_S):
            await drain(server, delay_s=0, timeout_s=0.1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
    error = taken_apart(caught.value)
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING")
    assert error.retry_s
