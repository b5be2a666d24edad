"""The backlogs of background work in the database, for metrics."""

from dataclasses import dataclass

from sessiond_server.db.pool import Database

# Counts stop at this number. The exact size of a larger backlog is not worth the load of counting.
MAX_COUNTED = 100_000
MAX_QUEUES = 50

_BACKLOG = f"""
SELECT
    (SELECT count(*) FROM (SELECT FROM dead_logs LIMIT {MAX_COUNTED}) AS d) AS purge_logs,
    (SELECT COALESCE(extract(epoch FROM clock_timestamp() - min(queued_at)), 0)::float8
        FROM dead_logs) AS purge_oldest_s,
    (SELECT count(*) FROM (
        SELECT FROM loose_objects WHERE due_at <= statement_timestamp() LIMIT {MAX_COUNTED}
    ) AS o) AS loose_objects,
    (SELECT count(*) FROM (
        SELECT FROM sessions WHERE expiry_check_at <= statement_timestamp() LIMIT {MAX_COUNTED}
    ) AS s) AS expired_waiting,
    (SELECT count(*) FROM (
        SELECT FROM turns WHERE state <= 2 AND state = 1 LIMIT {MAX_COUNTED}
    ) AS t) AS turns_queued,
    (SELECT max(version_num) FROM alembic_version) AS revision"""

_QUEUES = f"""
WITH pending AS (
    SELECT queue, count(*) AS sessions,
        GREATEST(extract(epoch FROM clock_timestamp() - min(ready_at)), 0)::float8 AS oldest_s
    FROM (SELECT queue, ready_at FROM processing WHERE is_ready LIMIT {MAX_COUNTED}) AS p
    GROUP BY queue
), failed AS (
    SELECT queue, count(*) AS messages
    FROM (SELECT queue FROM processing_exceptions WHERE status = 4 LIMIT {MAX_COUNTED}) AS e
    GROUP BY queue
)
SELECT queue, COALESCE(sessions, 0) AS sessions, COALESCE(oldest_s, 0) AS oldest_s,
    COALESCE(messages, 0) AS failed
FROM pending FULL JOIN failed USING (queue)
ORDER BY sessions DESC NULLS LAST, queue LIMIT {MAX_QUEUES}"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Backlogs of background work. No count is above MAX_COUNTED.

    Attributes:
        purge_logs: logs that wait for the purger.
        purge_oldest_s: age of the oldest of them, in seconds.
        loose_objects: objects due for removal from the asset store.
        expired_waiting: sessions whose expiry is due to be checked.
        turns_queued: turns that are queued.
        revision: revision of the schema.
    """

    purge_logs: int
    purge_oldest_s: float
    loose_objects: int
    expired_waiting: int
    turns_queued: int
    revision: str | None


@dataclass(frozen=True, slots=True)
class QueueBacklog:
    """Backlog of the queues of one name, in all projects.

    Attributes:
        sessions: sessions with messages to process.
        oldest_s: how long the first of them has been ready, in seconds.
        failed: messages that have failed for good.
    """

    queue: str
    sessions: int
    oldest_s: float
    failed: int


async def read_backlog(database: Database) -> tuple[Backlog, list[QueueBacklog]]:
    """Return the backlogs in the database, and those of the MAX_QUEUES longest queues.

    Raises:
        DatabaseUnavailable, PoolExhausted, Contention: as for Database.connection.
    """
    async with database.connection() as connection:
        [row] = await database.rows(_BACKLOG, on=connection)
        queues = await database.rows(_QUEUES, on=connection)
    return Backlog(**row), [QueueBacklog(**queue) for queue in queues]
