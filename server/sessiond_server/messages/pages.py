"""Cache of encoded message pages."""

from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

from sessiond_server.messages.encoding import EncodedPage


@dataclass(frozen=True, slots=True)
class PageKey:
    """Key of a cached page, which holds the messages after `after` in ascending order.

    Attributes:
        key: key of the log that contains the messages. If they are in several logs, key of the
            session.
        log: id of the log that contains the messages. If they are in several logs, id of the
            session's message log.
        after: the page begins with the first message after this seq.
        max_rows: maximum number of messages.
        max_bytes: size of the content at which the page ends; None = unlimited.
    """

    key: UUID
    log: UUID
    after: int
    max_rows: int
    max_bytes: int | None


class PageCache:
    """LRU cache of encoded pages with a limited size in bytes.

    The cache needs no invalidation. Committed messages never change, and a rewind gives the session
    a new message log. A reader finds a page only by the values of a session's row that it has just
    read from the database, so it never finds pages of deleted messages. The caller adds only pages
    without gaps. If later appends extend the last page of a session, the page is replaced.

    Attributes:
        bytes: total size of all cached pages.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pages: OrderedDict[PageKey, EncodedPage] = OrderedDict()
        self.bytes = 0

    def has_room_for(self, content_bytes: int) -> bool:
        """Return whether a session with this much content fits into the cache."""
        return content_bytes * 1.1 <= self._max_bytes

    def get(self, key: PageKey) -> EncodedPage | None:
        """Return a page and mark it as recently used; None if it is not cached."""
        page = self._pages.get(key)
        if page is not None:
            self._pages.move_to_end(key)
        return page

    def put(self, key: PageKey, page: EncodedPage) -> None:
        """Add a page, and evict the least recently used pages if the cache becomes too large.

        A page replaces one with the same key if it has more messages.
        """
        size = len(page.encoded)
        # A single page must not evict all others.
        if size * 8 > self._max_bytes:
            return
        if known := self._pages.get(key):
            if known.last_seq >= page.last_seq:
                return
            self.bytes -= len(known.encoded)
        self._pages[key] = page
        self._pages.move_to_end(key)
        self.bytes += size
        while self.bytes > self._max_bytes:
            _, old = self._pages.popitem(last=False)
            self.bytes -= len(old.encoded)
