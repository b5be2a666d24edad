"""The queues of a project, and the distribution of new messages to these queues."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from sessiond_server.db.expiry import ALIVE
from sessiond_server.db.pool import Database
from sessiond_server.queues.store.mutexes import ProjectMutexes
from sessiond_server.queues.store.rows import Connection, delete_rows, keys_of

# Maximum number of sessions that one distribution locks. Appends to these sessions wait for it.
SESSIONS_A_DISTRIBUTION = 200
# Maximum number of distributions before a lease. Together they cover more sessions than one lease
# can take, so that busy sessions do not keep new ones waiting.
DISTRIBUTIONS_A_LEASE = 10
SESSIONS_A_DELETION = 1000

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('queues of ' || %(project_id)s::text, 0))"

# Selects sessions marked with has_news. Their number changes faster than the planner's statistics
# and differs between projects, so the planner might choose to scan all sessions. Only the index on
# has_news provides this order, so the planner has to use it.
WITH_NEWS = f"""has_news AND project_id BETWEEN %(project_id)s AND %(project_id)s AND {ALIVE}
    ORDER BY project_id"""

# ready_at is the time of the session's last append. A row that is already ready keeps its
# older time. A row is skipped if its queue has already processed all messages of the session.
DISTRIBUTE = f"""
WITH news AS (
    SELECT key, log, last_seq, active_at FROM sessions WHERE {WITH_NEWS}
    LIMIT %(batch)s FOR NO KEY UPDATE SKIP LOCKED
), cleared AS (
    UPDATE sessions s SET has_news = false FROM news WHERE s.key = news.key
), readied AS (
    INSERT INTO processing AS p (key, log, queue, project_id, is_ready, ready_at)
    SELECT news.key, news.log, q.queue, q.project_id, true, news.active_at
    FROM news, queues q WHERE q.project_id = %(project_id)s AND news.last_seq > 0
    ON CONFLICT (key, log, queue) DO UPDATE SET is_ready = true, ready_at = excluded.ready_at
    WHERE NOT p.is_ready AND p.done_seq < (SELECT news.last_seq FROM news WHERE news.key = p.key)
)
SELECT count(*) AS count FROM news"""

_COUNT = "SELECT count(*) AS count FROM queues WHERE project_id = %(project_id)s"
_INSERT = """
INSERT INTO queues (project_id, queue) VALUES (%(project_id)s, %(queue)s)
ON CONFLICT DO NOTHING RETURNING queue"""
# Deletes the rows that an interrupted deletion of a queue of this name has left behind.
_DELETE_LEFTOVERS = [
    f"""
DELETE FROM {table} t USING sessions s
WHERE s.project_id = %(project_id)s AND t.key = s.key AND t.log = s.log AND t.queue = %(queue)s"""
    for table in ("processing", "processing_exceptions")
]
_INSERT_ROWS = """
INSERT INTO processing (key, log, queue, project_id, is_ready, ready_at)
SELECT key, log, %(queue)s, project_id, true, active_at FROM sessions
WHERE project_id = %(project_id)s AND NOT has_news AND last_seq > 0
ON CONFLICT DO NOTHING"""

_HAS = "SELECT queue FROM queues WHERE project_id = %(project_id)s AND queue = %(queue)s"
_LIST = "SELECT queue FROM queues WHERE project_id = %(project_id)s ORDER BY queue"
_DELETE = (
    "DELETE FROM queues WHERE project_id = %(project_id)s AND queue = %(queue)s RETURNING queue"
)
_SESSIONS_AFTER = """
SELECT session_id, key, log FROM sessions
WHERE project_id = %(project_id)s AND session_id > %(after)s ORDER BY session_id LIMIT %(batch)s"""


class TooManyQueues(Exception):
    """The project already has the maximum number of queues."""


class QueueStore:
    """The queues of projects."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mutexes = ProjectMutexes()

    async def has(self, project_id: UUID, queue: str) -> bool:
        """Return whether the project has the queue."""
        return bool(await self._database.rows(_HAS, {"project_id": project_id, "queue": queue}))

    async def list(self, project_id: UUID) -> list[str]:
        """Return the names of the project's queues, sorted."""
        rows = await self._database.rows(_LIST, {"project_id": project_id})
        return [row["queue"] for row in rows]

    async def register(self, project_id: UUID, queue: str, max_queues: int) -> None:
        """Create a queue, and its rows for the sessions that have been distributed already.

        Raises:
            TooManyQueues: if the project already has max_queues.
        """
        parameters = {"project_id": project_id, "queue": queue}
        async with self._locked(project_id) as connection:
            [before] = await self._database.rows(_COUNT, parameters, on=connection)
            if not await self._database.rows(_INSERT, parameters, on=connection):
                return  # another call has just created the queue
            if before["count"] >= max_queues:
                raise TooManyQueues
            for statement in (*_DELETE_LEFTOVERS, _INSERT_ROWS):
                await self._database.rows(statement, parameters, on=connection)

    async def distribute(self, project_id: UUID) -> None:
        """Make the rows of sessions with news ready in all queues of the project."""
        parameters = {"project_id": project_id, "batch": SESSIONS_A_DISTRIBUTION}
        for _ in range(DISTRIBUTIONS_A_LEASE):
            async with self._locked(project_id) as connection:
                [news] = await self._database.rows(DISTRIBUTE, parameters, on=connection)
            if news["count"] < SESSIONS_A_DISTRIBUTION:
                return

    async def delete(self, project_id: UUID, queue: str) -> bool:
        """Delete a queue, then its rows in batches.

        The queue and its progress are gone at once, even if the deletion of the rows is
        interrupted: registering a queue of the same name removes leftovers. The purger removes the
        rows of sessions that no longer exist.

        Returns:
            False if there is no such queue.
        """
        parameters = {"project_id": project_id, "queue": queue, "after": ""}
        async with self._locked(project_id) as connection:
            if not await self._database.rows(_DELETE, parameters, on=connection):
                return False
        while True:
            async with self._locked(project_id) as connection:
                if await self._database.rows(_HAS, parameters, on=connection):
                    return True  # registered again: the new queue has the rows
                batch = parameters | {"batch": SESSIONS_A_DELETION}
                sessions = await self._database.rows(_SESSIONS_AFTER, batch, on=connection)
                if not sessions:
                    return True
                await delete_rows(self._database, connection, parameters | keys_of(sessions))
                parameters["after"] = sessions[-1]["session_id"]

    @asynccontextmanager
    async def _locked(self, project_id: UUID) -> AsyncIterator[Connection]:
        """Begin a transaction that excludes other changes to the project's queues.

        Distributions, registrations and deletions take the same lock.
        """
        async with self._mutexes.held(project_id), self._database.transaction() as connection:
            await self._database.rows(_LOCK, {"project_id": project_id}, on=connection)
            yield connection
