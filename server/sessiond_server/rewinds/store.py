"""Rewinds: a session gets a new message log; its old one becomes a segment that ends at the cut.

No message is touched, so the cost does not depend on the number of messages. The messages after the
cut stay where they are until the purger removes them, unless a copy still reads them.

The statements run in the transaction of a Change that excludes copies. There are several of them,
because locks must be taken in the order of docs/locks.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import orjson
from psycopg.types.numeric import Int8

from sessiond_server.copies.store.copies import SUMS
from sessiond_server.messages.store.append import Appended
from sessiond_server.messages.store.cuts import KEPT_CUTS
from sessiond_server.messages.store.segments import (
    SEGMENTS,
    Segment,
    columns,
    cut,
    joined,
    short_segments,
)
from sessiond_server.sessions.store.lock import Change

_HEAD = """
SELECT base_seq, content_bytes, token_count, estimated_tokens, running_turn FROM sessions
WHERE key = %(key)s"""

_TOTALS = """
SELECT total_bytes, total_tokens FROM messages
WHERE key = %(src_key)s AND log = %(src_log)s AND seq = %(cut)s"""

_CUT = """
WITH dropped AS (
    DELETE FROM segments WHERE key = %(key)s AND first_seq > %(last_first)s
), placed AS (
    INSERT INTO segments (key, first_seq, last_seq, src_key, src_log)
    SELECT %(key)s, %(last_first)s, %(cut)s, %(src_key)s, %(src_log)s WHERE %(cut)s > 0
    ON CONFLICT (key, first_seq) DO UPDATE SET last_seq = EXCLUDED.last_seq
)
UPDATE sessions SET message_log = %(new_log)s, epoch = epoch + 1, base_seq = %(cut)s,
    last_seq = %(cut)s, written_seq = %(cut)s, short_segments = %(short_segments)s,
    content_bytes = %(bytes)s, token_count = %(tokens)s, estimated_tokens = %(estimated)s,
    largest_bytes = CASE WHEN %(cut)s > 0 THEN largest_bytes ELSE 0 END,
    first_words = CASE WHEN first_words_seq <= %(cut)s THEN first_words END,
    first_words_seq = CASE WHEN first_words_seq <= %(cut)s THEN first_words_seq END,
    is_branched = is_branched AND %(cut)s > 0
WHERE key = %(key)s"""

# A conflicting row is updated rather than skipped: the update waits for a purger that has locked
# the row and may be about to remove it.
_QUEUE_LOGS = """
INSERT INTO dead_logs (key, log, queued_at)
SELECT DISTINCT left_log.key, left_log.log, clock_timestamp() + %(grace)s
FROM unnest(%(keys)s::uuid[], %(logs)s::uuid[]) AS left_log (key, log)
ORDER BY 1, 2
ON CONFLICT (key, log) DO UPDATE SET queued_at = EXCLUDED.queued_at"""

_FORGET = """
WITH remembered AS (
    INSERT INTO rewinds (key, log, epoch, last_seq, removed_count, created_at)
    VALUES (%(key)s, %(log)s, %(epoch)s, %(cut)s, %(removed_count)s, clock_timestamp())
), forgotten AS (
    DELETE FROM rewinds WHERE key = %(key)s AND log = %(log)s AND epoch <= %(epoch)s - %(kept)s
), bookmarks AS (
    DELETE FROM bookmarks WHERE key = %(key)s AND log = %(log)s AND seq > %(cut)s
), unlinked AS (
    UPDATE tasks SET revision = revision + 1, updated_at = statement_timestamp(),
        message_seqs = ARRAY(
            SELECT seq FROM unnest(message_seqs) AS seq WHERE seq <= %(cut)s ORDER BY seq)
    WHERE key = %(key)s AND log = %(log)s AND message_seqs[cardinality(message_seqs)] > %(cut)s
), kept_mark AS (
    UPDATE context_marks SET epoch = %(epoch)s
    WHERE key = %(key)s AND log = %(log)s AND epoch = %(epoch)s - 1 AND first_seq <= %(cut)s
)
DELETE FROM context_marks WHERE key = %(key)s AND log = %(log)s
    AND (epoch < %(epoch)s - 1 OR first_seq > %(cut)s)"""

# A lease that has messages up to the cut keeps these. If a lease has lost messages, cut_lease_id
# names it, so that an acknowledgement of the lost messages fails. lease_firsts also serves to count
# the attempts at a message, so it must not contain seqs that new messages will get.
_LOSES = "lease_id IS NOT NULL AND lease_lasts[cardinality(lease_lasts)] > %(cut)s"
_IS_LOST = "lease_id IS NOT NULL AND lease_firsts[1] > %(cut)s"
_REWIND_PROCESSING = f"""
UPDATE processing SET done_seq = LEAST(done_seq, %(cut)s), is_ready = true,
    cut_lease_id = CASE WHEN {_LOSES} THEN lease_id ELSE cut_lease_id END,
    lease_id = CASE WHEN {_IS_LOST} THEN NULL ELSE lease_id END,
    lease_until = CASE WHEN {_IS_LOST} THEN NULL ELSE lease_until END,
    worker = CASE WHEN {_IS_LOST} THEN '' ELSE worker END,
    ready_at = CASE WHEN {_IS_LOST} THEN clock_timestamp() ELSE ready_at END,
    lease_firsts = ARRAY(
        SELECT first FROM unnest(lease_firsts) AS first WHERE first <= %(cut)s ORDER BY first),
    lease_lasts = ARRAY(
        SELECT LEAST(last, %(cut)s) FROM unnest(lease_firsts, lease_lasts) AS r (first, last)
        WHERE first <= %(cut)s ORDER BY first)
WHERE key = %(key)s AND log = %(log)s"""

_DELETE_EXCEPTIONS = """
DELETE FROM processing_exceptions WHERE key = %(key)s AND log = %(log)s AND seq > %(cut)s"""

_BOOKMARK = "SELECT seq FROM bookmarks WHERE key = %(key)s AND log = %(log)s AND name = %(name)s"

_SET_RESULT = """
UPDATE requests SET first_seq = %(first_seq)s, last_seq = %(last_seq)s, epoch = %(epoch)s,
    session_id = %(result)s
WHERE key = %(key)s AND log = %(log)s AND request_id = %(request_id)s"""


@dataclass(frozen=True, slots=True)
class Head:
    """The state of a session before a rewind.

    Attributes:
        segments: all segments of the session, in order, the message log included.
        content_bytes, token_count, estimated_tokens: as in the table sessions.
        running_turn: the running turn; None if there is none.
    """

    segments: Sequence[Segment]
    content_bytes: int
    token_count: int
    estimated_tokens: int
    running_turn: UUID | None


@dataclass(frozen=True, slots=True)
class RewindResult:
    """The result of a rewind.

    Attributes:
        last_seq: seq of the session's last message after the rewind.
        epoch: the session's epoch after the rewind.
        first_seq: seq of the first appended message; 0 = none was appended.
        removed: the segments that held the removed messages, in order.
        created_us: create time of the appended messages, in microseconds since 2000-01-01 UTC; 0 =
            none was appended.
    """

    last_seq: int
    epoch: int
    first_seq: int
    removed: Sequence[Segment]
    created_us: int

    @property
    def removed_count(self) -> int:
        """Number of removed messages."""
        return sum(map(len, self.removed))


class RewindStore:
    """Statements of a rewind. Methods run in the transaction of a Change that excludes copies."""

    async def head(self, change: Change) -> Head:
        """Return the state of the session before the rewind."""
        [row] = await change.rows(_HEAD)
        base_seq = row.pop("base_seq")
        rows = await change.rows(SEGMENTS) if base_seq else []
        segments = [Segment(*found.values()) for found in rows]
        if change.last_seq > base_seq:
            segments.append(Segment(change.key, change.message_log, base_seq + 1, change.last_seq))
        return Head(segments, **row)

    async def seq_of_bookmark(self, change: Change, name: str) -> int | None:
        """Return the seq of a bookmark; None if the session has no such bookmark."""
        rows = await change.rows(_BOOKMARK, name=name)
        return rows[0]["seq"] if rows else None

    async def cut(self, change: Change, head: Head, last_seq: int, grace_s: float) -> UUID:
        """Remove the messages after a seq, and everything that refers to them.

        At least one message must follow the seq.

        Args:
            change: the transaction.
            head: the session before the rewind.
            last_seq: seq of the last message to keep; 0 = none.
            grace_s: how long the purger leaves the removed messages alone, in seconds.

        Returns:
            The session's new message log.
        """
        kept = joined(cut(head.segments, 0, last_seq))
        removed = cut(head.segments, last_seq, change.last_seq)
        last = kept[-1] if kept else Segment(change.key, change.message_log, 0, 0)
        size, tokens, estimated = await self._totals(change, head, last, removed)
        new_log = uuid4()
        here = {"cut": Int8(last_seq), "epoch": Int8(change.epoch + 1)}
        await change.rows(
            _CUT,
            **here,
            last_first=Int8(last.first_seq),
            src_key=last.key,
            src_log=last.log,
            new_log=new_log,
            short_segments=Int8(len(short_segments(kept, change.key, new_log))),
            bytes=Int8(size),
            tokens=Int8(tokens),
            estimated=Int8(estimated),
        )
        # The session always leaves its old message log: nothing is appended to it any more.
        left = {(change.key, change.message_log), *((s.key, s.log) for s in removed)}
        await change.rows(
            _QUEUE_LOGS,
            keys=[key for key, _ in left],
            logs=[log for _, log in left],
            grace=timedelta(seconds=grace_s),
        )
        await change.rows(
            _FORGET,
            **here,
            removed_count=Int8(change.last_seq - last_seq),
            kept=Int8(KEPT_CUTS),
        )
        await change.rows(_REWIND_PROCESSING, **here)
        await change.rows(_DELETE_EXCEPTIONS, **here)
        return new_log

    async def set_result(self, change: Change, request_id: str, result: RewindResult) -> None:
        """Record the result for repetitions of the request."""
        places = [(s.key.hex, s.log.hex, s.first_seq, s.last_seq) for s in result.removed]
        await change.rows(
            _SET_RESULT,
            request_id=request_id,
            first_seq=Int8(result.first_seq),
            last_seq=Int8(result.last_seq),
            epoch=Int8(result.epoch),
            result=orjson.dumps([result.created_us, places]).decode(),
        )

    async def _totals(
        self, change: Change, head: Head, last: Segment, removed: Sequence[Segment]
    ) -> tuple[int, int, int]:
        """Return the content_bytes, tokens and estimated tokens of the kept messages.

        Args:
            change: the transaction.
            head: the session before the rewind.
            last: the last segment to keep.
            removed: the segments to remove.
        """
        if not last.last_seq:
            return 0, 0, 0
        size, tokens, estimated = head.content_bytes, head.token_count, head.estimated_tokens
        place = {"src_key": last.key, "src_log": last.log, "cut": Int8(last.last_seq)}
        [found] = await change.rows(_TOTALS, **place)
        # Some old messages have no running totals. If only some tokens are estimated, the totals do
        # not show which ones.
        if found["total_bytes"] is not None and estimated in (0, tokens):
            total = found["total_tokens"]
            return found["total_bytes"], total, total if estimated else 0
        [gone] = await change.rows(SUMS, **columns(removed))
        return size - gone["bytes"], tokens - gone["tokens"], estimated - gone["estimated"]


def appended_result(
    appended: Appended | None, last_seq: int, epoch: int, removed: Sequence[Segment]
) -> RewindResult:
    """Return the result of a rewind.

    Args:
        appended: the append that followed the rewind; None if there was none.
        last_seq: seq of the last message kept.
        epoch: epoch of the session after the rewind.
        removed: the segments that held the removed messages.
    """
    if appended is None:
        return RewindResult(last_seq, epoch, 0, removed, 0)
    return RewindResult(appended.last_seq, epoch, appended.first_seq, removed, appended.created_us)


def recorded_result(first_seq: int, last_seq: int, epoch: int, result: str) -> RewindResult:
    """Return the result that `set_result` recorded."""
    created_us, places = orjson.loads(result)
    removed = [Segment(UUID(key), UUID(log), *seqs) for key, log, *seqs in places]
    return RewindResult(last_seq, epoch, first_seq, removed, created_us)
