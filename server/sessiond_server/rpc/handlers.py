"""The way of every call: who calls, until when, what came of it.

The handlers are built from the services' descriptors with identity serializers, so that this module sees bytes: a request that cannot
be decoded becomes a typed error, and a response may be spliced from stored bytes.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status
from grpc.aio import ServicerContext

from sessiond_server.core.cancellation import check_cancelled
from sessiond_server.core.errors import Fault
from sessiond_server.projects.authentication import Authenticator, Caller
from sessiond_server.rpc.errors import as_fault, status_of, whole_status_of
from sessiond_server.rpc.raw_messages import raw_class

SLOW_CALL_S = 1.0
# They last as long as their clients want them to: they are counted apart, and none is slow.
STREAMING_RPCS = ("Watch", "Send")

# How much of a client's stream that is refused is still listened to, and how long for each next piece.
DRAIN_TIMEOUT_S = 0.5
DRAIN_BYTES = 64 * 1024 * 1024

log = structlog.get_logger("sessiond.calls")


@dataclass(slots=True)
class Admission:
    """What runs in this process, and whether it is about to stop. long_calls: those of STREAMING_RPCS, which `calls` leaves out."""

    max_calls: int
    max_long_calls: int
    calls: int = 0
    long_calls: int = 0
    is_draining: bool = False

    def begin(self, method: str) -> None:
        """A call comes."""
        if method in STREAMING_RPCS:
            self.long_calls += 1
        else:
            self.calls += 1

    def end(self, method: str) -> None:
        """It is over."""
        if method in STREAMING_RPCS:
            self.long_calls -= 1
        else:
            self.calls -= 1

    def admit(self, method: str) -> None:
        """Raises: Fault OVERLOADED, once there are more calls of its kind than may be."""
        if method in STREAMING_RPCS:
            if self.long_calls > self.max_long_calls:
                raise Fault(
                    "OVERLOADED",
                    f"this server has {self.max_long_calls} watchers and turns under way",
                    retry_after_s=0.5,
                )
        elif self.calls > self.max_calls:
            raise Fault(
                "OVERLOADED", f"this server has {self.max_calls} calls under way", retry_after_s=0.5
            )

    def check_draining(self) -> None:
        """For long streams, between two messages. Raises: Fault SERVER_DRAINING."""
        if self.is_draining:
            raise Fault(
                "SERVER_DRAINING",
                "this server is shutting down; go on at another, from the last resume_token or seq",
                retry_after_s=0.2,
            )


# Those of many messages. Their requests have Message.json as bytes, whatever the types of the servicers' methods say.
RAW_CALLS = frozenset({"StoreMessages", "BatchStoreMessages", "ImportMessages"})


class Servicer(Protocol):
    """Methods named as the RPCs: (request, caller) -> response; iterators where the RPC streams.

    A response is a protobuf message, or one encoded already.
    """

    @property
    def needs_admin(self) -> bool: ...


@dataclass(slots=True)
class _Call:
    """One call under way."""

    method: str
    context: "ServicerContext[bytes, bytes]"
    started: float = field(default_factory=time.monotonic)
    caller: Caller | None = None
    authorization: str | None = None
    _call_id: str = ""
    peer: str = ""

    def __post_init__(self) -> None:
        # Now, not when it is logged: by then the call may be torn down, and gRPC crashes the process where it is asked.
        self.peer = self.context.peer()
        for key, value in self.context.invocation_metadata() or ():
            if key == "authorization":
                self.authorization = str(value)
            elif key == "x-request-id" and isinstance(value, str) and value.isprintable():
                self._call_id = value[:128]

    @property
    def call_id(self) -> str:
        """By which the log names the call: the caller's x-request-id, or one made up when it is first wanted."""
        if not self._call_id:
            self._call_id = uuid.uuid4().hex
        return self._call_id

    def finish(self) -> None:
        took = time.monotonic() - self.started
        if took > SLOW_CALL_S and self.method not in STREAMING_RPCS:
            log.info("slow call", took_ms=round(took * 1000), **self._names())
        elif log.is_enabled_for(logging.DEBUG):
            log.debug("call", took_ms=round(took * 1000, 1), **self._names())

    async def fail(self, error: Exception) -> None:
        """End the call with a typed status. Does not return."""
        await self.context.abort(*status_of(self.fault_of(error), self.call_id))

    def fault_of(self, error: Exception) -> Fault:
        """What the caller is told of an error; the log is told, too."""
        fault = as_fault(error)
        if fault is None:
            log.exception("call failed by a fault of the server", **self._names(), exc_info=error)
            fault = Fault(
                "INTERNAL",
                f"a fault of the server's own; its log has more under call_id {self.call_id}",
            )
        else:
            log.info(
                "call refused", reason=fault.reason, error=fault.message[:500], **self._names()
            )
        return fault

    def _names(self) -> dict[str, str | None]:
        return {
            "method": self.method,
            "call_id": self.call_id,
            "key_id": self.caller.key_id if self.caller else None,
            "peer": self.peer,
        }


_streaming: ContextVar[_Call] = ContextVar("streaming")


def status_of_part(error: Exception) -> Status:
    """The status of a part of the running call, which itself goes on: as it would be if the part were a call. For streams of responses."""
    call = _streaming.get()
    return whole_status_of(call.fault_of(error), call.call_id)


class Calls:
    """Builds the handlers of services.

    Args:
        default_deadline_s: for unary calls of clients that set none.
        stream_idle_timeout_s: seconds without a message after which a client's stream is refused.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        load: Admission,
        *,
        default_deadline_s: float,
        stream_idle_timeout_s: float,
    ) -> None:
        self._authenticator = authenticator
        self._load = load
        self._default_deadline_s = default_deadline_s
        self._stream_idle_timeout_s = stream_idle_timeout_s

    def handlers(self, service: ServiceDescriptor, servicer: Servicer) -> grpc.GenericRpcHandler:
        """The handlers of all methods of a service. Raises AttributeError where the servicer lacks one."""
        return grpc.method_handlers_generic_handler(
            service.full_name,
            {
                method.name: self._handler(
                    method, getattr(servicer, method.name), servicer.needs_admin
                )
                for method in service.methods
            },
        )

    def _handler(
        self, method: MethodDescriptor, function: Callable[[Any, Caller], Any], needs_admin: bool
    ) -> "grpc.RpcMethodHandler[bytes, bytes]":
        decode = _decoder(method)
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(
                self._stream_unary(method, decode, function, needs_admin)
            )
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._unary_stream(method, decode, function, needs_admin)
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary_unary(method, decode, function, needs_admin)
        )

    def _unary_unary(
        self,
        method: MethodDescriptor,
        decode: Callable[[bytes], ProtoMessage],
        function: Callable[[Any, Caller], Awaitable[ProtoMessage | bytes]],
        needs_admin: bool,
    ) -> Callable[[bytes, "ServicerContext[bytes, bytes]"], Awaitable[bytes]]:
        name, load = method.name, self._load

        async def handle(request: bytes, context: "ServicerContext[bytes, bytes]") -> bytes:
            call = _Call(name, context)
            load.begin(name)
            try:
                remaining = context.time_remaining()
                async with asyncio.timeout(
                    self._default_deadline_s if remaining is None else remaining
                ):
                    caller = await self._admit(call, needs_admin)
                    response = await function(decode(request), caller)
                return response if isinstance(response, bytes) else response.SerializeToString()
            except Exception as e:
                await call.fail(e)
                raise
            finally:
                load.end(name)
                call.finish()

        return handle

    def _unary_stream(
        self,
        method: MethodDescriptor,
        decode: Callable[[bytes], ProtoMessage],
        function: Callable[[Any, Caller], AsyncGenerator[bytes, None]],
        needs_admin: bool,
    ) -> Callable[[bytes, "ServicerContext[bytes, bytes]"], AsyncIterator[bytes]]:
        name, load = method.name, self._load

        async def handle(
            request: bytes, context: "ServicerContext[bytes, bytes]"
        ) -> AsyncIterator[bytes]:
            call = _Call(name, context)
            _streaming.set(call)
            load.begin(name)
            try:
                caller = await self._admit(call, needs_admin)
                async with aclosing(function(decode(request), caller)) as responses:
                    async for response in responses:
                        yield response
            except Exception as e:
                await call.fail(e)
                raise
            finally:
                load.end(name)
                call.finish()

        return handle

    def _stream_unary(
        self,
        method: MethodDescriptor,
        decode: Callable[[bytes], ProtoMessage],
        function: Callable[[Any, Caller], Awaitable[ProtoMessage | bytes]],
        needs_admin: bool,
    ) -> Callable[[AsyncIterator[bytes], "ServicerContext[bytes, bytes]"], Awaitable[bytes]]:
        name, load = method.name, self._load

        async def handle(
            requests: AsyncIterator[bytes], context: "ServicerContext[bytes, bytes]"
        ) -> bytes:
            call = _Call(name, context)
            load.begin(name)
            try:
                caller = await self._admit(call, needs_admin)
                pieces = _decoded(requests, decode, self._stream_idle_timeout_s)
                response = await function(pieces, caller)
                return response if isinstance(response, bytes) else response.SerializeToString()
            except Exception as e:
                await call.fail(e)
                raise
            finally:
                load.end(name)
                call.finish()

        return handle

    async def _admit(self, call: _Call, needs_admin: bool) -> Caller:
        """Raises: Fault OVERLOADED, API_KEY_MISSING, API_KEY_INVALID, ADMIN_KEY_REQUIRED."""
        self._load.admit(call.method)
        caller = call.caller = await self._authenticator.caller(call.authorization)
        if needs_admin and not caller.is_admin:
            raise Fault(
                "ADMIN_KEY_REQUIRED",
                "AdminService asks for an admin key (`sessiond keys create --admin`)",
            )
        return caller


async def drain_requests(requests: AsyncIterator[ProtoMessage]) -> None:
    """Take what a client still sends, for a while, before it is refused.

    Clients of some languages, Python's asyncio among them, lose an answer that comes while they write.
    """
    taken = 0
    with suppress(TimeoutError, StopAsyncIteration):
        while taken < DRAIN_BYTES:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                taken += (await anext(requests)).ByteSize()


def _decoder(method: MethodDescriptor) -> Callable[[bytes], ProtoMessage]:
    request_class = (
        raw_class(method.input_type)
        if method.name in RAW_CALLS
        else GetMessageClass(method.input_type)
    )

    def decode(encoded: bytes) -> ProtoMessage:
        try:
            return request_class.FromString(encoded)
        except DecodeError as e:
            raise Fault(
                "MALFORMED_REQUEST", f"the bytes sent are no {method.input_type.full_name}: {e}"
            ) from e

    return decode


async def _decoded(
    requests: AsyncIterator[bytes], decode: Callable[[bytes], ProtoMessage], idle_timeout_s: float
) -> AsyncIterator[ProtoMessage]:
    """Decode a client's stream.

    Raises:
        Fault: DEADLINE_EXCEEDED if the client sends nothing for idle_timeout_s.
    """
    while True:
        check_cancelled()
        try:
            async with asyncio.timeout(idle_timeout_s):
                request = await anext(requests)
        except StopAsyncIteration:
            check_cancelled()
            return
        except TimeoutError:
            raise Fault(
                "DEADLINE_EXCEEDED",
                f"the client sent nothing for {idle_timeout_s:g} s, and this server waits no "
                "longer; nothing was stored, send the stream again",
            ) from None
        yield decode(request)
