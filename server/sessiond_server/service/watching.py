"""Watching: what Watch promises.

Of each watched session one channel reads new messages from the database, once for all its watchers. A watcher reads its own past by pages
until it meets the channel; from then on it takes what the channel hands it. Order, and that nothing is missing or comes twice, follow from
the seqs alone. Hints (of this process, and by NOTIFY of others) and a slow poll only say when it is worth looking.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from sessiond.v1.event_pb2 import Event
from sessiond_server.service import happenings
from sessiond_server.service.cancellation import cancel_all
from sessiond_server.service.faults import Fault, invalid, session_not_found
from sessiond_server.service.happenings import Happening, happening
from sessiond_server.service.names import check_session_id, session_key
from sessiond_server.service.notices import Notices
from sessiond_server.service.pages import assigned, timestamp, varint
from sessiond_server.store.burial import Buried
from sessiond_server.store.database import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.store.history import HistoryStore, LogHead, PageQuery
from sessiond_server.store.segments import Segment, cut
from sessiond_server.store.watching import WatchStore

POLL_S = 2.0
# Polls that hints ask for come no faster than this.
POLL_REST_S = 0.1

PAGE_ROWS, PAGE_BYTES = 256, 256 * 1024
MAX_QUEUED_BYTES, MAX_QUEUED_CHUNKS = 1024 * 1024, 4096
# Between two pages of a burst the channel waits for watchers that have more than half of that; for each of them once, until it has caught
# up. So long, and as long as this process itself needs to send what is queued for all of them.
PATIENCE_S = 0.2
SENT_BYTES_A_SECOND = 20_000_000
MAX_SEQ = 2**63 - 1

DEFAULT_HEARTBEAT_MS, MIN_HEARTBEAT_MS, MAX_HEARTBEAT_MS = 15_000, 1_000, 300_000

_MESSAGE_TYPES = {1: b"system.message", 2: b"developer.message", 3: b"user.message", 4: b"assistant.message", 5: b"tool.message"}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """What to watch. session_id: "" = the project. after_seq, heartbeat_ms: None = unset."""

    session_id: str
    after_seq: int | None = None
    heartbeat_ms: int | None = None


class Watching:
    """All watchers of one process.

    A watcher counts as a reader: as long as one is there, the session does not expire, unless its idle_ttl is so short (some seconds) that
    it runs out between two polls.

    Args:
        check_draining: raises Fault SERVER_DRAINING once the server is; then wake_all() is called.
        listens: hear of other processes by LISTEN; False where a pooler in transaction mode stands between, which cannot do that.
    """

    def __init__(self, store: WatchStore, history: HistoryStore, check_draining: Callable[[], None], *, listens: bool) -> None:
        self._store = store
        self._history = history
        self._check_draining = check_draining
        self._listens = listens
        self._notices = Notices(store, on_append=self._wake, on_happening=self._spread, on_doubt=self._poll_soon)
        self._channels: dict[UUID, _Channel] = {}
        self._projects: dict[UUID, set[_Watcher]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._poll_now = asyncio.Event()
        self._listeners: list[Callable[[Happening], None]] = []
        # Of each session the commits that are under way here, and not told of yet.
        self._telling: dict[UUID, list[asyncio.Event]] = {}

    def listen(self, listener: Callable[[Happening], None]) -> None:
        """Have a function called with whatever happens, here or at another process. It answers at once."""
        self._listeners.append(listener)

    def appended(self, key: UUID) -> None:
        """As Hints has it."""
        self._wake(key)
        self._notices.appended(key)

    def happened(self, happening: Happening) -> None:
        """As Hints has it."""
        self._spread(happening)
        self._notices.happened(happening)

    @contextmanager
    def telling(self, key: UUID) -> Iterator[None]:
        """As Hints has it."""
        done = asyncio.Event()
        before = self._telling.setdefault(key, [])
        before.append(done)
        try:
            yield
        finally:
            done.set()
            before.remove(done)
            if not before:
                self._telling.pop(key, None)

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """What has to run beside it, until cancelled."""
        return [self._poll(), self._notices.send(), *([self._notices.listen()] if self._listens else [])]

    def wake_all(self) -> None:
        """Have every watcher look whether the server is draining."""
        for channel in self._channels.values():
            channel.wake_watchers()
        for watchers in self._projects.values():
            for watcher in watchers:
                watcher.wake()

    async def close(self) -> None:
        """End what runs."""
        await cancel_all(self._tasks)

    async def watch(self, project_id: UUID, asked: Asked) -> AsyncGenerator[bytes, None]:
        """Encoded WatchResponses, without end. No connection is held while one is yielded.

        Raises: Fault SESSION_NOT_FOUND, INVALID_FIELD, WATCHER_TOO_SLOW, SERVER_DRAINING.
        """
        heartbeat_s = _checked_heartbeat_ms(asked.heartbeat_ms) / 1000
        if not asked.session_id:
            if asked.after_seq is not None:
                raise invalid("after_seq", "goes only together with session_id")
            watcher = _Watcher("", 0)
            watchers = self._projects.setdefault(project_id, set())
            watchers.add(watcher)
            try:
                async for response in self._follow(watcher, heartbeat_s):
                    yield response
            finally:
                watchers.discard(watcher)
                if not watchers and self._projects.get(project_id) is watchers:
                    del self._projects[project_id]
            return
        check_session_id(asked.session_id)
        if asked.after_seq is not None and asked.after_seq < 0:
            raise invalid("after_seq", "is negative; 0 stands for the beginning")
        channel, watcher, head = await self._join(project_id, asked.session_id, asked.after_seq)
        try:
            async for response in self._replay(channel, watcher, head):
                yield response
            async for response in self._follow(watcher, heartbeat_s):
                yield response
        finally:
            channel.watchers.discard(watcher)
            if not channel.watchers:
                self._leave(channel)

    async def _join(self, project_id: UUID, session_id: str, after_seq: int | None) -> tuple["_Channel", "_Watcher", LogHead]:
        """A watcher at the session's channel, which may be new."""
        key = session_key(project_id, session_id)
        while True:
            head = await self._head(key, project_id, session_id)
            if after_seq is not None and after_seq > head.last_seq:
                raise invalid("after_seq", f"is {after_seq}, but the session is at seq {head.last_seq}", last_seq=head.last_seq)
            channel = self._channels.get(key)
            if channel is None:
                channel = self._channels[key] = _Channel(self._history, self._told, project_id, session_id, head)
                task = asyncio.create_task(self._run(channel))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            if channel.log == head.log:
                watcher = _Watcher(session_id, head.last_seq if after_seq is None else after_seq)
                channel.watchers.add(watcher)
                return channel, watcher, head
            # Made anew under the same id, before the channel heard of it or just now.
            await self._look([channel])
            if channel.is_over:
                self._leave(channel)

    async def _run(self, channel: "_Channel") -> None:
        try:
            await channel.run()
        finally:
            self._leave(channel)

    def _leave(self, channel: "_Channel") -> None:
        channel.close()
        if self._channels.get(channel.key) is channel:
            del self._channels[channel.key]

    async def _replay(self, channel: "_Channel", watcher: "_Watcher", head: LogHead) -> AsyncGenerator[bytes, None]:
        """The watcher's past, until it meets the channel."""
        while watcher.after < channel.seq and not watcher.error:
            self._check_draining()
            rows: Sequence[Any] = ()
            wanted = cut(head.segments, watcher.after, min(head.last_seq, watcher.after + PAGE_ROWS))
            if wanted:
                rows = await self._history.page(PageQuery(tuple(wanted), PAGE_ROWS, PAGE_BYTES))
            if rows and rows[0][0] == watcher.after + 1 and rows[-1][0] == watcher.after + len(rows):
                chunk = _messages(channel.session_id, rows)
                watcher.after = chunk.last_seq
                yield chunk.encoded
                continue
            # There are more by now, or they were moved while a copy was flattened, or the session is gone.
            again = await self._history.head(channel.key, channel.project_id)
            if again is None or again.log != channel.log or (wanted and again.segments == head.segments):
                watcher.end(session_not_found(channel.session_id))
                return
            head = again
        # Nothing was waited for since the comparison, so the next message that the channel reads is the watcher's next one.
        watcher.go_live()

    async def _follow(self, watcher: "_Watcher", heartbeat_s: float) -> AsyncGenerator[bytes, None]:
        """What the watcher is handed. The first response at once, empty where there is nothing yet."""
        yield watcher.take()
        while True:
            self._check_draining()
            if response := watcher.take():
                yield response
            elif watcher.error:
                raise watcher.error
            elif not await watcher.wait(heartbeat_s):
                yield b""

    async def _head(self, key: UUID, project_id: UUID, session_id: str) -> LogHead:
        head = await self._history.head(key, project_id)
        if head is None:
            raise session_not_found(session_id)
        if head.touch_due:
            await self._history.touch(key, project_id)
        return head

    async def _told(self, key: UUID) -> None:
        """Return once everything is told of the commits that are under way now."""
        for done in list(self._telling.get(key, ())):
            await done.wait()

    def _wake(self, key: UUID) -> None:
        if channel := self._channels.get(key):
            channel.wake()

    def _spread(self, happening: Happening) -> None:
        for listener in self._listeners:
            listener(happening)
        watchers = self._projects.get(happening.project_id, ()) if happening.type in happenings.LIFECYCLE else ()
        channel = self._channels.get(session_key(happening.project_id, happening.session_id))
        if not watchers and channel is None:
            return
        chunk = _ephemeral(happening)
        for watcher in watchers:
            watcher.push(chunk)
        if channel is None:
            return
        if channel.log != happening.log:
            # Of a session that had the id before, or has it now. Which, the database knows.
            self._poll_soon()
            return
        channel.tell(chunk)
        if happening.type in (happenings.DELETED, happenings.EXPIRED):
            channel.end()

    def _poll_soon(self) -> None:
        self._poll_now.set()

    async def _poll(self) -> None:
        """Look now and then for what no hint said."""
        while True:
            try:
                async with asyncio.timeout(POLL_S):
                    await self._poll_now.wait()
            except TimeoutError:
                pass
            self._poll_now.clear()
            try:
                if self._channels:
                    await self._look(list(self._channels.values()))
            except (DatabaseUnavailable, PoolExhausted, Contention) as e:
                log.debug("poll put off", error=str(e))
            except Exception:
                log.exception("poll failed")
            await asyncio.sleep(POLL_REST_S)

    async def _look(self, channels: Sequence["_Channel"]) -> None:
        """Ask the database how these sessions stand."""
        states = await self._store.states([channel.key for channel in channels])
        due = []
        for channel in channels:
            state = states.get(channel.key)
            if state is None or state.log != channel.log:
                channel.end()
            elif not state.is_alive:
                gone = Buried(channel.project_id, channel.session_id, channel.log, state.last_seq)
                channel.tell(_ephemeral(happening(happenings.EXPIRED, gone)))
                channel.end()
            else:
                if state.last_seq > channel.seq:
                    channel.wake()
                if state.touch_due:
                    due.append(channel.key)
        if due:
            await self._store.touch(due)


class _Channel:
    """The new messages and lifecycle events of one session, for all who watch it. seq: the last message that was handed on."""

    def __init__(
        self, history: HistoryStore, all_told: Callable[[UUID], Awaitable[None]], project_id: UUID, session_id: str, head: LogHead
    ) -> None:
        self.key = session_key(project_id, session_id)
        self.project_id = project_id
        self.session_id = session_id
        self.log = head.log
        self.seq = head.last_seq
        self.watchers: set[_Watcher] = set()
        self._history = history
        self._all_told = all_told
        self._wake = asyncio.Event()
        self._is_resting = False
        self._told: deque[_Chunk] = deque()
        self.is_over = False
        self._is_closed = False

    def wake(self) -> None:
        """There may be something to read."""
        self._wake.set()

    def tell(self, chunk: "_Chunk") -> None:
        """Hand on an ephemeral event, behind the messages that it comes after, and before those that come after it."""
        if self.is_over:
            return
        if self._is_resting and not self._wake.is_set() and not self._told and chunk.after_seq is not None and chunk.after_seq <= self.seq:
            # All that it comes after is handed on, and of what may come after it nothing is known yet.
            self._push_told(chunk)
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
                while self._told and (id(self._told[0]) in told or self._told[0].after_seq is not None):
                    if not is_over and (self._told[0].after_seq or 0) > self.seq:
                        break
                    self._push_told(self._told.popleft())
                if is_over:
                    break
            while self._told:
                self._push_told(self._told.popleft())
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
            rows = await self._history.page(PageQuery((Segment(self.key, self.log, self.seq + 1, MAX_SEQ),), PAGE_ROWS, PAGE_BYTES))
            if not rows or rows[0][0] != self.seq + 1:
                return  # nothing new, or purged already
            # They may be of a commit of which this process has not told yet.
            await self._all_told(self.key)
            is_more = len(rows) == PAGE_ROWS
            # Events that happened between two of these messages go there.
            while self._told and (place := self._told[0].after_seq) is not None and place < rows[-1][0]:
                before = max(place - self.seq, 0)
                if before:
                    self._push_messages(rows[:before])
                    rows = rows[before:]
                self._push_told(self._told.popleft())
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
        chunk = _messages(self.session_id, rows)
        self.seq = chunk.last_seq
        self._push(chunk)
        return len(chunk.encoded)

    def _push_told(self, chunk: "_Chunk") -> None:
        if not chunk.is_late(self.seq):
            self._push(chunk)

    def _push(self, chunk: "_Chunk") -> None:
        for watcher in self.watchers:
            watcher.push(chunk)


class _Watcher:
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
        self._queue: deque[_Chunk] = deque()
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

    def push(self, chunk: "_Chunk") -> None:
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
class _Chunk:
    """Events as the first bytes of a WatchResponse. All its watchers share it.

    ends: where each event ends; last_seq: 0 = ephemeral. after_seq, is_delta: of an ephemeral one, as Happening has them.
    """

    encoded: bytes
    ends: tuple[int, ...] = ()
    last_seq: int = 0
    after_seq: int | None = None
    is_delta: bool = False

    def is_late(self, seq: int) -> bool:
        """Whether it adds to a message that is there by now."""
        return self.is_delta and self.after_seq is not None and self.after_seq < seq

    def since(self, after: int) -> "_Chunk":
        """What of it comes after a seq."""
        skipped = after - (self.last_seq - len(self.ends))
        if skipped <= 0:
            return self
        start = self.ends[skipped - 1]
        return _Chunk(self.encoded[start:], tuple(end - start for end in self.ends[skipped:]), self.last_seq)


def _messages(session_id: str, rows: Sequence[Any]) -> _Chunk:
    """Rows (seq, created_us, body) of HistoryStore.page, at least one, as events: `pages` says how messages are spliced."""
    id_bytes = session_id.encode()
    id_field = b"\x1a" + varint(len(id_bytes)) + id_bytes
    parts: list[bytes] = []
    ends: list[int] = []
    end = 0
    for seq, created_us, body in rows:
        message = assigned(seq, created_us) + body
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
    return _Chunk(b"".join(parts), tuple(ends), rows[-1][0])


def _ephemeral(happening: Happening) -> _Chunk:
    event = Event(type=happening.type, session_id=happening.session_id)
    event.time.ParseFromString(timestamp(happening.time_us))
    if happening.data:
        event.data.update(happening.data)
    encoded = event.SerializeToString()
    return _Chunk(b"\n" + varint(len(encoded)) + encoded, after_seq=happening.after_seq, is_delta=happening.is_delta)


def _checked_heartbeat_ms(heartbeat_ms: int | None) -> int:
    if heartbeat_ms is None:
        return DEFAULT_HEARTBEAT_MS
    if not MIN_HEARTBEAT_MS <= heartbeat_ms <= MAX_HEARTBEAT_MS:
        raise invalid("heartbeat_interval", f"is {heartbeat_ms} ms; from 1 second to 5 minutes are allowed")
    return heartbeat_ms


def _too_slow(session_id: str) -> Fault:
    return Fault(
        "WATCHER_TOO_SLOW",
        "the events come faster than they are taken; go on from the last seq that came",
        metadata={"session_id": session_id},
        retry_after_s=0.1,
    )
