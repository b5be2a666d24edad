"""Flattening copies the short segments of a session into its message log.

Readers do not notice the change. The messages are first written to a place where no reader looks
yet. Then one transaction replaces the list of segments. A reader that still has the old list
fetches the new one if it reaches a log that is gone.
"""

from dataclasses import dataclass
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from sessiond_server.db.message_log import MESSAGE_LOG
from sessiond_server.db.pool import Database
from sessiond_server.messages.store.rows import MESSAGE_COLUMNS
from sessiond_server.messages.store.segments import MAX_SHORT, SEGMENTS, Segment, columns

# MAX_SHORT is written into the text, because with a parameter the partial index would not be used.
_LONG = f"""
SELECT key, {MESSAGE_LOG} AS log FROM sessions WHERE short_segments > {MAX_SHORT}
ORDER BY short_segments DESC LIMIT %(batch)s"""

# Delays a deletion or a rewind of the session until this transaction commits, so that the purger
# finds the new rows.
_HOLD = f"SELECT 1 FROM sessions WHERE key = %(key)s AND {MESSAGE_LOG} = %(log)s FOR KEY SHARE"

_WRITE = f"""
WITH source AS (
    SELECT * FROM messages WHERE key = %(src_key)s AND log = %(src_log)s
        AND seq >= %(first)s AND seq <= %(last)s
), written AS (
    INSERT INTO messages ({MESSAGE_COLUMNS})
    SELECT %(key)s, %(log)s, seq, role, format, content_bytes, created_at, body, tokens,
        total_bytes, total_tokens FROM source
    ON CONFLICT DO NOTHING
), linked AS (
    INSERT INTO parent_links (key, log, seq, parent_seq)
    SELECT %(key)s, %(log)s, seq, parent_seq FROM parent_links
    WHERE key = %(src_key)s AND log = %(src_log)s AND seq >= %(first)s AND seq <= %(last)s
    ON CONFLICT DO NOTHING
), named AS (
    INSERT INTO message_ids (key, log, seq, message_id)
    SELECT %(key)s, %(log)s, seq, message_id FROM message_ids
    WHERE key = %(src_key)s AND log = %(src_log)s AND seq >= %(first)s AND seq <= %(last)s
    ON CONFLICT DO NOTHING
), referred AS (
    INSERT INTO asset_refs (key, log, seq, sha256, project_id)
    SELECT %(key)s, %(log)s, seq, sha256, project_id FROM asset_refs
    WHERE key = %(src_key)s AND log = %(src_log)s AND seq >= %(first)s AND seq <= %(last)s
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM source"""

# Excludes copies, rewinds and deletions while the list of segments changes.
_LOCK = f"SELECT 1 FROM sessions WHERE key = %(key)s AND {MESSAGE_LOG} = %(log)s FOR UPDATE"

_CLEAR = """
WITH cleared AS (DELETE FROM segments WHERE key = %(key)s)
UPDATE sessions SET short_segments = 0 WHERE key = %(key)s"""

_INSERT = """
INSERT INTO segments (key, first_seq, last_seq, src_key, src_log)
SELECT %(key)s, segment.* FROM unnest(
    %(firsts)s::bigint[], %(lasts)s::bigint[], %(keys)s::uuid[], %(logs)s::uuid[]
) AS segment"""

_QUEUE = """
INSERT INTO dead_logs (key, log)
SELECT DISTINCT * FROM unnest(%(keys)s::uuid[], %(logs)s::uuid[]) AS left_log (key, log)
ORDER BY 1, 2
ON CONFLICT (key, log) DO UPDATE SET queued_at = GREATEST(dead_logs.queued_at, now())"""


@dataclass(frozen=True, slots=True)
class LongChain:
    """A session that reads from many logs.

    Attributes:
        key: key of the session.
        log: the session's message log.
        segments: the session's segments, in order.
    """

    key: UUID
    log: UUID
    segments: tuple[Segment, ...]


class FlatteningStore:
    """Moves messages between logs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def long_chains(self, batch: int) -> list[LongChain]:
        """Return at most `batch` sessions with over MAX_SHORT short segments, longest first."""
        async with self._database.connection() as connection:
            return [
                LongChain(**row, segments=await self._segments(connection, row["key"]))
                for row in await self._database.rows(_LONG, {"batch": batch}, on=connection)
            ]

    async def write(self, chain: LongChain, source: Segment) -> bool:
        """Copy the messages of a segment, or of a part of one, into the session's message log.

        Messages that have already been copied are skipped.

        Returns:
            False if the session or a message of the segment is gone.
        """
        parameters = {
            "key": chain.key,
            "log": chain.log,
            "src_key": source.key,
            "src_log": source.log,
            "first": source.first_seq,
            "last": source.last_seq,
        }
        async with self._database.transaction() as connection:
            if not await self._database.rows(_HOLD, parameters, on=connection):
                return False
            [written] = await self._database.rows(_WRITE, parameters, on=connection)
            return bool(written["count"] == len(source))

    async def replace(self, chain: LongChain, segments: list[Segment]) -> bool:
        """Replace the session's segments.

        Returns:
            False if the session no longer has the segments in `chain`; nothing is changed then.
        """
        own = {"key": chain.key, "log": chain.log}
        left = {(s.key, s.log) for s in chain.segments} - {(s.key, s.log) for s in segments}
        left_logs = {"keys": [key for key, _ in left], "logs": [log for _, log in left]}
        async with self._database.transaction() as connection:
            if (
                not await self._database.rows(_LOCK, own, on=connection)
                or await self._segments(connection, chain.key) != chain.segments
            ):
                return False
            await connection.execute(_CLEAR, own)
            await connection.execute(_INSERT, own | columns(segments))
            await connection.execute(_QUEUE, left_logs)
        return True

    async def _segments(
        self, connection: AsyncConnection[TupleRow], key: UUID
    ) -> tuple[Segment, ...]:
        rows = await self._database.rows(SEGMENTS, {"key": key}, on=connection)
        return tuple(Segment(*row.values()) for row in rows)
