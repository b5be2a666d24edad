"""Statements that remove deleted projects."""

from datetime import timedelta

from sqlalchemy import Uuid, any_, literal
from sqlalchemy.dialects.postgresql import ARRAY

from sessiond_server.db import schema as tables
from sessiond_server.db.pool import Database
from sessiond_server.sessions.store.deletion import DeletedSession, delete_sessions

# This statement runs in each round. A join with the sessions would scan all of them.
_DELETED = "SELECT project_id FROM projects WHERE deleted_at IS NOT NULL"
_EMPTY = """
SELECT project_id FROM projects p
WHERE deleted_at < clock_timestamp() - %(grace)s
    AND NOT EXISTS (SELECT FROM sessions WHERE sessions.project_id = p.project_id)
ORDER BY project_id FOR UPDATE SKIP LOCKED"""
_DELETE_QUEUES = "DELETE FROM queues WHERE project_id = ANY(%(projects)s)"
_DELETE_KEYS = "DELETE FROM api_keys WHERE project_id = ANY(%(projects)s)"
_DELETE_LIMITS = "DELETE FROM project_limits WHERE project_id = ANY(%(projects)s)"
_DELETE_TOKENS = "DELETE FROM project_tokens WHERE project_id = ANY(%(projects)s)"
_DELETE_PROJECTS = "DELETE FROM projects WHERE project_id = ANY(%(projects)s)"


class ProjectPurgeStore:
    """Removes deleted projects."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def delete_sessions(self, limit: int) -> list[DeletedSession]:
        """Delete and return at most `limit` sessions of deleted projects.

        Sessions that others have locked are skipped.
        """
        projects = [row["project_id"] for row in await self._database.rows(_DELETED)]
        if not projects:
            return []
        async with self._database.transaction() as connection:
            return await delete_sessions(
                self._database,
                connection,
                tables.sessions.c.project_id == any_(literal(projects, ARRAY(Uuid))),
                limit=limit,
                skip_locked=True,
            )

    async def delete_empty_projects(self, grace_s: float) -> int:
        """Remove and count deleted projects that have no session left.

        Args:
            grace_s: minimum time since the deletion of the project. Unit: seconds.
        """
        async with self._database.transaction() as connection:
            cursor = await connection.execute(_EMPTY, {"grace": timedelta(seconds=grace_s)})
            projects = [row[0] for row in await cursor.fetchall()]
            if projects:
                for statement in (
                    _DELETE_QUEUES,
                    _DELETE_KEYS,
                    _DELETE_LIMITS,
                    _DELETE_TOKENS,
                    _DELETE_PROJECTS,
                ):
                    await connection.execute(statement.encode(), {"projects": projects})
            return len(projects)
