"""Converts the target session of an append, and the conditions of the append."""

from sessiond.v1.rewind_pb2 import RewindSessionRequest
from sessiond.v1.session_service_pb2 import (
    ON_DUPLICATE_SKIP,
    ImportMessagesRequest,
    OnDuplicate,
    StoreMessagesRequest,
)
from sessiond_server.core.errors import invalid
from sessiond_server.messages.target import Target
from sessiond_server.projects.authentication import Caller
from sessiond_server.rpc import conversions
from sessiond_server.sessions.settings import SessionSettings


def place_of(
    request: StoreMessagesRequest | ImportMessagesRequest | RewindSessionRequest,
    caller: Caller,
    *,
    skips_duplicates: bool = False,
    create: SessionSettings | None = None,
) -> Target:
    """Convert the session of a request, and the last_seq and epoch that the caller expects."""
    return Target(
        caller.project_id,
        request.session_id,
        request.expected_last_seq if request.HasField("expected_last_seq") else None,
        request.request_id,
        request.expected_epoch if request.HasField("expected_epoch") else None,
        skips_duplicates,
        create,
        conversions.state_patch(request),
        request.state_etag,
    )


def target_of(request: StoreMessagesRequest | ImportMessagesRequest, caller: Caller) -> Target:
    """Convert the session and the conditions of an append."""
    on_duplicate = request.on_duplicate and conversions.enum_number(
        OnDuplicate.DESCRIPTOR, request.on_duplicate, "on_duplicate"
    )
    return place_of(
        request,
        caller,
        skips_duplicates=on_duplicate == ON_DUPLICATE_SKIP,
        create=_creation(request) if request.HasField("create") else None,
    )


def _creation(request: StoreMessagesRequest | ImportMessagesRequest) -> SessionSettings:
    """Convert the settings with which a missing session is made."""
    if request.create.session_id not in ("", request.session_id):
        raise invalid("create.session_id", "differs from session_id; leave it out")
    return conversions.settings(request.create, "create")
