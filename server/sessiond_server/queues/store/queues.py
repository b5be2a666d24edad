"""The queues of a project, and the distribution of new messages to them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from sessiond_server.db.expiry import ALIVE
from sessiond_server.db.pool import Database
from sessiond_server.queues.store.rows import Connection, delete_rows, keys_of

# A distribution locks this many sessions, whose appends wait for it.
SESSIONS_A_DISTRIBUTION = 200
# More in one lease than it can take, so that sessions with news do not wait behind busy ones.
DISTRIBUTIONS_A_LEASE = 10
SESSIONS_A_DELETION = 1000

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('queues of ' || %(project_id)s::text, 0))"

# Sessions with the mark. How many there are changes faster than the planner's statistics, and
# differs between projects: relying on those it may scan all sessions until some turn up. Only the
# index on the mark has this order, so it leaves no such choice.
WITH_NEWS = f"""has_news AND project_id BETWEEN %(project_id)s AND %(project_id)s AND {ALIVE}
    ORDER BY project_id"""

# A row waits since the session's last append. One that is ready is left alone: it has waited
# longer. So is one that has all messages: its queue was faster than the distribution.
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
# Leftovers of a queue of this name whose deletion was interrupted.
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
    """The project has the most queues that it may have."""


class QueueStore:
    """The queues of projects."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def has(self, project_id: UUID, queue: str) -> bool:
        """Return whether the project has the queue."""
        return bool(await self._database.rows(_HAS, {"project_id": project_id, "queue": queue}))

    async def list(self, project_id: UUID) -> list[str]:
        """Return the names of the project's queues, sorted."""
        rows = await self._database.rows(_LIST, {"project_id": project_id})
        return [row["queue"] for row in rows]

    async def register(self, project_id: UUID, queue: str, max_queues: int) -> None:
        """Create a queue, with rows of the sessions that were distributed before.

        Raises:
            TooManyQueues: if the project has max_queues.
        """
        parameters = {"project_id": project_id, "queue": queue}
        async with self._locked(project_id) as connection:
            [before] = await self._database.rows(_COUNT, parameters, on=connection)
            if not await self._database.rows(_INSERT, parameters, on=connection):
                return  # another call has just created it
            if before["count"] >= max_queues:
                raise TooManyQueues
            for statement in (*_DELETE_LEFTOVERS, _INSERT_ROWS):
                await self._database.rows(statement, parameters, on=connection)

    async def distribute(self, project_id: UUID) -> None:
        """Make the rows of sessions with news ready, in all queues of the project."""
        parameters = {"project_id": project_id, "batch": SESSIONS_A_DISTRIBUTION}
        for _ in range(DISTRIBUTIONS_A_LEASE):
            async with self._locked(project_id) as connection:
                [news] = await self._database.rows(DISTRIBUTE, parameters, on=connection)
            if news["count"] < SESSIONS_A_DISTRIBUTION:
                return

    async def delete(self, project_id: UUID, queue: str) -> bool:
        """Delete a queue, then its rows in batches.

        The queue is gone at once, and its progress with it, even if the rest is interrupted: a
        registration of the same name removes leftovers. The purger removes the rows of sessions
        that are gone.

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
                    return True  # registered anew: the rows belong to the new queue
                batch = parameters | {"batch": SESSIONS_A_DELETION}
                sessions = await self._database.rows(_SESSIONS_AFTER, batch, on=connection)
                if not sessions:
                    return True
                await delete_rows(self._database, connection, parameters | keys_of(sessions))
                parameters["after"] = sessions[-1]["session_id"]

    @asynccontextmanager
    async def _locked(self, project_id: UUID) -> AsyncIterator[Connection]:
        """Begin a transaction that alone distributes, registers or deletes in the project."""
        async with self._database.transaction() as connection:
            await self._database.rows(_LOCK, {"project_id": project_id}, on=connection)
            yield connection
