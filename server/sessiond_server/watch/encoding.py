"""Encodes events as pieces of a WatchResponse, which all watchers of a session share."""

from __future__ import annotations

import struct as binary
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.struct_pb2 import Struct

from sessiond_server.core.events import MESSAGE_PARTIAL, Event
from sessiond_server.messages.encoding import assigned_fields, timestamp, varint
from sessiond_server.watch.live_text import TextPiece, text_of

_double = binary.Struct("<d").pack

_MESSAGE_TYPES = {
    1: b"system.message",
    2: b"developer.message",
    3: b"user.message",
    4: b"assistant.message",
    5: b"tool.message",
}


@dataclass(frozen=True, slots=True)
class Chunk:
    """One ephemeral event, or the events of consecutive messages, in encoded form.

    Attributes:
        encoded: the encoded `events` field of a WatchResponse.
        ends: the offset at which each message's event ends; empty for an ephemeral event.
        last_seq: seq of the last message; 0 for an ephemeral event.
        after_seq: Event.after_seq; None for messages.
        is_delta: Event.is_delta.
        is_ending: Event.is_ending.
        type: Event.type; "" for messages.
        turn_id: the turn that an ephemeral event is about; "" = none.
        text: the piece of text in a delta.
    """

    encoded: bytes
    ends: tuple[int, ...] = ()
    last_seq: int = 0
    after_seq: int | None = None
    is_delta: bool = False
    is_ending: bool = False
    type: str = ""
    turn_id: str = ""
    text: TextPiece | None = None

    @property
    def is_text(self) -> bool:
        """Whether this is a piece of a running answer, or its text so far."""
        return self.text is not None or self.type == MESSAGE_PARTIAL

    def is_late(self, seq: int) -> bool:
        """Return whether this is a delta of the message `seq` or an earlier one."""
        return self.is_delta and self.after_seq is not None and self.after_seq < seq

    def since(self, after: int) -> Chunk:
        """Return the part of this chunk with the messages after a seq."""
        skipped = after - (self.last_seq - len(self.ends))
        if skipped <= 0:
            return self
        start = self.ends[skipped - 1]
        return Chunk(
            self.encoded[start:], tuple(end - start for end in self.ends[skipped:]), self.last_seq
        )


def chunk_of_messages(session_id: str, rows: Sequence[Any]) -> Chunk:
    """Encode messages as events, without decoding their bodies.

    Args:
        session_id: the session.
        rows: (seq, created_us, body) of one or more consecutive messages, as returned by
            HistoryStore.page.
    """
    id_bytes = session_id.encode()
    id_field = b"\x1a" + varint(len(id_bytes)) + id_bytes
    parts: list[bytes] = []
    ends: list[int] = []
    end = 0
    for seq, created_us, body in rows:
        message = assigned_fields(seq, created_us) + body
        stamp = timestamp(created_us)
        # A stored body begins with its field role = 3.
        type_ = _MESSAGE_TYPES[body[1]]
        # Fields of the event: type = 1, seq = 2, session_id = 3, time = 4, message = 5. The event
        # itself is the field events = 1 of the response.
        event = b"\n%b%b\x10%b%b\x22%b%b\x2a%b" % (
            varint(len(type_)),
            type_,
            varint(seq),
            id_field,
            varint(len(stamp)),
            stamp,
            varint(len(message)),
        )
        head = b"\n" + varint(len(event) + len(message)) + event
        parts += (head, message)
        end += len(head) + len(message)
        ends.append(end)
    return Chunk(b"".join(parts), tuple(ends), rows[-1][0])


def chunk_of_event(event: Event) -> Chunk:
    """Encode an ephemeral event."""
    data = event.data or {}
    turn_id = data.get("turn_id", "")
    return Chunk(
        _encoded(event),
        after_seq=event.after_seq,
        is_delta=event.is_delta,
        is_ending=event.is_ending,
        type=event.type,
        turn_id=turn_id if isinstance(turn_id, str) else "",
        text=text_of(event),
    )


def _encoded(event: Event) -> bytes:
    # Models write thousands of deltas a second; the generated code takes ten times as long.
    type_, session_id = event.type.encode(), event.session_id.encode()
    stamp = timestamp(event.time_us)
    encoded = b"\n%b%b\x1a%b%b\x22%b%b" % (
        varint(len(type_)),
        type_,
        varint(len(session_id)),
        session_id,
        varint(len(stamp)),
        stamp,
    )
    if event.data:
        struct = _encoded_struct(event.data)
        encoded += b"\x32" + varint(len(struct)) + struct
    return b"\n" + varint(len(encoded)) + encoded


def _encoded_struct(data: Mapping[str, Any]) -> bytes:
    """Encode a JSON object as a google.protobuf.Struct."""
    parts: list[bytes] = []
    for name, value in data.items():
        if isinstance(value, str):
            text = value.encode()
            encoded = b"\x1a" + varint(len(text)) + text  # string_value = 3
        elif isinstance(value, int) and not isinstance(value, bool):
            encoded = b"\x11" + _double(value)  # number_value = 2
        else:
            struct = Struct()
            struct.update({name: value})
            encoded = struct.fields[name].SerializeToString()
        key = name.encode()
        entry = b"\n%b%b\x12%b%b" % (varint(len(key)), key, varint(len(encoded)), encoded)
        parts.append(b"\n" + varint(len(entry)) + entry)
    return b"".join(parts)
