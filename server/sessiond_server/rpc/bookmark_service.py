"""BookmarkService: converts requests, calls the features, converts responses."""

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
from sessiond_server.bookmarks.service import Bookmarks, etag_of
from sessiond_server.bookmarks.store import BookmarkRow
from sessiond_server.projects.authentication import Caller
from sessiond_server.rpc.conversions import updated_paths

# Methods are named as in the protos.
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
        return bookmark_message(row)

    async def GetBookmark(self, request: GetBookmarkRequest, caller: Caller) -> Bookmark:
        return bookmark_message(
            await self._bookmarks.get(caller.project_id, request.session_id, request.name)
        )

    async def ListBookmarks(
        self, request: ListBookmarksRequest, caller: Caller
    ) -> ListBookmarksResponse:
        page = await self._bookmarks.list(
            caller.project_id, request.session_id, request.page_size, request.page_token
        )
        return ListBookmarksResponse(
            bookmarks=[bookmark_message(row) for row in page.items],
            next_page_token=page.next_page_token,
        )

    async def UpdateBookmark(self, request: UpdateBookmarkRequest, caller: Caller) -> Bookmark:
        row = await self._bookmarks.update(
            caller.project_id,
            request.session_id,
            request.bookmark.name,
            _values(request),
            request.new_name,
            request.request_id,
            request.etag,
        )
        return bookmark_message(row)

    async def DeleteBookmark(
        self, request: DeleteBookmarkRequest, caller: Caller
    ) -> DeleteBookmarkResponse:
        await self._bookmarks.delete(
            caller.project_id,
            request.session_id,
            request.name,
            allow_missing=request.allow_missing,
            request_id=request.request_id,
            etag=request.etag,
        )
        return DeleteBookmarkResponse()


def bookmark_message(row: BookmarkRow) -> Bookmark:
    """Convert a bookmark's row."""
    message = Bookmark(name=row.name, seq=row.seq, description=row.description, etag=etag_of(row))
    message.create_time.FromDatetime(row.created_at)
    message.update_time.FromDatetime(row.updated_at)
    return message


def _values(request: UpdateBookmarkRequest) -> dict[str, Any]:
    """Return the new values in an update, by name.

    Raises:
        Fault: INVALID_FIELD if the mask contains an unknown path.
    """
    bookmark = request.bookmark
    is_set = {"seq": bookmark.HasField("seq"), "description": bool(bookmark.description)}
    values = {"seq": _seq(bookmark), "description": bookmark.description}
    return {path: values[path] for path in updated_paths(request, is_set)}


def _seq(bookmark: Bookmark) -> int | None:
    return bookmark.seq if bookmark.HasField("seq") else None
