"""Requests about sessions. All raise InvalidField for a value that cannot be sent."""

from collections.abc import Mapping
from typing import Any, Unpack

from sessiond._protocol.model_options import check_contained
from sessiond._requests.fields import (
    check_keywords,
    filled,
    put_mask,
    request_id_or_new,
    unknown_keyword,
)
from sessiond._requests.options import (
    CopySettings,
    SessionFilter,
    SessionSettings,
    SessionUpdate,
)
from sessiond._requests.state import put_state_patch
from sessiond.errors import invalid_field
from sessiond.v1 import session_service_pb2 as pb


def create_session(
    session_id: str | None,
    *,
    get_or_create: bool,
    request_id: str | None,
    state: Mapping[str, Any] | None = None,
    **settings: Unpack[SessionSettings],
) -> pb.CreateSessionRequest:
    # An empty id is more likely an unset variable than a request for a generated id.
    if session_id == "":
        raise invalid_field("session_id", "is empty; leave it out to have one generated")
    request = filled(
        pb.CreateSessionRequest(),
        get_or_create=get_or_create,
        request_id=request_id_or_new(request_id),
    )
    filled(request.session, session_id=session_id, **_checked(settings))
    put_state_patch(request, state, None)
    return request


def put_creation(
    request: pb.StoreMessagesRequest | pb.ImportMessagesRequest, create: SessionSettings | None
) -> None:
    """Set the settings with which an append creates a missing session. None = create no session."""
    if create is not None:
        if not isinstance(create, Mapping):
            raise invalid_field(
                "create", f"must be a dict of settings, not {type(create).__name__}"
            )
        if problem := unknown_keyword(create, SessionSettings.__optional_keys__):
            raise invalid_field("create", f"has the unknown setting {problem}")
        request.create.SetInParent()
        filled(request.create, **_checked(create))


def list_sessions(
    *,
    order: str | None,
    page_size: int | None,
    with_state: bool = False,
    **conditions: Unpack[SessionFilter],
) -> pb.ListSessionsRequest:
    request = filled(
        pb.ListSessionsRequest(), order=order, page_size=page_size, with_state=with_state
    )
    _put_filter(request.filter, conditions)
    return request


def delete_sessions(
    *, all: bool, dry_run: bool, **conditions: Unpack[SessionFilter]
) -> pb.DeleteSessionsRequest:
    # An empty condition is more likely an unset variable than a request for all sessions.
    for field in ("session_id_prefix", "user", "model"):
        if conditions.get(field) == "":
            raise invalid_field(field, "is empty; leave it out to not filter by it")
    request = filled(
        pb.DeleteSessionsRequest(), all=all, dry_run=dry_run, request_id=request_id_or_new(None)
    )
    _put_filter(request.filter, conditions)
    return request


def copy_session(
    session_id: str,
    new_session_id: str | None,
    *,
    up_to_seq: int | None,
    up_to_bookmark: str | None,
    keep_processing_status: bool,
    keep_task_links: bool,
    request_id: str | None,
    **settings: Unpack[CopySettings],
) -> pb.CopySessionRequest:
    if new_session_id == "":
        raise invalid_field("new_session_id", "is empty; leave it out to have one generated")
    if up_to_seq is not None and up_to_bookmark is not None:
        raise invalid_field("up_to_seq", "cannot be combined with up_to_bookmark")
    request = pb.CopySessionRequest()
    put_state_patch(request, settings.pop("state", None), settings.pop("remove_state", None))
    return filled(
        request,
        session_id=session_id,
        new_session_id=new_session_id,
        up_to_seq=up_to_seq,
        up_to_bookmark=up_to_bookmark,
        keep_processing_status=keep_processing_status,
        keep_task_links=keep_task_links,
        request_id=request_id_or_new(request_id),
        **_checked(settings),
    )


def update_session(
    session_id: str,
    *,
    etag: str | None,
    request_id: str | None,
    config_patch: Mapping[str, Any] | None,
    metadata_patch: Mapping[str, Any] | None,
    **settings: Unpack[SessionUpdate],
) -> pb.UpdateSessionRequest:
    request = filled(
        pb.UpdateSessionRequest(),
        config_patch=config_patch,
        metadata_patch=metadata_patch,
        etag=etag,
        state_etag=settings.pop("state_etag", None),
        request_id=request_id_or_new(request_id),
    )
    put_state_patch(request, settings.pop("state", None), settings.pop("remove_state", None))
    values = _checked(settings)
    filled(request.session, session_id=session_id, **values)
    put_mask(request, values)
    return request


def _put_filter(target: pb.SessionFilter, conditions: SessionFilter) -> None:
    check_keywords(conditions, SessionFilter.__optional_keys__)
    check_contained(conditions.get("config_contains"), "config_contains")
    filled(target, **conditions)


def _checked(settings: SessionSettings) -> dict[str, Any]:
    check_keywords(settings, SessionSettings.__optional_keys__)
    never_expires = settings.get("never_expires")
    if never_expires and settings.get("idle_ttl") is not None:
        raise invalid_field("idle_ttl", "cannot be combined with never_expires")
    # never_expires shares a oneof with idle_ttl: sending False would unset idle_ttl.
    return {**settings, "never_expires": never_expires or None}
