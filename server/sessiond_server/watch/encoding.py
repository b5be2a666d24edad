"""Encodes events as pieces of a WatchResponse, which all watchers of a session share."""

from __future__ import annotations

import struct as binary
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from google.protobuf.struct_pb2 import Struct

from sessiond_server.core.events import MESSAGE_PARTIAL, REWOUND, Event
from sessiond_server.core.pg_time import now_us, to_pg_us
from sessiond_server.messages.encoding import assigned_fields, timestamp, varint
from sessiond_server.messages.store.cuts import Cut
from sessiond_server.watch.live_text import TextPiece, text_of

_double = binary.Struct("<d").pack

_MESSAGE_TYPES = {
    1: b"system.message",
    2: b"developer.message",
    3: b"user.message",
    4: b"assistant.message",
    5: b"tool.message",
    6: b"other.message",
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
        epoch: the session's epoch, to which the seqs belong.
        rewound_to: for the event of a rewind, the seq of the last message kept; else None.
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
    epoch: int = 0
    rewound_to: int | None = None
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
        ends = tuple(end - start for end in self.ends[skipped:])
        return replace(self, encoded=self.encoded[start:], ends=ends)


def chunk_of_messages(session_id: str, epoch: int, rows: Sequence[Any]) -> Chunk:
    """Encode messages as events, without decoding their bodies.

    Args:
        session_id: the session.
        epoch: the session's epoch.
        rows: (seq, created_us, body) of one or more consecutive messages, as returned by
            HistoryStore.page.
    """
    id_bytes = session_id.encode()
    id_field = b"\x1a" + varint(len(id_bytes)) + id_bytes
    epoch_field = b"\x38" + varint(epoch) if epoch else b""
    parts: list[bytes] = []
    ends: list[int] = []
    end = 0
    for seq, created_us, body in rows:
        message = assigned_fields(seq, created_us) + body
        stamp = timestamp(created_us)
        # A stored body begins with its field role = 3.
        type_ = _MESSAGE_TYPES[body[1]]
        # Fields of the event: type = 1, seq = 2, session_id = 3, time = 4, epoch = 7, message = 5.
        # The event itself is the field events = 1 of the response.
        event = b"\n%b%b\x10%b%b\x22%b%b%b\x2a%b" % (
            varint(len(type_)),
            type_,
            varint(seq),
            id_field,
            varint(len(stamp)),
            stamp,
            epoch_field,
            varint(len(message)),
        )
        head = b"\n" + varint(len(event) + len(message)) + event
        parts += (head, message)
        end += len(head) + len(message)
        ends.append(end)
    return Chunk(b"".join(parts), tuple(ends), rows[-1][0], epoch=epoch)


def chunk_of_epoch(epoch: int) -> Chunk:
    """Encode the epoch with which a stream begins: the field epoch = 2 of the first response."""
    return Chunk(b"\x10" + varint(epoch), epoch=epoch)


def chunk_of_cut(session_id: str, cut: Cut) -> Chunk:
    """Encode the event of one or more rewinds."""
    time_us = now_us() if cut.created_at is None else to_pg_us(cut.created_at)
    data = {"last_seq": cut.last_seq, "removed_count": cut.removed_count}
    encoded = encoded_event(REWOUND, session_id, time_us, data, cut.epoch)
    return Chunk(encoded, epoch=cut.epoch, rewound_to=cut.last_seq)


def chunk_of_incarnation(log: UUID) -> Chunk:
    """Encode the field `incarnation` of a WatchResponse."""
    text = log.hex.encode()
    return Chunk(b"\x1a" + varint(len(text)) + text)


def chunk_of_event(event: Event) -> Chunk:
    """Encode an ephemeral event."""
    data = event.data or {}
    turn_id = data.get("turn_id", "")
    return Chunk(
        encoded_event(event.type, event.session_id, event.time_us, event.data, event.epoch),
        after_seq=event.after_seq,
        is_delta=event.is_delta,
        is_ending=event.is_ending,
        epoch=event.epoch,
        type=event.type,
        turn_id=turn_id if isinstance(turn_id, str) else "",
        text=text_of(event),
    )


def encoded_event(
    event_type: str,
    session: str,
    time_us: int,
    data: Mapping[str, Any] | None = None,
    epoch: int = 0,
) -> bytes:
    """Encode an event without a message, as a WatchResponse."""
    # Models write thousands of deltas a second. Protobuf's generated code would take ten times as
    # long as this.
    type_, session_id = event_type.encode(), session.encode()
    stamp = timestamp(time_us)
    encoded = b"\n%b%b\x1a%b%b\x22%b%b" % (
        varint(len(type_)),
        type_,
        varint(len(session_id)),
        session_id,
        varint(len(stamp)),
        stamp,
    )
    if data:
        struct = _encoded_struct(data)
        encoded += b"\x32" + varint(len(struct)) + struct
    if epoch:
        encoded += b"\x38" + varint(epoch)
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
