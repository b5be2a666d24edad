"""Deletes the rows and segments of sessions, and queues their logs for purging.

After the commit, nothing of a deleted session can be read. The purger later removes those messages
in the queued logs that no other session refers to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from sqlalchemy import ColumnElement, select

from sessiond_server.db import schema as tables
from sessiond_server.db.pool import Database

T = tables.sessions.c

# dead_logs is filled in key order, so that concurrent deletions wait for each other instead of
# deadlocking. A conflicting row is updated rather than skipped: the update waits for a purger that
# has locked the row and may be about to remove it.
_DELETE = """
WITH dead AS (
    DELETE FROM sessions WHERE key = ANY (%(keys)b::uuid[]) RETURNING key, log, message_log
), left_segments AS (
    DELETE FROM segments WHERE key = ANY (%(keys)b::uuid[]) RETURNING src_key, src_log
)
INSERT INTO dead_logs (key, log)
SELECT key, log FROM dead
UNION SELECT key, message_log FROM dead WHERE message_log IS NOT NULL
UNION SELECT src_key, src_log FROM left_segments ORDER BY key, log
ON CONFLICT (key, log) DO UPDATE SET queued_at = now()"""


@dataclass(frozen=True, slots=True)
class DeletedSession:
    """The last state of a deleted session."""

    project_id: UUID
    session_id: str
    log: UUID
    last_seq: int


async def delete_sessions(
    database: Database,
    connection: AsyncConnection[TupleRow],
    condition: ColumnElement[bool],
    *,
    limit: int | None = None,
    skip_locked: bool = False,
) -> list[DeletedSession]:
    """Delete sessions in the caller's transaction.

    Args:
        database: runs the statements.
        connection: the connection in the transaction.
        condition: selects the sessions.
        limit: maximum number of sessions to delete; None for all.
        skip_locked: whether to skip sessions that others have locked, instead of waiting for them.

    Returns:
        The deleted sessions.
    """
    chosen = (
        select(T.key, T.project_id, T.session_id, T.log, T.last_seq).where(condition).limit(limit)
    )
    if not skip_locked:
        # Statements that wait for several rows lock them in the same order, to avoid deadlocks.
        chosen = chosen.order_by(T.key)
    doomed = await database.rows(chosen.with_for_update(skip_locked=skip_locked), on=connection)
    await delete_locked(database, connection, [row.pop("key") for row in doomed])
    return [DeletedSession(**row) for row in doomed]


async def delete_locked(
    database: Database, connection: AsyncConnection[TupleRow], keys: Sequence[UUID]
) -> None:
    """Delete sessions whose rows the transaction has locked FOR UPDATE.

    The caller must take the lock in an earlier statement. While a statement waits for the lock,
    another transaction may move the session's segments. The waiting statement would not see the
    moved segments, because they were committed after it started.
    """
    if keys:
        await connection.execute(_DELETE, {"keys": list(keys)}, prepare=database.prepare)
