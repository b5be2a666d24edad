"""Requests that rewind a session."""

from collections.abc import Iterable
from typing import Unpack

from sessiond._requests.fields import check_keywords, filled, request_id_or_new
from sessiond._requests.input import MessageInput, add_batch
from sessiond._requests.options import RewindOptions
from sessiond._requests.state import put_state_patch
from sessiond.errors import invalid_field
from sessiond.v1.rewind_pb2 import RewindSessionRequest


def rewind(
    session_id: str,
    *,
    to_seq: int | None,
    drop_last: int | None,
    to_bookmark: str | None,
    before_message_id: str | None,
    messages: Iterable[MessageInput] | None,
    format: str | None,
    return_removed: int,
    **options: Unpack[RewindOptions],
) -> RewindSessionRequest:
    """Return the request of a rewind. The caller must apply the timeout itself.

    Raises:
        InvalidField: if a value cannot be sent.
    """
    check_keywords(options, RewindOptions.__optional_keys__)
    places = {
        "to_seq": to_seq,
        "drop_last": drop_last,
        "to_bookmark": to_bookmark,
        "before_message_id": before_message_id,
    }
    given = [name for name, value in places.items() if value is not None]
    if len(given) != 1:
        raise invalid_field(
            given[1] if given else "to_seq",
            f"cannot be combined with {given[0]}"
            if given
            else "is required, unless drop_last, to_bookmark or before_message_id is given",
        )
    request = filled(
        RewindSessionRequest(),
        session_id=session_id,
        expected_last_seq=options.get("expected_last_seq"),
        expected_epoch=options.get("expected_epoch"),
        return_removed=return_removed,
        abort_turn=options.get("abort_turn"),
        state_etag=options.get("state_etag"),
        request_id=request_id_or_new(options.get("request_id")),
        **places,
    )
    put_state_patch(request, options.get("state"), options.get("remove_state"))
    if messages is not None:
        add_batch(request.messages, messages, format, format_name=options.get("format_name"))
    return request
