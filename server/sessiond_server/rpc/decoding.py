"""Decodes requests, and encodes responses."""

import asyncio
from collections.abc import AsyncIterator, Callable
from operator import attrgetter
from typing import Protocol, TypeAlias

from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.message_factory import GetMessageClass

from sessiond._protocol.raw_messages import raw_class
from sessiond_server.core.cancellation import check_cancelled
from sessiond_server.core.errors import Fault
from sessiond_server.core.structs import MAX_DEPTH
from sessiond_server.rpc.figures import CallFigures

# RPCs that carry many messages. In their requests, Message.json is bytes, whatever the type
# annotations of the servicers' methods say.
RAW_CALLS = frozenset({"StoreMessages", "BatchStoreMessages", "ImportMessages", "RewindSession"})


class DecodedCall(Protocol):
    """A call whose request is decoded.

    Attributes:
        request: the request, or the first one of a client's stream.
        session_id: session of the call; "" = none.
        figures: counts the messages of the call.
    """

    figures: CallFigures
    request: ProtoMessage | None
    session_id: str


Decode: TypeAlias = Callable[[DecodedCall, bytes], ProtoMessage]


def encoded(response: ProtoMessage | bytes) -> bytes:
    """Return the encoding of a response."""
    return response if isinstance(response, bytes) else response.SerializeToString()


def decoder(method: MethodDescriptor, received: Callable[[int], None]) -> Decode:
    """Return a function that decodes the requests of a method.

    The returned function raises MALFORMED_REQUEST if the bytes are no request.

    Args:
        method: the method.
        received: called with the size of each request, in bytes.
    """
    request_class = (
        raw_class(method.input_type)
        if method.name in RAW_CALLS
        else GetMessageClass(method.input_type)
    )

    session_id_of = _session_id_getter(method.input_type)

    def decode(call: DecodedCall, text: bytes) -> ProtoMessage:
        received(len(text))
        try:
            request = request_class.FromString(text)
        except DecodeError as e:
            raise Fault(
                "MALFORMED_REQUEST",
                f"the request is not a {method.input_type.full_name}, or a Struct in it is nested "
                f"deeper than {MAX_DEPTH} levels: {e}",
            ) from e
        if call.request is None:
            call.request = request
        # Later pieces of a stream need not repeat the session_id.
        call.session_id = call.session_id or session_id_of(request)
        return request

    return decode


def _session_id_getter(request: Descriptor) -> Callable[[ProtoMessage], str]:
    """Return a function that reads a request's session_id; "" = the request has none."""
    if "session_id" in request.fields_by_name:
        return attrgetter("session_id")
    if "session" in request.fields_by_name:
        return attrgetter("session.session_id")
    return lambda _: ""


async def decoded_stream(
    call: DecodedCall, requests: AsyncIterator[bytes], decode: Decode, idle_timeout_s: float
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
        call.figures.received()
        yield decode(call, request)
