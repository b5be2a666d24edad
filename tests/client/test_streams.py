"""Reads: lazy, in batches, and resumed after a broken stream."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from sessiond import AsyncClient, errors
from sessiond._protocol import retry as _retry
from sessiond.v1 import message_pb2, session_pb2
from sessiond.v1.session_service_pb2 import (
    MESSAGE_ORDER_DESC,
    MESSAGE_VIEW_BASIC,
    GetMessagesRequest,
    GetMessagesResponse,
    ListSessionsResponse,
)


def batch(*seqs: int, token: str = "", size: int = 0) -> GetMessagesResponse:
    text = '{"role":"user","content":"' + "x" * size + '"}'
    messages = [
        message_pb2.Message(seq=seq, json=text, format=message_pb2.FORMAT_OPENAI) for seq in seqs
    ]
    return GetMessagesResponse(messages=messages, resume_token=token)


BROKEN = [
    (grpc.StatusCode.UNAVAILABLE, "Socket closed"),
    (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"),
    (grpc.StatusCode.UNKNOWN, "Stream removed"),
    (grpc.StatusCode.CANCELLED, "Received RST_STREAM with error code 8"),
]


async def test_nothing_is_called_before_iteration(colour, server, client) -> None:
    server.on("GetMessages", [batch(1, 2, token="t")])
    lazy = client.sessions.get_messages(session_id="s")
    listing = client.list_sessions()
    assert server.received == []
    assert [m.seq for m in await colour.collect(lazy)] == [1, 2]
    assert [m.seq for m in await colour.call(lazy.to_list)] == [1, 2]
    assert len(server.received) == 2
    del listing


async def test_await_makes_a_list(server) -> None:
    server.on("GetMessages", [batch(1, token="a"), batch(2, 3, token="b")])
    server.on("ListSessions", ListSessionsResponse(sessions=[session_pb2.Session(session_id="s")]))
    async with AsyncClient(server.target) as client:
        assert [m.seq for m in await client.sessions.get_messages("s")] == [1, 2, 3]
        assert [info["sessionId"] for info in await client.list_sessions()] == ["s"]


async def test_streams_have_no_deadline_unless_asked(colour, server, client) -> None:
    server.on("GetMessages", [batch()])
    assert await colour.collect(client.sessions.get_messages("s")) == []
    assert await colour.collect(client.sessions.get_messages("s", timeout=5)) == []
    endless, timed = [call.remaining_s for call in server.received]
    assert endless is None or endless > 1e6
    assert 0 < timed < 6


@pytest.mark.parametrize(("code", "text"), BROKEN)
async def test_a_broken_stream_goes_on_from_its_token(
    colour, server, client, impatient, code: grpc.StatusCode, text: str
) -> None:
    server.on(
        "GetMessages",
        [batch(9, 8, token="t8"), batch(7, token="t7"), server.abort(code, text)],
        server.abort(
            grpc.StatusCode.UNAVAILABLE, "draining", reason="SERVER_DRAINING", retry_after_s=0.001
        ),
        [batch(6, 5, token="t5"), server.abort(code, text)],
        [batch()],
    )
    messages = client.sessions.get_messages(
        "s", after_seq=4, through_seq=9, limit=5, order="desc", roles=["user", "tool"], view="basic"
    )
    assert [m.seq for m in await colour.collect(messages)] == [9, 8, 7, 6, 5]
    requests = server.of("GetMessages")
    assert [r.resume_token for r in requests] == ["", "t7", "t7", "t5"]
    assert requests[0].after_seq == 4
    roles = [message_pb2.ROLE_USER, message_pb2.ROLE_TOOL]
    for request in requests:
        assert (request.through_seq, request.limit, request.order, request.view) == (
            9,
            5,
            MESSAGE_ORDER_DESC,
            MESSAGE_VIEW_BASIC,
        )
        assert list(request.roles) == roles


async def test_iterating_again_begins_again(colour, server, client, impatient) -> None:
    server.on(
        "GetMessages",
        [batch(1, token="t1"), server.abort(*BROKEN[0])],
        [batch(2, token="t2")],
        [batch(1, 2, token="t2")],
    )
    lazy = client.sessions.get_messages("s", after_seq=0)
    assert [m.seq for m in await colour.collect(lazy)] == [1, 2]
    assert [m.seq for m in await colour.collect(lazy)] == [1, 2]
    assert server.of("GetMessages")[2] == server.of("GetMessages")[0]


@pytest.mark.parametrize("reason", ["INTERNAL", "SESSION_NOT_FOUND"])
async def test_other_errors_end_a_stream(colour, server, client, impatient, reason: str) -> None:
    code = grpc.StatusCode.INTERNAL if reason == "INTERNAL" else grpc.StatusCode.NOT_FOUND
    server.on(
        "GetMessages",
        [batch(1, token="t"), server.abort(code, "RST_STREAM is in the text", reason=reason)],
    )
    with pytest.raises(errors.SessiondError) as caught:
        await colour.collect(client.sessions.get_messages("s"))
    assert caught.value.reason == reason
    assert len(server.received) == 1


@pytest.mark.parametrize(("code", "text"), BROKEN)
async def test_a_stream_that_breaks_before_the_first_batch_is_opened_again(
    colour, server, client, impatient, code: grpc.StatusCode, text: str
) -> None:
    server.on("GetMessages", server.abort(code, text), [batch(1, token="t")])
    assert [m.seq for m in await colour.collect(client.sessions.get_messages("s"))] == [1]


async def test_gives_up_without_progress(colour, server, client, impatient) -> None:
    server.on(
        "GetMessages", [batch(1, token="t"), server.abort(*BROKEN[0])], server.abort(*BROKEN[0])
    )
    with pytest.raises(errors.ServerUnavailable):
        await colour.collect(client.sessions.get_messages("s"))
    assert len(server.received) == _retry.MIN_ATTEMPTS


async def test_a_missing_session_raises_at_the_first_message(colour, server, client) -> None:
    server.on(
        "GetMessages", server.abort(grpc.StatusCode.NOT_FOUND, "no", reason="SESSION_NOT_FOUND")
    )
    lazy = client.sessions.get_messages("s")
    with pytest.raises(errors.SessionNotFound):
        await colour.collect(lazy)


async def test_ending_the_iteration_early_cancels_the_call(colour, server, client) -> None:
    async def never(request: Any, context: Any) -> None:
        await asyncio.Event().wait()

    server.on("GetMessages", [batch(1, 2, token="t"), never])
    lazy = client.sessions.get_messages("s")

    if colour.is_async:
        async for message in lazy:
            assert message.seq == 1
            break
    else:

        def first() -> None:
            for message in lazy:
                assert message.seq == 1
                break

        await asyncio.to_thread(first)
    await server.cancelled.wait()


async def test_closing_the_client_ends_a_stream(colour, server, client) -> None:
    arrived = asyncio.Event()

    async def never(request: Any, context: Any) -> None:
        arrived.set()
        await asyncio.Event().wait()

    server.on("GetMessages", [batch(1, token="t"), never])
    reading = asyncio.ensure_future(colour.collect(client.sessions.get_messages("s")))
    await arrived.wait()
    await colour.call(client.stop)
    with pytest.raises(errors.ClientClosed):
        await reading


async def test_a_cancelled_reader_stops(server) -> None:
    arrived = asyncio.Event()

    async def never(request: Any, context: Any) -> None:
        arrived.set()
        await asyncio.Event().wait()

    server.on("GetMessages", [batch(1, token="t"), never])
    async with AsyncClient(server.target) as client:
        reading = asyncio.ensure_future(client.sessions.get_messages("s").to_list())
        await arrived.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await server.cancelled.wait()


class Cutter:
    """A TCP proxy that breaks each connection to the server after some bytes of responses."""

    def __init__(self, port: int, bytes_a_connection: int) -> None:
        self.port = port
        self.left = bytes_a_connection
        self.cuts = 0
        self.address = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self._tasks: set[asyncio.Task[None]] = set()
        listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        try:
            yield
        finally:
            listener.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        back, forth = await asyncio.open_connection("127.0.0.1", self.port)
        up = asyncio.ensure_future(self._copy(reader, forth, None))
        try:
            await self._copy(back, writer, self.left)
        finally:
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)
            writer.transport.abort()
            forth.transport.abort()

    async def _copy(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, limit: int | None
    ) -> None:
        sent = 0
        while data := await source.read(16384):
            if limit is not None and sent + len(data) > limit:
                self.cuts += 1
                return
            sink.write(data)
            await sink.drain()
            sent += len(data)


async def test_a_cut_connection_leaves_no_gap_and_no_repeat(
    colour, server, impatient, monkeypatch
) -> None:
    monkeypatch.setattr(_retry, "MIN_ATTEMPTS", 1000)
    batches, per_batch = 40, 5

    async def from_token(request: GetMessagesRequest, context: Any) -> list[GetMessagesResponse]:
        done = int(request.resume_token or 0)
        return [
            batch(*range(i * per_batch + 1, (i + 1) * per_batch + 1), token=str(i + 1), size=4000)
            for i in range(done, batches)
        ]

    server.on("GetMessages", from_token)
    cutter = Cutter(int(server.target.rpartition(":")[2]), bytes_a_connection=150_000)
    async with cutter.running():
        client = colour.client(cutter.address)
        messages = await colour.collect(client.sessions.get_messages("s"))
        await colour.call(client.stop)
    assert [m.seq for m in messages] == list(range(1, batches * per_batch + 1))
    assert cutter.cuts >= 3
    assert len(server.received) >= 4


async def test_a_listing_pages_by_itself(colour, server, client) -> None:
    def page(*ids: str, token: str = "") -> ListSessionsResponse:
        return ListSessionsResponse(
            sessions=[session_pb2.Session(session_id=i) for i in ids], next_page_token=token
        )

    server.on("ListSessions", page("a", "b", token="1"), page(token="2"), page("c"))
    listing = client.list_sessions(user="u", page_size=2, order="id_asc")
    assert [info.session_id for info in await colour.collect(listing)] == ["a", "b", "c"]
    requests = server.of("ListSessions")
    assert [(r.page_token, r.filter.user, r.page_size) for r in requests] == [
        ("", "u", 2),
        ("1", "u", 2),
        ("2", "u", 2),
    ]
    assert all(call.remaining_s and call.remaining_s < 31 for call in server.received)
