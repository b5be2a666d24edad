"""Requests about bookmarks."""

from sessiond._requests.fields import filled, request_id_or_new
from sessiond.errors import invalid_field
from sessiond.v1.bookmark_service_pb2 import (
    CreateBookmarkRequest,
    DeleteBookmarkRequest,
    GetBookmarkRequest,
    ListBookmarksRequest,
    UpdateBookmarkRequest,
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
