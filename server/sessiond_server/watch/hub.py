"""Watched sessions in a server process.

Each watched session has one channel, which reads new messages once and fans them out to all
watchers. A watcher reads stored messages page by page until it has caught up with the channel. From
then on, the channel pushes messages to it. Order and completeness follow from the seqs alone.
Publishers in this process, notifications from other processes and a slow poll only determine when
to read.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from itertools import chain
from typing import Any
from uuid import UUID

import structlog

from sessiond_server.core import events
from sessiond_server.core.cancellation import cancel_all
from sessiond_server.core.errors import Fault, session_not_found
from sessiond_server.core.events import Event, StoredMessages
from sessiond_server.core.ids import session_key
from sessiond_server.core.pg_time import now_us
from sessiond_server.core.supervision import Loop
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.messages.store.cuts import CutStore
from sessiond_server.messages.store.history import HistoryStore, LogHead, PageQuery
from sessiond_server.messages.store.segments import cut
from sessiond_server.sessions.lifecycle_events import lifecycle_event
from sessiond_server.sessions.store.deletion import DeletedSession
from sessiond_server.watch.channel import PAGE_BYTES, PAGE_ROWS, Channel, is_whole
from sessiond_server.watch.encoding import (
    Chunk,
    chunk_of_cut,
    chunk_of_epoch,
    chunk_of_event,
    chunk_of_incarnation,
    chunk_of_messages,
    encoded_event,
)
from sessiond_server.watch.notifier import Notifier
from sessiond_server.watch.options import WatchOptions, check_place
from sessiond_server.watch.store import WatchStore
from sessiond_server.watch.texts import Texts
from sessiond_server.watch.watcher import Watcher

POLL_S = 2.0
# Minimum pause between two polls, however many are requested.
POLL_REST_S = 0.1

log = structlog.get_logger(__name__)


class WatchHub:
    """All watchers in one process. The hub is also the EventPublisher of the process.

    Watching counts as an access: a watched session does not expire, unless its idle_ttl is shorter
    than the time between two polls.
    """

    def __init__(
        self,
        store: WatchStore,
        history: HistoryStore,
        cuts: CutStore,
        check_draining: Callable[[], None],
    ) -> None:
        """Create the hub. The caller has to run its loops().

        Args:
            store: statements about watched sessions, and notifications.
            history: store of the messages.
            cuts: store of the remembered rewinds.
            check_draining: raises Fault SERVER_DRAINING while the server is draining. When draining
                starts, the server calls wake_all().
        """
        self._store = store
        self._history = history
        self._cuts = cuts
        self._check_draining = check_draining
        self._poll_now = asyncio.Event()
        self._notifier = Notifier(
            store,
            on_append=self._wake,
            on_event=self._dispatch,
            on_gap=self._poll_now.set,
            on_want=self._on_want,
            is_watched=self._is_watched,
        )
        self.texts = Texts(self._notifier)
        self._channels: dict[UUID, Channel] = {}
        self._projects: dict[UUID, set[Watcher]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[Callable[[Event], None]] = []
        # By session key: events of callers that wait for the session, set when it may exist.
        self._awaited: dict[UUID, set[asyncio.Event]] = {}
        # By session key: commits in progress in this process whose events are not published yet.
        self._unpublished: dict[UUID, list[asyncio.Event]] = {}

    def add_listener(self, listener: Callable[[Event], None]) -> None:
        """Register a function to call with every ephemeral event of any process.

        The function must return at once.
        """
        self._listeners.append(listener)

    def messages_appended(self, key: UUID) -> None:
        self._wake(key)
        self._notifier.messages_appended(key)

    def messages_stored(self, key: UUID, messages: StoredMessages) -> None:
        # Another commit may have earlier events that are not published yet.
        if len(self._unpublished.get(key, ())) == 1 and (channel := self._channels.get(key)):
            channel.deliver(messages)
        else:
            self._wake(key)
        self._notifier.messages_appended(key)

    def publish(self, event: Event) -> None:
        self._dispatch(event)
        if self.texts.is_for_others(event):
            self._notifier.publish(event)

    @contextmanager
    def hold_delivery(self, key: UUID) -> Iterator[None]:
        published = asyncio.Event()
        commits = self._unpublished.setdefault(key, [])
        commits.append(published)
        try:
            yield
        finally:
            published.set()
            commits.remove(published)
            if not commits:
                self._unpublished.pop(key, None)

    def loops(self) -> dict[str, Loop]:
        """Return the background loops by name."""
        return {
            "watch_poll": self._poll,
            "notify_sender": self._notifier.send,
            "notify_listener": self._notifier.listen,
        }

    def counts(self) -> tuple[int, int]:
        """Return the numbers of watched sessions and of watchers."""
        of_sessions = sum(len(channel.watchers) for channel in self._channels.values())
        return len(self._channels), of_sessions + sum(map(len, self._projects.values()))

    def wake_all(self) -> None:
        """Make every watcher check whether the server is draining."""
        watched = (channel.watchers for channel in self._channels.values())
        for watcher in chain(*watched, *self._projects.values()):
            watcher.wake()
        for created in chain(*self._awaited.values()):
            created.set()

    async def close(self) -> None:
        """Stop the channels."""
        await self.texts.close()
        await cancel_all(self._tasks)

    async def watch(self, project_id: UUID, options: WatchOptions) -> AsyncGenerator[bytes, None]:
        """Watch a session or a project; yield encoded WatchResponses. See `chunks`.

        With `follow_recreated`, the stream outlives its session.
        """
        heartbeat_s = options.checked_heartbeat_s()
        has_begun = bool(options.incarnation)
        prefix = b""
        while True:
            try:
                async with aclosing(self.chunks(project_id, options)) as responses:
                    async for chunks in responses:
                        has_begun = True
                        yield prefix + b"".join([chunk.encoded for chunk in chunks])
                        prefix = b""
            except Fault as fault:
                is_gone = fault.reason == "SESSION_NOT_FOUND"
                if not (is_gone and has_begun and options.follow_recreated):
                    raise
            async for heartbeat in self._next_session(project_id, options.session_id, heartbeat_s):
                yield heartbeat
            options = replace(options, after_seq=0, after_epoch=None, incarnation="")
            prefix = encoded_event(events.RECREATED, options.session_id, now_us())

    async def _next_session(
        self, project_id: UUID, session_id: str, heartbeat_s: float
    ) -> AsyncGenerator[bytes, None]:
        """Wait until there is a session with an id; yield heartbeats meanwhile."""
        key = session_key(project_id, session_id)
        created = asyncio.Event()
        waiting = self._awaited.setdefault(key, set())
        waiting.add(created)
        loop = asyncio.get_running_loop()
        yielded = loop.time()
        try:
            while await self._history.head(key, project_id) is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(POLL_S, heartbeat_s)):
                        await created.wait()
                created.clear()
                self._check_draining()
                if loop.time() - yielded >= heartbeat_s:
                    yielded = loop.time()
                    yield b""
        finally:
            waiting.discard(created)
            if not waiting and self._awaited.get(key) is waiting:
                del self._awaited[key]

    async def chunks(
        self, project_id: UUID, options: WatchOptions, known: LogHead | None = None
    ) -> AsyncGenerator[Sequence[Chunk], None]:
        """Watch a session or a project. `known` is the session's head, if it was just read.

        Yields:
            Responses, the first one at once. [] is a heartbeat. No connection is held between two
            responses.

        Raises:
            Fault: SESSION_NOT_FOUND; INVALID_FIELD; WATCHER_TOO_SLOW; SERVER_DRAINING.
        """
        heartbeat_s = options.checked_heartbeat_s()
        if not options.session_id:
            watcher = Watcher("", 0, 0)
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
        channel, watcher, head = await self._join(project_id, options, known)
        try:
            await self.texts.begin(channel, head.running_turn)
            first = [chunk_of_epoch(watcher.epoch), chunk_of_incarnation(head.log)]
            async for response in self._replay(channel, watcher, head):
                yield [*first, *response]
                first = []
            async for response in self._follow(watcher, heartbeat_s):
                yield [*first, *response]
                first = []
        finally:
            channel.watchers.discard(watcher)
            if not channel.watchers:
                self._leave(channel)

    async def _join(
        self, project_id: UUID, options: WatchOptions, known: LogHead | None
    ) -> tuple[Channel, Watcher, LogHead]:
        """Add a watcher to the session's channel. Create the channel if there is none."""
        session_id, after_seq = options.session_id, options.after_seq
        key = session_key(project_id, session_id)
        while True:
            head = known or await self._history.head(key, project_id)
            known = None
            if head is None:
                raise session_not_found(session_id)
            if head.touch_due:
                await self._history.touch(key, project_id)
            if not options.admits(head.log):
                raise session_not_found(session_id)
            epoch = head.epoch if options.after_epoch is None else options.after_epoch
            check_place(head, after_seq, epoch)
            channel = self._channels.get(key)
            if channel is None:
                channel = self._channels[key] = Channel(
                    self._history,
                    self._cuts,
                    self._wait_for_publication,
                    self.texts.on_missing,
                    project_id,
                    session_id,
                    head,
                )
                task = asyncio.create_task(self._run(channel))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            if channel.log == head.log:
                after = head.last_seq if after_seq is None else after_seq
                watcher = Watcher(session_id, after, epoch)
                channel.watchers.add(watcher)
                if head.epoch > channel.epoch:
                    channel.look_for_rewinds()
                return channel, watcher, head
            # The session was deleted and re-created. The channel either does not know this yet, or
            # has only just noticed it.
            await self._check_sessions([channel])
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
    ) -> AsyncGenerator[Sequence[Chunk], None]:
        """Yield stored messages until the watcher has caught up with its channel."""
        while not watcher.error:
            self._check_draining()
            if watcher.epoch < head.epoch:
                found = await self._cuts.since(channel.key, head, watcher.epoch)
                watcher.rewind(found.epoch, found.last_seq)
                yield [chunk_of_cut(channel.session_id, found)]
            # The channel may not have noticed the last rewind yet. Until it has, the watcher
            # ignores the channel's messages.
            is_behind = watcher.epoch < channel.epoch
            newest = channel.seq if watcher.epoch == channel.epoch else head.last_seq
            if not is_behind and watcher.after >= newest:
                break
            rows: Sequence[Any] = ()
            end = min(head.last_seq, watcher.after + PAGE_ROWS)
            segments = cut(head.segments, watcher.after, end)
            if segments and not is_behind:
                rows = await self._history.page(PageQuery(tuple(segments), PAGE_ROWS, PAGE_BYTES))
            if is_whole(rows, watcher.after):
                chunk = chunk_of_messages(channel.session_id, watcher.epoch, rows)
                watcher.after = chunk.last_seq
                yield [chunk]
                continue
            # Either there are more messages by now, or the session was rewound, or messages were
            # moved to another log, or the session is gone.
            again = await self._history.head(channel.key, channel.project_id)
            if (
                again is None
                or again.log != channel.log
                or (segments and not is_behind and again.segments == head.segments)
            ):
                watcher.end(session_not_found(channel.session_id))
                return
            head = again
        # Nothing has been awaited since the comparison, so the next message that the channel
        # delivers is also the next message of the watcher.
        watcher.go_live(channel.partial)

    async def _follow(
        self, watcher: Watcher, heartbeat_s: float
    ) -> AsyncGenerator[Sequence[Chunk], None]:
        """Yield the events that are pushed to the watcher. The first response comes at once."""
        yield watcher.take_chunks()
        while True:
            self._check_draining()
            if chunks := watcher.take_chunks():
                yield chunks
            elif watcher.error:
                raise watcher.error
            elif not await watcher.wait(heartbeat_s):
                yield ()

    async def _wait_for_publication(self, key: UUID) -> None:
        """Wait until the events of the session's commits in progress are published."""
        for published in list(self._unpublished.get(key, ())):
            await published.wait()

    def _is_watched(self) -> bool:
        return bool(self._channels or self._projects or self._awaited)

    def _wake(self, key: UUID) -> None:
        if self._channels and (channel := self._channels.get(key)):
            channel.wake()

    def _on_want(self, turn_id: UUID, freeze: bool) -> None:
        self.texts.on_wanted(turn_id, freeze=freeze)

    def _dispatch(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
        watchers = (
            self._projects.get(event.project_id, ()) if event.type in events.LIFECYCLE else ()
        )
        channel = self._channels.get(session_key(event.project_id, event.session_id))
        self.texts.on_event(event, channel)
        if event.type == events.CREATED:
            for created in self._awaited.get(session_key(event.project_id, event.session_id), ()):
                created.set()
        if not watchers and channel is None:
            return
        chunk = chunk_of_event(event)
        for watcher in watchers:
            watcher.push(chunk)
        if channel and channel.log != event.log:
            # The event belongs to another session with the same id, deleted or re-created. A poll
            # tells whether the channel's session still exists.
            self._poll_now.set()
        elif channel and event.type == events.REWOUND:
            # The channel reads the event from the database: it may have missed other rewinds.
            channel.look_for_rewinds()
        elif channel:
            channel.publish(chunk)
            if event.type in (events.DELETED, events.EXPIRED):
                channel.end()

    async def _poll(self) -> None:
        """Regularly check the watched sessions for changes that no notification announced."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._poll_now.wait()
            self._poll_now.clear()
            try:
                if self._channels:
                    await self._check_sessions(list(self._channels.values()))
            except (DatabaseUnavailable, PoolExhausted, Contention) as e:
                log.debug("watch_poll_retrying", error=str(e))
            await asyncio.sleep(POLL_REST_S)

    async def _check_sessions(self, channels: Sequence[Channel]) -> None:
        """Compare channels with the current state of their sessions in the database."""
        states = await self._store.states([channel.key for channel in channels])
        due = []
        running: list[tuple[Channel, UUID]] = []
        for channel in channels:
            state = states.get(channel.key)
            if state is None or state.log != channel.log:
                if channel.is_missing:
                    channel.end()
                channel.is_missing = True
                self._poll_now.set()
            elif not state.is_alive:
                gone = DeletedSession(
                    channel.project_id, channel.session_id, channel.log, state.last_seq
                )
                channel.publish(chunk_of_event(lifecycle_event(events.EXPIRED, gone)))
                channel.end()
            else:
                if state.epoch > channel.epoch:
                    channel.look_for_rewinds()
                elif state.last_seq > channel.seq:
                    channel.wake()
                if state.touch_due:
                    due.append(channel.key)
                if state.running_turn:
                    running.append((channel, state.running_turn))
        self.texts.refresh(running)
        if due:
            await self._store.touch(due)
