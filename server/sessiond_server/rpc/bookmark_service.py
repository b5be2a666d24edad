"""BookmarkService on the wire."""

from typing import Any

from sessiond.v1.bookmark_pb2 import Bookmark
from sessiond.v1.bookmark_service_pb2 import (
    CreateBookmarkRequest,
    DeleteBookmarkRequest,
    DeleteBookmarkResponse,
    GetBookmarkRequest,
    ListBookmarksRequest,
    ListBookmarksResponse,
    UpdateBookmarkRequest,
)
from sessiond_server.bookmarks.service import Bookmarks
from sessiond_server.bookmarks.store import BookmarkRow
from sessiond_server.core.errors import invalid
from sessiond_server.projects.authentication import Caller

# What UpdateBookmark's mask may name.
_PATHS = ("seq", "description")

# Method names are those of the protos.
# ruff: noqa: N802


class BookmarkServicer:
    """The methods of BookmarkService; see handlers.Servicer."""

    needs_admin = False

    def __init__(self, bookmarks: Bookmarks) -> None:
        self._bookmarks = bookmarks

    async def CreateBookmark(self, request: CreateBookmarkRequest, caller: Caller) -> Bookmark:
        bookmark = request.bookmark
        row = await self._bookmarks.create(
            caller.project_id,
            request.session_id,
            bookmark.name,
            _seq(bookmark),
            bookmark.description,
            replace=request.replace,
            request_id=request.request_id,
        )
        return _message(row)

    async def GetBookmark(self, request: GetBookmarkRequest, caller: Caller) -> Bookmark:
        return _message(
            await self._bookmarks.get(caller.project_id, request.session_id, request.name)
        )

    async def ListBookmarks(
        self, request: ListBookmarksRequest, caller: Caller
    ) -> ListBookmarksResponse:
        page = await self._bookmarks.list(
            caller.project_id, request.session_id, request.page_size, request.page_token
        )
        return ListBookmarksResponse(
            bookmarks=[_message(row) for row in page.items], next_page_token=page.next_page_token
        )

    async def UpdateBookmark(self, request: UpdateBookmarkRequest, caller: Caller) -> Bookmark:
        name, values = request.bookmark.name, _values(request)
        row = await self._bookmarks.update(
            caller.project_id,
            request.session_id,
            name,
            values,
            request.new_name,
            request.request_id,
        )
        return _message(row)

    async def DeleteBookmark(
        self, request: DeleteBookmarkRequest, caller: Caller
    ) -> DeleteBookmarkResponse:
        await self._bookmarks.delete(
            caller.project_id,
            request.session_id,
            request.name,
            allow_missing=request.allow_missing,
            request_id=request.request_id,
        )
        return DeleteBookmarkResponse()


def _message(row: BookmarkRow) -> Bookmark:
    """A bookmark as callers see it."""
    message = Bookmark(name=row.name, seq=row.seq, description=row.description)
    message.create_time.FromDatetime(row.created_at)
    message.update_time.FromDatetime(row.updated_at)
    return message


def _values(request: UpdateBookmarkRequest) -> dict[str, Any]:
    """The fields to set. Raises: Fault INVALID_FIELD."""
    bookmark = request.bookmark
    if request.HasField("update_mask"):
        paths = list(request.update_mask.paths)
        for path in paths:
            if path not in _PATHS:
                raise invalid("update_mask", f"names {path[:64]!r}; known are {', '.join(_PATHS)}")
    else:
        is_set = {"seq": bookmark.HasField("seq"), "description": bool(bookmark.description)}
        paths = [path for path in _PATHS if is_set[path]]
    values = {"seq": _seq(bookmark), "description": bookmark.description}
    return {path: values[path] for path in paths}


def _seq(bookmark: Bookmark) -> int | None:
    return bookmark.seq if bookmark.HasField("seq") else None
