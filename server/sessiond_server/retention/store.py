"""What the purger does: bounded batches, each its own transaction, safe with any number of servers (SKIP LOCKED)."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8

from sessiond_server.db.expiry import ALIVE
from sessiond_server.db.pool import Database
from sessiond_server.sessions.store.deletion import DeletedSession, delete_locked

_DUE = f"""
SELECT key, {ALIVE}, project_id, session_id, log, last_seq FROM sessions
WHERE expiry_check_at <= statement_timestamp() ORDER BY expiry_check_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED"""

# A session that was used since its check was set is not expired: the check moves on to its real time. This, not the append,
# is where the index on expiry_check_at is paid for.
_PUT_OFF = """
UPDATE sessions SET expiry_check_at = used_at + idle_ttl_ms * interval '1 millisecond' WHERE key = ANY(%(keys)s)"""

_LOCK_LOGS = (
    "SELECT key, log FROM dead_logs ORDER BY queued_at LIMIT %(logs)s FOR UPDATE SKIP LOCKED"
)

_THESE = "unnest(%(keys)s::uuid[], %(logs)s::uuid[]) AS these (key, log)"
_LIVE = f"SELECT key, log FROM sessions JOIN {_THESE} USING (key, log)"
_WITH_MESSAGES = f"SELECT key, log FROM {_THESE} WHERE EXISTS (SELECT FROM messages m WHERE m.key = these.key AND m.log = these.log)"

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
    f"DELETE FROM {table} AS own USING {_THESE} WHERE own.key = these.key AND own.log = these.log"
    for table in ("tasks", "bookmarks", "processing", "processing_exceptions", "requests", "turns")
]
_DELETE_LOGS = f"DELETE FROM dead_logs USING {_THESE} WHERE dead_logs.key = these.key AND dead_logs.log = these.log"

_DELETE_OLD_REQUESTS = """
DELETE FROM requests WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM requests WHERE created_at < statement_timestamp() - %(age)s LIMIT %(batch)s FOR UPDATE SKIP LOCKED))"""


Logs = list[tuple[Any, ...]]
"""Logs, as (key, log)."""


class PurgeStore:
    """Removal of what can no longer be reached."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def expire(self, batch: int) -> tuple[int, list[DeletedSession]]:
        """Remove sessions whose time has passed, at most `batch`. Answers how many it looked at, and those that went."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(_DUE, {"batch": Int8(batch)})
            due = await cursor.fetchall()
            used = [key for key, is_alive, *_ in due if is_alive]
            if used:
                await connection.execute(_PUT_OFF, {"keys": used})
            dead = {
                key: DeletedSession(*session) for key, is_alive, *session in due if not is_alive
            }
            await delete_locked(self._database, connection, list(dead))
        return len(due), list(dead.values())

    async def purge_logs(self, logs: int, batch: int) -> tuple[int, int]:
        """Take at most `logs` queued logs, and delete at most `batch` of their messages that nothing reaches, and all else of those logs
        that have no more.

        One at a time for each log, by the lock on its entry. What reaches the log can only become less while this looks: a copy reaches no
        more than its source does, whose end waits for the copy's commit, and queues the log anew.

        Returns: how many logs are done, and how many messages went; (0, 0) where no log is waiting, or others work on all of them.
        """
        async with self._database.transaction() as connection:
            cursor = await connection.execute(_LOCK_LOGS, {"logs": Int8(logs)})
            locked: Logs = await cursor.fetchall()
            if not locked:
                return 0, 0
            # Logs that a copy gave back, and whose own session lives, are left as they are.
            live = set(await _those(connection, _LIVE, locked))
            dead = [log for log in locked if log not in live]
            deleted, unfinished = 0, set()
            for key, log in await _those(connection, _WITH_MESSAGES, dead):
                if deleted < batch:
                    deleted += await self._delete_messages(connection, key, log, batch - deleted)
                # With the whole batch, there may be more.
                if deleted >= batch:
                    unfinished.add((key, log))
            finished = [log for log in dead if log not in unfinished]
            for statement in _DELETE_OWN:
                await connection.execute(statement.encode(), _these(finished))
            done = [log for log in locked if log not in unfinished]
            await connection.execute(_DELETE_LOGS.encode(), _these(done))
            return len(done), deleted

    async def forget_requests(self, age_s: float, batch: int) -> int:
        """Delete at most `batch` request records older than age_s seconds."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                _DELETE_OLD_REQUESTS, {"age": timedelta(seconds=age_s), "batch": Int8(batch)}
            )
            return cursor.rowcount

    @staticmethod
    async def _delete_messages(
        connection: AsyncConnection[TupleRow], key: UUID, log: UUID, batch: int
    ) -> int:
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


def _these(logs: Logs) -> dict[str, object]:
    return {"keys": [key for key, _ in logs], "logs": [log for _, log in logs]}


async def _those(connection: AsyncConnection[TupleRow], statement: str, logs: Logs) -> Logs:
    """Those of the logs that a statement picks."""
    cursor = await connection.execute(statement.encode(), _these(logs))
    return await cursor.fetchall()


async def _one(
    connection: AsyncConnection[TupleRow], statement: str, parameters: dict[str, object]
) -> TupleRow:
    cursor = await connection.execute(statement.encode(), parameters)
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - an aggregate has a row
    return row
