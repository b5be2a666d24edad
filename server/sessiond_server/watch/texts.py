"""Brings the texts of running answers to the channels of their sessions.

In the process that runs a turn, the channel of the turn's session receives every delta. Another
process in which the session is watched asks the first one to send the deltas. If it misses a piece
of the text, it reads the whole text so far from the database.
"""

import asyncio
import time
from collections.abc import Iterable
from uuid import UUID

import structlog

from sessiond_server.core import events
from sessiond_server.core.cancellation import cancel_all
from sessiond_server.core.events import Event
from sessiond_server.core.work import begin_work
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.watch.channel import Channel
from sessiond_server.watch.live_text import TextSource
from sessiond_server.watch.notifier import Notifier

# How long another process receives the deltas of a turn after it asked for them. That process asks
# again at each of its polls, every two seconds.
WANTED_S = 10.0
# Pauses between two reads of a text that is not in the database yet.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.5
# How long to wait for another process to save a text.
SAVE_TIMEOUT_S = 1.0

log = structlog.get_logger(__name__)


class Texts:
    """The texts of the running answers that this process's channels show.

    Args:
        notifier: asks other processes.

    Attributes:
        source: looks up the texts. None = this process has no texts.
    """

    def __init__(self, notifier: Notifier) -> None:
        self.source: TextSource | None = None
        self._notifier = notifier
        # By turn: time on the monotonic clock until which another process wants the turn's deltas.
        self._wanted: dict[str, float] = {}
        self._filling: set[Channel] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        # By turn: the callers that wait until another process has saved the turn's text.
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    async def close(self) -> None:
        """Stop reading."""
        await cancel_all(self._tasks)

    def is_for_others(self, event: Event) -> bool:
        """Return whether other processes are to receive an event of this process."""
        if not event.is_delta or not event.data:
            return True
        turn_id = event.data["turn_id"]
        until = self._wanted.get(turn_id)
        if until is not None and until < time.monotonic():
            del self._wanted[turn_id]
            return False
        return until is not None

    def on_wanted(self, turn_id: UUID, *, freeze: bool) -> None:
        """React to another process that asks for the text of a turn."""
        if self.source:
            now = time.monotonic()
            self._wanted = {turn: until for turn, until in self._wanted.items() if until > now}
            self._wanted[str(turn_id)] = now + WANTED_S
            self.source.on_wanted(turn_id, freeze=freeze)

    def on_event(self, event: Event, channel: Channel | None) -> None:
        """Process an event before the channel receives it.

        Args:
            event: the event of this process or another one.
            channel: the session's channel, if it is watched here.
        """
        if not event.data:
            return
        if event.type == events.MESSAGE_DELTA and not event.data[events.DELTA_CONTENT]:
            for waiting in self._waiting.pop(event.data["turn_id"], ()):
                if not waiting.done():
                    waiting.set_result(None)
        elif event.type == events.TURN_END:
            self._wanted.pop(event.data["turn_id"], None)
        elif event.type == events.TURN_START and channel:
            running = self.source.local(event.log) if self.source else None
            if not running:
                self._notifier.want(UUID(event.data["turn_id"]))

    async def saved(self, turn_id: UUID, *, freeze: bool) -> None:
        """Ask the process that runs a turn to save its text; wait at most SAVE_TIMEOUT_S for it.

        Args:
            turn_id: the turn, which another process runs.
            freeze: whether that process must pause the publication of the text, because the turn is
                being ended.
        """
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(str(turn_id), []).append(waiting)
        self._notifier.want(turn_id, freeze=freeze)
        try:
            async with asyncio.timeout(SAVE_TIMEOUT_S):
                await waiting
        except TimeoutError:
            log.debug("turn_text_not_saved", turn_id=str(turn_id))
        finally:
            self._waiting.pop(str(turn_id), None)

    async def begin(self, channel: Channel, running_turn: UUID | None) -> None:
        """Give a new channel the text of the turn that is running; later calls do nothing.

        The watchers of an older channel may not have received all deltas that this process has
        published, so the published text does not show how much they have received.

        Args:
            channel: the channel.
            running_turn: the turn that was running when the session was looked up; None = none.

        Raises:
            DatabaseUnavailable, PoolExhausted, Contention: if the database does not answer.
        """
        if self.source is None or channel.has_begun:
            return
        channel.has_begun = True
        running = self.source.local(channel.log)
        if running is None and running_turn:
            running = await self.source.saved(channel.key, channel.log)
            # This process may have started the turn meanwhile.
            running = self.source.local(channel.log) or running
        if running:
            channel.begin_text(str(running.turn_id), running.text)
            if not running.is_local:
                self._notifier.want(running.turn_id)

    def on_missing(self, channel: Channel) -> None:
        """Read the part of a text that a channel missed, in the background."""
        if self.source is None or channel in self._filling:
            return
        self._filling.add(channel)
        task = asyncio.create_task(self._fill(channel))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def refresh(self, channels: Iterable[tuple[Channel, UUID]]) -> None:
        """Ask again for the deltas of turns that other processes run.

        Args:
            channels: channels, each with the running turn of its session.
        """
        for channel, turn_id in channels:
            if self.source and not self.source.local(channel.log):
                self._notifier.want(turn_id)

    async def _fill(self, channel: Channel) -> None:
        begin_work("watch")
        pause_s = FIRST_PAUSE_S
        try:
            while not channel.is_over and self.source:
                try:
                    running = self.source.local(channel.log) or await self.source.saved(
                        channel.key, channel.log
                    )
                except (DatabaseUnavailable, PoolExhausted, Contention) as e:
                    log.debug("turn_text_retrying", error=str(e))
                else:
                    if running is None:
                        # The turn is over. Its message has the text.
                        return
                    if running.text:
                        channel.fill(running.text)
                    if not (channel.text and channel.text.missing):
                        return
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        finally:
            self._filling.discard(channel)
