"""Watching: what Watch promises.

Of each watched session one channel reads new messages from the database, once for all its watchers. A watcher reads its own past by pages
until it meets the channel; from then on it takes what the channel hands it. Order, and that nothing is missing or comes twice, follow from
the seqs alone. EventPublisher (of this process, and by NOTIFY of others) and a slow poll only say when it is worth looking.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from sessiond_server.core import events
from sessiond_server.core.cancellation import cancel_all
from sessiond_server.core.errors import invalid, session_not_found
from sessiond_server.core.events import Event
from sessiond_server.core.ids import session_key
from sessiond_server.core.supervision import Loop
from sessiond_server.core.validation import check_session_id
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.messages.store.history import HistoryStore, LogHead, PageQuery
from sessiond_server.messages.store.segments import cut
from sessiond_server.sessions.lifecycle_events import lifecycle_event
from sessiond_server.sessions.store.deletion import DeletedSession
from sessiond_server.watch.channel import (
    PAGE_BYTES,
    PAGE_ROWS,
    Channel,
    Watcher,
    chunk_of_event,
    chunk_of_messages,
)
from sessiond_server.watch.notifier import Notifier
from sessiond_server.watch.store import WatchStore

POLL_S = 2.0
# Polls that hints ask for come no faster than this.
POLL_REST_S = 0.1

DEFAULT_HEARTBEAT_MS, MIN_HEARTBEAT_MS, MAX_HEARTBEAT_MS = 15_000, 1_000, 300_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WatchOptions:
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

    def __init__(
        self,
        store: WatchStore,
        history: HistoryStore,
        check_draining: Callable[[], None],
        *,
        listens: bool,
    ) -> None:
        self._store = store
        self._history = history
        self._check_draining = check_draining
        self._listens = listens
        self._notices = Notifier(
            store, on_append=self._wake, on_event=self._dispatch, on_gap=self._poll_soon
        )
        self._channels: dict[UUID, Channel] = {}
        self._projects: dict[UUID, set[Watcher]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._poll_now = asyncio.Event()
        self._listeners: list[Callable[[Event], None]] = []
        # Of each session the commits that are under way here, and not told of yet.
        self._telling: dict[UUID, list[asyncio.Event]] = {}

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Have a function called with whatever happens, here or at another process. It answers at once."""
        self._listeners.append(listener)

    def messages_appended(self, key: UUID) -> None:
        """As EventPublisher has it."""
        self._wake(key)
        self._notices.messages_appended(key)

    def publish(self, event: Event) -> None:
        """As EventPublisher has it."""
        self._dispatch(event)
        self._notices.publish(event)

    @contextmanager
    def hold_delivery(self, key: UUID) -> Iterator[None]:
        """As EventPublisher has it."""
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

    def loops(self) -> dict[str, Loop]:
        """Return the background loops by name."""
        loops: dict[str, Loop] = {"watch_poll": self._poll, "notify_sender": self._notices.send}
        return loops | ({"notify_listener": self._notices.listen} if self._listens else {})

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

    async def watch(self, project_id: UUID, asked: WatchOptions) -> AsyncGenerator[bytes, None]:
        """Encoded WatchResponses, without end. No connection is held while one is yielded.

        Raises: Fault SESSION_NOT_FOUND, INVALID_FIELD, WATCHER_TOO_SLOW, SERVER_DRAINING.
        """
        heartbeat_s = _checked_heartbeat_ms(asked.heartbeat_ms) / 1000
        if not asked.session_id:
            if asked.after_seq is not None:
                raise invalid("after_seq", "goes only together with session_id")
            watcher = Watcher("", 0)
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

    async def _join(
        self, project_id: UUID, session_id: str, after_seq: int | None
    ) -> tuple[Channel, Watcher, LogHead]:
        """A watcher at the session's channel, which may be new."""
        key = session_key(project_id, session_id)
        while True:
            head = await self._head(key, project_id, session_id)
            if after_seq is not None and after_seq > head.last_seq:
                raise invalid(
                    "after_seq",
                    f"is {after_seq}, but the session is at seq {head.last_seq}",
                    last_seq=head.last_seq,
                )
            channel = self._channels.get(key)
            if channel is None:
                channel = self._channels[key] = Channel(
                    self._history, self._wait_for_publication, project_id, session_id, head
                )
                task = asyncio.create_task(self._run(channel))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            if channel.log == head.log:
                watcher = Watcher(session_id, head.last_seq if after_seq is None else after_seq)
                channel.watchers.add(watcher)
                return channel, watcher, head
            # Made anew under the same id, before the channel heard of it or just now.
            await self._look([channel])
            if channel.is_over:
                self._leave(channel)

    async def _run(self, channel: Channel) -> None:
        try:
            await channel.run()
        finally:
            self._leave(channel)

    def _leave(self, channel: Channel) -> None:
        channel.close()
        if self._channels.get(channel.key) is channel:
            del self._channels[channel.key]

    async def _replay(
        self, channel: Channel, watcher: Watcher, head: LogHead
    ) -> AsyncGenerator[bytes, None]:
        """The watcher's past, until it meets the channel."""
        while watcher.after < channel.seq and not watcher.error:
            self._check_draining()
            rows: Sequence[Any] = ()
            wanted = cut(
                head.segments, watcher.after, min(head.last_seq, watcher.after + PAGE_ROWS)
            )
            if wanted:
                rows = await self._history.page(PageQuery(tuple(wanted), PAGE_ROWS, PAGE_BYTES))
            if (
                rows
                and rows[0][0] == watcher.after + 1
                and rows[-1][0] == watcher.after + len(rows)
            ):
                chunk = chunk_of_messages(channel.session_id, rows)
                watcher.after = chunk.last_seq
                yield chunk.encoded
                continue
            # There are more by now, or they were moved while a copy was flattened, or the session is gone.
            again = await self._history.head(channel.key, channel.project_id)
            if (
                again is None
                or again.log != channel.log
                or (wanted and again.segments == head.segments)
            ):
                watcher.end(session_not_found(channel.session_id))
                return
            head = again
        # Nothing was waited for since the comparison, so the next message that the channel reads is the watcher's next one.
        watcher.go_live()

    async def _follow(self, watcher: Watcher, heartbeat_s: float) -> AsyncGenerator[bytes, None]:
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

    async def _wait_for_publication(self, key: UUID) -> None:
        """Return once everything is told of the commits that are under way now."""
        for done in list(self._telling.get(key, ())):
            await done.wait()

    def _wake(self, key: UUID) -> None:
        if channel := self._channels.get(key):
            channel.wake()

    def _dispatch(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
        watchers = (
            self._projects.get(event.project_id, ()) if event.type in events.LIFECYCLE else ()
        )
        channel = self._channels.get(session_key(event.project_id, event.session_id))
        if not watchers and channel is None:
            return
        chunk = chunk_of_event(event)
        for watcher in watchers:
            watcher.push(chunk)
        if channel is None:
            return
        if channel.log != event.log:
            # Of a session that had the id before, or has it now. Which, the database knows.
            self._poll_soon()
            return
        channel.tell(chunk)
        if event.type in (events.DELETED, events.EXPIRED):
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
            await asyncio.sleep(POLL_REST_S)

    async def _look(self, channels: Sequence[Channel]) -> None:
        """Ask the database how these sessions stand."""
        states = await self._store.states([channel.key for channel in channels])
        due = []
        for channel in channels:
            state = states.get(channel.key)
            if state is None or state.log != channel.log:
                channel.end()
            elif not state.is_alive:
                gone = DeletedSession(
                    channel.project_id, channel.session_id, channel.log, state.last_seq
                )
                channel.tell(chunk_of_event(lifecycle_event(events.EXPIRED, gone)))
                channel.end()
            else:
                if state.last_seq > channel.seq:
                    channel.wake()
                if state.touch_due:
                    due.append(channel.key)
        if due:
            await self._store.touch(due)


def _checked_heartbeat_ms(heartbeat_ms: int | None) -> int:
    if heartbeat_ms is None:
        return DEFAULT_HEARTBEAT_MS
    if not MIN_HEARTBEAT_MS <= heartbeat_ms <= MAX_HEARTBEAT_MS:
        raise invalid(
            "heartbeat_interval", f"is {heartbeat_ms} ms; from 1 second to 5 minutes are allowed"
        )
    return heartbeat_ms
