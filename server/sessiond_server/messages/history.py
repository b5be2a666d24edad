"""Reads a session's messages, as a stream of encoded pages or one by one."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from uuid import UUID

from sessiond.v1.message_pb2 import Role
from sessiond_server.bookmarks.store import BookmarkStore
from sessiond_server.core.errors import Fault, history_rewound, invalid, session_not_found
from sessiond_server.core.ids import is_incarnation, session_key
from sessiond_server.core.validation import (
    check_bookmark_name,
    check_incarnation,
    check_message_id,
    check_session_id,
)
from sessiond_server.messages.duplicates import message_not_found
from sessiond_server.messages.encoding import assigned_fields
from sessiond_server.messages.page_fetches import PageFetcher
from sessiond_server.messages.pages import PageCache
from sessiond_server.messages.read_window import Reading, ReadWindow
from sessiond_server.messages.store.cuts import CutStore
from sessiond_server.messages.store.history import HistoryStore, LogHead, PageQuery
from sessiond_server.messages.store.segments import cut


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
        self._pages = PageFetcher(store, self._cache)

    def cache_bytes(self) -> int:
        """Return the size of the page cache."""
        return self._cache.bytes

    async def stream(
        self,
        project_id: UUID,
        reading: Reading,
        on_head: Callable[[LogHead], None] | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Stream messages.

        While the caller handles a response, the next page is fetched and no connection waits for
        the caller.

        Args:
            project_id: the caller's project.
            reading: what to read.
            on_head: receives the session's head at the beginning of the read.

        Yields:
            One or more encoded GetMessagesResponses.

        Raises:
            Fault: SESSION_NOT_FOUND, BOOKMARK_NOT_FOUND, MESSAGE_NOT_FOUND, INVALID_FIELD or
                INVALID_RESUME_TOKEN; HISTORY_REWOUND if messages to read were removed by a rewind.
        """
        _check(reading)
        key = session_key(project_id, reading.session_id)
        head = await self._head(key, project_id, reading.session_id)
        if not is_incarnation(reading.incarnation, head.log):
            raise session_not_found(reading.session_id)
        if on_head:
            on_head(head)
        if reading.expected_epoch not in (None, head.epoch):
            raise _rewound(reading, head, f"it is not in epoch {reading.expected_epoch} any more")
        since_epoch = reading.since_epoch
        if since_epoch is not None and since_epoch != head.epoch:
            place = reading.through_seq if reading.descending else reading.after_seq
            # Some page tokens contain no incarnation. If such a token has a higher epoch than the
            # session, then the token's session was deleted, and this one was created with its id.
            is_same = since_epoch < head.epoch
            kept = (await self._cuts.since(key, head, since_epoch)).last_seq if is_same else 0
            if place > kept:
                raise _rewound(reading, head, "messages of the previous page were removed")
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
        window = ReadWindow(reading, head, await self._links(head, reading))
        if window.epoch != head.epoch and window.end > await self._kept(key, window, head):
            problem = "messages of the read that the resume_token continues were removed"
            raise _rewound(reading, head, problem)
        # A session that is larger than the cache would evict all other pages, and even its own
        # first pages before they are read again.
        fits = self._cache.has_room_for(head.content_bytes)
        if window.is_done:
            yield window.tail()
            return
        fetch = self._pages.fetch(key, head.message_log, window.query(), fits)
        try:
            while True:
                page = await fetch
                if not window.is_complete(page) or (reading.roles and window.is_shared):
                    # Messages may be missing, for one of three reasons. If they were moved to
                    # another log, the read continues there. If the session was deleted, or a rewind
                    # removed the messages and they were purged, the read fails, because ending it
                    # here would lose messages silently. A page of a read by role may have gaps
                    # anyway, so only a fresh head shows what happened.
                    again = await self._head(key, project_id, reading.session_id)
                    if again.log != head.log:
                        raise session_not_found(reading.session_id)
                    kept = await self._kept(key, window, again)
                    if reading.roles and window.end > kept:
                        raise _rewound(reading, again, _REMOVED)
                    if window.move_to(again.segments, kept):
                        fetch = self._pages.fetch(key, head.message_log, window.query(), fits)
                        continue
                    if not window.is_complete(page):
                        if window.end > kept:
                            raise _rewound(reading, again, _REMOVED)
                        raise session_not_found(reading.session_id)
                window.advance(page)
                if not window.is_done:
                    fetch = self._pages.fetch(key, head.message_log, window.query(), fits)
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
            if not fetch.done():
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

    async def _links(self, head: LogHead, reading: Reading) -> Mapping[int, int]:
        """Return those links from messages to their parents that the read may have to follow.

        Raises:
            Fault: MESSAGE_NOT_FOUND if the message whose branch is to be read does not exist.
        """
        if reading.branch_of > head.last_seq and not reading.resume_token:
            raise Fault(
                "MESSAGE_NOT_FOUND",
                f"branch_of: session {reading.session_id!r} has no message {reading.branch_of}; it "
                f"is at seq {head.last_seq}",
                metadata={
                    "session_id": reading.session_id,
                    "seq": reading.branch_of,
                    "last_seq": head.last_seq,
                },
                fields={"branch_of": "names no message of the session"},
            )
        if not (reading.branch_of and head.is_branched):
            return {}
        return await self._store.parent_links(head.segments)

    async def _kept(self, key: UUID, window: ReadWindow, head: LogHead) -> int:
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


_REMOVED = "messages that this read had not sent yet were removed"


def _rewound(reading: Reading, head: LogHead, problem: str) -> Fault:
    return history_rewound(reading.session_id, head.epoch, head.last_seq, problem)


def _check(reading: Reading) -> None:
    check_session_id(reading.session_id)
    check_incarnation(reading.incarnation)
    for field in ("after_seq", "through_seq", "limit", "branch_of"):
        if getattr(reading, field) < 0:
            raise invalid(field, "is negative")
    if reading.expected_epoch is not None and reading.expected_epoch < 0:
        raise invalid("expected_epoch", "is negative; 0 = a session that was never rewound")
    for i, role in enumerate(reading.roles):
        if role not in Role.values() or not role:
            raise invalid(f"roles[{i}]", "is not a role")
