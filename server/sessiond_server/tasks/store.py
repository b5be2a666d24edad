"""The tasks table."""

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import func, literal
from sqlalchemy.dialects.postgresql import JSONB

from sessiond_server.db import schema as tables
from sessiond_server.db.pages import RowPage, page_of
from sessiond_server.db.pool import Database
from sessiond_server.sessions.store.children import ChildStore, of_session
from sessiond_server.sessions.store.lock import Change

T = tables.tasks.c


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A row of the tasks table; db/schema/ describes the columns."""

    log: UUID
    task_id: str
    position: int
    status: int
    data: dict[str, Any]
    message_seqs: list[int]
    revision: int
    created_at: datetime
    updated_at: datetime


# The last task of the previous page may have been deleted since, or may have moved up because tasks
# before it were deleted. Then the tasks after it have moved up, too, and must not be skipped. If
# somebody has moved the last task down, the page begins at the same position as without this move.
_LIST = f"""
{of_session("tasks", TaskRow)} AND (%(status)s = 0 OR tasks.status = %(status)s)
    AND tasks.position > least(%(after)s, coalesce((
        SELECT position FROM tasks AS last WHERE last.key = sessions.key
            AND last.log = sessions.log AND last.task_id = %(after_id)s), %(after)s - 1))
ORDER BY tasks.position LIMIT %(limit)s"""

_ORDER = "SELECT task_id FROM tasks WHERE key = %(key)s AND log = %(log)s ORDER BY position"
_REORDER = """
UPDATE tasks SET position = placed.place
FROM unnest(%(task_ids)s::text[]) WITH ORDINALITY AS placed (task_id, place)
WHERE key = %(key)s AND log = %(log)s AND tasks.task_id = placed.task_id
    AND tasks.position <> placed.place"""
_CLOSE_GAP = """
UPDATE tasks SET position = position - 1
WHERE key = %(key)s AND log = %(log)s AND position > %(position)s"""


class TaskStore(ChildStore[TaskRow]):
    """Tasks of sessions, by task_id."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, tables.tasks, TaskRow, "task_id")

    async def list(
        self,
        key: UUID,
        project_id: UUID,
        status: int,
        after: tuple[int, str],
        size: int,
    ) -> RowPage[TaskRow]:
        """Return a page of tasks in order; an empty page if the session does not exist.

        Args:
            key: the session's key.
            project_id: the caller's project.
            status: TaskStatus to select; 0 for all tasks.
            after: position and task_id of the last task of the previous page; (0, "") for the first
                page.
            size: maximum number of tasks.
        """
        position, task_id = after
        parameters = {
            "key": key,
            "project_id": project_id,
            "status": status,
            "after": position,
            "after_id": task_id,
            "limit": size + 1,
        }
        return await page_of(self.database, _LIST, parameters, size, TaskRow)

    async def order(self, change: Change) -> builtins.list[str]:
        """Return all task_ids in order."""
        return [row["task_id"] for row in await change.rows(_ORDER)]

    async def change_task(
        self,
        change: Change,
        task_id: str,
        values: Mapping[str, Any],
        data_patch: dict[str, Any] | None,
    ) -> TaskRow:
        """Change an existing task.

        Args:
            change: the change.
            task_id: the task.
            values: new values by column.
            data_patch: an RFC 7396 merge patch for `data`; None = none.
        """
        columns = {"revision": T.revision + 1, **values}
        if data_patch is not None:
            patch = literal(Jsonb(data_patch), JSONB)
            columns["data"] = func.sessiond_merge_patch(T.data, patch)
        return await self.update(change, task_id, columns)

    async def reorder(self, change: Change, task_ids: Sequence[str]) -> None:
        """Set the positions of all tasks of the session to their places in this list."""
        await change.rows(_REORDER, task_ids=list(task_ids))

    async def delete(self, change: Change, name: str) -> TaskRow | None:
        """Remove and return a task, and move up the tasks after it; None if it does not exist."""
        deleted = await super().delete(change, name)
        if deleted:
            await change.rows(_CLOSE_GAP, position=deleted.position)
        return deleted
