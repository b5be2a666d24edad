"""Draining: calls under way finish, streams end with SERVER_DRAINING, new calls are refused."""

import asyncio

import grpc
import psycopg

from sessiond.v1.session_service_pb2 import GetMessagesRequest
from sessiond_server.server import Running, drain

from ..support.wire import Wire, openai, taken_apart


async def test_calls_under_way_are_finished(wire: Wire, server: Running, database_url: str) -> None:
    await wire.create("one")
    with psycopg.connect(database_url) as blocker:
        blocker.execute("SELECT * FROM sessions FOR UPDATE")
        call = asyncio.ensure_future(wire.store("one", "x"))
        async with asyncio.timeout(20):
            while not server.admission.calls:
                await asyncio.sleep(0.01)
        draining = asyncio.ensure_future(drain(server, delay_s=0, timeout_s=30))
        async with asyncio.timeout(20):
            while not server.admission.is_draining:
                await asyncio.sleep(0.01)
    assert (await call).last_seq == 1
    await draining


async def test_streams_end_with_server_draining(wire: Wire, server: Running) -> None:
    await wire.create("one")
    for _ in range(8):
        await wire.store("one", *[openai("x" * 1000)] * 1000)
    batches = aiter(wire.sessions.GetMessages(GetMessagesRequest(session_id="one")))
    first = await anext(batches)
    draining = asyncio.ensure_future(drain(server, delay_s=0, timeout_s=30))
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
