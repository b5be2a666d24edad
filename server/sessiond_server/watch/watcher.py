"""The queue of one watcher."""

import asyncio
from collections import deque

from sessiond_server.core.errors import Fault
from sessiond_server.telemetry import metrics
from sessiond_server.watch.encoding import Chunk

MAX_QUEUED_BYTES, MAX_QUEUED_CHUNKS = 1024 * 1024, 4096
MAX_RESPONSE_BYTES = 256 * 1024


class Watcher:
    """One Watch call, with a bounded queue of events that its client has not received yet.

    Attributes:
        after: seq of the last message that the client has received or that is queued for it.
        epoch: epoch of that message.
        is_live: whether the watcher has caught up with its channel. Before that, it reads stored
            messages.
        is_late: whether the watcher was still behind after the channel had waited for it.
        error: the error that ends the call once the queue is empty.
        queued_bytes: size of the queue in bytes.
        has_room: set while at most half of the queue is used.
    """

    def __init__(self, session_id: str, after: int, epoch: int) -> None:
        self.after = after
        self.epoch = epoch
        self.is_live = False
        self.is_late = False
        self.error: Exception | None = None
        self.queued_bytes = 0
        self.has_room = asyncio.Event()
        self.has_room.set()
        self._session_id = session_id
        self._queue: deque[Chunk] = deque()
        self._woken = asyncio.Event()

    def push(self, chunk: Chunk) -> None:
        """Queue a chunk, without the messages that the watcher already has.

        A watcher that is not live yet ignores messages. If the queue is full, the call ends.
        """
        if self.error:
            return
        if chunk.rewound_to is not None:
            # A watcher that is not live yet learns of rewinds from the session's current state.
            if not self.is_live or chunk.epoch <= self.epoch:
                return
            self.rewind(chunk.epoch, chunk.rewound_to)
        elif chunk.last_seq:
            if not self.is_live or (chunk.epoch, chunk.last_seq) <= (self.epoch, self.after):
                return
            chunk = chunk.since(self.after)
            self.after = chunk.last_seq
        # The limit is checked before the chunk is added, since a single message may fill the queue.
        if self.queued_bytes >= MAX_QUEUED_BYTES or len(self._queue) >= MAX_QUEUED_CHUNKS:
            self._queue.clear()
            self.queued_bytes = 0
            metrics.TOO_SLOW.inc()
            self.end(
                Fault(
                    "WATCHER_TOO_SLOW",
                    "events arrive faster than they are read; resume from the last seq received",
                    metadata={"session_id": self._session_id},
                    retry_after_s=0.1,
                )
            )
            return
        self._queue.append(chunk)
        self.queued_bytes += len(chunk.encoded)
        if self.queued_bytes > MAX_QUEUED_BYTES // 2:
            self.has_room.clear()
        self._woken.set()

    def rewind(self, epoch: int, last_seq: int) -> None:
        """Move back to the last message that a rewind has kept."""
        self.epoch, self.after = epoch, min(self.after, last_seq)

    def go_live(self, partial: Chunk | None = None) -> None:
        """Start taking messages from the channel.

        This drops the queued deltas of messages that the watcher already has.

        Args:
            partial: the text of the running answer so far. It replaces the queued pieces of this
                text.
        """
        self.is_live = True
        self._queue = deque(
            chunk for chunk in self._queue if not (chunk.is_text or chunk.is_late(self.after))
        )
        if partial:
            self._queue.append(partial)
            self._woken.set()
        self.queued_bytes = sum(len(chunk.encoded) for chunk in self._queue)

    def end(self, error: Exception) -> None:
        """End the call with an error once its queue is empty. Later errors are ignored."""
        self.error = self.error or error
        self._woken.set()
        self.has_room.set()

    def take(self) -> bytes:
        """Take about MAX_RESPONSE_BYTES of encoded events from the queue; b"" if it is empty."""
        return b"".join(chunk.encoded for chunk in self.take_chunks())

    def take_chunks(self) -> list[Chunk]:
        """Take about MAX_RESPONSE_BYTES of events from the queue; [] if it is empty."""
        chunks: list[Chunk] = []
        size = 0
        while self._queue and (
            not chunks or size + len(self._queue[0].encoded) <= MAX_RESPONSE_BYTES
        ):
            chunks.append(self._queue.popleft())
            size += len(chunks[-1].encoded)
        self.queued_bytes -= size
        if self.queued_bytes <= MAX_QUEUED_BYTES // 2:
            self.has_room.set()
        if not self._queue:
            self.is_late = False
        return chunks

    def wake(self) -> None:
        """Make wait() return."""
        self._woken.set()

    async def wait(self, timeout_s: float) -> bool:
        """Wait for an event, an error or a wake-up.

        Returns:
            False if nothing happened within timeout_s.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True
