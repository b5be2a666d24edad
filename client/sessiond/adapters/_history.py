"""Reads a session as items of a framework, and converts the messages of other programs.

A framework's own messages are returned as they were stored. All other messages, such as those of
another framework or of sessiond's own turns, are read as typed parts. The adapter converts the
parts to items.
"""

import json
import uuid
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple, TypeAlias, TypeVar, Unpack

from sessiond._async._client import AsyncClient
from sessiond._requests.options import ReadOptions
from sessiond._types.message import Message
from sessiond.adapters._backend import collected
from sessiond.v1 import message_pb2

Item: TypeAlias = dict[str, Any]
_Result = TypeVar("_Result")


class Place(NamedTuple):
    """An item, and the message that holds it."""

    seq: int
    item: Item
    is_own: bool
    """False if the item was converted. One message may be converted to several items."""


class CallIds:
    """Gives ids to tool calls of formats without ids, where the order pairs calls and results."""

    def __init__(self) -> None:
        self._open: deque[str] = deque()

    def of_call(self, call: message_pb2.ToolCall) -> str:
        """Return the call's own id; if it has none, a new one."""
        if call.call_id:
            return call.call_id
        self._open.append(f"call_{uuid.uuid4().hex}")
        return self._open[-1]

    def of_result(self, result: message_pb2.ToolResult) -> str:
        """Return the result's call_id; if none, the id of the first call without a result."""
        if result.call_id or not self._open:
            return result.call_id
        return self._open.popleft()


async def read_items(
    client: AsyncClient,
    session_id: str,
    own: Callable[[Message], Item | None],
    convert: "Callable[[Message, CallIds], Iterable[Item]]",
    *,
    after_seq: int | None = None,
    **options: Unpack[ReadOptions],
) -> list[Place]:
    """Read messages as items of a framework, in chronological order.

    Args:
        client: the client.
        session_id: the session.
        own: returns the item that a message holds; None if it is another program's.
        convert: returns the items for another program's message, whose content is typed parts. A
            message that is no part of the conversation has no parts.
        after_seq: skip the messages up to this seq. Default: none.
        **options: as in get_messages, except view.

    Raises:
        SessiondError: as in get_messages.
    """

    def place(message: Message) -> Place:
        item = own(message)
        return Place(message.seq, {} if item is None else item, item is not None)

    messages = client.sessions.get_messages(session_id, after_seq=after_seq, **options)
    places = await collected(messages, place)
    if options.get("order") == "desc":
        places.reverse()
    others = [found.seq for found in places if not found.is_own]
    if not others:
        return places
    call_ids = CallIds()
    converted = await read_parts(
        client,
        session_id,
        others,
        lambda message: [*convert(message, call_ids)],
        options.get("expected_epoch"),
    )
    return [
        expanded
        for found in places
        for expanded in (
            [found]
            if found.is_own
            else [Place(found.seq, item, False) for item in converted.get(found.seq, [])]
        )
    ]


async def read_parts(
    client: AsyncClient,
    session_id: str,
    seqs: Collection[int],
    convert: Callable[[Message], _Result],
    expected_epoch: int | None = None,
) -> dict[int, _Result]:
    """Read messages as typed parts, whatever their formats.

    Args:
        client: the client.
        session_id: the session.
        seqs: the seqs of the messages.
        convert: converts one message. It is called in the order of the messages.
        expected_epoch: as in get_messages.

    Returns:
        The converted messages, by their seqs.

    Raises:
        SessiondError: as in get_messages.
    """
    if not seqs:
        return {}
    wanted = set(seqs)
    # Also reads the messages in between: one read costs less than a read for each message.
    messages = client.sessions.get_messages(
        session_id,
        after_seq=min(wanted) - 1,
        through_seq=max(wanted),
        expected_epoch=expected_epoch,
        view="parts",
    )
    made = await collected(
        messages, lambda message: [(message.seq, convert(message))] if message.seq in wanted else []
    )
    return dict(pair for pairs in made for pair in pairs)


def text_of(parts: Iterable[message_pb2.Part]) -> str:
    """Return the text of parts. A file becomes a note in brackets."""
    return "\n".join(filter(None, map(_text, parts)))


def _text(part: message_pb2.Part) -> str:
    match part.WhichOneof("kind"):
        case "text":
            return part.text
        case "data":
            return part.data
        case "image" | "audio" | "file" as kind:
            blob: message_pb2.Blob = getattr(part, kind)
            name = blob.name or blob.uri or blob.asset_id or blob.media_type
            return f"[{kind}: {name}]"
        case _:
            return ""


def url_of(blob: message_pb2.Blob) -> str:
    """Return the address of a file, or a data URL with its content; "" if it is an asset."""
    if blob.WhichOneof("source") == "inline":
        media_type = blob.media_type or "application/octet-stream"
        return f"data:{media_type};base64,{b64encode(blob.inline).decode()}"
    return blob.uri


def arguments_of(call: message_pb2.ToolCall) -> Item:
    """Return the arguments of a call. If they are no object, they become {"input": arguments}."""
    try:
        value = json.loads(call.arguments_json or "{}")
    except ValueError:
        value = call.arguments_json
    return value if isinstance(value, dict) else {"input": value}
