"""Protos to the service's words and back."""

from datetime import UTC, datetime
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.v1.session_pb2 import Session, SessionState
from sessiond.v1.session_service_pb2 import (
    SESSION_ORDER_ACTIVE_DESC,
    SESSION_ORDER_CREATED_ASC,
    SESSION_ORDER_CREATED_DESC,
    SESSION_ORDER_ID_ASC,
    SESSION_ORDER_UNSPECIFIED,
    SessionOrder,
    UpdateSessionRequest,
)
from sessiond_server.service.faults import invalid
from sessiond_server.service.pages import SECONDS_1970_TO_2000
from sessiond_server.service.sessions import NEVER, Settings, etag_of, expires_at_ms
from sessiond_server.service.structs import to_dict, to_struct
from sessiond_server.store.sessions import SessionRow

_ORDERS: dict[int, str] = {
    SESSION_ORDER_UNSPECIFIED: "active_desc",
    SESSION_ORDER_ACTIVE_DESC: "active_desc",
    SESSION_ORDER_CREATED_DESC: "created_desc",
    SESSION_ORDER_CREATED_ASC: "created_asc",
    SESSION_ORDER_ID_ASC: "id_asc",
}
# Paths of UpdateSession's mask and the columns that they stand for.
_COLUMNS = {
    "model": "model",
    "user": "user_name",
    "title": "title",
    "config": "config",
    "metadata": "metadata",
    "idle_ttl": "idle_ttl_ms",
    "never_expires": "idle_ttl_ms",
}


def session_message(row: SessionRow) -> Session:
    """A session as callers see it."""
    message = Session(
        session_id=row.session_id,
        state=SessionState.ValueType(row.state),
        model=row.model,
        user=row.user_name,
        title=row.title,
        summary=row.title[:120] or row.first_words or "",
        last_seq=row.last_seq,
        message_count=row.last_seq,
        content_bytes=row.content_bytes,
        etag=etag_of(row),
    )
    message.create_time.FromDatetime(row.created_at)
    message.active_time.FromDatetime(row.active_at)
    if row.config:
        to_struct(row.config, message.config)
    if row.metadata:
        to_struct(row.metadata, message.metadata)
    expires_ms = expires_at_ms(row)
    if expires_ms is None or row.idle_ttl_ms is None:
        message.never_expires = True
    else:
        message.idle_ttl.FromMilliseconds(row.idle_ttl_ms)
        message.expire_time.FromMilliseconds(expires_ms)
    return message


def settings(session: Session) -> Settings:
    """What a new session's creator chose. Raises: Fault INVALID_FIELD."""
    return Settings(
        model=session.model,
        user_name=session.user,
        title=session.title,
        config=to_dict(session.config, "session.config") if session.HasField("config") else None,
        metadata=to_dict(session.metadata, "session.metadata") if session.HasField("metadata") else None,
        idle_ttl_ms=_idle_ttl_ms(session),
    )


def update_values(request: UpdateSessionRequest) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The columns to set and the patches to apply. Raises: Fault INVALID_FIELD."""
    session = request.session
    chosen = settings(session)
    if request.HasField("update_mask"):
        paths = list(request.update_mask.paths)
        for path in paths:
            if path not in _COLUMNS:
                raise invalid("update_mask", f"names {path[:64]!r}; known are {', '.join(_COLUMNS)}")
    else:
        paths = [name for name in ("model", "user", "title") if getattr(session, name)]
        paths += [name for name in ("config", "metadata") if session.HasField(name)]
        paths += ["idle_ttl"] if session.WhichOneof("expiry") else []
    values: dict[str, Any] = {_COLUMNS[path]: getattr(chosen, _COLUMNS[path]) for path in paths}
    for name in ("config", "metadata"):
        if name in values:
            values[name] = values[name] or {}
    patches = {
        name: to_dict(getattr(request, f"{name}_patch"), f"{name}_patch")
        for name in ("config", "metadata")
        if request.HasField(f"{name}_patch")  # type: ignore[arg-type]
    }
    return values, patches


def order_name(order: SessionOrder.ValueType) -> str:
    if order not in _ORDERS:
        raise invalid("order", f"is {order}, which is no SessionOrder")
    return _ORDERS[order]


def state_number(state: SessionState.ValueType) -> int:
    if state not in SessionState.values():
        raise invalid("state", f"is {state}, which is no SessionState")
    return int(state)


def time_of(timestamp: Timestamp, field: str) -> datetime:
    """Raises: Fault INVALID_FIELD."""
    try:
        return timestamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise invalid(field, "is not a time between the years 1 and 9999") from None


def timestamp_of(created_us: int) -> Timestamp:
    """Of microseconds since 2000-01-01 UTC."""
    seconds, us = divmod(created_us, 1_000_000)
    return Timestamp(seconds=seconds + SECONDS_1970_TO_2000, nanos=us * 1000)


def _idle_ttl_ms(session: Session) -> int | None:
    match session.WhichOneof("expiry"):
        case "never_expires":
            if not session.never_expires:
                raise invalid("session.never_expires", "must be true where it is set; set idle_ttl to expire the session")
            return NEVER
        case "idle_ttl":
            return milliseconds(session.idle_ttl)
        case _:
            return None


def milliseconds(duration: Duration) -> int:
    """Of a duration, cut."""
    # By hand: the message's own method refuses what is out of its range with errors of its own.
    return duration.seconds * 1000 + duration.nanos // 1_000_000
