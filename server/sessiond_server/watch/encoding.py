"""Encodes events as pieces of a WatchResponse, which all watchers of a session share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sessiond.v1 import event_pb2
from sessiond_server.core.events import REWOUND, Event
from sessiond_server.core.pg_time import now_us, to_pg_us
from sessiond_server.messages.encoding import assigned_fields, timestamp, varint
from sessiond_server.messages.store.cuts import Cut

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
    """

    encoded: bytes
    ends: tuple[int, ...] = ()
    last_seq: int = 0
    after_seq: int | None = None
    is_delta: bool = False
    is_ending: bool = False
    epoch: int = 0
    rewound_to: int | None = None

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


def chunk_of_cut(session_id: str, cut: Cut) -> Chunk:
    """Encode the event of one or more rewinds."""
    time_us = now_us() if cut.created_at is None else to_pg_us(cut.created_at)
    message = event_pb2.Event(type=REWOUND, session_id=session_id, epoch=cut.epoch)
    message.time.ParseFromString(timestamp(time_us))
    message.data.update({"last_seq": cut.last_seq, "removed_count": cut.removed_count})
    return Chunk(_response(message), epoch=cut.epoch, rewound_to=cut.last_seq)


def chunk_of_event(event: Event) -> Chunk:
    """Encode an ephemeral event."""
    message = event_pb2.Event(type=event.type, session_id=event.session_id, epoch=event.epoch)
    message.time.ParseFromString(timestamp(event.time_us))
    if event.data:
        message.data.update(event.data)
    return Chunk(
        _response(message),
        after_seq=event.after_seq,
        is_delta=event.is_delta,
        is_ending=event.is_ending,
        epoch=event.epoch,
    )


def _response(event: event_pb2.Event) -> bytes:
    encoded = event.SerializeToString()
    return b"\n" + varint(len(encoded)) + encoded
