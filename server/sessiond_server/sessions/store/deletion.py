"""The end of sessions: their rows and segments go, and the logs that they reached are queued for the purger.

From the commit on nothing of them can be reached. The purger then removes what no other session reaches either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from sqlalchemy import ColumnElement, Uuid, any_, delete, func, literal, select, union
from sqlalchemy.dialects.postgresql import ARRAY, insert

from sessiond_server.db import schema as tables
from sessiond_server.db.pool import Database

T = tables.sessions.c


@dataclass(frozen=True, slots=True)
class DeletedSession:
    """A session that is gone, as it was at its end."""

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
) -> list[DeletedSession]:
    """Remove the sessions that meet the condition, at most `limit`. Answers them. In a transaction of the caller's."""
    chosen = (
        select(T.key, T.project_id, T.session_id, T.log, T.last_seq)
        .where(condition)
        .order_by(T.key)
        .limit(limit)
    )
    doomed = await database.rows(chosen.with_for_update(), on=connection)
    await delete_locked(database, connection, [row.pop("key") for row in doomed])
    return [DeletedSession(**row) for row in doomed]


async def delete_locked(
    database: Database, connection: AsyncConnection[TupleRow], keys: Sequence[UUID]
) -> None:
    """Remove sessions whose rows the transaction has locked FOR UPDATE.

    The lock comes in a statement of its own, before this one: a session's segments may have been moved while it was waited for, and a
    statement sees what was there when it began.
    """
    if not keys:
        return
    these = literal(list(keys), ARRAY(Uuid))
    dead = delete(tables.sessions).where(T.key == any_(these)).returning(T.key, T.log).cte("dead")
    segments = tables.segments
    left = (
        delete(segments)
        .where(segments.c.key == any_(these))
        .returning(segments.c.src_key, segments.c.src_log)
        .cte("left_segments")
    )
    # In the order of their keys, so that two at once wait for each other in a line and not in a circle.
    logs = union(select(dead.c.key, dead.c.log), select(left.c.src_key, left.c.src_log)).subquery(
        "logs"
    )
    queue = insert(tables.dead_logs).from_select(
        ["key", "log"], select(logs.c.key, logs.c.log).order_by(logs.c.key, logs.c.log)
    )
    # An update, not nothing: it waits for a purger that has the entry, and that may be about to drop it, finding nothing to do.
    queue = queue.on_conflict_do_update(
        index_elements=["key", "log"], set_={"queued_at": func.now()}
    )
    await database.rows(queue, on=connection)
