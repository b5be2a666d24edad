"""What the purger does: bounded batches, each its own transaction, safe with any number of servers (SKIP LOCKED)."""

from datetime import timedelta

from psycopg.types.numeric import Int8

from sessiond_server.store.database import Database
from sessiond_server.store.expiry import ALIVE

# A session that was used since its check was set is not expired: the check moves on to its real time. This, not the append,
# is where the index on expiry_check_at is paid for.
_EXPIRE = f"""
WITH due AS (
    SELECT key, {ALIVE} AS alive FROM sessions
    WHERE expiry_check_at <= statement_timestamp() ORDER BY expiry_check_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE sessions s SET expiry_check_at = s.used_at + s.idle_ttl_ms * interval '1 millisecond'
    FROM due WHERE s.key = due.key AND due.alive RETURNING s.key
), dead AS (
    DELETE FROM sessions s USING due WHERE s.key = due.key AND NOT due.alive RETURNING s.key, s.log
), queued AS (
    INSERT INTO dead_logs (key, log) SELECT key, log FROM dead RETURNING key
)
SELECT (SELECT count(*) FROM due), (SELECT count(*) FROM queued)"""

_LOCK_LOG = "SELECT key, log FROM dead_logs ORDER BY queued_at LIMIT 1 FOR UPDATE SKIP LOCKED"

_DELETE_MESSAGES = """
DELETE FROM messages WHERE key = %(key)s AND log = %(log)s AND seq IN (
    SELECT seq FROM messages WHERE key = %(key)s AND log = %(log)s ORDER BY seq LIMIT %(batch)s)"""

# Before the messages, with the same choice of them.
_DELETE_ASSET_REFS = """
DELETE FROM asset_refs WHERE key = %(key)s AND log = %(log)s AND seq IN (
    SELECT seq FROM messages WHERE key = %(key)s AND log = %(log)s ORDER BY seq LIMIT %(batch)s)"""

_DELETE_REQUESTS = "DELETE FROM requests WHERE key = %(key)s AND log = %(log)s"
_DELETE_LOG = "DELETE FROM dead_logs WHERE key = %(key)s AND log = %(log)s"

_DELETE_OLD_REQUESTS = """
DELETE FROM requests WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM requests WHERE created_at < statement_timestamp() - %(age)s LIMIT %(batch)s FOR UPDATE SKIP LOCKED))"""


class PurgeStore:
    """Removal of what can no longer be reached."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def expire(self, batch: int) -> tuple[int, int]:
        """Remove sessions whose time has passed, at most `batch`. Answers (looked at, removed)."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(_EXPIRE, {"batch": Int8(batch)})
            row = await cursor.fetchone()
        return (row[0], row[1]) if row else (0, 0)

    async def purge_log(self, batch: int) -> int | None:
        """Delete at most `batch` messages of one dead log, and the log's entry once it is empty.

        Returns: how many messages went; None where no log is waiting (or others work on all of them).
        """
        async with self._database.transaction() as connection:
            cursor = await connection.execute(_LOCK_LOG)
            found = await cursor.fetchone()
            if found is None:
                return None
            parameters = {"key": found[0], "log": found[1], "batch": Int8(batch)}
            await connection.execute(_DELETE_ASSET_REFS, parameters)
            cursor = await connection.execute(_DELETE_MESSAGES, parameters)
            deleted = cursor.rowcount
            if deleted < batch:
                await connection.execute(_DELETE_REQUESTS, parameters)
                await connection.execute(_DELETE_LOG, parameters)
            return deleted

    async def forget_requests(self, age_s: float, batch: int) -> int:
        """Delete at most `batch` request records older than age_s seconds."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(_DELETE_OLD_REQUESTS, {"age": timedelta(seconds=age_s), "batch": Int8(batch)})
            return cursor.rowcount
