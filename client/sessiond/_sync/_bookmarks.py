# Generated from sessiond/_async/_bookmarks.py by scripts/generate-sync-client: do not edit.
"""`client.bookmarks`: the calls of BookmarkService."""

from sessiond._sync._connection import Connection


class Bookmarks:
    """The calls of BookmarkService."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection


class SessionBookmarks:
    """`session.bookmarks`: the calls of `client.bookmarks` for one session."""

    def __init__(self, bookmarks: Bookmarks, session_id: str) -> None:
        self._bookmarks = bookmarks
        self._session_id = session_id
