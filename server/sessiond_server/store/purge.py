"""What the purger does: bounded batches, each its own transaction, safe with any number of servers (SKIP LOCKED)."""

from datetime import timedelta
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8

from sessiond_server.store.burial import Buried, bury_locked
from sessiond_server.store.database import Database
from sessiond_server.store.expiry import ALIVE

_DUE = f"""
SELECT key, {ALIVE}, project_id, session_id, log, last_seq FROM sessions
WHERE expiry_check_at <= statement_timestamp() ORDER BY expiry_check_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED"""

# A session that was used since its check was set is not expired: the check moves on to its real time. This, not the append,
# is where the index on expiry_check_at is paid for.
_PUT_OFF = """
UPDATE sessions SET expiry_check_at = used_at + idle_ttl_ms * interval '1 millisecond' WHERE key = ANY(%(keys)s)"""

_LOCK_LOG = "SELECT key, log FROM dead_logs ORDER BY queued_at LIMIT 1 FOR UPDATE SKIP LOCKED"

_IS_LIVE = "SELECT EXISTS (SELECT FROM sessions WHERE key = %(key)s AND log = %(log)s)"

# What no segment reaches, as ranges.
_UNREACHED = """
SELECT lower(gap), upper(gap) FROM (
    SELECT unnest(int8multirange(int8range(1, NULL)) - COALESCE(range_agg(int8range(first_seq, last_seq, '[]')), '{}'))
    FROM segments WHERE src_key = %(key)s AND src_log = %(log)s
) AS gaps (gap) ORDER BY 1"""

# An asset's references go with the messages.
_DELETE_MESSAGES = """
WITH doomed AS (
    SELECT seq FROM messages
    WHERE key = %(key)s AND log = %(log)s AND seq >= %(first)s AND (%(end)s::bigint IS NULL OR seq < %(end)s::bigint)
    ORDER BY seq LIMIT %(batch)s
), gone AS (
    DELETE FROM messages WHERE key = %(key)s AND log = %(log)s AND seq IN (SELECT seq FROM doomed)
), unreferred AS (
    DELETE FROM asset_refs WHERE key = %(key)s AND log = %(log)s AND seq IN (SELECT seq FROM doomed)
)
SELECT count(*) FROM doomed"""

# What belongs to a session alone, which no copy reads. Progress before its exceptions: an acknowledgement that holds the former's row may
# still add some of the latter.
_DELETE_OWN = [
    f"DELETE FROM {table} WHERE key = %(key)s AND log = %(log)s"
    for table in ("tasks", "bookmarks", "processing", "processing_exceptions", "requests")
]
_DELETE_LOG = "DELETE FROM dead_logs WHERE key = %(key)s AND log = %(log)s"

_DELETE_OLD_REQUESTS = """
DELETE FROM requests WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM requests WHERE created_at < statement_timestamp() - %(age)s LIMIT %(batch)s FOR UPDATE SKIP LOCKED))"""


class PurgeStore:
    """Removal of what can no longer be reached."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def expire(self, batch: int) -> tuple[int, list[Buried]]:
        """Remove sessions whose time has passed, at most `batch`. Answers how many it looked at, and those that went."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(_DUE, {"batch": Int8(batch)})
            due = await cursor.fetchall()
            used = [key for key, is_alive, *_ in due if is_alive]
            if used:
                await connection.execute(_PUT_OFF, {"keys": used})
            dead = {key: Buried(*session) for key, is_alive, *session in due if not is_alive}
            await bury_locked(self._database, connection, list(dead))
        return len(due), list(dead.values())

    async def purge_log(self, batch: int) -> int | None:
        """Delete at most `batch` messages of one queued log that nothing reaches, and the log's entry once there are no more.

        One at a time for each log, by the lock on its entry. What reaches the log can only become less while this looks: a copy reaches no
        more than its source does, whose end waits for the copy's commit, and queues the log anew.

        Returns: how many messages went; None where no log is waiting (or others work on all of them).
        """
        async with self._database.transaction() as connection:
            cursor = await connection.execute(_LOCK_LOG)
            found = await cursor.fetchone()
            if found is None:
                return None
            key, log = found
            log_of = {"key": key, "log": log}
            # A log that a copy gave back, and whose own session lives.
            (is_live,) = await _one(connection, _IS_LIVE, log_of)
            deleted = 0 if is_live else await self._delete_messages(connection, key, log, batch)
            if deleted < batch:
                if not is_live:
                    for statement in _DELETE_OWN:
                        await connection.execute(statement, log_of)
                await connection.execute(_DELETE_LOG, log_of)
            return deleted

    async def forget_requests(self, age_s: float, batch: int) -> int:
        """Delete at most `batch` request records older than age_s seconds."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(_DELETE_OLD_REQUESTS, {"age": timedelta(seconds=age_s), "batch": Int8(batch)})
            return cursor.rowcount

    @staticmethod
    async def _delete_messages(connection: AsyncConnection[TupleRow], key: UUID, log: UUID, batch: int) -> int:
        cursor = await connection.execute(_UNREACHED, {"key": key, "log": log})
        deleted = 0
        for first, end in await cursor.fetchall():
            parameters = {
                "key": key,
                "log": log,
                "first": Int8(first),
                "end": None if end is None else Int8(end),
                "batch": Int8(batch - deleted),
            }
            (gone,) = await _one(connection, _DELETE_MESSAGES, parameters)
            deleted += gone
            if deleted >= batch:
                break
        return deleted


async def _one(connection: AsyncConnection[TupleRow], statement: str, parameters: dict[str, object]) -> TupleRow:
    cursor = await connection.execute(statement.encode(), parameters)
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - an aggregate has a row
    return row
