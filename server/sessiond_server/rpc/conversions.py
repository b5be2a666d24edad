"""Converts protobuf messages to the features' types and back."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.v1.bookmark_pb2 import Bookmark
from sessiond.v1.bookmark_service_pb2 import UpdateBookmarkRequest
from sessiond.v1.rewind_pb2 import RewindSessionRequest
from sessiond.v1.session_pb2 import Session, SessionStatus
from sessiond.v1.session_service_pb2 import (
    SESSION_ORDER_ACTIVE_ASC,
    SESSION_ORDER_ACTIVE_DESC,
    SESSION_ORDER_CREATED_ASC,
    SESSION_ORDER_CREATED_DESC,
    SESSION_ORDER_ID_ASC,
    SESSION_ORDER_UNSPECIFIED,
    CopySessionRequest,
    CreateSessionRequest,
    DeleteSessionsRequest,
    ImportMessagesRequest,
    ImportSessionRequest,
    ListSessionsRequest,
    SessionCopy,
    SessionOrder,
    StoreMessagesRequest,
    UpdateSessionRequest,
)
from sessiond.v1.task_pb2 import Task, TaskStatus
from sessiond.v1.task_service_pb2 import UpdateTaskRequest
from sessiond_server.copies.store.copies import CopyRequest, CopyRow
from sessiond_server.core import states
from sessiond_server.core.errors import invalid
from sessiond_server.core.pg_time import EPOCH_S
from sessiond_server.core.structs import to_dict, to_struct
from sessiond_server.imports.store import ImportedBookmark, ImportedTask, ImportHead
from sessiond_server.sessions.service import etag_of, expires_at_ms
from sessiond_server.sessions.settings import NEVER, SessionSettings, model_options_of
from sessiond_server.sessions.state import checked_patch
from sessiond_server.sessions.store.filters import SessionFilter
from sessiond_server.sessions.store.sessions import MODEL_OPTIONS, SessionRow
from sessiond_server.sessions.store.state import NO_PATCH, StatePatch, state_etag

_ORDERS: dict[int, str] = {
    SESSION_ORDER_UNSPECIFIED: "active_desc",
    SESSION_ORDER_ACTIVE_DESC: "active_desc",
    SESSION_ORDER_ACTIVE_ASC: "active_asc",
    SESSION_ORDER_CREATED_DESC: "created_desc",
    SESSION_ORDER_CREATED_ASC: "created_asc",
    SESSION_ORDER_ID_ASC: "id_asc",
}
# Column for each path in UpdateSession's mask.
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
    """Convert a session's row."""
    message = Session(
        session_id=row.session_id,
        status=SessionStatus.ValueType(row.state),
        model=row.model,
        user=row.user_name,
        title=row.title,
        summary=row.title[:120] or row.first_words or "",
        last_seq=row.last_seq,
        message_count=row.last_seq,
        content_bytes=row.content_bytes,
        token_count=row.token_count,
        estimated_token_count=row.estimated_tokens,
        epoch=row.epoch,
        etag=etag_of(row),
    )
    message.create_time.FromDatetime(row.created_at)
    message.active_time.FromDatetime(row.active_at)
    if row.origin_session_id is not None:
        message.origin.session_id = row.origin_session_id
        message.origin.seq = row.origin_seq or 0
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


def put_state(message: Session, state: str) -> None:
    """Set the state of a session, given as JSON text."""
    message.state_json = state
    message.state_etag = state_etag(state)


def state_patch(
    request: StoreMessagesRequest
    | ImportMessagesRequest
    | RewindSessionRequest
    | CreateSessionRequest
    | UpdateSessionRequest
    | ImportSessionRequest
    | CopySessionRequest,
) -> StatePatch:
    """Convert a change of a state.

    Raises:
        Fault: INVALID_FIELD or INVALID_JSON.
    """
    if not request.HasField("state_patch"):
        return NO_PATCH
    return checked_patch(dict(request.state_patch.set), request.state_patch.remove)


def settings(session: Session, path: str = "session") -> SessionSettings:
    """Convert the settings of a new session.

    Args:
        session: the settings.
        path: path of the settings in the request.

    Raises:
        Fault: INVALID_FIELD if a setting is invalid.
    """
    return SessionSettings(
        model=session.model,
        user_name=session.user,
        title=session.title,
        config=config_of(session.config, f"{path}.config") if session.HasField("config") else None,
        metadata=to_dict(session.metadata, f"{path}.metadata")
        if session.HasField("metadata")
        else None,
        idle_ttl_ms=_idle_ttl_ms(session, f"{path}."),
    )


def config_of(struct: Struct, field: str) -> dict[str, Any]:
    """Convert a config, or a patch of one.

    Raises:
        Fault: INVALID_FIELD or INVALID_JSON.
    """
    config = to_dict(struct, field, text_key=MODEL_OPTIONS)
    model_options_of(config, field)
    return config


def update_values(
    request: UpdateSessionRequest,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Convert an update of a session.

    Returns:
        The new values by column, and the patches for config and metadata.

    Raises:
        Fault: INVALID_FIELD if a setting is invalid or the mask contains an unknown path.
    """
    session = request.session
    chosen = settings(session)
    is_set = {
        "model": bool(session.model),
        "user": bool(session.user),
        "title": bool(session.title),
        "config": session.HasField("config"),
        "metadata": session.HasField("metadata"),
        "idle_ttl": session.WhichOneof("expiry") is not None,
        "never_expires": False,
    }
    columns = [_COLUMNS[path] for path in updated_paths(request, is_set)]
    values: dict[str, Any] = {column: getattr(chosen, column) for column in columns}
    for name in ("config", "metadata"):
        if name in values:
            values[name] = values[name] or {}
    patches = {
        name: convert(getattr(request, f"{name}_patch"), f"{name}_patch")
        for name, convert in (("config", config_of), ("metadata", to_dict))
        if request.HasField(f"{name}_patch")  # type: ignore[arg-type]
    }
    return values, patches


def updated_paths(
    request: UpdateSessionRequest | UpdateTaskRequest | UpdateBookmarkRequest,
    is_set: Mapping[str, bool],
) -> list[str]:
    """Return the paths that an update changes: those of its mask, or of all fields that are set.

    Args:
        request: the update.
        is_set: whether each known field is set, by path.

    Raises:
        Fault: INVALID_FIELD if the mask contains an unknown path.
    """
    if not request.HasField("update_mask"):
        return [path for path, given in is_set.items() if given]
    for path in request.update_mask.paths:
        if path not in is_set:
            raise invalid("update_mask", f"names {path[:64]!r}; known are {', '.join(is_set)}")
    return list(request.update_mask.paths)


def session_filter(
    request: ListSessionsRequest | DeleteSessionsRequest, project_id: UUID
) -> SessionFilter:
    """Convert the filter of a request.

    Raises:
        Fault: INVALID_FIELD if a field of the filter is invalid.
    """
    chosen = request.filter

    def time(field: str) -> datetime | None:
        return (
            time_of(getattr(chosen, field), f"filter.{field}") if chosen.HasField(field) else None  # type: ignore[arg-type]
        )

    def struct(field: str) -> dict[str, Any] | None:
        return (
            to_dict(getattr(chosen, field), f"filter.{field}") if chosen.HasField(field) else None  # type: ignore[arg-type]
        )

    return SessionFilter(
        project_id=project_id,
        session_id_prefix=chosen.session_id_prefix,
        user_name=chosen.user,
        status=enum_number(SessionStatus.DESCRIPTOR, chosen.status, "filter.status"),
        model=chosen.model,
        config_contains=struct("config_contains"),
        metadata_contains=struct("metadata_contains"),
        created_from=time("created_from"),
        created_before=time("created_before"),
        active_from=time("active_from"),
        active_before=time("active_before"),
    )


def copying(request: CopySessionRequest) -> CopyRequest:
    """Convert a request to copy a session.

    Raises:
        Fault: INVALID_FIELD if a field is invalid.
    """
    kind = request.WhichOneof("cut")
    return CopyRequest(
        session_id=request.session_id,
        new_session_id=request.new_session_id,
        up_to=getattr(request, kind) if kind else None,
        model=request.model if request.HasField("model") else None,
        user_name=request.user if request.HasField("user") else None,
        title=request.title if request.HasField("title") else None,
        config=config_of(request.config, "config") if request.HasField("config") else None,
        metadata=to_dict(request.metadata, "metadata") if request.HasField("metadata") else None,
        idle_ttl_ms=_idle_ttl_ms(request, ""),
        keep_processing_status=request.keep_processing_status,
        keep_task_links=request.keep_task_links,
        request_id=request.request_id,
        state=state_patch(request),
    )


def import_head(request: ImportSessionRequest) -> ImportHead:
    """Convert the first piece of an import, except its messages.

    Raises:
        Fault: INVALID_FIELD if a field is invalid.
    """
    session = request.session
    return ImportHead(
        session_id=session.session_id,
        settings=replace(settings(session), state=state_patch(request)),
        status=enum_number(SessionStatus.DESCRIPTOR, session.status, "session.status")
        or states.SessionStatus.ACTIVE,
        created_at=_optional_time(session, "create_time", "session"),
        active_at=_optional_time(session, "active_time", "session"),
        tasks=[
            ImportedTask(
                task.task_id,
                task_status(task.status, f"tasks[{i}].status") or states.TaskStatus.PENDING,
                to_dict(task.data, f"tasks[{i}].data"),
                sorted(set(task.message_seqs)),
                _optional_time(task, "create_time", f"tasks[{i}]"),
                _optional_time(task, "update_time", f"tasks[{i}]"),
            )
            for i, task in enumerate(request.tasks)
        ],
        bookmarks=[
            ImportedBookmark(
                bookmark.name,
                bookmark.seq if bookmark.HasField("seq") else None,
                bookmark.description,
                _optional_time(bookmark, "create_time", f"bookmarks[{i}]"),
                _optional_time(bookmark, "update_time", f"bookmarks[{i}]"),
            )
            for i, bookmark in enumerate(request.bookmarks)
        ],
        request_id=request.request_id,
    )


def task_status(status: TaskStatus.ValueType, field: str) -> int:
    """Check the status of a task; see enum_number."""
    return enum_number(TaskStatus.DESCRIPTOR, status, field)


def copy_message(row: CopyRow) -> SessionCopy:
    """Convert the row of a copy."""
    message = SessionCopy(session_id=row.session_id, seq=row.seq)
    message.create_time.FromDatetime(row.created_at)
    return message


def order_name(order: SessionOrder.ValueType) -> str:
    """Convert the order of a listing.

    Raises:
        Fault: INVALID_FIELD if the number is unknown.
    """
    return _ORDERS[enum_number(SessionOrder.DESCRIPTOR, order, "order")]


def enum_number(enum: EnumDescriptor, number: int, field: str) -> int:
    """Check and return the value of an enum; 0 is UNSPECIFIED.

    Raises:
        Fault: INVALID_FIELD if the number is unknown.
    """
    if number not in enum.values_by_number:
        raise invalid(field, f"is {number}, which is not a {enum.name}")
    return int(number)


def time_of(timestamp: Timestamp, field: str) -> datetime:
    """Convert a time.

    Raises:
        Fault: INVALID_FIELD if the time is out of range.
    """
    try:
        return timestamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise invalid(field, "is not a time between the years 1 and 9999") from None


def _optional_time(message: Session | Task | Bookmark, name: str, path: str) -> datetime | None:
    """Return a time in imported data; None if the field is not set."""
    if not message.HasField(name):  # type: ignore[arg-type]
        return None
    time = time_of(getattr(message, name), f"{path}.{name}")
    # The column active_minute cannot represent years after 6053.
    if not 1970 <= time.year < 6000:
        raise invalid(f"{path}.{name}", "is not a time between the years 1970 and 5999")
    return time


def timestamp_of(created_us: int) -> Timestamp:
    """Convert microseconds since 2000-01-01 UTC to a Timestamp."""
    stamp = Timestamp()
    put_time(stamp, created_us)
    return stamp


def put_time(stamp: Timestamp, created_us: int) -> None:
    """Set a Timestamp to microseconds since 2000-01-01 UTC."""
    seconds, us = divmod(created_us, 1_000_000)
    stamp.seconds, stamp.nanos = seconds + EPOCH_S, us * 1000


def _idle_ttl_ms(session: Session | CopySessionRequest, prefix: str = "session.") -> int | None:
    match session.WhichOneof("expiry"):
        case "never_expires":
            if not session.never_expires:
                raise invalid(
                    f"{prefix}never_expires",
                    "must be true if it is set; set idle_ttl to expire the session",
                )
            return NEVER
        case "idle_ttl":
            return milliseconds(session.idle_ttl)
        case _:
            return None


def milliseconds(duration: Duration) -> int:
    """Return a duration in whole milliseconds, rounded down."""
    # Duration.ToMilliseconds() would raise errors of its own for durations outside its range.
    return duration.seconds * 1000 + duration.nanos // 1_000_000
