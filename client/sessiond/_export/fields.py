"""Checks the fields of an export's records, and converts them to protobuf messages."""

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond._protocol.model_options import with_text
from sessiond._protocol.names import FORMATS, ROLES, SESSION_STATUSES, TASK_STATUSES, number_of
from sessiond._protocol.structs import fill_struct
from sessiond._protocol.times import to_duration, to_timestamp
from sessiond.errors import InvalidField, invalid_field
from sessiond.v1 import (
    bookmark_pb2,
    message_pb2,
    session_pb2,
    session_state_pb2,
    task_pb2,
    turn_pb2,
)


class Fields:
    """A record's fields, each checked on access. A missing or null field is unset."""

    def __init__(self, place: str, value: Mapping[str, Any]) -> None:
        self.place = place
        self._value = value

    def get(self, name: str) -> Any:
        return self._value.get(name)

    def fault(self, name: str, what: str) -> InvalidField:
        return invalid_field(f"{self.place}: {name}", what)

    def put(self, target: ProtoMessage, field: str, value: object) -> None:
        """Set a field of a protobuf message."""
        try:
            setattr(target, field, value)
        except (TypeError, ValueError) as error:
            raise self.fault(field, f"cannot be sent: {error}") from None

    def text(self, name: str) -> str:
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise self.fault(name, "is not a string")
        return value or ""

    def integer(self, name: str) -> int | None:
        value = self.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise self.fault(name, "is not an integer")
        return value

    def boolean(self, name: str, target: ProtoMessage) -> None:
        value = self.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.fault(name, "is not true or false")
        self.put(target, name, bool(value))

    def nested(self, name: str) -> "Fields | None":
        """Return the fields of a nested object. None = unset."""
        value = self.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise self.fault(name, "is not a JSON object")
        return None if value is None else Fields(f"{self.place}: {name}", value)

    def base64(self, name: str) -> bytes:
        value = self.get(name)
        if not isinstance(value, str):
            raise self.fault(name, "is not a string")
        try:
            return base64.b64decode(value, validate=True)
        except ValueError as error:
            raise self.fault(name, f"is not base64: {error}") from None

    def number(self, name: str, target: ProtoMessage) -> None:
        if (value := self.integer(name)) is not None:
            self.put(target, name, value)

    def time(self, name: str, target: Timestamp) -> None:
        if text := self.text(name):
            try:
                time = datetime.fromisoformat(text)
            except ValueError:
                raise self.fault(name, f"is {text[:40]!r}, which is not an ISO 8601 time") from None
            target.CopyFrom(to_timestamp(time, f"{self.place}: {name}"))

    def fill(self, name: str, target: Any) -> None:
        """Write a JSON object into a Struct. An empty object leaves the Struct unset."""
        if value := self.get(name):
            # Older clients exported model_options as an object, not as text.
            if name == "config":
                value = with_text(value, f"{self.place}: {name}")
            fill_struct(target, value, f"{self.place}: {name}")

    def name_of(self, name: str, names: Mapping[str, Any]) -> Any:
        """Return the number of an enum value, given its name. 0 = unset."""
        value = self.get(name)
        return 0 if value is None else number_of(names, value, f"{self.place}: {name}")


def fill_session(session: session_pb2.Session, fields: Fields) -> None:
    for name in ("session_id", "model", "user", "title"):
        fields.put(session, name, fields.text(name))
    # Older clients exported the status as "state".
    status = "state" if isinstance(fields.get("state"), str) else "status"
    session.status = fields.name_of(status, SESSION_STATUSES)
    fields.fill("config", session.config)
    fields.fill("metadata", session.metadata)
    fields.time("created_at", session.create_time)
    fields.time("active_at", session.active_time)
    idle_ttl = fields.get("idle_ttl")
    if idle_ttl is not None:
        if not isinstance(idle_ttl, int | float) or isinstance(idle_ttl, bool):
            raise fields.fault("idle_ttl", "is not a number of seconds")
        session.idle_ttl.CopyFrom(to_duration(idle_ttl, f"{fields.place}: idle_ttl"))
    elif fields.get("never_expires"):
        session.never_expires = True


def fill_state(patch: session_state_pb2.StatePatch, fields: Fields) -> None:
    """Read the state of a session from its JSON text. Each value keeps its exact spelling."""
    if not (text := fields.text("state_json")):
        return
    decoder, at = json.JSONDecoder(), 1
    try:
        while text[at] != "}":
            name, start = decoder.raw_decode(text, at)
            _, end = decoder.raw_decode(text, start + 1)
            patch.set[name] = text[start + 1 : end]
            at = end + (text[end] == ",")
    except (ValueError, IndexError, TypeError, RecursionError) as error:
        raise fields.fault("state_json", f"is not a state: {error}") from None


def fill_task(task: task_pb2.Task, fields: Fields) -> None:
    fields.put(task, "task_id", fields.text("task_id"))
    task.status = fields.name_of("status", TASK_STATUSES)
    fields.fill("data", task.data)
    try:
        task.message_seqs.extend(fields.get("message_seqs") or ())
    except (TypeError, ValueError) as error:
        raise fields.fault("message_seqs", f"is not a list of seqs: {error}") from None
    fields.time("created_at", task.create_time)
    fields.time("updated_at", task.update_time)


def fill_bookmark(bookmark: bookmark_pb2.Bookmark, fields: Fields) -> None:
    fields.put(bookmark, "name", fields.text("name"))
    fields.put(bookmark, "description", fields.text("description"))
    fields.number("seq", bookmark)
    fields.time("created_at", bookmark.create_time)
    fields.time("updated_at", bookmark.update_time)


def fill_message(message: message_pb2.Message, fields: Fields) -> None:
    message.role = fields.name_of("role", ROLES)
    message.format = fields.name_of("format", FORMATS)
    if (parts := fields.get("parts")) is not None:
        try:
            json_format.ParseDict({"parts": parts}, message.parts)
        except (json_format.ParseError, TypeError, ValueError, AttributeError) as error:
            raise fields.fault("parts", f"are invalid: {error}") from None
    elif fields.get("json") is None:
        raise invalid_field(fields.place, "has neither json nor parts")
    else:
        fields.put(message, "json", fields.text("json"))
    fields.number("seq", message)
    fields.number("parent_seq", message)
    for name in ("message_id", "format_name"):
        fields.put(message, name, fields.text(name))
    fields.fill("metadata", message.metadata)
    fields.time("created_at", message.create_time)
    if (turn := fields.nested("turn")) is not None:
        _fill_turn(message.turn, turn)
    fields.boolean("incomplete", message)
    fields.boolean("is_root", message)


def _fill_turn(turn: turn_pb2.MessageTurn, fields: Fields) -> None:
    # A turn without any field is still a turn.
    turn.SetInParent()
    for name in ("turn_id", "message_id", "model", "provider", "stop_reason"):
        fields.put(turn, name, fields.text(name))
    if (usage := fields.nested("usage")) is not None:
        turn.usage.SetInParent()
        for name in ("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens"):
            usage.number(name, turn.usage)
