"""Requests about messages."""

from typing import Unpack

from sessiond._protocol.checks import listed
from sessiond._protocol.names import ROLES, number_of
from sessiond._requests.fields import check_keywords, filled
from sessiond._requests.options import ReadOptions
from sessiond.errors import invalid_field
from sessiond.v1.session_service_pb2 import GetMessagesRequest


def get_messages(
    session_id: str,
    *,
    after_seq: int | None = None,
    after_bookmark: str | None = None,
    after_message_id: str | None = None,
    **options: Unpack[ReadOptions],
) -> GetMessagesRequest:
    """Return the request of a read. The caller must apply the timeout itself.

    Raises:
        InvalidField: if an option cannot be sent.
    """
    check_keywords(options, ReadOptions.__optional_keys__)
    starts = {
        "after_seq": after_seq,
        "after_bookmark": after_bookmark,
        "after_message_id": after_message_id,
    }
    if len(given := [name for name, value in starts.items() if value is not None]) > 1:
        raise invalid_field(given[1], f"cannot be combined with {given[0]}")
    roles = options.get("roles")
    request = filled(
        GetMessagesRequest(),
        session_id=session_id,
        **starts,
        branch_of=options.get("branch_of"),
        through_seq=options.get("through_seq"),
        limit=options.get("limit"),
        order=options.get("order"),
        expected_epoch=options.get("expected_epoch"),
        view=options.get("view"),
    )
    for i, role in enumerate(() if roles is None else listed(roles, "roles")):
        request.roles.append(number_of(ROLES, role, f"roles[{i}]"))
    return request
