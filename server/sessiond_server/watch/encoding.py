"""Events as encoded pieces of a WatchResponse, which all watchers of a session share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sessiond.v1 import event_pb2
from sessiond_server.core.events import Event
from sessiond_server.messages.encoding import assigned_fields, timestamp, varint

_MESSAGE_TYPES = {
    1: b"system.message",
    2: b"developer.message",
    3: b"user.message",
    4: b"assistant.message",
    5: b"tool.message",
}


@dataclass(frozen=True, slots=True)
class Chunk:
    """One ephemeral event, or the events of consecutive messages.

    Attributes:
        encoded: the `events` of a WatchResponse.
        ends: the offset where each message's event ends; empty for an ephemeral event.
        last_seq: the last message; 0 for an ephemeral event.
        after_seq: as Event.after_seq; None for messages.
        is_delta: as Event.is_delta.
        is_ending: as Event.is_ending.
    """

    encoded: bytes
    ends: tuple[int, ...] = ()
    last_seq: int = 0
    after_seq: int | None = None
    is_delta: bool = False
    is_ending: bool = False

    def is_late(self, seq: int) -> bool:
        """Return whether it is a delta of a message that is not after `seq`."""
        return self.is_delta and self.after_seq is not None and self.after_seq < seq

    def since(self, after: int) -> Chunk:
        """Return the part with the messages after a seq."""
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
        rows: (seq, created_us, body) of consecutive messages, as HistoryStore.page returns them;
            at least one.
    """
    id_bytes = session_id.encode()
    id_field = b"\x1a" + varint(len(id_bytes)) + id_bytes
    parts: list[bytes] = []
    ends: list[int] = []
    end = 0
    for seq, created_us, body in rows:
        message = assigned_fields(seq, created_us) + body
        stamp = timestamp(created_us)
        # A stored body begins with its role = 3.
        type_ = _MESSAGE_TYPES[body[1]]
        # type = 1, seq = 2, session_id = 3, time = 4, message = 5; around it, the response's
        # events = 1.
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
    message = event_pb2.Event(type=event.type, session_id=event.session_id)
    message.time.ParseFromString(timestamp(event.time_us))
    if event.data:
        message.data.update(event.data)
    encoded = message.SerializeToString()
    return Chunk(
        b"\n" + varint(len(encoded)) + encoded,
        after_seq=event.after_seq,
        is_delta=event.is_delta,
        is_ending=event.is_ending,
    )
