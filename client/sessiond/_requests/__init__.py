"""The requests, built from keyword arguments. No I/O in here."""

import mimetypes
import os
import secrets
from collections.abc import Iterable, Mapping, MutableSequence, Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict, TypeGuard, TypeVar

from google.protobuf.message import Message as ProtoMessage

from sessiond._protocol.names import (
    MESSAGE_ORDERS,
    ROLES,
    SESSION_ORDERS,
    STATES,
    TASK_STATUSES,
    VIEWS,
    number_of,
)
from sessiond._protocol.structs import fill_struct
from sessiond._protocol.times import to_duration, to_timestamp
from sessiond._types.processing import FailedMessage, Failures, Lease
from sessiond.errors import invalid_field
from sessiond.v1 import processing_service_pb2, session_pb2
from sessiond.v1.asset_service_pb2 import DownloadAssetRequest, GetAssetRequest, UploadAssetRequest
from sessiond.v1.bookmark_service_pb2 import (
    CreateBookmarkRequest,
    DeleteBookmarkRequest,
    GetBookmarkRequest,
    ListBookmarksRequest,
    UpdateBookmarkRequest,
)
from sessiond.v1.conversation_service_pb2 import WatchRequest
from sessiond.v1.session_service_pb2 import (
    CopySessionRequest,
    CreateSessionRequest,
    DeleteSessionRequest,
    DeleteSessionsRequest,
    DestroySessionRequest,
    GetMessageRequest,
    GetMessagesRequest,
    GetSessionRequest,
    GetTokenCountsRequest,
    ImportMessagesRequest,
    ListCopiesRequest,
    ListSessionsRequest,
    ResumeSessionRequest,
    StoreMessagesRequest,
    UpdateSessionRequest,
)
from sessiond.v1.task_service_pb2 import (
    CreateTaskRequest,
    DeleteTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    ReorderTasksRequest,
    UpdateTaskRequest,
)

_Item = TypeVar("_Item")
_Request = TypeVar("_Request", bound=ProtoMessage)


# How often a server says that nothing happens; a stream that is silent for longer than some of these is broken.
HEARTBEAT_S = 15.0
MAX_SILENT_HEARTBEATS = 2.5


class SessionSettings(TypedDict, total=False):
    """What a session can be created with, as in `client.sessions.create`."""

    model: str | None
    user: str | None
    title: str | None
    config: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    idle_ttl: timedelta | float | None
    never_expires: bool
    request_id: str | None
    timeout: float | None


class SessionChanges(TypedDict, total=False):
    """What can be changed of a session, as in `client.sessions.update`."""

    model: str | None
    user: str | None
    title: str | None
    config: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    config_patch: Mapping[str, Any] | None
    metadata_patch: Mapping[str, Any] | None
    idle_ttl: timedelta | float | None
    never_expires: bool
    etag: str | None
    request_id: str | None
    timeout: float | None


class SessionFilters(TypedDict, total=False):
    """Which sessions to list and in which order, as in `client.sessions.list`."""

    session_id_prefix: str | None
    user: str | None
    state: str | None
    model: str | None
    config_contains: Mapping[str, Any] | None
    metadata_contains: Mapping[str, Any] | None
    created_from: datetime | None
    created_before: datetime | None
    active_from: datetime | None
    active_before: datetime | None
    order: str | None
    page_size: int | None
    timeout: float | None


class CopyOptions(TypedDict, total=False):
    """What a copy is to be, as in `client.sessions.copy`."""

    up_to_seq: int | None
    up_to_bookmark: str | None
    model: str | None
    user: str | None
    title: str | None
    config: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    idle_ttl: timedelta | float | None
    never_expires: bool
    keep_processing_status: bool
    keep_task_links: bool
    request_id: str | None
    timeout: float | None


class SinceOptions(TypedDict, total=False):
    """Which messages after a place to read, as in `client.sessions.get_messages`."""

    through_seq: int | None
    limit: int | None
    order: str
    roles: Sequence[str] | None
    view: str
    timeout: float | None


class ReadOptions(SinceOptions, total=False):
    """Which messages to read, as in `client.sessions.get_messages`."""

    after_seq: int | None
    after_bookmark: str | None


class EventOptions(TypedDict, total=False):
    """Which events to watch, as in `client.sessions.events`."""

    types: Sequence[str] | None
    timeout: float | None


class TaskSettings(TypedDict, total=False):
    """What a task can be created with, as in `client.tasks.create`."""

    status: str
    data: Mapping[str, Any] | None
    message_seqs: Iterable[int]
    request_id: str | None
    timeout: float | None


class TaskChanges(TypedDict, total=False):
    """What can be changed of a task, as in `client.tasks.update`."""

    status: str | None
    data: Mapping[str, Any] | None
    data_patch: Mapping[str, Any] | None
    message_seqs: Iterable[int] | None
    link: Iterable[int]
    unlink: Iterable[int]
    etag: str | None
    request_id: str | None
    timeout: float | None


class BookmarkSettings(TypedDict, total=False):
    """What a bookmark can be created with, as in `client.bookmarks.create`."""

    seq: int | None
    description: str
    replace: bool
    request_id: str | None
    timeout: float | None


class BookmarkChanges(TypedDict, total=False):
    """What can be changed of a bookmark, as in `client.bookmarks.update`."""

    seq: int | None
    description: str | None
    new_name: str | None
    request_id: str | None
    timeout: float | None


class AppendOptions(TypedDict, total=False):
    """How messages are appended, as in `client.sessions.store_messages`."""

    expected_last_seq: int | None
    request_id: str | None
    timeout: float | None


def create_session(
    session_id: str | None,
    *,
    model: str | None,
    user: str | None,
    title: str | None,
    config: Mapping[str, Any] | None,
    metadata: Mapping[str, Any] | None,
    idle_ttl: timedelta | float | None,
    never_expires: bool,
    get_or_create: bool,
    request_id: str | None,
) -> CreateSessionRequest:
    # An empty id is more likely a variable that was not set than a wish for a made-up one.
    if session_id == "":
        raise invalid_field("session_id", "is empty; leave it out to have one made")
    request = filled(
        CreateSessionRequest(),
        get_or_create=get_or_create,
        request_id=request_id_or_new(request_id),
    )
    session = filled(request.session, session_id=session_id, model=model, user=user, title=title)
    put_struct(session, "config", config)
    put_struct(session, "metadata", metadata)
    _put_expiry(session, idle_ttl, never_expires)
    return request


def get_session(session_id: str) -> GetSessionRequest:
    return filled(GetSessionRequest(), session_id=session_id)


def list_sessions(
    *,
    session_id_prefix: str | None,
    user: str | None,
    state: str | None,
    model: str | None,
    config_contains: Mapping[str, Any] | None,
    metadata_contains: Mapping[str, Any] | None,
    created_from: datetime | None,
    created_before: datetime | None,
    active_from: datetime | None,
    active_before: datetime | None,
    order: str | None,
    page_size: int | None,
) -> ListSessionsRequest:
    request = filled(
        ListSessionsRequest(),
        session_id_prefix=session_id_prefix,
        user=user,
        state=None if state is None else number_of(STATES, state, "state"),
        model=model,
        order=None if order is None else number_of(SESSION_ORDERS, order, "order"),
        page_size=page_size,
    )
    put_struct(request, "config_contains", config_contains)
    put_struct(request, "metadata_contains", metadata_contains)
    _put_times(
        request,
        created_from=created_from,
        created_before=created_before,
        active_from=active_from,
        active_before=active_before,
    )
    return request


def delete_sessions(
    *,
    session_id_prefix: str | None,
    user: str | None,
    state: str | None,
    model: str | None,
    config_contains: Mapping[str, Any] | None,
    metadata_contains: Mapping[str, Any] | None,
    created_from: datetime | None,
    created_before: datetime | None,
    active_from: datetime | None,
    active_before: datetime | None,
    all: bool,
    dry_run: bool,
) -> DeleteSessionsRequest:
    # An empty filter is more likely a variable that was not set than a wish for every session.
    for field, text in (("session_id_prefix", session_id_prefix), ("user", user), ("model", model)):
        if text == "":
            raise invalid_field(field, "is empty; leave it out to not filter by it")
    request = filled(
        DeleteSessionsRequest(),
        session_id_prefix=session_id_prefix,
        user=user,
        state=None if state is None else number_of(STATES, state, "state"),
        model=model,
        all=all,
        dry_run=dry_run,
    )
    put_struct(request, "config_contains", config_contains)
    put_struct(request, "metadata_contains", metadata_contains)
    _put_times(
        request,
        created_from=created_from,
        created_before=created_before,
        active_from=active_from,
        active_before=active_before,
    )
    return request


def copy_session(
    session_id: str,
    new_session_id: str | None,
    *,
    up_to_seq: int | None,
    up_to_bookmark: str | None,
    model: str | None,
    user: str | None,
    title: str | None,
    config: Mapping[str, Any] | None,
    metadata: Mapping[str, Any] | None,
    idle_ttl: timedelta | float | None,
    never_expires: bool,
    keep_processing_status: bool,
    keep_task_links: bool,
    request_id: str | None,
) -> CopySessionRequest:
    if new_session_id == "":
        raise invalid_field("new_session_id", "is empty; leave it out to have one made")
    if up_to_seq is not None and up_to_bookmark is not None:
        raise invalid_field("up_to_seq", "cannot be given together with up_to_bookmark")
    request = filled(
        CopySessionRequest(),
        session_id=session_id,
        new_session_id=new_session_id,
        up_to_seq=up_to_seq,
        up_to_bookmark=up_to_bookmark,
        model=model,
        user=user,
        title=title,
        keep_processing_status=keep_processing_status,
        keep_task_links=keep_task_links,
        request_id=request_id_or_new(request_id),
    )
    put_struct(request, "config", config)
    put_struct(request, "metadata", metadata)
    _put_expiry(request, idle_ttl, never_expires)
    return request


def list_copies(session_id: str, page_size: int | None) -> ListCopiesRequest:
    return filled(ListCopiesRequest(), session_id=session_id, page_size=page_size)


def get_token_counts(session_id: str) -> GetTokenCountsRequest:
    return filled(GetTokenCountsRequest(), session_id=session_id)


def update_session(
    session_id: str,
    *,
    model: str | None,
    user: str | None,
    title: str | None,
    config: Mapping[str, Any] | None,
    metadata: Mapping[str, Any] | None,
    config_patch: Mapping[str, Any] | None,
    metadata_patch: Mapping[str, Any] | None,
    idle_ttl: timedelta | float | None,
    never_expires: bool,
    etag: str | None,
    request_id: str | None,
) -> UpdateSessionRequest:
    request = filled(UpdateSessionRequest(), etag=etag, request_id=request_id_or_new(request_id))
    session = filled(request.session, session_id=session_id, model=model, user=user, title=title)
    put_struct(session, "config", config)
    put_struct(session, "metadata", metadata)
    _put_expiry(session, idle_ttl, never_expires)
    put_struct(request, "config_patch", config_patch)
    put_struct(request, "metadata_patch", metadata_patch)
    is_given = {
        "model": model is not None,
        "user": user is not None,
        "title": title is not None,
        "config": config is not None,
        "metadata": metadata is not None,
        "idle_ttl": idle_ttl is not None,
        "never_expires": never_expires,
    }
    # Named one by one: without the mask an empty string or object would mean "unchanged".
    if paths := [field for field, given in is_given.items() if given]:
        request.update_mask.paths.extend(paths)
    return request


def resume_session(session_id: str, request_id: str | None) -> ResumeSessionRequest:
    return filled(
        ResumeSessionRequest(), session_id=session_id, request_id=request_id_or_new(request_id)
    )


def destroy_session(session_id: str, request_id: str | None) -> DestroySessionRequest:
    return filled(
        DestroySessionRequest(), session_id=session_id, request_id=request_id_or_new(request_id)
    )


def delete_session(
    session_id: str, *, allow_missing: bool, etag: str | None, request_id: str | None
) -> DeleteSessionRequest:
    request = DeleteSessionRequest()
    return filled(
        request,
        session_id=session_id,
        allow_missing=allow_missing,
        etag=etag,
        request_id=request_id_or_new(request_id),
    )


def store_messages(
    session_id: str, *, expected_last_seq: int | None, request_id: str | None
) -> StoreMessagesRequest:
    """Still without messages."""
    request = StoreMessagesRequest()
    return filled(
        request,
        session_id=session_id,
        expected_last_seq=expected_last_seq,
        request_id=request_id_or_new(request_id),
    )


def lease_messages(
    queue: str,
    *,
    worker: str,
    max_sessions: int,
    max_messages: int,
    lease_duration: timedelta | float,
    wait: timedelta | float | None,
) -> processing_service_pb2.LeaseMessagesRequest:
    request = filled(
        processing_service_pb2.LeaseMessagesRequest(),
        queue=queue,
        worker=worker,
        max_sessions=max_sessions,
        max_messages=max_messages,
    )
    request.lease_duration.CopyFrom(to_duration(lease_duration, "lease_duration"))
    if wait is not None:
        request.wait.CopyFrom(to_duration(wait, "wait"))
    return request


def extend_lease(
    lease: Lease, lease_duration: timedelta | float
) -> processing_service_pb2.ExtendLeaseRequest:
    return processing_service_pb2.ExtendLeaseRequest(
        lease_id=lease.lease_id, lease_duration=to_duration(lease_duration, "lease_duration")
    )


def acknowledge_messages(
    lease: Lease, through_seq: int | None, failures: Failures, keep_lease: bool
) -> processing_service_pb2.AcknowledgeMessagesRequest:
    request = filled(
        processing_service_pb2.AcknowledgeMessagesRequest(lease_id=lease.lease_id),
        through_seq=through_seq,
        keep_lease=keep_lease,
    )
    if isinstance(failures, Mapping):
        failures = [FailedMessage(seq, error) for seq, error in failures.items()]
    for i, failure in enumerate(failures):
        try:
            request.failures.add(seq=failure.seq, error=failure.error)
        except (AttributeError, TypeError, ValueError) as error:
            raise invalid_field(f"failures[{i}]", f"cannot be sent: {error}") from error
    return request


def requeue_messages(
    queue: str, session_id: str, *, failed: bool, from_seq: int | None, seqs: Iterable[int] | None
) -> processing_service_pb2.RequeueMessagesRequest:
    if failed + (from_seq is not None) + (seqs is not None) != 1:
        raise invalid_field("which", "is required: give exactly one of failed, from_seq and seqs")
    request = filled(
        processing_service_pb2.RequeueMessagesRequest(),
        queue=queue,
        session_id=session_id,
        failed=failed or None,
        from_seq=from_seq,
    )
    if seqs is not None:
        # An empty list is sent too: that it needs one is the server's to say.
        request.seqs.SetInParent()
        try:
            request.seqs.seqs.extend(seqs)
        except (TypeError, ValueError) as error:
            raise invalid_field("seqs", f"cannot be sent: {error}") from error
    return request


def first_import_piece(
    session_id: str, *, expected_last_seq: int | None, request_id: str | None
) -> ImportMessagesRequest:
    """The first piece of an import, still without messages."""
    request = ImportMessagesRequest()
    return filled(
        request,
        session_id=session_id,
        expected_last_seq=expected_last_seq,
        request_id=request_id_or_new(request_id),
    )


def get_messages(
    session_id: str,
    *,
    after_seq: int | None,
    after_bookmark: str | None,
    through_seq: int | None,
    limit: int | None,
    order: str,
    roles: Sequence[str] | None,
    view: str,
) -> GetMessagesRequest:
    if after_seq is not None and after_bookmark is not None:
        raise invalid_field("after_bookmark", "cannot be given together with after_seq")
    request = filled(
        GetMessagesRequest(),
        session_id=session_id,
        after_seq=after_seq,
        after_bookmark=after_bookmark,
        through_seq=through_seq,
        limit=limit,
        order=number_of(MESSAGE_ORDERS, order, "order"),
        view=number_of(VIEWS, view, "view"),
    )
    if isinstance(roles, str):
        raise invalid_field("roles", f'must be a list of roles, e.g. ["{roles}"]')
    for i, role in enumerate(roles or ()):
        request.roles.append(number_of(ROLES, role, f"roles[{i}]"))
    return request


def watch(session_id: str, *, after_seq: int | None) -> WatchRequest:
    request = filled(WatchRequest(), session_id=session_id, after_seq=after_seq)
    request.heartbeat_interval.CopyFrom(to_duration(HEARTBEAT_S, "heartbeat_interval"))
    return request


def event_types(types: Sequence[str] | None) -> frozenset[str] | None:
    """Raises: InvalidField."""
    if isinstance(types, str):
        raise invalid_field("types", f'must be a list of types, e.g. ["{types}"]')
    return None if types is None else frozenset(types)


def get_message(session_id: str, seq: int) -> GetMessageRequest:
    return filled(GetMessageRequest(), session_id=session_id, seq=seq)


def create_task(
    session_id: str,
    *,
    task_id: str | None,
    status: str,
    data: Mapping[str, Any] | None,
    message_seqs: Iterable[int],
    request_id: str | None,
) -> CreateTaskRequest:
    # As for sessions: an empty id is more likely a variable that was not set.
    if task_id == "":
        raise invalid_field("task_id", "is empty; leave it out to have one made")
    request = filled(
        CreateTaskRequest(), session_id=session_id, request_id=request_id_or_new(request_id)
    )
    filled(request.task, task_id=task_id, status=number_of(TASK_STATUSES, status, "status"))
    put_struct(request.task, "data", data)
    _put_items(request.task.message_seqs, message_seqs, "message_seqs")
    return request


def get_task(session_id: str, task_id: str) -> GetTaskRequest:
    return filled(GetTaskRequest(), session_id=session_id, task_id=task_id)


def list_tasks(session_id: str, *, status: str | None, page_size: int | None) -> ListTasksRequest:
    number = None if status is None else number_of(TASK_STATUSES, status, "status")
    return filled(ListTasksRequest(), session_id=session_id, status=number, page_size=page_size)


def update_task(
    session_id: str,
    task_id: str,
    *,
    status: str | None,
    data: Mapping[str, Any] | None,
    data_patch: Mapping[str, Any] | None,
    message_seqs: Iterable[int] | None,
    link: Iterable[int],
    unlink: Iterable[int],
    etag: str | None,
    request_id: str | None,
) -> UpdateTaskRequest:
    request = filled(
        UpdateTaskRequest(),
        session_id=session_id,
        etag=etag,
        request_id=request_id_or_new(request_id),
    )
    filled(
        request.task,
        task_id=task_id,
        status=None if status is None else number_of(TASK_STATUSES, status, "status"),
    )
    put_struct(request.task, "data", data)
    put_struct(request, "data_patch", data_patch)
    _put_items(
        request.task.message_seqs, () if message_seqs is None else message_seqs, "message_seqs"
    )
    _put_items(request.link_seqs, link, "link")
    _put_items(request.unlink_seqs, unlink, "unlink")
    is_given = {
        "status": status is not None,
        "data": data is not None,
        "message_seqs": message_seqs is not None,
    }
    if paths := [field for field, given in is_given.items() if given]:
        request.update_mask.paths.extend(paths)
    return request


def reorder_tasks(session_id: str, task_ids: Iterable[str]) -> ReorderTasksRequest:
    if isinstance(task_ids, str):
        raise invalid_field("task_ids", f'must be a list of ids, e.g. ["{task_ids}"]')
    request = filled(ReorderTasksRequest(), session_id=session_id)
    _put_items(request.task_ids, task_ids, "task_ids")
    return request


def delete_task(
    session_id: str, task_id: str, *, allow_missing: bool, request_id: str | None
) -> DeleteTaskRequest:
    request = DeleteTaskRequest()
    return filled(
        request,
        session_id=session_id,
        task_id=task_id,
        allow_missing=allow_missing,
        request_id=request_id_or_new(request_id),
    )


def create_bookmark(
    session_id: str,
    name: str,
    *,
    seq: int | None,
    description: str,
    replace: bool,
    request_id: str | None,
) -> CreateBookmarkRequest:
    request = filled(
        CreateBookmarkRequest(),
        session_id=session_id,
        replace=replace,
        request_id=request_id_or_new(request_id),
    )
    filled(request.bookmark, name=name, seq=seq, description=description)
    return request


def get_bookmark(session_id: str, name: str) -> GetBookmarkRequest:
    return filled(GetBookmarkRequest(), session_id=session_id, name=name)


def list_bookmarks(session_id: str, *, page_size: int | None) -> ListBookmarksRequest:
    return filled(ListBookmarksRequest(), session_id=session_id, page_size=page_size)


def move_bookmark(
    session_id: str, name: str, seq: int | None, request_id: str | None
) -> UpdateBookmarkRequest:
    """seq: None = the newest message."""
    request = filled(
        UpdateBookmarkRequest(), session_id=session_id, request_id=request_id_or_new(request_id)
    )
    filled(request.bookmark, name=name, seq=seq)
    request.update_mask.paths.append("seq")
    return request


def update_bookmark(
    session_id: str,
    name: str,
    *,
    seq: int | None,
    description: str | None,
    new_name: str | None,
    request_id: str | None,
) -> UpdateBookmarkRequest:
    if new_name == "":
        raise invalid_field("new_name", "is empty; leave it out to keep the name")
    request = filled(
        UpdateBookmarkRequest(),
        session_id=session_id,
        new_name=new_name,
        request_id=request_id_or_new(request_id),
    )
    filled(request.bookmark, name=name, seq=seq, description=description)
    is_given = {"seq": seq is not None, "description": description is not None}
    if paths := [field for field, given in is_given.items() if given]:
        request.update_mask.paths.extend(paths)
    return request


def delete_bookmark(
    session_id: str, name: str, *, allow_missing: bool, request_id: str | None
) -> DeleteBookmarkRequest:
    request = DeleteBookmarkRequest()
    return filled(
        request,
        session_id=session_id,
        name=name,
        allow_missing=allow_missing,
        request_id=request_id_or_new(request_id),
    )


def is_path(source: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether the source of an upload names a file."""
    return isinstance(source, str | os.PathLike)


def media_type_of(name: str) -> str:
    """What a file's name, or a URL, says about its content. Empty = nothing."""
    guessed, encoding = mimetypes.guess_type(name)
    # Of "a.tar.gz" it would say what is inside.
    return guessed if guessed and not encoding else ""


def upload_asset(
    source: object, *, media_type: str, asset_id: str | None, size: int | None
) -> UploadAssetRequest:
    """The first piece of an upload, without data. The source says what it says of itself."""
    if not media_type and is_path(source):
        media_type = media_type_of(os.fspath(source))
    if size is None and isinstance(source, bytes | bytearray | memoryview):
        size = memoryview(source).nbytes
    return filled(UploadAssetRequest(), media_type=media_type, asset_id=asset_id, size=size)


def download_asset(
    asset_id: str, *, offset: int | None, length: int | None
) -> DownloadAssetRequest:
    if length == 0:
        # To the server it stands for all.
        raise invalid_field("length", "is 0; leave it out to read all")
    return filled(DownloadAssetRequest(), asset_id=asset_id, offset=offset, length=length)


def get_asset(asset_id: str) -> GetAssetRequest:
    return filled(GetAssetRequest(), asset_id=asset_id)


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


def _put_items(target: MutableSequence[_Item], items: Iterable[_Item], field: str) -> None:
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


def _put_times(request: ProtoMessage, **times: datetime | None) -> None:
    for field, time in times.items():
        if time is not None:
            getattr(request, field).CopyFrom(to_timestamp(time, field))


def _put_expiry(
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
