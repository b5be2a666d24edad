"""Fills the fields of requests from keyword arguments."""

import secrets
from collections.abc import Collection, Iterable, Mapping, MutableSequence
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond._protocol import model_options, names
from sessiond._protocol.checks import listed
from sessiond._protocol.structs import fill_struct
from sessiond._protocol.times import to_duration, to_timestamp
from sessiond.errors import InvalidField, invalid_field

_Message = TypeVar("_Message", bound=ProtoMessage)

# The names of enum values that callers use, by the name of the field's enum.
_ENUM_NAMES: Mapping[str, Mapping[str, int]] = {
    "MessageOrder": names.MESSAGE_ORDERS,
    "MessageView": names.VIEWS,
    "OnDuplicate": names.ON_DUPLICATE,
    "SendMode": names.SEND_MODES,
    "SessionOrder": names.SESSION_ORDERS,
    "SessionStatus": names.SESSION_STATUSES,
    "TaskStatus": names.TASK_STATUSES,
    "TurnState": names.TURN_STATES,
}


def request_id_or_new(given: str | None) -> str:
    """Return the caller's request_id, or a random one.

    Without a request_id, a retry could make a change a second time.
    """
    return given or secrets.token_hex(16)


def filled(request: _Message, **values: Any) -> _Message:
    """Set fields of a request, each converted to the type of its field; return the request.

    A mapping becomes a Struct, a datetime a Timestamp, a timedelta or a number of seconds a
    Duration, and the name of an enum's value its number. None leaves the field unset.

    Raises:
        InvalidField: if a value does not fit its field.
    """
    for field, value in values.items():
        if value is not None:
            try:
                _put(request, field, value)
            except InvalidField:
                raise
            except (AttributeError, TypeError, ValueError, OverflowError) as error:
                raise invalid_field(field, f"cannot be sent: {error}") from error
    return request


def _put(request: ProtoMessage, field: str, value: Any) -> None:
    match getattr(request, field):
        case str():
            if not isinstance(value, str):
                raise invalid_field(field, f"must be a string, not {type(value).__name__}")
            setattr(request, field, value)
        case int():
            enum = request.DESCRIPTOR.fields_by_name[field].enum_type
            if enum is not None:
                value = names.number_of(_ENUM_NAMES[enum.name], value, field)
            setattr(request, field, value)
        case Struct() as struct:
            # Mark the field as set: an empty object differs from a missing one.
            struct.SetInParent()
            if field in ("config", "config_patch"):
                value = model_options.with_text(value, field)
            fill_struct(struct, value, field)
        case Duration() as duration:
            duration.CopyFrom(to_duration(value, field))
        case Timestamp() as timestamp:
            timestamp.CopyFrom(to_timestamp(value, field))
        case MutableSequence() as items:
            put_items(items, value, field)
        case _:
            setattr(request, field, value)


def put_items(target: MutableSequence[Any], values: Iterable[Any], field: str) -> None:
    """Append to a repeated field.

    Raises:
        InvalidField: if a value does not fit the field, or if the values are not a list.
    """
    for i, value in enumerate(listed(values, field)):
        try:
            target.append(value)
        except (TypeError, ValueError) as error:
            raise invalid_field(f"{field}[{i}]", f"cannot be sent: {error}") from error


def put_mask(request: Any, values: Mapping[str, Any]) -> None:
    """Set the request's mask to the fields that an update changes.

    Without a mask, the server interprets an empty string or object as "unchanged".
    """
    if paths := [field for field, value in values.items() if value is not None]:
        request.update_mask.paths.extend(paths)


def check_keywords(given: Mapping[str, Any], known: Collection[str]) -> None:
    """Check the keywords of an `Unpack`, because Python itself does not check them.

    Raises:
        TypeError: if a keyword is unknown.
    """
    if problem := unknown_keyword(given, known):
        raise TypeError(f"unexpected keyword argument {problem}")


def unknown_keyword(given: Mapping[str, Any], known: Collection[str]) -> str:
    """Return the first unknown keyword and the known ones, as text; "" if all are known."""
    unknown = given.keys() - known
    return f"{min(unknown)!r}; known are {', '.join(sorted(known))}" if unknown else ""
