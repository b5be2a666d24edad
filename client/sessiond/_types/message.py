"""Stored messages."""

import json
from datetime import datetime
from typing import Any

import orjson

from sessiond._protocol.json_text import decode
from sessiond._protocol.names import FORMAT_NAMES, ROLE_NAMES
from sessiond._protocol.structs import from_struct
from sessiond._protocol.times import from_timestamp
from sessiond._types.record import ProtoRecord, Record
from sessiond._types.text import parts_json, text_of_blob, text_of_parts
from sessiond._types.turn import MessageTurn
from sessiond.v1 import message_pb2


class MessageData(Record):
    """`message.data`: a message's payload when it is read as an event."""

    __slots__ = ("content", "message_id", "turn_id")

    _fields = ("content", "turn_id", "message_id")

    def __init__(
        self, content: str, turn_id: str | None = None, message_id: str | None = None
    ) -> None:
        self.content = content
        """The message's text."""
        self.turn_id = turn_id
        """The id of the message's turn. None = no turn."""
        self.message_id = message_id
        """The message's id, as `Message.id`."""

    def __repr__(self) -> str:
        return f"MessageData(content={self.content!r})"


class Message(ProtoRecord[message_pb2.Message]):
    """A stored message. It never changes.

    Fields can be read as attributes and as keys: `message.role`, `message["role"]`,
    `message["createdAt"]`. Each value is decoded on access, so that reading 100,000 messages costs
    only what is accessed.
    """

    # There is one instance for each message read, so instances must be small.
    __slots__ = ("_blob", "session_id")

    _fields = (
        "id",
        "session_id",
        "seq",
        "role",
        "type",
        "content",
        "data",
        "format",
        "format_name",
        "blob",
        "json",
        "created_at",
        "metadata",
        "parent_seq",
        "message_id",
        "content_bytes",
        "token_count",
        "tokens_estimated",
        "turn",
        "incomplete",
        "is_root",
    )
    _identity = ("session_id", "seq")

    def __init__(self, session_id: str, pb: message_pb2.Message) -> None:
        """Wrap a message.

        Args:
            session_id: the session that it was read from.
            pb: the message; its `json` may be bytes, see sessiond/_protocol/raw_messages.py.
        """
        self.session_id = session_id
        """The id of the session that the message was read from."""
        self._pb = pb
        self._blob: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        """The message's id: "SESSION_ID/SEQ".

        For a message sent to a turn: "SESSION_ID/MESSAGE_ID", which is known before the message has
        a seq.
        """
        return f"{self.session_id}/{self._pb.turn.message_id or self._pb.seq}"

    @property
    def seq(self) -> int:
        """The message's position in the session: 1, 2, 3, ... without gaps."""
        return self._pb.seq

    @property
    def role(self) -> str:
        """The author: "user", "assistant", "system", "developer", "tool" or "other"."""
        return ROLE_NAMES.get(self._pb.role, "unknown")

    @property
    def type(self) -> str:
        """The message's type as an event, e.g. "user.message"."""
        return f"{self.role}.message"

    @property
    def content(self) -> str:
        """The message's text: its text parts joined; for a tool's message, the result's text.

        Empty if there is no text, and in the "basic" view.
        """
        if self._pb.WhichOneof("content") == "parts":
            is_result = self._pb.role == message_pb2.ROLE_TOOL
            return text_of_parts(self._pb.parts.parts, is_result=is_result)
        return text_of_blob(self.blob, self._pb.format, self._pb.format_name)

    @property
    def data(self) -> MessageData:
        """The message's payload as an event; `data.content` is the text."""
        return MessageData(self.content, self._pb.turn.turn_id or None, self.id)

    @property
    def blob(self) -> dict[str, Any]:
        """The provider's message as a dict. Empty in the "basic" view.

        For typed parts: {"role": ..., "parts": [...]}.
        """
        if self._blob is None:
            self._blob = self._parsed()
        return self._blob

    @property
    def json(self) -> str:
        """The provider's message exactly as it was stored. Empty in the "basic" view.

        For typed parts, the JSON of `blob`.
        """
        # Programs that read whole sessions get this property of each message, so it must be fast.
        # isinstance() and a test for empty bytes would take as long as reading the field.
        text: str | bytes = self._pb.json
        if text.__class__ is bytes:
            text = text.decode()
        return text or self._json_of_parts()  # type: ignore[return-value]

    @property
    def format(self) -> str | None:
        """The format of `json`: "openai", "anthropic", "gemini" or "other". None = typed parts."""
        return FORMAT_NAMES.get(self._pb.format)

    @property
    def format_name(self) -> str | None:
        """The program that wrote the message, if the format is "other". None = other formats."""
        return self._pb.format_name or None

    @property
    def created_at(self) -> datetime:
        """Time of storage by the database's clock, in UTC."""
        return from_timestamp(self._pb.create_time)

    @property
    def metadata(self) -> dict[str, Any]:
        """The caller's labels for this message."""
        return from_struct(self.proto.metadata)

    @property
    def parent_seq(self) -> int | None:
        """The seq of the message that this one follows. None = the previous message."""
        return self._pb.parent_seq or None

    @property
    def message_id(self) -> str | None:
        """The caller's own id of the message, unique in its session. None = none."""
        return self._pb.message_id or None

    @property
    def content_bytes(self) -> int:
        """Size of `json` in UTF-8, or of the encoded typed parts, in bytes."""
        return self._pb.content_bytes

    @property
    def token_count(self) -> int:
        """Number of tokens of the text, in the encoding that `get_token_counts` names."""
        return self._pb.token_count

    @property
    def tokens_estimated(self) -> bool:
        """Whether token_count is an estimate."""
        return self._pb.tokens_estimated

    @property
    def turn(self) -> MessageTurn | None:
        """The turn that stored the message. None = the caller stored it."""
        return MessageTurn(self.proto.turn) if self._pb.HasField("turn") else None

    @property
    def incomplete(self) -> bool:
        """Whether this is the beginning of an answer that was cut off.

        Its turn was aborted, timed out, or lost its model or its server.
        """
        return self._pb.incomplete

    @property
    def is_root(self) -> bool:
        """Whether the message was stored as the beginning of a branch, which follows no message."""
        return self._pb.is_root

    @property
    def proto(self) -> message_pb2.Message:
        """The underlying protobuf message, with the typed parts. Do not change it."""
        if type(self._pb) is not message_pb2.Message:
            self._pb = message_pb2.Message.FromString(self._pb.SerializeToString())
        return self._pb

    def to_dict(self) -> dict[str, Any]:
        """Return the message as a dict that json.dumps accepts.

        `json` (the exact text) or `parts` is the content; the other keys describe it.
        `format_name`, `message_id` and `turn` are present only if the message has one, `incomplete`
        and `is_root` only if they are true.
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
            result["json"] = self.json
        if format_name := self.format_name:
            result["format_name"] = format_name
        if message_id := self.message_id:
            result["message_id"] = message_id
        if turn := self.turn:
            result["turn"] = turn.to_dict()
        if self.incomplete:
            result["incomplete"] = True
        if self.is_root:
            result["is_root"] = True
        return result

    def _json_of_parts(self) -> str:
        """Return the JSON of typed parts; "" if the message has none, as in the "basic" view."""
        if not self._pb.HasField("parts"):
            return ""
        return json.dumps(self.blob, ensure_ascii=False, separators=(",", ":"))

    def _parsed(self) -> dict[str, Any]:
        text: str | bytes = self._pb.json
        if text:
            try:
                value = decode(text.encode() if isinstance(text, str) else text)
            except RecursionError:
                # An older server stored deeper JSON than the standard library reads.
                value = orjson.loads(text)
            return value if isinstance(value, dict) else {}
        return (
            {"role": self.role, "parts": parts_json(self._pb.parts.parts)}
            if self._pb.HasField("parts")
            else {}
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return self.session_id == other.session_id and self.proto == other.proto

    # Python clears __hash__ in a class that defines __eq__.
    __hash__ = ProtoRecord.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        # The class of a raw protobuf message has no name that pickle could find.
        return Message, (self.session_id, self.proto)

    def __repr__(self) -> str:
        content = self.content
        shown = content if len(content) <= 60 else content[:57] + "..."
        return f"Message(id={self.id!r}, role={self.role!r}, content={shown!r})"
