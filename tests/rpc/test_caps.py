"""Limits of a process: concurrent imports, connections, calls per connection, metadata."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from sessiond import AsyncClient, errors
from sessiond.v1 import admin_service_pb2 as admin
from sessiond.v1.conversation_service_pb2 import WatchRequest
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import (
    CreateSessionRequest,
    GetSessionRequest,
    ImportMessagesRequest,
)
from sessiond_server.server import Running
from sessiond_server.settings import Settings

from ..support.http2_flood import PREFACE, SETTINGS, frame
from ..support.waiting import PATIENCE_S, until_async
from ..support.wire import Wire, error_of, openai


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "max_running_imports": 4,
            "max_connections": 3,
            "max_connection_streams": 2,
            "max_metadata_bytes": 4096,
        }
    )


class Import:
    """An import of two messages that waits before its end."""

    def __init__(self, wire: Wire, session_id: str, options: dict[str, Any]) -> None:
        self.may_end = asyncio.Event()

        async def pieces() -> AsyncIterator[ImportMessagesRequest]:
            yield ImportMessagesRequest(session_id=session_id, messages=[openai("x")])
            await self.may_end.wait()
            yield ImportMessagesRequest(messages=[openai("y")])

        self.call = asyncio.ensure_future(_ended(wire.sessions.ImportMessages(pieces(), **options)))

    async def end(self) -> None:
        self.may_end.set()
        assert (await self.call).last_seq


async def _ended(call: Any) -> Any:
    return await call


def imports_of(server: Running) -> int:
    return server.admission.imports


async def test_a_project_has_half_of_the_imports_and_others_the_rest(
    wire: Wire, server: Running
) -> None:
    await wire.admin.CreateProject(admin.CreateProjectRequest(project=admin.Project(name="p")))
    secret = (await wire.admin.CreateApiKey(admin.CreateApiKeyRequest(project="p"))).secret
    keyed = {"metadata": (("authorization", f"Bearer {secret}"),)}
    await wire.create("a")
    await wire.sessions.CreateSession(
        CreateSessionRequest(session=Session(session_id="b")), **keyed
    )
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", _own()) for _ in range(2)]
    async with channels[0], channels[1]:
        first = [Import(Wire(channels[0]), "a", {}) for _ in range(2)]
        await until_async(lambda: imports_of(server) == 2, "two imports run")
        error = await error_of(wire.import_("a", [[openai("z")]]))
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert error.retry_s == 1
        assert "share" in error.text
        await wire.get("a")
        second = Import(Wire(channels[1]), "b", keyed)
        await until_async(lambda: imports_of(server) == 3, "another project imports")
        await second.end()
        await first[0].end()
        assert (await wire.import_("a", [[openai("z")]])).last_seq == 3
        await first[1].end()
    assert imports_of(server) == 0


def _own() -> list[tuple[str, int]]:
    """Return options of a channel that does not share its connection."""
    return [("grpc.use_local_subchannel_pool", 1)]


async def test_connections_beyond_the_limit_are_closed_and_others_go_on(
    server: Running, wire: Wire
) -> None:
    await wire.create("a")  # the first connection

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(PREFACE + frame(SETTINGS, 0, 0, b""))
        return reader, writer

    async def is_served(reader: asyncio.StreamReader) -> bool:
        try:
            return bool(await reader.read(1))
        except ConnectionResetError:
            return False

    async with asyncio.timeout(PATIENCE_S), AsyncExitStack() as stack:

        async def connected() -> tuple[bool, asyncio.StreamWriter]:
            reader, writer = await connect()
            stack.callback(writer.close)
            return await is_served(reader), writer

        opened = [await connected() for _ in range(3)]
        assert [served for served, _ in opened] == [True, True, False]
        assert (await wire.get("a")).session_id == "a"
        opened[0][1].close()
        while not (await connected())[0]:
            pass


async def test_calls_of_a_connection_beyond_the_limit_wait_for_others_to_end(
    server: Running, wire: Wire
) -> None:
    await wire.create("a")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", _own()) as channel:
        one = Wire(channel)
        watches = [one.conversations.Watch(WatchRequest(session_id="a")) for _ in range(2)]
        for watch in watches:
            await watch.read()
        waiting = asyncio.ensure_future(one.get("a"))
        assert (await wire.get("a")).session_id == "a"
        assert not waiting.done()
        watches[0].cancel()
        assert (await waiting).session_id == "a"
        watches[1].cancel()


async def test_metadata_beyond_the_limit_is_refused_and_the_connection_stays(
    server: Running, wire: Wire
) -> None:
    await wire.create("a")
    request = GetSessionRequest(session_id="a")
    await wire.sessions.GetSession(request, metadata=(("x-small", "x" * 3000),))
    error = await error_of(wire.sessions.GetSession(request, metadata=(("x-large", "x" * 5000),)))
    assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await wire.get("a")).session_id == "a"
    large_key = "sk-" + "x" * 5000
    async with AsyncClient(f"127.0.0.1:{server.port}", api_key=large_key) as client:
        with pytest.raises(errors.ResourceExhausted):
            await client.get_session("a")
