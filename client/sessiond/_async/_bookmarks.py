"""`client.bookmarks`: the calls of BookmarkService."""

from sessiond._async._connection import AsyncConnection


class AsyncBookmarks:
    """The calls of BookmarkService."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection


class AsyncSessionBookmarks:
    """`session.bookmarks`: the calls of `client.bookmarks` for one session."""

    def __init__(self, bookmarks: AsyncBookmarks, session_id: str) -> None:
        self._bookmarks = bookmarks
        self._session_id = session_id
