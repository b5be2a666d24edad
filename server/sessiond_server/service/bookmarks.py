"""The rules of bookmarks."""

from sessiond_server.store.bookmarks import BookmarkStore


class Bookmarks:
    """The rules of bookmarks."""

    def __init__(self, store: BookmarkStore) -> None:
        self._store = store
