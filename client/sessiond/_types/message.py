"""A message as it is read."""

import json
from datetime import datetime
from typing import Any

from sessiond._protocol.names import FORMAT_NAMES, ROLE_NAMES
from sessiond._protocol.structs import from_struct
from sessiond._protocol.times import from_timestamp
from sessiond._types.record import Record
from sessiond._types.text import parts_json, text_of_blob, text_of_parts
from sessiond._types.turn import MessageTurn
from sessiond.v1 import message_pb2


class MessageData(Record):
    """`message.data`: the payload, where a message is read as an event. Its text is `data.content`."""

    __slots__ = ("content", "message_id", "turn_id")

    _fields = ("content", "turn_id", "message_id")

    def __init__(
        self, content: str, turn_id: str | None = None, message_id: str | None = None
    ) -> None:
        self.content = content
        """The message's text."""
        self.turn_id = turn_id
        """The turn that it belongs to. None = none."""
        self.message_id = message_id
        """The message's id, as `Message.id`."""

    def __repr__(self) -> str:
        return f"MessageData(content={self.content!r})"


class Message(Record):
    """One stored message. It never changes.

    Reads by attribute and by key: `message.role`, `message["role"]`, `message["createdAt"]`. Everything is worked out when it is
    asked for, from the bytes that came: of a session of 100,000 messages only what is looked at costs anything.
    """

    # Made once for every message that is read, so it holds no more than the two references.
    __slots__ = ("_blob", "_pb", "session_id")

    _fields = (
        "id",
        "session_id",
        "seq",
        "role",
        "type",
        "content",
        "data",
        "format",
        "blob",
        "json",
        "created_at",
        "metadata",
        "parent_seq",
        "content_bytes",
        "token_count",
        "tokens_estimated",
        "turn",
    )

    def __init__(self, session_id: str, pb: message_pb2.Message) -> None:
        self.session_id = session_id
        """The session that it was read from."""
        self._pb = pb
        self._blob: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        """ "SESSION_ID/SEQ"; of a message that was sent into a turn "SESSION_ID/MESSAGE_ID", which is known before it has a seq."""
        return f"{self.session_id}/{self._pb.turn.message_id or self._pb.seq}"

    @property
    def seq(self) -> int:
        """Its place in the session: 1, 2, 3, ... without a gap."""
        return self._pb.seq

    @property
    def role(self) -> str:
        """Who speaks: "user", "assistant", "system", "developer" or "tool"."""
        return ROLE_NAMES.get(self._pb.role, "unknown")

    @property
    def type(self) -> str:
        """Its name as an event, e.g. "user.message"."""
        return f"{self.role}.message"

    @property
    def content(self) -> str:
        """Its text: the text parts joined. Empty where it has none, and in the "basic" view."""
        if self._pb.WhichOneof("content") == "parts":
            return text_of_parts(self._pb.parts.parts)
        return text_of_blob(self.blob, self._pb.format)

    @property
    def data(self) -> MessageData:
        """Its payload as an event; `data.content` is the text."""
        return MessageData(self.content, self._pb.turn.turn_id or None, self.id)

    @property
    def blob(self) -> dict[str, Any]:
        """The provider's message as a dict; typed parts as {"role": ..., "parts": [...]}. Empty in the "basic" view."""
        blob = self._blob
        if blob is None:
            blob = self._blob = self._parsed()
        return blob

    @property
    def json(self) -> str:
        """The provider's message exactly as it was stored; typed parts as the JSON of `blob`. Empty in the "basic" view."""
        # A provider's message is never empty; asking for it is cheaper than asking which content there is.
        text = self._pb.json
        if text:
            return text
        return (
            json.dumps(self.blob, ensure_ascii=False, separators=(",", ":"))
            if self._pb.HasField("parts")
            else ""
        )

    @property
    def format(self) -> str | None:
        """Whose message `json` is: "openai", "anthropic" or "gemini". None = typed parts."""
        return FORMAT_NAMES.get(self._pb.format)

    @property
    def created_at(self) -> datetime:
        """When it was stored, by the database's clock. In UTC."""
        return from_timestamp(self._pb.create_time)

    @property
    def metadata(self) -> dict[str, Any]:
        """The caller's own labels for this message."""
        return from_struct(self._pb.metadata)

    @property
    def parent_seq(self) -> int | None:
        """The seq of the message that it follows. None = the one before it."""
        return self._pb.parent_seq or None

    @property
    def content_bytes(self) -> int:
        """The size of `json` in UTF-8, or of the typed parts encoded. Unit: bytes."""
        return self._pb.content_bytes

    @property
    def token_count(self) -> int:
        """How many tokens its text has, in the encoding that `get_token_counts` names. Unit: tokens."""
        return self._pb.token_count

    @property
    def tokens_estimated(self) -> bool:
        """Whether token_count is an estimate."""
        return self._pb.tokens_estimated

    @property
    def turn(self) -> MessageTurn | None:
        """The turn that stored it. None = none: the caller stored it."""
        return MessageTurn(self._pb.turn) if self._pb.HasField("turn") else None

    @property
    def proto(self) -> message_pb2.Message:
        """The protobuf message itself, with the typed parts. Not to be changed."""
        return self._pb

    def to_dict(self) -> dict[str, Any]:
        """The message as a dict that json.dumps takes: `json` (the exact text) or `parts` is the content, the rest is about it.
        `turn` is there where the message has one.
        """
        result: dict[str, Any] = {
            "seq": self.seq,
            "role": self.role,
            "created_at": self["createdAt"],
            "parent_seq": self.parent_seq,
            "metadata": self.metadata,
            "content": self.content,
            "format": self.format,
        }
        if self._pb.WhichOneof("content") == "parts":
            result["parts"] = parts_json(self._pb.parts.parts)
        else:
            result["json"] = self._pb.json
        if turn := self.turn:
            result["turn"] = turn.to_dict()
        return result

    def _parsed(self) -> dict[str, Any]:
        text = self._pb.json
        if text:
            value = json.loads(text)
            return value if isinstance(value, dict) else {}
        return (
            {"role": self.role, "parts": parts_json(self._pb.parts.parts)}
            if self._pb.HasField("parts")
            else {}
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return self.session_id == other.session_id and self._pb == other._pb

    def __hash__(self) -> int:
        return hash((self.session_id, self._pb.seq))

    def __repr__(self) -> str:
        content = self.content
        shown = content if len(content) <= 60 else content[:57] + "..."
        return f"Message(id={self.id!r}, role={self.role!r}, content={shown!r})"
