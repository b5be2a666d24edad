"""The requests, built from keyword arguments. No I/O in here."""

import mimetypes
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict, TypeGuard, TypeVar

from google.protobuf.message import Message as ProtoMessage

from sessiond._input import MessageInput, batch_to_proto
from sessiond._names import MESSAGE_ORDERS, ROLES, SESSION_ORDERS, STATES, VIEWS, number_of
from sessiond._structs import fill_struct
from sessiond._times import to_duration, to_timestamp
from sessiond.errors import invalid_field
from sessiond.v1 import session_pb2
from sessiond.v1.asset_service_pb2 import DownloadAssetRequest, GetAssetRequest, UploadAssetRequest
from sessiond.v1.session_service_pb2 import (
    CreateSessionRequest,
    DeleteSessionRequest,
    DestroySessionRequest,
    GetMessageRequest,
    GetMessagesRequest,
    GetSessionRequest,
    ImportMessagesRequest,
    ListSessionsRequest,
    ResumeSessionRequest,
    StoreMessagesRequest,
    UpdateSessionRequest,
)

_Request = TypeVar("_Request", bound=ProtoMessage)


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


class ReadOptions(TypedDict, total=False):
    """Which messages to read, as in `client.sessions.get_messages`."""

    after_seq: int | None
    through_seq: int | None
    limit: int | None
    order: str
    roles: Sequence[str] | None
    view: str
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
    request = _filled(CreateSessionRequest(), get_or_create=get_or_create, request_id=_request_id(request_id))
    session = _filled(request.session, session_id=session_id, model=model, user=user, title=title)
    _put_struct(session, "config", config)
    _put_struct(session, "metadata", metadata)
    _put_expiry(session, idle_ttl, never_expires)
    return request


def get_session(session_id: str) -> GetSessionRequest:
    return _filled(GetSessionRequest(), session_id=session_id)


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
    request = _filled(
        ListSessionsRequest(),
        session_id_prefix=session_id_prefix,
        user=user,
        state=None if state is None else number_of(STATES, state, "state"),
        model=model,
        order=None if order is None else number_of(SESSION_ORDERS, order, "order"),
        page_size=page_size,
    )
    _put_struct(request, "config_contains", config_contains)
    _put_struct(request, "metadata_contains", metadata_contains)
    times = {
        "created_from": created_from,
        "created_before": created_before,
        "active_from": active_from,
        "active_before": active_before,
    }
    for field, time in times.items():
        if time is not None:
            getattr(request, field).CopyFrom(to_timestamp(time, field))
    return request


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
    request = _filled(UpdateSessionRequest(), etag=etag, request_id=_request_id(request_id))
    session = _filled(request.session, session_id=session_id, model=model, user=user, title=title)
    _put_struct(session, "config", config)
    _put_struct(session, "metadata", metadata)
    _put_expiry(session, idle_ttl, never_expires)
    _put_struct(request, "config_patch", config_patch)
    _put_struct(request, "metadata_patch", metadata_patch)
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
    return _filled(ResumeSessionRequest(), session_id=session_id, request_id=_request_id(request_id))


def destroy_session(session_id: str, request_id: str | None) -> DestroySessionRequest:
    return _filled(DestroySessionRequest(), session_id=session_id, request_id=_request_id(request_id))


def delete_session(session_id: str, *, allow_missing: bool, etag: str | None, request_id: str | None) -> DeleteSessionRequest:
    request = DeleteSessionRequest()
    return _filled(request, session_id=session_id, allow_missing=allow_missing, etag=etag, request_id=_request_id(request_id))


def store_messages(
    session_id: str,
    messages: Iterable[MessageInput],
    *,
    format: str,
    expected_last_seq: int | None,
    request_id: str | None,
) -> StoreMessagesRequest:
    request = StoreMessagesRequest()
    _filled(request, session_id=session_id, expected_last_seq=expected_last_seq, request_id=_request_id(request_id))
    request.messages.extend(batch_to_proto(messages, format))
    return request


def first_import_piece(session_id: str, *, expected_last_seq: int | None, request_id: str | None) -> ImportMessagesRequest:
    """The first piece of an import, still without messages."""
    request = ImportMessagesRequest()
    return _filled(request, session_id=session_id, expected_last_seq=expected_last_seq, request_id=_request_id(request_id))


def get_messages(
    session_id: str,
    *,
    after_seq: int | None,
    through_seq: int | None,
    limit: int | None,
    order: str,
    roles: Sequence[str] | None,
    view: str,
) -> GetMessagesRequest:
    request = _filled(
        GetMessagesRequest(),
        session_id=session_id,
        after_seq=after_seq,
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


def get_message(session_id: str, seq: int) -> GetMessageRequest:
    return _filled(GetMessageRequest(), session_id=session_id, seq=seq)


def is_path(source: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether the source of an upload names a file."""
    return isinstance(source, str | os.PathLike)


def upload_asset(source: object, *, media_type: str, asset_id: str | None, size: int | None) -> UploadAssetRequest:
    """The first piece of an upload, without data. The source says what it says of itself."""
    if not media_type and is_path(source):
        guessed, encoding = mimetypes.guess_type(os.fspath(source))
        # Of "a.tar.gz" it would say what is inside.
        media_type = guessed if guessed and not encoding else ""
    if size is None and isinstance(source, bytes | bytearray | memoryview):
        size = memoryview(source).nbytes
    return _filled(UploadAssetRequest(), media_type=media_type, asset_id=asset_id, size=size)


def download_asset(asset_id: str, *, offset: int | None, length: int | None) -> DownloadAssetRequest:
    if length == 0:
        # To the server it stands for all.
        raise invalid_field("length", "is 0; leave it out to read all")
    return _filled(DownloadAssetRequest(), asset_id=asset_id, offset=offset, length=length)


def get_asset(asset_id: str) -> GetAssetRequest:
    return _filled(GetAssetRequest(), asset_id=asset_id)


def _request_id(given: str | None) -> str:
    # Without one, a call whose answer was lost could not be repeated.
    return given or uuid.uuid4().hex


def _filled(request: _Request, **values: Any) -> _Request:
    for field, value in values.items():
        if value is None:
            continue
        try:
            setattr(request, field, value)
        except (TypeError, ValueError) as error:
            raise invalid_field(field, f"cannot be sent: {error}") from error
    return request


def _put_struct(request: ProtoMessage, field: str, value: Mapping[str, Any] | None) -> None:
    if value is not None:
        struct = getattr(request, field)
        # An empty object is something else than none.
        struct.SetInParent()
        fill_struct(struct, value, field)


def _put_expiry(session: session_pb2.Session, idle_ttl: timedelta | float | None, never_expires: bool) -> None:
    if never_expires and idle_ttl is not None:
        raise invalid_field("idle_ttl", "cannot be given together with never_expires")
    if never_expires:
        session.never_expires = True
    elif idle_ttl is not None:
        session.idle_ttl.CopyFrom(to_duration(idle_ttl, "idle_ttl"))
