"""Filling the fields of a request from keyword arguments."""

import secrets
from collections.abc import Iterable, Mapping, MutableSequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from google.protobuf.message import Message as ProtoMessage

from sessiond._protocol.structs import fill_struct
from sessiond._protocol.times import to_duration, to_timestamp
from sessiond.errors import invalid_field
from sessiond.v1 import session_pb2
from sessiond.v1.session_service_pb2 import CopySessionRequest

_Item = TypeVar("_Item")


_Request = TypeVar("_Request", bound=ProtoMessage)


def request_id_or_new(given: str | None) -> str:
    # Without one, a call whose answer was lost could not be repeated.
    return given or secrets.token_hex(16)


def filled(request: _Request, **values: Any) -> _Request:
    for field, value in values.items():
        if value is None:
            continue
        try:
            setattr(request, field, value)
        except (TypeError, ValueError) as error:
            raise invalid_field(field, f"cannot be sent: {error}") from error
    return request


def put_items(target: MutableSequence[_Item], items: Iterable[_Item], field: str) -> None:
    try:
        target.extend(items)
    except (TypeError, ValueError) as error:
        raise invalid_field(field, f"cannot be sent: {error}") from error


def put_struct(request: ProtoMessage, field: str, value: Mapping[str, Any] | None) -> None:
    if value is not None:
        struct = getattr(request, field)
        # An empty object is something else than none.
        struct.SetInParent()
        fill_struct(struct, value, field)


def put_times(request: ProtoMessage, **times: datetime | None) -> None:
    for field, time in times.items():
        if time is not None:
            getattr(request, field).CopyFrom(to_timestamp(time, field))


def put_expiry(
    session: session_pb2.Session | CopySessionRequest,
    idle_ttl: timedelta | float | None,
    never_expires: bool,
) -> None:
    if never_expires and idle_ttl is not None:
        raise invalid_field("idle_ttl", "cannot be given together with never_expires")
    if never_expires:
        session.never_expires = True
    elif idle_ttl is not None:
        session.idle_ttl.CopyFrom(to_duration(idle_ttl, "idle_ttl"))
