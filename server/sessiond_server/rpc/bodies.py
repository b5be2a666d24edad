"""Reads requests from gRPC, so that unknown and refused callers cannot fill the memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import grpc

from sessiond_server.core.errors import Fault

# After refusing a client's stream, the server keeps reading it within these limits of time and
# size.
DRAIN_TIMEOUT_S = 5.0
DRAIN_IDLE_S = 0.5
DRAIN_BYTES = 64 * 1024 * 1024

Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"
Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]


class Gate(grpc.GenericRpcHandler):
    """The handlers of a service. Each handler has two forms: prompt and patient.

    gRPC reads the request of a unary call before it calls the handler, but reads a stream only when
    the handler asks for it. Callers without a key could fill the memory with requests. Their unary
    calls are therefore handled as streams, and refused before their requests are read.

    Args:
        prompt: for each method, the handler that gets the request with the call.
        patient: for each method, the handler that reads the request itself.
        is_welcome: returns whether the request of a call with this metadata may be read at once.
    """

    def __init__(
        self,
        prompt: Mapping[str, Handler],
        patient: Mapping[str, Handler],
        is_welcome: Callable[[Metadata], bool],
    ) -> None:
        self._prompt = prompt
        self._patient = patient
        self._is_welcome = is_welcome

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        """Return the handler of a call; None if its method belongs to another service."""
        method: Any = handler_call_details.method
        if method not in self._prompt:
            return None
        handlers = (
            self._prompt
            if self._is_welcome(handler_call_details.invocation_metadata or ())
            else self._patient
        )
        return handlers[method]


async def whole(request: AsyncIterator[bytes]) -> bytes:
    """Read the only request of a call from its stream."""
    try:
        return await anext(request)
    except StopAsyncIteration:
        raise Fault("MALFORMED_REQUEST", "the call has no request") from None


async def drain_requests(requests: AsyncIterator[bytes]) -> None:
    """Keep reading a client's stream that is refused, within limits.

    Some clients, such as Python's asyncio client, lose a response that arrives while they are
    writing.
    """
    taken = 0
    with suppress(TimeoutError, StopAsyncIteration):
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            while taken < DRAIN_BYTES:
                async with asyncio.timeout(DRAIN_IDLE_S):
                    taken += len(await anext(requests))
