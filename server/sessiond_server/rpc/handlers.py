"""Runs every call: authentication, admission, deadline, errors, logging.

The handlers are built from the services' descriptors with identity serializers, so this module
handles bytes. This allows typed errors for requests that cannot be decoded, and responses that are
spliced from stored bytes.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message as ProtoMessage
from google.rpc.status_pb2 import Status
from grpc.aio import ServicerContext

from sessiond.v1.session_service_pb2 import StoreMessagesRequest
from sessiond_server.core.deadlines import begin_call
from sessiond_server.core.errors import Fault
from sessiond_server.core.limits import MAX_SESSION_ID_CHARACTERS
from sessiond_server.core.work import begin_work
from sessiond_server.projects.authentication import Authenticator, Caller
from sessiond_server.quotas.service import Quotas
from sessiond_server.rpc.admission import STREAMING_RPCS, Admission
from sessiond_server.rpc.bodies import Gate, Handler, Metadata, drain_requests, whole
from sessiond_server.rpc.decoding import Decode, decoded_stream, decoder, encoded
from sessiond_server.rpc.errors import as_fault, log_text, status_of, whole_status_of
from sessiond_server.rpc.figures import CallFigures
from sessiond_server.rpc.lock_waits import WAIT_BY_THEMSELVES, LockWaits
from sessiond_server.rpc.violations import REASONS, CheckMessages, with_all_violations
from sessiond_server.telemetry import metrics, tracing

SLOW_CALL_S = 1.0

# Above this size, a refused request is searched for further invalid fields in a thread.
LARGE_BYTES = 1024 * 1024

Context: TypeAlias = "ServicerContext[bytes, bytes]"
# The request of a unary call, or the stream from which it must be read.
Request: TypeAlias = bytes | AsyncIterator[bytes]
Unary: TypeAlias = Callable[[Any, Caller], Awaitable[ProtoMessage | bytes]]
ServerStream: TypeAlias = Callable[[Any, Caller], AsyncGenerator[bytes, None]]

log = structlog.get_logger("sessiond.calls")


class Servicer(Protocol):
    """Has a method for each RPC, named after it: (request, caller) -> response.

    A stream of requests or responses is an iterator. A response is a protobuf message or an
    encoded one.
    """

    @property
    def needs_admin(self) -> bool: ...


class _Call:
    """One call in progress, for the duration of an `async with` block.

    An exception in the block ends the call with a typed status.
    """

    __slots__ = ("_admission", "_call_id", "_check_messages", "_code", "_context", "_logs_all",
                 "_reason", "_span", "authorization", "caller", "figures", "has_two_keys", "method",
                 "peer", "request", "session_id", "started")  # fmt: skip

    def __init__(
        self,
        method: str,
        figures: CallFigures,
        context: Context,
        admission: Admission,
        check_messages: CheckMessages,
        logs_all: bool,
    ) -> None:
        self.method = method
        self.figures = figures
        self._code, self._reason = grpc.StatusCode.OK, ""
        self._logs_all = logs_all
        self.started = time.monotonic()
        self.caller: Caller | None = None
        self.authorization: str | None = None
        self.has_two_keys = False
        self.session_id = ""
        self._context = context
        self._admission = admission
        self._check_messages = check_messages
        # The request, or the first one of a client's stream.
        self.request: ProtoMessage | None = None
        self._call_id = ""
        # Read the peer now. When the call is logged, it may have been torn down already, and then
        # reading the peer would crash the process within gRPC.
        self.peer = context.peer()
        metadata = context.invocation_metadata() or ()
        for key, value in metadata:
            if key == "authorization":
                self.has_two_keys = self.authorization is not None
                self.authorization = str(value)
            elif key == "x-request-id" and isinstance(value, str) and value.isprintable():
                self._call_id = value[:128]
        self._span = tracing.begin_call(figures.name, metadata)

    @property
    def call_id(self) -> str:
        """Id of the call in the log: the caller's x-request-id, or else a generated id."""
        if not self._call_id:
            self._call_id = uuid.uuid4().hex
        return self._call_id

    async def __aenter__(self) -> "_Call":
        begin_work(self.method)
        self._admission.begin(self.method)
        if self._admission.is_holding:
            await self._admission.until_released(self.method)
        self.figures.started()
        return self

    async def __aexit__(self, _type: object, error: BaseException | None, _tb: object) -> None:
        try:
            if isinstance(error, Exception):
                fault = await self.with_all_violations(self.fault_of(error), self.request)
                status = status_of(fault, self.call_id)
                self._code, self._reason = status[0], fault.reason
                await self._context.abort(*status)
            elif error is not None:  # the client has left
                self._code = grpc.StatusCode.CANCELLED
        finally:
            self._admission.end(self.method)
            took_s = time.monotonic() - self.started
            self.figures.ended(self._code, took_s)
            tracing.end_call(self._span, self._code.value[0], self._reason)
            if took_s > SLOW_CALL_S and self.method not in STREAMING_RPCS:
                took_ms, code = _ms(took_s), self._code.name
                log.info("slow_call", took_ms=took_ms, code=code, **self._log_fields())
            elif self._logs_all:
                log.info("call", took_ms=_ms(took_s), code=self._code.name, **self._log_fields())
            elif log.is_enabled_for(logging.DEBUG):
                log.debug("call", took_ms=_ms(took_s), code=self._code.name, **self._log_fields())

    def fault_of(self, error: Exception, session_id: str = "") -> Fault:
        """Log an error, and return the Fault to send to the caller.

        Args:
            error: the error.
            session_id: session of the part that failed; "" = the session of the call.
        """
        fault = as_fault(error)
        if fault is None:
            log.exception("call_failed", **self._log_fields(session_id), exc_info=error)
            metrics.FAULTS.labels("INTERNAL").inc()
            return Fault(
                "INTERNAL",
                f"internal error; the server's log has more under call_id {self.call_id}",
            )
        metrics.FAULTS.labels(fault.reason).inc()
        log.info(
            "call_refused",
            reason=fault.reason,
            error=log_text(fault),
            **self._log_fields(session_id),
        )
        return fault

    async def with_all_violations(self, fault: Fault, request: ProtoMessage | None) -> Fault:
        """Return the fault with all invalid fields of its request."""
        if request is None or fault.reason not in REASONS:
            return fault
        if request.ByteSize() > LARGE_BYTES:
            return await asyncio.to_thread(
                with_all_violations, fault, request, self._check_messages
            )
        return with_all_violations(fault, request, self._check_messages)

    def _log_fields(self, session_id: str = "") -> dict[str, str | None]:
        return {
            "method": self.method,
            "call_id": self.call_id,
            "session_id": (session_id or self.session_id)[:MAX_SESSION_ID_CHARACTERS] or None,
            "key_id": self.caller.key_id if self.caller else None,
            "peer": self.peer,
        }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


_streaming: ContextVar[_Call] = ContextVar("streaming")


async def status_of_part(error: Exception, part: StoreMessagesRequest) -> Status:
    """Log an error in one part of the current server stream, and return the status of that part.

    The call itself continues. The status is the same as if the part were a call of its own.

    Args:
        error: the error.
        part: request of the part.
    """
    call = _streaming.get()
    fault = await call.with_all_violations(call.fault_of(error, part.session_id), part)
    return whole_status_of(fault, call.call_id)


class Calls:
    """Builds the handlers of the services.

    Args:
        authenticator: finds the caller for each call.
        admission: counts the calls and refuses those above the limits.
        lock_waits: runs the calls, and has them wait for locks.
        quotas: counts the calls of projects.
        default_deadline_s: deadline of unary calls whose clients set none. Unit: seconds.
        stream_idle_timeout_s: time without a message after which a client's stream is refused.
            Unit: seconds.
        check_messages: returns the invalid fields of messages, by path.
        log_calls: whether each call is logged at the level info.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        admission: Admission,
        lock_waits: LockWaits,
        quotas: Quotas,
        *,
        check_messages: CheckMessages,
        default_deadline_s: float,
        stream_idle_timeout_s: float,
        log_calls: bool = False,
    ) -> None:
        self._log_calls = log_calls
        self._authenticator = authenticator
        self._admission = admission
        self._lock_waits = lock_waits
        self._quotas = quotas
        self._check_messages = check_messages
        self._default_deadline_s = default_deadline_s
        self._stream_idle_timeout_s = stream_idle_timeout_s

    def handlers(self, service: ServiceDescriptor, servicer: Servicer) -> grpc.GenericRpcHandler:
        """Return the handlers of all methods of a service.

        Raises:
            AttributeError: if the servicer does not have a method for each RPC.
        """
        prompt: dict[str, Handler] = {}
        patient: dict[str, Handler] = {}
        for method in service.methods:
            function = getattr(servicer, method.name)
            path = f"/{service.full_name}/{method.name}"
            prompt[path], patient[path] = self._handlers(
                method, service.full_name, function, servicer.needs_admin
            )
        return Gate(prompt, patient, self._is_welcome)

    def _is_welcome(self, metadata: Metadata) -> bool:
        if self._admission.memory.is_short:
            return False
        keys = [str(value) for key, value in metadata if key == "authorization"]
        return len(keys) < 2 and self._authenticator.knows(keys[0] if keys else None)

    def _handlers(
        self,
        method: MethodDescriptor,
        service: str,
        function: Callable[[Any, Caller], Any],
        needs_admin: bool,
    ) -> tuple[Handler, Handler]:
        """Return the prompt and the patient handler of a method; see Gate."""

        def arguments(kind: str) -> tuple[str, CallFigures, Decode, Any, bool]:
            figures = CallFigures(service, method.name, kind)
            return (
                method.name,
                figures,
                decoder(method, self._admission.memory.received),
                function,
                needs_admin,
            )

        if method.client_streaming:
            upload: Handler = grpc.stream_unary_rpc_method_handler(
                self._stream_unary(*arguments("client_stream"))
            )
            return upload, upload
        if method.server_streaming:
            stream: Any = self._unary_stream(*arguments("server_stream"))
            return (
                grpc.unary_stream_rpc_method_handler(stream),
                grpc.stream_stream_rpc_method_handler(stream),
            )
        unary: Any = self._unary_unary(*arguments("unary"))
        return (
            grpc.unary_unary_rpc_method_handler(unary),
            grpc.stream_unary_rpc_method_handler(unary),
        )

    def _unary_unary(
        self, name: str, figures: CallFigures, decode: Decode, function: Unary, needs_admin: bool
    ) -> Callable[[Request, Context], Awaitable[bytes]]:
        waits_by_itself = name in WAIT_BY_THEMSELVES

        async def handle(request: Request, context: Context) -> bytes:
            async with self._call(name, figures, context) as call:
                remaining = context.time_remaining()
                if remaining is None:
                    remaining = self._default_deadline_s
                async with self._admission.running(remaining):
                    figures.received()
                    begin_call(remaining)
                    caller = await self._admit(call, needs_admin)
                    body = request if isinstance(request, bytes) else await whole(request)
                    if waits_by_itself:
                        response = await function(decode(call, body), caller)
                    else:
                        # Features may modify a request, so each attempt decodes a new one.
                        first = [decode(call, body)]
                        response = await self._lock_waits.run(
                            name,
                            caller.project_id,
                            call.session_id,
                            lambda: function(first.pop() if first else decode(call, body), caller),
                        )
                    answer = encoded(response)
                figures.sent()
                return answer

        return handle

    def _unary_stream(
        self,
        name: str,
        figures: CallFigures,
        decode: Decode,
        function: ServerStream,
        needs_admin: bool,
    ) -> Callable[[Request, Context], AsyncIterator[bytes]]:
        waits_by_itself = name in WAIT_BY_THEMSELVES

        async def handle(request: Request, context: Context) -> AsyncIterator[bytes]:
            async with (
                self._call(name, figures, context) as call,
                self._admission.running() as running,
            ):
                figures.received()
                _streaming.set(call)
                remaining = context.time_remaining()
                if remaining is not None:
                    begin_call(remaining)
                caller = await self._admit(call, needs_admin)
                body = request if isinstance(request, bytes) else await whole(request)
                first = [decode(call, body)]

                async def start() -> tuple[bytes | None, AsyncGenerator[bytes, None]]:
                    responses = function(first.pop() if first else decode(call, body), caller)
                    try:
                        return await anext(responses, None), responses
                    except BaseException:
                        await responses.aclose()
                        raise

                with self._authenticator.open_stream(caller, running):
                    if waits_by_itself:
                        response, responses = await start()
                    else:
                        response, responses = await self._lock_waits.run(
                            name, caller.project_id, call.session_id, start
                        )
                    async with aclosing(responses):
                        while response is not None:
                            figures.sent()
                            with running.sending():
                                yield response
                            response = await anext(responses, None)

        return handle

    def _stream_unary(
        self, name: str, figures: CallFigures, decode: Decode, function: Unary, needs_admin: bool
    ) -> Callable[[AsyncIterator[bytes], Context], Awaitable[bytes]]:
        async def handle(requests: AsyncIterator[bytes], context: Context) -> bytes:
            async with self._call(name, figures, context) as call:
                caller = await self._admit(call, needs_admin)
                pieces = decoded_stream(call, requests, decode, self._stream_idle_timeout_s)
                try:
                    async with self._admission.running() as running:
                        with self._authenticator.open_stream(caller, running):
                            response = encoded(await function(pieces, caller))
                    figures.sent()
                    return response
                except Exception:
                    await drain_requests(requests)
                    raise

        return handle

    def _call(self, method: str, figures: CallFigures, context: Context) -> _Call:
        return _Call(
            method, figures, context, self._admission, self._check_messages, self._log_calls
        )

    async def _admit(self, call: _Call, needs_admin: bool) -> Caller:
        """Check the limits and return the caller.

        Raises:
            Fault: OVERLOADED, API_KEY_MISSING, API_KEY_INVALID, ADMIN_KEY_REQUIRED or
                RATE_LIMITED.
        """
        self._admission.admit(call.method)
        if call.has_two_keys:
            # If a proxy adds its own key, the client's key must not take precedence.
            raise Fault("API_KEY_INVALID", "the call has two `authorization` headers; send one")
        caller = call.caller = await self._authenticator.caller(call.authorization)
        if needs_admin and not caller.is_admin:
            raise Fault(
                "ADMIN_KEY_REQUIRED",
                "AdminService requires an admin key (`sessiond keys create --admin`)",
            )
        if not needs_admin:  # otherwise an admin could not raise an exhausted limit
            self._quotas.begin_call(caller.project_id)
        return caller
