"""The channel of a watched session.

A channel reads new messages of its session once for all watchers. It inserts ephemeral events into
the sequence of messages at the right places.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import chain
from typing import Any
from uuid import UUID

import structlog

from sessiond.v1.message_pb2 import ROLE_ASSISTANT
from sessiond_server.core.errors import session_not_found
from sessiond_server.core.events import (
    MESSAGE_DELTA,
    TURN_END,
    TURN_START,
    Event,
    StoredMessages,
)
from sessiond_server.core.ids import session_key
from sessiond_server.core.pg_time import now_us
from sessiond_server.core.work import begin_work
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.messages.store.cuts import CutStore
from sessiond_server.messages.store.history import HistoryStore, LogHead, PageQuery
from sessiond_server.messages.store.segments import Segment, cut
from sessiond_server.watch.encoding import (
    Chunk,
    chunk_of_cut,
    chunk_of_event,
    chunk_of_messages,
)
from sessiond_server.watch.live_text import LiveText, TextPiece, data_of, partial_data_of
from sessiond_server.watch.watcher import MAX_QUEUED_CHUNKS, Watcher

PAGE_ROWS, PAGE_BYTES = 256, 256 * 1024
# Half the length of a watcher's queue, so that delivering all of these events does not overflow it.
MAX_EPHEMERAL = MAX_QUEUED_CHUNKS // 2
# During a burst, the channel pauses between two pages while a watcher's queue is more than half
# full. It waits for at most this long, plus the time that this process needs to send everything
# queued for all watchers. If a watcher is still behind then, the channel waits for that watcher
# again only after the watcher has caught up.
ROOM_TIMEOUT_S = 0.2
SENT_BYTES_A_SECOND = 20_000_000
MAX_SEQ = 2**63 - 1
MAX_MISSING = 256

log = structlog.get_logger(__name__)


def is_whole(rows: Sequence[Any], after: int) -> bool:
    """Return whether rows of messages begin after a seq and have no gap."""
    return bool(rows) and rows[0][0] == after + 1 and rows[-1][0] == after + len(rows)


class Channel:
    """New messages and ephemeral events of one session, delivered to all its watchers.

    Attributes:
        log: the session's log.
        epoch: the session's epoch at the channel's last read.
        seq: seq of the last delivered message.
        watchers: the watchers that receive the events.
        is_over: whether the session is gone.
        is_missing: whether the session was not found by a check. The event of its deletion, which
            is published after the commit, may arrive until the next check.
    """

    def __init__(
        self,
        history: HistoryStore,
        cuts: CutStore,
        wait_for_publication: Callable[[UUID], Awaitable[None]],
        on_missing_text: "Callable[[Channel], None]",
        project_id: UUID,
        session_id: str,
        head: LogHead,
    ) -> None:
        """Create a channel that does not run yet.

        Args:
            history: store of the messages.
            cuts: store of the remembered rewinds.
            wait_for_publication: waits until this process has published the events of its commits
                in progress. It gets the key of a session, and waits only for commits of that
                session.
            on_missing_text: called with this channel if it has missed a piece of the running
                answer's text; it has to call `fill`.
            project_id: the session's project.
            session_id: the session.
            head: the session's current state. The channel begins after its last message.
        """
        self.key = session_key(project_id, session_id)
        self.project_id = project_id
        self.session_id = session_id
        self.log = head.log
        self.epoch = head.epoch
        self.seq = head.last_seq
        self.watchers: set[Watcher] = set()
        self.is_over = self.is_missing = False
        self._history = history
        self._cuts = cuts
        self._message_log = head.message_log
        # Segments of messages after `seq` that are not in the message log.
        self._segments: Sequence[Segment] = ()
        self._may_be_rewound = False
        self._wait_for_publication = wait_for_publication
        self._on_missing_text = on_missing_text
        self._wake = asyncio.Event()
        self._is_resting = False
        self._is_closed = False
        # Ephemeral events, each with the number of the round in which it was published.
        self._ephemeral: deque[tuple[int, Chunk]] = deque()
        self._round = 0
        self._dropped = 0
        # The text of the running answer, as far as the watchers have received it. None = the
        # channel knows no such text.
        self.text: LiveText | None = None
        # Whether the turn that was running when the channel was created has been looked up.
        self.has_begun = False
        # The id of the last turn whose answer has been delivered, and the answer's seq.
        self._answered = ("", 0)
        # The turn that was running when the channel was created; "" = none.
        self._first_turn = ""
        self._first_seq = head.last_seq
        # Seq of the newest assistant's message that has been delivered.
        self._newest_answer = 0

    @property
    def partial(self) -> Chunk | None:
        """The text so far, as the event for a watcher that joins; None if there is none."""
        if not (self.text and self.text.length):
            return None
        return self._chunk_of(*partial_data_of(self.text.whole))

    def begin_text(self, turn_id: str, text: TextPiece | None) -> None:
        """Take up the text of a turn that was already running when the channel was created."""
        self._first_turn = turn_id
        if text:
            self.fill(text)

    def fill(self, text: TextPiece) -> None:
        """Deliver the new parts of the running answer's text, given its whole text so far."""
        if self._is_late_text(text):
            return
        live = self._live(text)
        if not live.length and text.text:
            # No watcher has received any part of this text.
            live.fill(text)
            self._push(self._chunk_of(*partial_data_of(live.whole)))
            return
        for piece in live.fill(text):
            self._push(self._chunk_of(MESSAGE_DELTA, data_of(piece)))

    def wake(self) -> None:
        """Make the channel read new messages, if there are any."""
        self._wake.set()

    def deliver(self, messages: StoredMessages) -> None:
        """Deliver messages that were just stored.

        If the channel has delivered all earlier messages, it need not read these from the database.
        """
        if (
            self._is_resting
            and not (self._wake.is_set() or self._ephemeral or self.is_over or self._is_closed)
            and messages.rows[0][0] == self.seq + 1
            and (messages.message_log, messages.epoch) == (self._message_log, self.epoch)
            and sum(len(body) for _, _, body in messages.rows) < PAGE_BYTES
            and all(watcher.has_room.is_set() for watcher in self.watchers)
        ):
            self._push_messages(messages.rows)
        else:
            self.wake()

    def look_for_rewinds(self) -> None:
        """Make the channel check whether the session was rewound."""
        self._may_be_rewound = True
        self._wake.set()

    def publish(self, chunk: Chunk) -> None:
        """Deliver an ephemeral event, after the messages that precede it and before later ones."""
        if self.is_over:
            return
        if chunk.epoch > self.epoch:
            self._may_be_rewound = True
        if (
            self._is_resting
            and not self._wake.is_set()
            and not self._ephemeral
            and chunk.after_seq is not None
            and self._is_due(self._round, chunk)
        ):
            # All messages before this event have been delivered, and no newer message is known.
            self._push_ephemeral(chunk)
        else:
            self._ephemeral.append((self._round, chunk))
            if len(self._ephemeral) > MAX_EPHEMERAL:
                self._drop_ephemeral()
            self._wake.set()

    def end(self) -> None:
        """End the calls of all watchers after the remaining events: the session is gone."""
        self.is_over = True
        self._wake.set()

    def close(self) -> None:
        """Stop running, because the last watcher has left."""
        self._is_closed = True
        self._wake.set()

    async def run(self) -> None:
        """Deliver messages and events until the session is gone or the channel is closed."""
        begin_work("watch")
        try:
            is_over = False
            while not (is_over or self._is_closed):
                self._is_resting = True
                await self._wake.wait()
                self._wake.clear()
                self._is_resting = False
                self._round += 1
                is_over = self.is_over
                try:
                    if self._may_be_rewound:
                        self._may_be_rewound = False
                        await self._follow_rewinds()
                    await self._read()
                except (DatabaseUnavailable, PoolExhausted, Contention) as e:
                    # The hub's poll will wake the channel again.
                    log.debug("watch_read_retrying", session_id=self.session_id, error=str(e))
                while self._ephemeral and (is_over or self._is_due(*self._ephemeral[0])):
                    self._push_ephemeral(self._ephemeral.popleft()[1])
                if self._dropped and not self._ephemeral:
                    log.warning("events_dropped", session_id=self.session_id, count=self._dropped)
                    self._dropped = 0
            error: Exception = session_not_found(self.session_id)
        except Exception as e:
            # Without an error, watchers of a channel that has stopped would wait forever.
            error = e
        for watcher in self.watchers:
            watcher.end(error)

    def _is_due(self, published_in: int, chunk: Chunk) -> bool:
        """Return whether all messages before an ephemeral event have been delivered."""
        if chunk.epoch != self.epoch:
            return chunk.epoch < self.epoch
        if chunk.after_seq is None:
            # The event follows all messages that were stored when it was published. Any later round
            # has read them.
            return published_in < self._round
        return chunk.after_seq <= self.seq

    async def _follow_rewinds(self) -> None:
        """If the session was rewound, deliver the event and go back to the last kept message."""
        head = await self._history.head(self.key, self.project_id)
        if head is None or head.log != self.log or head.epoch <= self.epoch:
            return
        found = await self._cuts.since(self.key, head, self.epoch)
        # Events of the commit that rewound the session are delivered before the rewind.
        await self._wait_for_publication(self.key)
        self.epoch, self._message_log, self._segments = head.epoch, head.message_log, head.segments
        while self._ephemeral and self._ephemeral[0][1].epoch < self.epoch:
            chunk = self._ephemeral.popleft()[1]
            if not chunk.is_delta:
                self._push(chunk)
        self.seq = min(self.seq, found.last_seq)
        # A rewind aborts the running turn.
        if self.text:
            self._answered = (self.text.turn_id, MAX_SEQ)
            self.text = None
        self._newest_answer = min(self._newest_answer, self.seq)
        self._first_seq = min(self._first_seq, self.seq)
        self._push(chunk_of_cut(self.session_id, found))

    async def _read(self) -> None:
        """Deliver the messages after `seq`.

        Unless the session was rewound, these messages are in its message log, even while older
        messages are being moved.
        """
        is_more = True
        while is_more and not self._is_closed:
            await self._wait_for_room()
            stored = cut(self._segments, self.seq, self.seq + PAGE_ROWS)
            new = Segment(self.key, self._message_log, self.seq + 1, MAX_SEQ)
            rows = await self._history.page(
                PageQuery(tuple(stored) or (new,), PAGE_ROWS, PAGE_BYTES)
            )
            if stored and not is_whole(rows, self.seq):
                # The messages were moved, removed by another rewind, or purged with the session.
                if not await self._look_again(stored):
                    return
                continue
            if not rows or rows[0][0] != self.seq + 1:
                return  # nothing new, or already purged
            # The rows may belong to a commit whose events this process has not published yet.
            await self._wait_for_publication(self.key)
            is_more = bool(stored) or len(rows) == PAGE_ROWS
            # If an event happened between two of these messages, deliver it between them.
            while (
                self._ephemeral
                and self._ephemeral[0][1].epoch == self.epoch
                and (place := self._ephemeral[0][1].after_seq) is not None
                and place < rows[-1][0]
            ):
                before = max(place - self.seq, 0)
                if before:
                    self._push_messages(rows[:before])
                    rows = rows[before:]
                self._push_ephemeral(self._ephemeral.popleft()[1])
            is_more = self._push_messages(rows) >= PAGE_BYTES or is_more

    async def _look_again(self, stored: Sequence[Segment]) -> bool:
        """Look up the segments after `seq` again. Return whether they have changed."""
        head = await self._history.head(self.key, self.project_id)
        if head is None or head.log != self.log:
            return False
        if head.epoch > self.epoch:
            self.look_for_rewinds()
            return False
        self._segments = head.segments
        return cut(head.segments, self.seq, self.seq + PAGE_ROWS) != stored

    async def _wait_for_room(self) -> None:
        """Wait for slow watchers for a while, so that a burst does not overflow their queues."""
        while crowded := [
            watcher
            for watcher in self.watchers
            if not (watcher.has_room.is_set() or watcher.is_late)
        ]:
            queued = sum(watcher.queued_bytes for watcher in self.watchers)
            try:
                async with asyncio.timeout(ROOM_TIMEOUT_S + queued / SENT_BYTES_A_SECOND):
                    for watcher in crowded:
                        await watcher.has_room.wait()
            except TimeoutError:
                for watcher in crowded:
                    watcher.is_late = not watcher.has_room.is_set()

    def _drop_ephemeral(self) -> None:
        """Drop the newest delta.

        Without deltas, drop the newest event that marks no end (see Event.is_ending). If all events
        mark ends, drop the newest one.
        """
        newest_first = range(len(self._ephemeral) - 1, -1, -1)
        places = chain(
            (place for place in newest_first if self._ephemeral[place][1].is_delta),
            (place for place in newest_first if not self._ephemeral[place][1].is_ending),
            newest_first,
        )
        del self._ephemeral[next(places)]
        self._dropped += 1

    def _push_messages(self, rows: Sequence[Any]) -> int:
        """Deliver messages and return their size in bytes."""
        chunk = chunk_of_messages(self.session_id, self.epoch, rows)
        for seq, _, body in rows:
            # A stored body begins with the message's role. The body of an answer contains the
            # id of its turn.
            if body[1] == ROLE_ASSISTANT:
                self._newest_answer = seq
                live = self.text
                if live and seq > live.answered_seq and live.turn_id.encode() in body:
                    self._answered = (live.turn_id, seq)
                    self.text = None
        self.seq = chunk.last_seq
        self._push(chunk)
        return len(chunk.encoded)

    def _push_ephemeral(self, chunk: Chunk) -> None:
        if chunk.is_delta and chunk.epoch < self.epoch:
            return
        if chunk.text:
            self._push_text(chunk, chunk.text)
        elif chunk.type == TURN_START and self.text and self.text.turn_id == chunk.turn_id:
            # Another process published the start of the turn, and it arrives late. The watchers
            # already have the turn's text, because this process has read it from the database.
            return
        elif not chunk.is_late(self.seq):
            if chunk.type == TURN_END and self.text and self.text.turn_id == chunk.turn_id:
                self._answered = (self.text.turn_id, MAX_SEQ)
                self.text = None
            self._push(chunk)

    def _push_text(self, chunk: Chunk, piece: TextPiece) -> None:
        """Deliver the new text of a delta. If text before it is missing, ask for that text."""
        if self._is_late_text(piece) or (self.text is None and self._is_old(chunk, piece)):
            return
        live = self._live(piece)
        new = live.add(piece)
        if new is piece:
            self._push(chunk)
        elif new:
            self._push(self._chunk_of(MESSAGE_DELTA, data_of(new)))
        if live.missing:
            if len(live.missing) > MAX_MISSING:
                # The pieces can still be read from the database.
                live.missing.clear()
            self._on_missing_text(self)

    def _live(self, piece: TextPiece) -> LiveText:
        if self.text is None or not self.text.is_of(piece):
            self.text = LiveText(piece.turn_id, piece.answered_seq)
        return self.text

    def _is_old(self, chunk: Chunk, piece: TextPiece) -> bool:
        """Return whether a piece of an unknown text belongs to an answer delivered before."""
        is_before = chunk.after_seq is not None and chunk.after_seq < self._first_seq
        return piece.answered_seq < self._newest_answer or (
            is_before and piece.turn_id != self._first_turn
        )

    def _is_late_text(self, piece: TextPiece) -> bool:
        """Return whether the answer with this piece was delivered, or a later answer has begun."""
        turn_id, seq = self._answered
        if piece.turn_id == turn_id and piece.answered_seq < seq:
            return True
        return bool(
            self.text
            and self.text.turn_id == piece.turn_id
            and self.text.answered_seq > piece.answered_seq
        )

    def _chunk_of(self, type_: str, data: Mapping[str, Any]) -> Chunk:
        event = Event(
            type_,
            self.project_id,
            self.session_id,
            self.log,
            now_us(),
            data=data,
            epoch=self.epoch,
        )
        return chunk_of_event(event)

    def _push(self, chunk: Chunk) -> None:
        for watcher in self.watchers:
            watcher.push(chunk)
