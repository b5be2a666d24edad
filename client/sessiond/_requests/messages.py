"""Requests about messages."""

from collections.abc import Sequence

from sessiond._protocol.names import MESSAGE_ORDERS, ROLES, VIEWS, number_of
from sessiond._requests.fields import filled, request_id_or_new
from sessiond.errors import invalid_field
from sessiond.v1.session_service_pb2 import (
    GetMessageRequest,
    GetMessagesRequest,
    ImportMessagesRequest,
    StoreMessagesRequest,
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


def get_message(session_id: str, seq: int) -> GetMessageRequest:
    return filled(GetMessageRequest(), session_id=session_id, seq=seq)
