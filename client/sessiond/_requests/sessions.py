"""Requests about sessions."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sessiond._protocol.names import SESSION_ORDERS, STATES, number_of
from sessiond._requests.fields import filled, put_expiry, put_struct, put_times, request_id_or_new
from sessiond.errors import invalid_field
from sessiond.v1.session_service_pb2 import (
    CopySessionRequest,
    CreateSessionRequest,
    DeleteSessionRequest,
    DeleteSessionsRequest,
    DestroySessionRequest,
    GetSessionRequest,
    GetTokenCountsRequest,
    ListCopiesRequest,
    ListSessionsRequest,
    ResumeSessionRequest,
    SessionFilter,
    UpdateSessionRequest,
)


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
    put_expiry(session, idle_ttl, never_expires)
    return request


def get_session(session_id: str) -> GetSessionRequest:
    return filled(GetSessionRequest(), session_id=session_id)


def list_sessions(
    *, order: str | None, page_size: int | None, **filters: Any
) -> ListSessionsRequest:
    request = filled(
        ListSessionsRequest(),
        order=None if order is None else number_of(SESSION_ORDERS, order, "order"),
        page_size=page_size,
    )
    _put_filter(request.filter, **filters)
    return request


def delete_sessions(*, all: bool, dry_run: bool, **filters: Any) -> DeleteSessionsRequest:
    # An empty filter is more likely a variable that was not set than a wish for every session.
    for field in ("session_id_prefix", "user", "model"):
        if filters[field] == "":
            raise invalid_field(field, "is empty; leave it out to not filter by it")
    request = filled(
        DeleteSessionsRequest(), all=all, dry_run=dry_run, request_id=request_id_or_new(None)
    )
    _put_filter(request.filter, **filters)
    return request


def _put_filter(
    target: SessionFilter,
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
) -> None:
    filled(
        target,
        session_id_prefix=session_id_prefix,
        user=user,
        state=None if state is None else number_of(STATES, state, "state"),
        model=model,
    )
    put_struct(target, "config_contains", config_contains)
    put_struct(target, "metadata_contains", metadata_contains)
    put_times(
        target,
        created_from=created_from,
        created_before=created_before,
        active_from=active_from,
        active_before=active_before,
    )


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
    put_expiry(request, idle_ttl, never_expires)
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
    put_expiry(session, idle_ttl, never_expires)
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
