"""Bookmarks of sessions."""

from sessiond_server.store.database import Database


class BookmarkStore:
    """Bookmarks of sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database
