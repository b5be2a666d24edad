"""Flattening: a copy of a copy of a copy ... reads from as many logs; what is short among these is copied into the session's own log.

Nobody notices. The messages are written first, where nobody looks for them yet; then one transaction puts the new list of segments into
the place of the old one. Readers in mid-stream have the old list: where its logs are gone when they come to them, they ask for the new one.
"""

from dataclasses import dataclass
from uuid import UUID

from psycopg.types.numeric import Int8

from sessiond_server.db.pool import Database
from sessiond_server.messages.store.segments import MAX_SHORT, Segment

# The number stands in the text for the partial index to be found.
_LONG = f"SELECT key, log FROM sessions WHERE short_segments > {MAX_SHORT} ORDER BY short_segments DESC LIMIT %(batch)s"

_SEGMENTS = "SELECT src_key, src_log, first_seq, last_seq FROM segments WHERE key = %(key)s ORDER BY first_seq"

# Keeps the session from being deleted before this commits; the purger then finds what was written.
_HOLD = "SELECT FROM sessions WHERE key = %(key)s AND log = %(log)s FOR KEY SHARE"

_WRITE = """
WITH source AS (
    SELECT * FROM messages WHERE key = %(src_key)s AND log = %(src_log)s AND seq >= %(first)s AND seq <= %(last)s
), written AS (
    INSERT INTO messages (key, log, seq, role, format, content_bytes, created_at, body, tokens, total_bytes, total_tokens)
    SELECT %(key)s, %(log)s, seq, role, format, content_bytes, created_at, body, tokens, total_bytes, total_tokens FROM source
    ON CONFLICT DO NOTHING
), referred AS (
    INSERT INTO asset_refs (key, log, seq, sha256, project_id)
    SELECT %(key)s, %(log)s, seq, sha256, project_id FROM asset_refs
    WHERE key = %(src_key)s AND log = %(src_log)s AND seq >= %(first)s AND seq <= %(last)s
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM source"""

# Excludes copies and deletions, which hold or want the row, while the list changes.
_LOCK = "SELECT FROM sessions WHERE key = %(key)s AND log = %(log)s FOR UPDATE"

_CLEAR = """
WITH cleared AS (DELETE FROM segments WHERE key = %(key)s)
UPDATE sessions SET short_segments = 0 WHERE key = %(key)s"""

_INSERT = """
INSERT INTO segments (key, first_seq, last_seq, src_key, src_log)
SELECT %(key)s, segment.* FROM unnest(%(firsts)s::bigint[], %(lasts)s::bigint[], %(src_keys)s::uuid[], %(src_logs)s::uuid[]) AS segment"""

_QUEUE = """
INSERT INTO dead_logs (key, log) SELECT DISTINCT * FROM unnest(%(keys)s::uuid[], %(logs)s::uuid[]) AS left_log (key, log) ORDER BY 1, 2
ON CONFLICT (key, log) DO UPDATE SET queued_at = now()"""


@dataclass(frozen=True, slots=True)
class LongChain:
    """A session that reads from many logs. segments: those that it shares, in order."""

    key: UUID
    log: UUID
    segments: tuple[Segment, ...]


class FlatteningStore:
    """Moves messages between logs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def long_chains(self, batch: int) -> list[LongChain]:
        """Sessions with more short segments than MAX_SHORT, at most `batch`, the longest first."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(_LONG, {"batch": Int8(batch)})
            found = await cursor.fetchall()
            chains = []
            for key, log in found:
                cursor = await connection.execute(_SEGMENTS, {"key": key})
                chains.append(
                    LongChain(key, log, tuple(Segment(*row) for row in await cursor.fetchall()))
                )
        return chains

    async def write(self, chain: LongChain, source: Segment) -> bool:
        """Write the messages of a segment, or of a part of one, into the session's own log too; what is there already stays.

        Returns: False where the session, or a message of the segment, is gone.
        """
        async with self._database.transaction() as connection:
            own = {"key": chain.key, "log": chain.log}
            cursor = await connection.execute(_HOLD, own)
            if await cursor.fetchone() is None:
                return False
            part = {
                "src_key": source.key,
                "src_log": source.log,
                "first": Int8(source.first_seq),
                "last": Int8(source.last_seq),
            }
            cursor = await connection.execute(_WRITE, own | part)
            row = await cursor.fetchone()
            return row is not None and row[0] == len(source)

    async def replace(self, chain: LongChain, segments: list[Segment]) -> bool:
        """Have the session read from these segments. Answers False, and changes nothing, where its segments are no longer the chain's."""
        async with self._database.transaction() as connection:
            own = {"key": chain.key, "log": chain.log}
            cursor = await connection.execute(_LOCK, own)
            if await cursor.fetchone() is None:
                return False
            cursor = await connection.execute(_SEGMENTS, own)
            if tuple(Segment(*row) for row in await cursor.fetchall()) != chain.segments:
                return False
            await connection.execute(_CLEAR, own)
            columns = {
                "firsts": [s.first_seq for s in segments],
                "lasts": [s.last_seq for s in segments],
                "src_keys": [s.key for s in segments],
                "src_logs": [s.log for s in segments],
            }
            await connection.execute(_INSERT, {"key": chain.key, **columns})
            left = {(s.key, s.log) for s in chain.segments} - {(s.key, s.log) for s in segments}
            await connection.execute(
                _QUEUE, {"keys": [key for key, _ in left], "logs": [log for _, log in left]}
            )
        return True
