"""A fake server on a real port, and a wrapper by which one test covers both clients."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from sessiond import AsyncClient, AsyncSessionPool, Client, SessionPool
from sessiond._protocol import retry as _retry
from sessiond.v1 import (
    admin_service_pb2,
    asset_service_pb2,
    bookmark_service_pb2,
    conversation_service_pb2,
    processing_service_pb2,
    session_pb2,
    session_service_pb2,
    task_service_pb2,
)

from .pool_sessions import PoolSessions

FILES = (
    session_service_pb2,
    task_service_pb2,
    bookmark_service_pb2,
    processing_service_pb2,
    asset_service_pb2,
    conversation_service_pb2,
    admin_service_pb2,
)


@dataclass
class Abort:
    """A step of the script that ends the call with this status."""

    code: grpc.StatusCode
    text: str
    details: list[ProtoMessage]

    async def raise_in(self, context: grpc.aio.ServicerContext) -> None:
        status = Status(code=self.code.value[0], message=self.text)
        for detail in self.details:
            packed = AnyMessage()
            packed.Pack(detail)
            status.details.append(packed)
        trailers = rpc_status.to_status(status).trailing_metadata if self.details else ()
        await context.abort(self.code, self.text, trailers)


@dataclass
class Received:
    """A call that the server has received."""

    method: str
    request: Any
    """The request; for a client stream, the list of its requests."""
    metadata: dict[str, str]
    remaining_s: float | None
    """Time to the deadline. None = no deadline."""


class FakeServer:
    """Responds by a script: each call of a method takes the next step; the last step is repeated.

    A step is a response, an Abort, or an async function (request, context) that returns a
    response; for a stream, a list of these.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.script: dict[str, list[Any]] = {}
        self.target = ""
        self.cancelled = asyncio.Event()
        self.refuse_uploads: Abort | None = None
        """If set, client streams are aborted at their first request."""
        self._server: grpc.aio.Server | None = None

    def on(self, method: str, *steps: Any) -> None:
        self.script[method] = list(steps)

    def of(self, method: str) -> list[Any]:
        """Return the requests that a method has received."""
        return [call.request for call in self.received if call.method == method]

    @staticmethod
    def abort(
        code: grpc.StatusCode,
        text: str = "",
        *,
        reason: str | None = None,
        metadata: dict[str, str] | None = None,
        fields: dict[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> Abort:
        details: list[ProtoMessage] = []
        if reason is not None:
            details.append(
                ErrorInfo(
                    reason=reason,
                    domain="sessiond.v1",
                    metadata={"call_id": "call-1", **(metadata or {})},
                )
            )
        if fields:
            violations = [
                BadRequest.FieldViolation(field=f, description=d) for f, d in fields.items()
            ]
            details.append(BadRequest(field_violations=violations))
        if retry_after_s is not None:
            delay = Duration()
            delay.FromNanoseconds(int(retry_after_s * 1e9))
            details.append(RetryInfo(retry_delay=delay))
        return Abort(code, text, details)

    async def start(self, port: int = 0) -> int:
        self._server = grpc.aio.server()
        for file in FILES:
            for service in file.DESCRIPTOR.services_by_name.values():
                handlers = {method.name: self._handler(method) for method in service.methods}
                self._server.add_generic_rpc_handlers(
                    (grpc.method_handlers_generic_handler(service.full_name, handlers),)
                )
        port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()
        self.target = f"127.0.0.1:{port}"
        return port

    async def stop(self) -> None:
        if self._server:
            await self._server.stop(None)

    def _handler(self, method: Any) -> grpc.RpcMethodHandler:
        request_type = GetMessageClass(method.input_type)
        name = method.name

        async def unary(request: Any, context: Any) -> Any:
            return await self._answer(name, request, context)

        async def upload(requests: AsyncIterator[Any], context: Any) -> Any:
            if self.refuse_uploads:
                await anext(requests)
                await self.refuse_uploads.raise_in(context)
            return await self._answer(name, [request async for request in requests], context)

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            steps = await self._answer(name, request, context)
            try:
                for step in steps if isinstance(steps, list) else [steps]:
                    if isinstance(step, Abort):
                        await step.raise_in(context)
                    elif callable(step):
                        await step(request, context)
                    else:
                        yield step
            except (asyncio.CancelledError, GeneratorExit):
                self.cancelled.set()
                raise

        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(
                stream, request_type.FromString, lambda m: m.SerializeToString()
            )
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(
                upload, request_type.FromString, lambda m: m.SerializeToString()
            )
        return grpc.unary_unary_rpc_method_handler(
            unary, request_type.FromString, lambda m: m.SerializeToString()
        )

    async def _answer(self, method: str, request: Any, context: Any) -> Any:
        metadata = {
            key: value
            for key, value in context.invocation_metadata() or ()
            if isinstance(value, str)
        }
        self.received.append(Received(method, request, metadata, context.time_remaining()))
        steps = self.script.get(method)
        if not steps:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not in the script")
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        if isinstance(step, Abort):
            await step.raise_in(context)
        return await step(request, context) if callable(step) else step


class Colour:
    """The async client or the sync client, behind methods that are the same for both.

    The sync client runs in a thread, because the fake server runs in the test's event loop.
    """

    def __init__(self, is_async: bool) -> None:
        self.is_async = is_async

    def client(self, target: str, **arguments: Any) -> Any:
        return AsyncClient(target, **arguments) if self.is_async else Client(target, **arguments)

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.is_async:
            return await function(*args, **kwargs)
        return await asyncio.to_thread(function, *args, **kwargs)

    async def collect(self, lazy: Any) -> list[Any]:
        """Iterate over a lazy list; return its items."""
        if self.is_async:
            return [item async for item in lazy]
        return await asyncio.to_thread(list, lazy)


@pytest.fixture(params=["async", "sync"])
def colour(request: pytest.FixtureRequest) -> Colour:
    return Colour(request.param == "async")


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    fake = FakeServer()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def client(colour: Colour, server: FakeServer) -> AsyncIterator[Any]:
    client = colour.client(server.target)
    yield client
    await colour.call(client.stop)


@pytest.fixture
async def session(colour: Colour, server: FakeServer, client: Any) -> Any:
    """The handle of the session "s"."""
    server.on("GetSession", session_pb2.Session(session_id="s", last_seq=7))
    return await colour.call(client.get_session, "s")


@pytest.fixture
def sessions(server: FakeServer) -> PoolSessions:
    return PoolSessions(server)


@pytest.fixture
def pools(colour: Colour, client: Any) -> Any:
    @asynccontextmanager
    async def running(size: int = 2, **settings: Any) -> AsyncIterator[Any]:
        pool = (AsyncSessionPool if colour.is_async else SessionPool)(client, size, **settings)
        try:
            yield pool
        finally:
            await colour.call(pool.close)

    return running


@pytest.fixture(autouse=True)
def _settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SESSIOND_TARGET", raising=False)
    monkeypatch.delenv("SESSIOND_API_KEY", raising=False)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between retries. Calls without a deadline give up after MIN_ATTEMPTS."""
    monkeypatch.setattr(_retry, "FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(_retry, "FIRST_STREAM_DELAY_S", 0.001)
    monkeypatch.setattr(_retry, "MAX_STREAM_DELAY_S", 0.01)
    monkeypatch.setattr(_retry, "MAX_DELAY_S", 0.01)
    monkeypatch.setattr(_retry, "PATIENCE_S", 0.0)
