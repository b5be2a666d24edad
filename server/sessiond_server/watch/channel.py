"""Channels: what those who watch one session share, and the queue of each of them.

A channel reads the new messages of its session once for all its watchers, and puts what is told of the session where it belongs among them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from sessiond.v1 import event_pb2
from sessiond_server.core.errors import Fault, session_not_found
from sessiond_server.core.events import Event
from sessiond_server.core.ids import session_key
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.messages.encoding import assigned_fields, timestamp, varint
from sessiond_server.messages.store.history import HistoryStore, LogHead, PageQuery
from sessiond_server.messages.store.segments import Segment

PAGE_ROWS, PAGE_BYTES = 256, 256 * 1024
MAX_QUEUED_BYTES, MAX_QUEUED_CHUNKS = 1024 * 1024, 4096
# Between two pages of a burst the channel waits for watchers that have more than half of that; for each of them once, until it has caught
# up. So long, and as long as this process itself needs to send what is queued for all of them.
PATIENCE_S = 0.2
SENT_BYTES_A_SECOND = 20_000_000
MAX_SEQ = 2**63 - 1

_MESSAGE_TYPES = {
    1: b"system.message",
    2: b"developer.message",
    3: b"user.message",
    4: b"assistant.message",
    5: b"tool.message",
}

log = structlog.get_logger(__name__)


class Channel:
    """The new messages and lifecycle events of one session, for all who watch it. seq: the last message that was handed on."""

    def __init__(
        self,
        history: HistoryStore,
        all_told: Callable[[UUID], Awaitable[None]],
        project_id: UUID,
        session_id: str,
        head: LogHead,
    ) -> None:
        self.key = session_key(project_id, session_id)
        self.project_id = project_id
        self.session_id = session_id
        self.log = head.log
        self.seq = head.last_seq
        self.watchers: set[Watcher] = set()
        self._history = history
        self._wait_for_publication = all_told
        self._wake = asyncio.Event()
        self._is_resting = False
        self._told: deque[Chunk] = deque()
        self.is_over = False
        self._is_closed = False

    def wake(self) -> None:
        """There may be something to read."""
        self._wake.set()

    def tell(self, chunk: Chunk) -> None:
        """Hand on an ephemeral event, behind the messages that it comes after, and before those that come after it."""
        if self.is_over:
            return
        if (
            self._is_resting
            and not self._wake.is_set()
            and not self._told
            and chunk.after_seq is not None
            and chunk.after_seq <= self.seq
        ):
            # All that it comes after is handed on, and of what may come after it nothing is known yet.
            self._push_ephemeral(chunk)
        elif len(self._told) < MAX_QUEUED_CHUNKS:
            self._told.append(chunk)
            self._wake.set()

    def end(self) -> None:
        """The session is gone."""
        self.is_over = True
        self._wake.set()

    def close(self) -> None:
        """Nobody watches any more."""
        self._is_closed = True
        self._wake.set()

    def wake_watchers(self) -> None:
        for watcher in self.watchers:
            watcher.wake()

    async def run(self) -> None:
        """Read and hand on, until the session is gone or nobody watches."""
        try:
            while not self._is_closed:
                self._is_resting = True
                await self._wake.wait()
                self._wake.clear()
                self._is_resting = False
                told, is_over = set(map(id, self._told)), self.is_over
                try:
                    await self._read()
                except (DatabaseUnavailable, PoolExhausted, Contention) as e:
                    # The poll comes back to it.
                    log.debug("reading put off", error=str(e))
                # What was told before the reading, and besides what comes after messages that are handed on.
                while self._told and (
                    id(self._told[0]) in told or self._told[0].after_seq is not None
                ):
                    if not is_over and (self._told[0].after_seq or 0) > self.seq:
                        break
                    self._push_ephemeral(self._told.popleft())
                if is_over:
                    break
            while self._told:
                self._push_ephemeral(self._told.popleft())
            for watcher in self.watchers:
                watcher.end(session_not_found(self.session_id))
        except Exception as e:
            # Whoever waits for a channel that is dead would wait for ever.
            for watcher in self.watchers:
                watcher.end(e)

    async def _read(self) -> None:
        """Hand on the messages after seq. They are in the session's own log, whatever else is moved."""
        is_more = True
        while is_more and not self._is_closed:
            await self._wait_for_room()
            rows = await self._history.page(
                PageQuery(
                    (Segment(self.key, self.log, self.seq + 1, MAX_SEQ),), PAGE_ROWS, PAGE_BYTES
                )
            )
            if not rows or rows[0][0] != self.seq + 1:
                return  # nothing new, or purged already
            # They may be of a commit of which this process has not told yet.
            await self._wait_for_publication(self.key)
            is_more = len(rows) == PAGE_ROWS
            # Events that happened between two of these messages go there.
            while (
                self._told
                and (place := self._told[0].after_seq) is not None
                and place < rows[-1][0]
            ):
                before = max(place - self.seq, 0)
                if before:
                    self._push_messages(rows[:before])
                    rows = rows[before:]
                self._push_ephemeral(self._told.popleft())
            is_more = self._push_messages(rows) >= PAGE_BYTES or is_more

    async def _wait_for_room(self) -> None:
        """Let watchers that keep up take what they have, so that a burst does not end them."""
        while crowded := [watcher for watcher in self.watchers if watcher.is_crowded]:
            queued = sum(watcher.queued_bytes for watcher in self.watchers)
            try:
                async with asyncio.timeout(PATIENCE_S + queued / SENT_BYTES_A_SECOND):
                    for watcher in crowded:
                        await watcher.has_room.wait()
            except TimeoutError:
                for watcher in crowded:
                    watcher.is_late = not watcher.has_room.is_set()

    def _push_messages(self, rows: Sequence[Any]) -> int:
        """Hand on the next messages. Answers their size in bytes."""
        chunk = chunk_of_messages(self.session_id, rows)
        self.seq = chunk.last_seq
        self._push(chunk)
        return len(chunk.encoded)

    def _push_ephemeral(self, chunk: Chunk) -> None:
        if not chunk.is_late(self.seq):
            self._push(chunk)

    def _push(self, chunk: Chunk) -> None:
        for watcher in self.watchers:
            watcher.push(chunk)


class Watcher:
    """One call: what waits for its client to take it, in bounded memory.

    after: the last message that the client has, or that is queued for it. is_live: it has met its channel. has_room: less than half of what
    may be queued is. is_late: it was waited for in vain. error: what it ends with, once the queue is empty.
    """

    def __init__(self, session_id: str, after: int) -> None:
        self.after = after
        self.is_live = False
        self.is_late = False
        self.error: Exception | None = None
        self._session_id = session_id
        self._queue: deque[Chunk] = deque()
        self._bytes = 0
        self._woken = asyncio.Event()
        self.has_room = asyncio.Event()
        self.has_room.set()

    @property
    def queued_bytes(self) -> int:
        """What waits for its client."""
        return self._bytes

    @property
    def is_crowded(self) -> bool:
        """Whether it is worth waiting for."""
        return not (self.has_room.is_set() or self.is_late)

    def push(self, chunk: Chunk) -> None:
        """Queue a chunk, or what of it is new. Where there is no room, the watcher is ended."""
        if self.error:
            return
        if chunk.last_seq:
            if not self.is_live or chunk.last_seq <= self.after:
                return
            chunk = chunk.since(self.after)
            self.after = chunk.last_seq
        # One more than there is room for: a message alone may be as large.
        if self._bytes >= MAX_QUEUED_BYTES or len(self._queue) >= MAX_QUEUED_CHUNKS:
            self._queue.clear()
            self._bytes = 0
            self.end(_too_slow(self._session_id))
            return
        self._queue.append(chunk)
        self._bytes += len(chunk.encoded)
        if self._bytes > MAX_QUEUED_BYTES // 2:
            self.has_room.clear()
        self._woken.set()

    def go_live(self) -> None:
        """It has met its channel. What was told meanwhile of a message that it has by now is dropped."""
        self.is_live = True
        self._queue = deque(chunk for chunk in self._queue if not chunk.is_late(self.after))
        self._bytes = sum(len(chunk.encoded) for chunk in self._queue)

    def end(self, error: Exception) -> None:
        """Let it take what is queued, then end it. The first error counts."""
        self.error = self.error or error
        self._woken.set()
        self.has_room.set()

    def take(self) -> bytes:
        """What is queued, up to a page; empty where nothing is."""
        parts: list[bytes] = []
        size = 0
        while self._queue and (not parts or size + len(self._queue[0].encoded) <= PAGE_BYTES):
            parts.append(self._queue.popleft().encoded)
            size += len(parts[-1])
        self._bytes -= size
        if self._bytes <= MAX_QUEUED_BYTES // 2:
            self.has_room.set()
        if not self._queue:
            self.is_late = False
        return b"".join(parts)

    def wake(self) -> None:
        self._woken.set()

    async def wait(self, timeout_s: float) -> bool:
        """Return when there is something to do; False where there was nothing for so long."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


@dataclass(frozen=True, slots=True)
class Chunk:
    """Events as the first bytes of a WatchResponse. All its watchers share it.

    ends: where each event ends; last_seq: 0 = ephemeral. after_seq, is_delta: of an ephemeral one, as Event has them.
    """

    encoded: bytes
    ends: tuple[int, ...] = ()
    last_seq: int = 0
    after_seq: int | None = None
    is_delta: bool = False

    def is_late(self, seq: int) -> bool:
        """Whether it adds to a message that is there by now."""
        return self.is_delta and self.after_seq is not None and self.after_seq < seq

    def since(self, after: int) -> Chunk:
        """What of it comes after a seq."""
        skipped = after - (self.last_seq - len(self.ends))
        if skipped <= 0:
            return self
        start = self.ends[skipped - 1]
        return Chunk(
            self.encoded[start:], tuple(end - start for end in self.ends[skipped:]), self.last_seq
        )


def chunk_of_messages(session_id: str, rows: Sequence[Any]) -> Chunk:
    """Rows (seq, created_us, body) of HistoryStore.page, at least one, as events: `pages` says how messages are spliced."""
    id_bytes = session_id.encode()
    id_field = b"\x1a" + varint(len(id_bytes)) + id_bytes
    parts: list[bytes] = []
    ends: list[int] = []
    end = 0
    for seq, created_us, body in rows:
        message = assigned_fields(seq, created_us) + body
        stamp = timestamp(created_us)
        # A stored body begins with its role = 3.
        type_ = _MESSAGE_TYPES[body[1]]
        # type = 1, seq = 2, session_id = 3, time = 4, message = 5; and events = 1 of the response around it.
        event = b"\n%b%b\x10%b%b\x22%b%b\x2a%b" % (
            varint(len(type_)),
            type_,
            varint(seq),
            id_field,
            varint(len(stamp)),
            stamp,
            varint(len(message)),
        )
        head = b"\n" + varint(len(event) + len(message)) + event
        parts += (head, message)
        end += len(head) + len(message)
        ends.append(end)
    return Chunk(b"".join(parts), tuple(ends), rows[-1][0])


def chunk_of_event(event: Event) -> Chunk:
    message = event_pb2.Event(type=event.type, session_id=event.session_id)
    message.time.ParseFromString(timestamp(event.time_us))
    if event.data:
        message.data.update(event.data)
    encoded = message.SerializeToString()
    return Chunk(
        b"\n" + varint(len(encoded)) + encoded, after_seq=event.after_seq, is_delta=event.is_delta
    )


def _too_slow(session_id: str) -> Fault:
    return Fault(
        "WATCHER_TOO_SLOW",
        "the events come faster than they are taken; go on from the last seq that came",
        metadata={"session_id": session_id},
        retry_after_s=0.1,
    )
