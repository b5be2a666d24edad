"""An event as a watcher gets it."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeAlias

from sessiond._protocol.structs import from_struct
from sessiond._protocol.times import from_timestamp, iso
from sessiond._types.message import Message
from sessiond._types.record import Record
from sessiond.v1 import event_pb2


class EventData(dict[str, Any]):
    """What there is to say about an event of its own: a dict that reads by attribute, too. What is within it are plain dicts."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the event's data has no {name!r}", name=name, obj=self) from None


class Event(Record):
    """Something that happened in a session. It never changes, and reads by attribute and by key."""

    __slots__ = ("_pb",)

    _fields = ("type", "seq", "session_id", "time", "message", "data")

    def __init__(self, pb: event_pb2.Event) -> None:
        self._pb = pb

    @property
    def type(self) -> str:
        """What happened. Of a message by its role: "user.message", "assistant.message", "system.message", "developer.message",
        "tool.message". Of the session: "session.created", "session.updated", "session.resumed", "session.destroyed", "session.deleted",
        "session.expired". Of its turns, with data.turn_id: "assistant.turn_start", "assistant.message_delta" and
        "assistant.reasoning_delta" (data.delta_content: the text that the model added), "session.error", "assistant.turn_end",
        "session.idle". A newer server may have others.
        """
        return self._pb.type

    @property
    def seq(self) -> int | None:
        """The message's seq. None = no message: the event is told once, and cannot be replayed."""
        return self._pb.seq or None

    @property
    def session_id(self) -> str:
        """The session."""
        return self._pb.session_id

    @property
    def time(self) -> datetime:
        """When it happened: of a message, its created_at. In UTC."""
        return from_timestamp(self._pb.time)

    @property
    def message(self) -> Message | None:
        """The stored message. None = an event of the session itself."""
        return (
            Message(self._pb.session_id, self._pb.message) if self._pb.HasField("message") else None
        )

    @property
    def data(self) -> Any:
        """Of a message its payload: `data.content`, or `data["content"]`, is the text, `data.turn_id` its turn or None. Else what there is
        to say, by attribute and by key alike: often nothing.
        """
        message = self.message
        return message.data if message else EventData(from_struct(self._pb.data))

    @property
    def proto(self) -> event_pb2.Event:
        """The protobuf message itself. Not to be changed."""
        return self._pb

    def to_dict(self) -> dict[str, Any]:
        """All of it as a dict that json.dumps takes."""
        message = self.message
        return {
            "type": self.type,
            "seq": self.seq,
            "session_id": self.session_id,
            "time": iso(self.time),
            "message": message.to_dict() if message else None,
            "data": dict(self.data),
        }

    def __eq__(self, other: object) -> bool:
        return self._pb == other._pb if isinstance(other, Event) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.type, self.session_id, self._pb.seq))

    def __repr__(self) -> str:
        return f"Event(type={self.type!r}, session_id={self.session_id!r}, seq={self.seq!r})"


EventHandler: TypeAlias = Callable[[Event], Awaitable[None] | None]
"""What `session.on` calls with each event. Of an async client it may be a coroutine function."""
