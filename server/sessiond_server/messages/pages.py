"""The cache of encoded pages of messages."""

from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

from sessiond_server.messages.encoding import EncodedPage


@dataclass(frozen=True, slots=True)
class PageKey:
    """Key of a cached page: the messages after `after`, ascending, within the two limits.

    Attributes:
        key: of the log that holds the messages; of the session if there are several logs.
        log: likewise.
        after: seq before the page's first message.
        max_rows: the most messages.
        max_bytes: content after which the page ends; None = no such limit.
    """

    key: UUID
    log: UUID
    after: int
    max_rows: int
    max_bytes: int | None


class PageCache:
    """LRU cache of encoded pages, bounded by their bytes.

    It needs no invalidation: committed messages never change, and a page is only reached through a
    session row just read from the database, so nobody reaches pages of deleted messages. The caller
    puts in only pages that are complete and that later appends cannot extend.

    Attributes:
        bytes: size of all cached pages.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pages: OrderedDict[PageKey, EncodedPage] = OrderedDict()
        self.bytes = 0

    def has_room_for(self, content_bytes: int) -> bool:
        """Whether messages with this much content fit at all."""
        return content_bytes * 1.1 <= self._max_bytes

    def get(self, key: PageKey) -> EncodedPage | None:
        """Return a page and mark it as recently used."""
        page = self._pages.get(key)
        if page is not None:
            self._pages.move_to_end(key)
        return page

    def put(self, key: PageKey, page: EncodedPage) -> None:
        """Add a page, and evict the least recently used ones beyond the bound."""
        size = len(page.encoded)
        # One page must not evict all the others.
        if size * 8 > self._max_bytes or key in self._pages:
            return
        self._pages[key] = page
        self.bytes += size
        while self.bytes > self._max_bytes:
            _, old = self._pages.popitem(last=False)
            self.bytes -= len(old.encoded)
