"""Reading a session's messages, as a stream of encoded pages or one by one."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from uuid import UUID

from sessiond.v1.message_pb2 import Role
from sessiond_server.bookmarks.store import BookmarkStore
from sessiond_server.core import pagination
from sessiond_server.core.errors import Fault, invalid, session_not_found
from sessiond_server.core.ids import check_bookmark_name, check_session_id, session_key
from sessiond_server.messages.pages import (
    EncodedPage,
    PageCache,
    PageKey,
    assigned,
    encode_basic_page,
    encode_page,
    response_tail,
)
from sessiond_server.messages.store.history import HistoryStore, LogHead, PageQuery
from sessiond_server.messages.store.segments import Segment, cut

# The first page is small, for a fast first byte; each next one is larger, up to what travels best.
FIRST_ROWS, MAX_ROWS = 16, 4096
FIRST_BYTES, MAX_BYTES = 32 * 1024, 512 * 1024
GROWTH = 4
# Messages that one query of a read by role looks through, where they lie in several segments: all of these are read before they are sorted.
MAX_SCAN = 16_384
# A page of this size does no harm, should all its messages be as large as the session's largest.
SAFE_BYTES = 8 * MAX_BYTES


@dataclass(frozen=True, slots=True)
class Reading:
    """What to read: after_seq < seq <= through_seq (0 = the end), at most `limit` (0 = all).

    basic leaves the contents out. resume_token goes on after an earlier batch; the rest must then be the same.
    """

    session_id: str
    after_seq: int = 0
    through_seq: int = 0
    limit: int = 0
    descending: bool = False
    roles: tuple[int, ...] = ()
    basic: bool = False
    resume_token: str = ""
    after_bookmark: str | None = None

    def fingerprint(self, log: UUID) -> str:
        return pagination.fingerprint(
            log, self.through_seq, self.limit, self.descending, self.roles, self.basic
        )


class History:
    """Reads of messages, for one process: it owns the page cache."""

    def __init__(
        self, store: HistoryStore, bookmarks: BookmarkStore, page_cache_bytes: int
    ) -> None:
        self._store = store
        self._bookmarks = bookmarks
        self._cache = PageCache(page_cache_bytes)

    async def stream(self, project_id: UUID, reading: Reading) -> AsyncGenerator[bytes, None]:
        """Encoded GetMessagesResponses. No connection is held while one is yielded; the next page is fetched meanwhile.

        Raises: Fault SESSION_NOT_FOUND, INVALID_FIELD, INVALID_RESUME_TOKEN.
        """
        _check(reading)
        key = session_key(project_id, reading.session_id)
        head = await self._head(key, project_id, reading.session_id)
        if reading.after_bookmark is not None:
            reading = replace(reading, after_seq=await self._place_of(key, project_id, reading))
        fingerprint = reading.fingerprint(head.log)
        window = _Window(reading, head, fingerprint)
        # A session that is larger than the cache would push everything out, its own first pages before anybody reads them again.
        fits = self._cache.has_room_for(head.content_bytes)
        if window.is_done:
            yield window.tail()
            return
        fetch = asyncio.ensure_future(self._fetch(key, head.log, window.query(), fits))
        try:
            while True:
                page = await fetch
                if not window.is_whole(page) or (reading.roles and window.is_shared):
                    # Deleted and purged while it was read: to end here as if this were all would be to lose messages silently. Or moved:
                    # then the messages are elsewhere. Of a read by role, whose pages have gaps of their own, only asking can tell.
                    again = await self._head(key, project_id, reading.session_id)
                    if again.log != head.log:
                        raise session_not_found(reading.session_id)
                    if window.move_to(again.segments):
                        fetch = asyncio.ensure_future(
                            self._fetch(key, head.log, window.query(), fits)
                        )
                        continue
                    if not window.is_whole(page):
                        raise session_not_found(reading.session_id)
                window.advance(page)
                if not window.is_done:
                    fetch = asyncio.ensure_future(self._fetch(key, head.log, window.query(), fits))
                if (
                    window.is_done
                    and reading.roles
                    and (await self._head(key, project_id, reading.session_id)).log != head.log
                ):
                    raise session_not_found(reading.session_id)
                if page or window.is_done:
                    yield page.encoded + window.tail() if page else window.tail()
                if window.is_done:
                    return
        finally:
            fetch.cancel()
            await asyncio.wait([fetch])
            if not fetch.cancelled():
                fetch.exception()  # seen, though nobody is left to be told

    async def message(self, project_id: UUID, session_id: str, seq: int) -> bytes:
        """One message, encoded. Raises: Fault SESSION_NOT_FOUND, MESSAGE_NOT_FOUND, INVALID_FIELD."""
        check_session_id(session_id)
        if seq < 1:
            raise invalid("seq", "is required, and at least 1")
        key = session_key(project_id, session_id)
        head = await self._head(key, project_id, session_id)
        while seq <= head.last_seq:
            rows = await self._store.page(
                PageQuery(tuple(cut(head.segments, seq - 1, seq)), 1, None)
            )
            if rows:
                _, created_us, body = rows[0]
                return assigned(seq, created_us) + bytes(body)
            # Deleted in between, or moved.
            before, head = head, await self._head(key, project_id, session_id)
            if head.log != before.log or head.segments == before.segments:
                raise session_not_found(session_id)
        raise Fault(
            "MESSAGE_NOT_FOUND",
            f"session {session_id!r} has no message {seq}; it is at seq {head.last_seq}",
            metadata={"session_id": session_id, "seq": seq, "last_seq": head.last_seq},
        )

    async def _place_of(self, key: UUID, project_id: UUID, reading: Reading) -> int:
        name = reading.after_bookmark
        assert name is not None  # noqa: S101 - asked for only where there is one
        check_bookmark_name(name, "after_bookmark")
        seq = await self._bookmarks.seq_of(key, project_id, name)
        if seq is None:
            raise Fault(
                "BOOKMARK_NOT_FOUND",
                f"after_bookmark: session {reading.session_id!r} has no bookmark {name!r}",
                metadata={"session_id": reading.session_id, "name": name},
                fields={"after_bookmark": "names no bookmark of the session"},
            )
        return seq

    async def _head(self, key: UUID, project_id: UUID, session_id: str) -> LogHead:
        head = await self._store.head(key, project_id)
        if head is None:
            raise session_not_found(session_id)
        if head.touch_due:
            await self._store.touch(key, project_id)
        return head

    async def _fetch(
        self, key: UUID, log: UUID, query: PageQuery, fits: bool
    ) -> EncodedPage | None:
        # Filtered, backward and bodiless reads are rare and make other pages; they are not worth the room.
        cacheable = fits and not (query.descending or query.roles or query.basic)
        first, last = query.segments[0], query.segments[-1]
        # A page of one segment is found by where it lies, so that a session and its copies share it.
        place = (first.key, first.log) if first is last else (key, log)
        page_key = PageKey(*place, first.first_seq - 1, query.max_rows, query.max_bytes)
        if cacheable and (cached := self._cache.get(page_key)) and cached.last_seq <= last.last_seq:
            return cached
        rows = await self._store.page(query)
        if not rows:
            return None
        page = encode_basic_page(rows) if query.basic else encode_page(rows)
        # A page that ends where the messages end might be longer the next time. And one that is not whole, of logs that are being purged,
        # is for its reader to find out about, and for nobody else.
        is_whole = (
            page.first_seq == first.first_seq and page.last_seq - page.first_seq + 1 == page.count
        )
        if (
            cacheable
            and is_whole
            and (page.count == query.max_rows or page.last_seq < last.last_seq)
        ):
            self._cache.put(page_key, page)
        return page


class _Window:
    """What is left of a reading: after < seq <= through, `left` messages (0 = all); and how large the next page is."""

    def __init__(self, reading: Reading, head: LogHead, fingerprint: str) -> None:
        self._reading = reading
        self._segments = head.segments
        self._fingerprint = fingerprint
        self._scanned = 0
        self._largest_bytes = head.largest_bytes
        if reading.resume_token:
            self._after, through, self._left, self._end = _decode_position(
                reading.resume_token, fingerprint
            )
            self._through = min(through, head.last_seq)
        else:
            self._end = min(reading.through_seq or head.last_seq, head.last_seq)
            self._after, self._through, self._left = reading.after_seq, self._end, reading.limit
        self._rows, self._bytes = FIRST_ROWS, FIRST_BYTES
        self.is_done = self._after >= self._through

    @property
    def is_shared(self) -> bool:
        """Whether some of the messages lie in other sessions' logs."""
        return len(self._segments) > 1

    def move_to(self, segments: tuple[Segment, ...]) -> bool:
        """Go on in these segments. Answers whether they are others than before, for the messages that are to be read."""
        before = cut(self._segments, self._after, self._through)
        self._segments = segments
        return cut(segments, self._after, self._through) != before

    def query(self) -> PageQuery:
        """The next page."""
        rows = min(self._rows, self._left) if self._left else self._rows
        # Seqs have no gaps, so the segments that a page can come from are known; of a read by role, those that one query may look through.
        span = (
            rows
            if not self._reading.roles
            else MAX_SCAN
            if self.is_shared
            else self._through - self._after
        )
        if self._reading.descending:
            segments = cut(self._segments, max(self._after, self._through - span), self._through)
            self._scanned = segments[0].first_seq - 1
        else:
            segments = cut(self._segments, self._after, min(self._through, self._after + span))
            self._scanned = segments[-1].last_seq
        return PageQuery(
            segments=tuple(segments),
            max_rows=rows,
            max_bytes=self._bytes if rows * self._largest_bytes > SAFE_BYTES else None,
            descending=self._reading.descending,
            roles=self._reading.roles,
            basic=self._reading.basic,
        )

    def is_whole(self, page: EncodedPage | None) -> bool:
        """Whether nothing is missing where the page begins, nor within it. Of a read by role, nobody can tell."""
        if self._reading.roles:
            return True
        if page is None:
            return False
        if self._reading.descending:
            return (
                page.first_seq == self._through and page.first_seq - page.last_seq + 1 == page.count
            )
        return (
            page.first_seq == self._after + 1 and page.last_seq - page.first_seq + 1 == page.count
        )

    def advance(self, page: EncodedPage | None) -> None:
        """Go behind a page. None: there was nothing in what was looked through."""
        if page is None:
            if self._reading.descending:
                self._through = self._scanned
            else:
                self._after = self._scanned
        elif self._reading.descending:
            self._through = page.last_seq - 1
        else:
            self._after = page.last_seq
        if page and self._left:
            self._left -= page.count
            if not self._left:
                self._after = self._through
        self.is_done = self._after >= self._through
        if page:
            self._bytes = min(self._bytes * GROWTH, MAX_BYTES)
            # The database looks at every row that it may pick, so ask for hardly more than will fit.
            fitting = self._bytes * page.count // len(page.encoded)
            self._rows = max(FIRST_ROWS, min(fitting, self._rows * 4 * GROWTH, MAX_ROWS))

    def tail(self) -> bytes:
        """The end of a response: where to go on, and the pinned end."""
        return response_tail(
            pagination.encode_token(
                self._fingerprint, self._after, self._through, self._left, self._end
            ),
            self._end,
        )


def _check(reading: Reading) -> None:
    check_session_id(reading.session_id)
    for field in ("after_seq", "through_seq", "limit"):
        if getattr(reading, field) < 0:
            raise invalid(field, "is negative")
    for i, role in enumerate(reading.roles):
        if role not in Role.values() or not role:
            raise invalid(f"roles[{i}]", "is not a role")


def _decode_position(token: str, fingerprint: str) -> tuple[int, int, int, int]:
    after, through, left, end = pagination.decode_token(
        token,
        fingerprint,
        *[pagination.seq] * 4,
        field="resume_token",
        reason="INVALID_RESUME_TOKEN",
    )
    return after, through, left, end
