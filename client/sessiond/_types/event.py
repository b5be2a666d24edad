"""Events of a session."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeAlias

from sessiond._protocol.structs import from_struct
from sessiond._protocol.times import from_timestamp
from sessiond._types.message import Message
from sessiond._types.record import ProtoRecord
from sessiond.v1 import event_pb2

REWOUND = "session.rewound"


class EventData(dict[str, Any]):
    """An event's data: a dict with keys readable as attributes. Nested objects are plain dicts."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the event's data has no {name!r}", name=name, obj=self) from None


class Event(ProtoRecord[event_pb2.Event]):
    """An event of a session. It never changes. Fields can be read as attributes and as keys."""

    __slots__ = ()

    _fields = ("type", "seq", "epoch", "session_id", "time", "message", "data")
    _identity = ("type", "session_id", "seq")

    @property
    def type(self) -> str:
        """The type of event. A newer server may publish further types.

        A stored message, by its role: "user.message", "assistant.message", "system.message",
        "developer.message", "tool.message".

        The session: "session.created", "session.updated", "session.resumed", "session.destroyed",
        "session.deleted", "session.expired" and "session.rewound". After "session.rewound", the
        messages after data.last_seq are removed, and the messages that follow in the stream reuse
        their seqs; data.removed_count is the number of removed messages.

        The session's turns, with data.turn_id: "assistant.turn_start", "assistant.message_partial"
        (data.content: the text so far, which a reader that joins receives first),
        "assistant.message_delta" and "assistant.reasoning_delta" (data.delta_content: the text that
        the model added), "session.error", "assistant.turn_end", "session.idle".
        """
        return self._pb.type

    @property
    def seq(self) -> int | None:
        """The message's seq. None = no message: the event is published once and not replayed."""
        return self._pb.seq or None

    @property
    def epoch(self) -> int:
        """The session's epoch, to which seq belongs. For "session.rewound", the new epoch."""
        return self._pb.epoch

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._pb.session_id

    @property
    def time(self) -> datetime:
        """Time of the event, in UTC. For a message, its created_at."""
        return from_timestamp(self._pb.time)

    @property
    def message(self) -> Message | None:
        """The stored message. None = the event is not about a message."""
        return (
            Message(self._pb.session_id, self._pb.message) if self._pb.HasField("message") else None
        )

    @property
    def data(self) -> Any:
        """The event's data, readable as attributes and as keys; often empty.

        For a message, `data.content` or `data["content"]` is the text, and `data.turn_id` is the
        turn's id, or None.
        """
        message = self.message
        return message.data if message else EventData(from_struct(self._pb.data))

    @property
    def proto(self) -> event_pb2.Event:
        """The underlying protobuf message. Do not change it."""
        return self._pb


EventHandler: TypeAlias = Callable[[Event], Awaitable[None] | None]
"""A function that `session.on` calls with each event. An async client also takes coroutines."""
