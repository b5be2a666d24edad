"""Reads a session's messages, as a stream of encoded pages or one by one."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from uuid import UUID

from sessiond.v1.message_pb2 import Role
from sessiond_server.bookmarks.store import BookmarkStore
from sessiond_server.core import pagination
from sessiond_server.core.errors import Fault, history_rewound, invalid, session_not_found
from sessiond_server.core.ids import session_key
from sessiond_server.core.validation import (
    check_bookmark_name,
    check_message_id,
    check_session_id,
)
from sessiond_server.messages.duplicates import message_not_found
from sessiond_server.messages.encoding import (
    EncodedPage,
    assigned_fields,
    encode_basic_page,
    encode_page,
    response_tail,
)
from sessiond_server.messages.pages import PageCache, PageKey
from sessiond_server.messages.store.cuts import CutStore
from sessiond_server.messages.store.history import HistoryStore, LogHead, PageQuery
from sessiond_server.messages.store.segments import Segment, cut

# The first page is small, so that the first byte arrives quickly. Later pages grow to the size with
# the best throughput.
FIRST_ROWS, MAX_ROWS = 16, 4096
FIRST_BYTES, MAX_BYTES = 32 * 1024, 512 * 1024
GROWTH = 4
# Maximum number of messages that one query of a read by role scans across several segments. The
# query reads all of them before sorting.
MAX_SCAN = 16_384
# Pages up to this size need no byte limit, even if every message is as large as the largest one.
SAFE_BYTES = 8 * MAX_BYTES


@dataclass(frozen=True, slots=True)
class Reading:
    """A request for messages with after_seq < seq <= through_seq.

    Attributes:
        session_id: the session.
        after_seq: seq after which the read begins; 0 = at the first message.
        through_seq: seq of the last message to read; 0 = the newest message.
        limit: maximum number of messages; 0 = all.
        descending: whether to return the newest message first.
        roles: roles of the messages to return; empty = all roles.
        basic: whether to leave out the content.
        resume_token: token of an earlier batch, after which to continue. The other fields must have
            the same values as in the earlier request.
        after_bookmark: name of the bookmark after which the read begins, instead of after_seq.
        after_message_id: message_id of the message after which the read begins, instead of
            after_seq.
        expected_epoch: the epoch that the session must have; None = any.
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
    after_message_id: str | None = None
    expected_epoch: int | None = None


class History:
    """Reads messages through the page cache of this process."""

    def __init__(
        self,
        store: HistoryStore,
        cuts: CutStore,
        bookmarks: BookmarkStore,
        page_cache_bytes: int,
    ) -> None:
        self._store = store
        self._cuts = cuts
        self._bookmarks = bookmarks
        self._cache = PageCache(page_cache_bytes)

    async def stream(self, project_id: UUID, reading: Reading) -> AsyncGenerator[bytes, None]:
        """Stream messages.

        While the caller handles a response, the next page is fetched and no connection waits for
        the caller.

        Yields:
            One or more encoded GetMessagesResponses.

        Raises:
            Fault: SESSION_NOT_FOUND, BOOKMARK_NOT_FOUND, MESSAGE_NOT_FOUND, INVALID_FIELD or
                INVALID_RESUME_TOKEN; HISTORY_REWOUND if messages to read were removed by a rewind.
        """
        _check(reading)
        key = session_key(project_id, reading.session_id)
        head = await self._head(key, project_id, reading.session_id)
        if reading.expected_epoch not in (None, head.epoch):
            raise _rewound(reading, head, f"it is not in epoch {reading.expected_epoch} any more")
        if (name := reading.after_bookmark) is not None:
            check_bookmark_name(name, "after_bookmark")
            after_seq = await self._bookmarks.seq_of(key, project_id, name)
            if after_seq is None:
                raise Fault(
                    "BOOKMARK_NOT_FOUND",
                    f"after_bookmark: session {reading.session_id!r} has no bookmark {name!r}",
                    metadata={"session_id": reading.session_id, "name": name},
                    fields={"after_bookmark": "names no bookmark of the session"},
                )
            reading = replace(reading, after_seq=after_seq)
        if (message_id := reading.after_message_id) is not None:
            after_seq = await self._seq_of(head, reading.session_id, message_id, "after_message_id")
            reading = replace(reading, after_seq=after_seq)
        window = _Window(reading, head)
        if window.epoch != head.epoch and window.end > await self._kept(key, window, head):
            raise _rewound(reading, head, "messages that the resume_token counts on were removed")
        # A session that is larger than the cache would evict all other pages, and even its own
        # first pages before they are read again.
        fits = self._cache.has_room_for(head.content_bytes)
        if window.is_done:
            yield window.tail()
            return
        fetch = asyncio.ensure_future(self._fetch(key, head.message_log, window.query(), fits))
        try:
            while True:
                page = await fetch
                if not window.is_complete(page) or (reading.roles and window.is_shared):
                    # Messages are missing, for one of three reasons. If the session was deleted or
                    # rewound and purged during the read, ending here would lose messages silently.
                    # Otherwise the messages were moved to another log. A page of a read by role may
                    # have gaps anyway, so only a fresh head shows whether messages were moved.
                    again = await self._head(key, project_id, reading.session_id)
                    if again.log != head.log:
                        raise session_not_found(reading.session_id)
                    kept = await self._kept(key, window, again)
                    if reading.roles and window.end > kept:
                        raise _rewound(reading, again, _REMOVED)
                    if window.move_to(again.segments, kept):
                        fetch = asyncio.ensure_future(
                            self._fetch(key, head.message_log, window.query(), fits)
                        )
                        continue
                    if not window.is_complete(page):
                        if window.end > kept:
                            raise _rewound(reading, again, _REMOVED)
                        raise session_not_found(reading.session_id)
                window.advance(page)
                if not window.is_done:
                    fetch = asyncio.ensure_future(
                        self._fetch(key, head.message_log, window.query(), fits)
                    )
                elif reading.roles:
                    again = await self._head(key, project_id, reading.session_id)
                    if again.log != head.log:
                        raise session_not_found(reading.session_id)
                    if window.end > await self._kept(key, window, again):
                        raise _rewound(reading, again, _REMOVED)
                if page or window.is_done:
                    yield page.encoded + window.tail() if page else window.tail()
                if window.is_done:
                    return
        finally:
            fetch.cancel()
            await asyncio.wait([fetch])
            if not fetch.cancelled():
                fetch.exception()  # retrieve the exception, or asyncio logs it

    async def message(
        self, project_id: UUID, session_id: str, seq: int, message_id: str = ""
    ) -> bytes:
        """Return one encoded Message.

        Args:
            project_id: the caller's project.
            session_id: the session.
            seq: seq of the message; 0 = it is named by message_id.
            message_id: message_id of the message; "" = it is named by seq.

        Raises:
            Fault: SESSION_NOT_FOUND, MESSAGE_NOT_FOUND or INVALID_FIELD.
        """
        check_session_id(session_id)
        if message_id and seq:
            raise invalid("message_id", "cannot be combined with seq")
        if seq < 1 and not message_id:
            raise invalid("seq", "is required unless message_id is set, and at least 1")
        key = session_key(project_id, session_id)
        head = await self._head(key, project_id, session_id)
        if message_id:
            seq = await self._seq_of(head, session_id, message_id, "message_id")
        while seq <= head.last_seq:
            rows = await self._store.page(
                PageQuery(tuple(cut(head.segments, seq - 1, seq)), 1, None)
            )
            if rows:
                _, created_us, body = rows[0]
                return assigned_fields(seq, created_us) + bytes(body)
            # Since the head was read, the session was deleted or its messages were moved.
            before, head = head, await self._head(key, project_id, session_id)
            if head.log != before.log or head.segments == before.segments:
                raise session_not_found(session_id)
        raise Fault(
            "MESSAGE_NOT_FOUND",
            f"session {session_id!r} has no message {seq}; it is at seq {head.last_seq}",
            metadata={"session_id": session_id, "seq": seq, "last_seq": head.last_seq},
        )

    async def _seq_of(self, head: LogHead, session_id: str, message_id: str, field: str) -> int:
        """Return the seq of a message, by its message_id.

        Raises:
            Fault: INVALID_FIELD; MESSAGE_NOT_FOUND.
        """
        check_message_id(message_id, field)
        seq = await self._store.seq_of(head.segments, message_id)
        if seq is None:
            raise message_not_found(session_id, message_id, head.last_seq, field)
        return seq

    async def _kept(self, key: UUID, window: "_Window", head: LogHead) -> int:
        """Return the last seq that all rewinds since the beginning of the read have kept."""
        if head.epoch == window.epoch:
            return int(window.end)
        return (await self._cuts.since(key, head, window.epoch)).last_seq

    async def _head(self, key: UUID, project_id: UUID, session_id: str) -> LogHead:
        head = await self._store.head(key, project_id)
        if head is None:
            raise session_not_found(session_id)
        if head.touch_due:
            await self._store.touch(key, project_id)
        return head

    async def _fetch(
        self, key: UUID, message_log: UUID, query: PageQuery, fits: bool
    ) -> EncodedPage | None:
        # Filtered, descending and basic reads are rare and have pages of their own, which are not
        # worth caching.
        cacheable = fits and not (query.descending or query.roles or query.basic)
        first, last = query.segments[0], query.segments[-1]
        # A page within one segment is cached under the segment's log, so that a session and its
        # copies share the page.
        source = (first.key, first.log) if first is last else (key, message_log)
        page_key = PageKey(*source, first.first_seq - 1, query.max_rows, query.max_bytes)
        if cacheable and (cached := self._cache.get(page_key)) and cached.last_seq <= last.last_seq:
            return cached
        rows = await self._store.page(query)
        if not rows:
            return None
        page = encode_basic_page(rows) if query.basic else encode_page(rows)
        # The last page may be longer the next time. An incomplete page comes from a log that is
        # being purged, and no other reader could use it.
        if (
            cacheable
            and page.first_seq == first.first_seq
            and page.has_no_gap
            and (page.count == query.max_rows or page.last_seq < last.last_seq)
        ):
            self._cache.put(page_key, page)
        return page


class _Window:
    """The remaining part of a read: after < seq <= through, at most `left` messages (0 = all).

    The window also determines the size of the next page.

    Attributes:
        epoch: the session's epoch when the read began.
        end: seq at which the read ends, pinned when it began.
        is_done: whether no messages are left to read.
    """

    def __init__(self, reading: Reading, head: LogHead) -> None:
        self.epoch = head.epoch
        self._reading = reading
        self._segments = head.segments
        # Makes a resume_token valid only for this read.
        self._fingerprint = pagination.fingerprint(
            head.log,
            reading.through_seq,
            reading.limit,
            reading.descending,
            reading.roles,
            reading.basic,
        )
        self._scanned = 0
        self._largest_bytes = head.largest_bytes
        if reading.resume_token:
            self._after, through, self._left, self.end, self.epoch = pagination.decode_token(
                reading.resume_token,
                self._fingerprint,
                *[pagination.seq] * 5,
                field="resume_token",
                reason="INVALID_RESUME_TOKEN",
                defaults=(0,),
            )
            if self.epoch > head.epoch:
                raise invalid(
                    "resume_token",
                    "is not a token of this session",
                    reason="INVALID_RESUME_TOKEN",
                )
            self._through = min(through, head.last_seq)
        else:
            self.end = min(reading.through_seq or head.last_seq, head.last_seq)
            self._after, self._through, self._left = reading.after_seq, self.end, reading.limit
        self._rows, self._bytes = FIRST_ROWS, FIRST_BYTES
        self.is_done = self._after >= self._through

    @property
    def is_shared(self) -> bool:
        """Whether the messages are in several logs."""
        return len(self._segments) > 1

    def move_to(self, segments: tuple[Segment, ...], kept: int) -> bool:
        """Switch to new segments; return whether they differ for the remaining messages.

        Args:
            segments: the session's segments by now.
            kept: seq of the last message that is the same as when the read began. The segments of
                later ones stay as they are.
        """
        before = cut(self._segments, self._after, self._through)
        removed = cut(self._segments, kept, self.end)
        self._segments = (*cut(segments, 0, kept), *removed)
        return cut(self._segments, self._after, self._through) != before

    def query(self) -> PageQuery:
        """Return the query for the next page."""
        rows = min(self._rows, self._left) if self._left else self._rows
        # Seqs have no gaps, so the range of the next page is known in advance. For a read by role,
        # this is the range that one query may scan.
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

    def is_complete(self, page: EncodedPage | None) -> bool:
        """Whether no message is missing before or on the page; always true for a read by role."""
        if self._reading.roles:
            return True
        if page is None:
            return False
        first_seq = self._through if self._reading.descending else self._after + 1
        return page.first_seq == first_seq and page.has_no_gap

    def advance(self, page: EncodedPage | None) -> None:
        """Advance past a page; None if no message in the scanned range matched."""
        if self._reading.descending:
            self._through = page.last_seq - 1 if page else self._scanned
        else:
            self._after = page.last_seq if page else self._scanned
        if page and self._left:
            self._left -= page.count
            if not self._left:
                self._after = self._through
        self.is_done = self._after >= self._through
        if page:
            self._bytes = min(self._bytes * GROWTH, MAX_BYTES)
            # The database reads every candidate row, so request only a few more than will fit.
            fitting = self._bytes * page.count // len(page.encoded)
            self._rows = max(FIRST_ROWS, min(fitting, self._rows * 4 * GROWTH, MAX_ROWS))

    def tail(self) -> bytes:
        """Encode the end of a response: the resume_token, and the seq at which the read ends."""
        place = (self._after, self._through, self._left, self.end)
        epoch = (self.epoch,) if self.epoch else ()
        token = pagination.encode_token(self._fingerprint, *place, *epoch)
        return response_tail(token, self.end, self.epoch)


_REMOVED = "messages that this read had not sent yet were removed"


def _rewound(reading: Reading, head: LogHead, problem: str) -> Fault:
    return history_rewound(reading.session_id, head.epoch, head.last_seq, problem)


def _check(reading: Reading) -> None:
    check_session_id(reading.session_id)
    for field in ("after_seq", "through_seq", "limit"):
        if getattr(reading, field) < 0:
            raise invalid(field, "is negative")
    if reading.expected_epoch is not None and reading.expected_epoch < 0:
        raise invalid("expected_epoch", "is negative; 0 stands for a session never rewound")
    for i, role in enumerate(reading.roles):
        if role not in Role.values() or not role:
            raise invalid(f"roles[{i}]", "is not a role")
