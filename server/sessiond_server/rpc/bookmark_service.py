"""BookmarkService on the wire."""

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
from sessiond_server.service.bookmarks import Bookmarks
from sessiond_server.service.keys import Caller

# Method names are those of the protos.
# ruff: noqa: N802


class BookmarkServicer:
    """The methods of BookmarkService, as calls.Servicer has them."""

    needs_admin = False

    def __init__(self, bookmarks: Bookmarks) -> None:
        self._bookmarks = bookmarks

    async def CreateBookmark(self, request: CreateBookmarkRequest, caller: Caller) -> Bookmark:
        raise NotImplementedError

    async def GetBookmark(self, request: GetBookmarkRequest, caller: Caller) -> Bookmark:
        raise NotImplementedError

    async def ListBookmarks(self, request: ListBookmarksRequest, caller: Caller) -> ListBookmarksResponse:
        raise NotImplementedError

    async def UpdateBookmark(self, request: UpdateBookmarkRequest, caller: Caller) -> Bookmark:
        raise NotImplementedError

    async def DeleteBookmark(self, request: DeleteBookmarkRequest, caller: Caller) -> DeleteBookmarkResponse:
        raise NotImplementedError
