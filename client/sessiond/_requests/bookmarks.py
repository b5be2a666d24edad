"""Requests about bookmarks. All raise InvalidField for a value that cannot be sent."""

from sessiond._requests.fields import filled, put_mask, request_id_or_new
from sessiond.errors import invalid_field
from sessiond.v1.bookmark_service_pb2 import CreateBookmarkRequest, UpdateBookmarkRequest


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


def update_bookmark(
    session_id: str,
    name: str,
    *,
    seq: int | None,
    description: str | None = None,
    new_name: str | None = None,
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
    put_mask(request, {"seq": seq, "description": description})
    return request
