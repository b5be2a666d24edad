"""The tasks table."""

import builtins
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import func, literal, update
from sqlalchemy.dialects.postgresql import JSONB

from sessiond_server.db import schema as tables
from sessiond_server.db.expiry import LIVE_SESSION
from sessiond_server.db.idempotency import RequestRecord
from sessiond_server.db.pool import Database, columns_of
from sessiond_server.sessions.store.lock import NOW, Change, change, session_exists

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


_COLUMNS = columns_of(TaskRow)
_OF_SESSION = f"""
SELECT {columns_of(TaskRow, "tasks")}
FROM sessions JOIN tasks ON tasks.key = sessions.key AND tasks.log = sessions.log
WHERE {LIVE_SESSION}"""
_GET = f"{_OF_SESSION} AND tasks.task_id = %(task_id)s"

# Since the page before, its last task may have moved up, because tasks before it were deleted, or
# been deleted itself: then the tasks that moved up must not be skipped. If it was moved down, the
# page begins where it would have begun.
_LIST = f"""
SELECT {_COLUMNS}, remaining FROM (
    SELECT *, sum(bytes) OVER (ORDER BY position) - bytes AS bytes_before,
        count(*) OVER () AS remaining
    FROM ({_OF_SESSION} AND (%(status)s = 0 OR tasks.status = %(status)s)
        AND tasks.position > least(%(after)s, coalesce((
            SELECT position FROM tasks AS last WHERE last.key = sessions.key
                AND last.log = sessions.log AND last.task_id = %(after_id)s), %(after)s - 1))
    ) AS wanted,
    LATERAL (SELECT octet_length(data::text) + 8 * cardinality(message_seqs) AS bytes) AS size
) AS page
WHERE bytes_before < %(max_bytes)s ORDER BY position LIMIT %(limit)s"""

_FIND = f"""
SELECT {_COLUMNS} FROM tasks WHERE key = %(key)s AND log = %(log)s AND task_id = %(task_id)s"""
_ORDER = "SELECT task_id FROM tasks WHERE key = %(key)s AND log = %(log)s ORDER BY position"
_COUNT = "SELECT count(*) AS count FROM tasks WHERE key = %(key)s AND log = %(log)s"
_INSERT = f"""
INSERT INTO tasks (key, log, task_id, position, status, data, message_seqs, created_at, updated_at)
VALUES (%(key)s, %(log)s, %(task_id)s, %(position)s, %(status)s, %(data)s, %(message_seqs)s,
    statement_timestamp(), statement_timestamp())
RETURNING {_COLUMNS}"""
_REORDER = """
UPDATE tasks SET position = placed.place
FROM unnest(%(task_ids)s::text[]) WITH ORDINALITY AS placed (task_id, place)
WHERE key = %(key)s AND log = %(log)s AND tasks.task_id = placed.task_id
    AND tasks.position <> placed.place"""
_DELETE = """
DELETE FROM tasks WHERE key = %(key)s AND log = %(log)s AND task_id = %(task_id)s
RETURNING position"""
_CLOSE_GAP = """
UPDATE tasks SET position = position - 1
WHERE key = %(key)s AND log = %(log)s AND position > %(position)s"""


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Tasks in their order, and whether more follow."""

    tasks: list[TaskRow]
    has_more: bool


class TaskStore:
    """Tasks of sessions. Methods that take a Change run in its transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def change(
        self, key: UUID, project_id: UUID, record: RequestRecord | None
    ) -> AbstractAsyncContextManager[Change]:
        """Opens a change; see sessions.store.lock.change."""
        return change(self._database, key, project_id, record)

    async def has_session(self, key: UUID, project_id: UUID) -> bool:
        """Returns whether the project has the session."""
        return await session_exists(self._database, key, project_id)

    async def get(self, key: UUID, project_id: UUID, task_id: str) -> TaskRow | None:
        """Returns a task; None if it or its session does not exist."""
        parameters = {"key": key, "project_id": project_id, "task_id": task_id}
        rows = await self._database.rows(_GET, parameters)
        return TaskRow(**rows[0]) if rows else None

    async def list(
        self,
        key: UUID,
        project_id: UUID,
        status: int,
        after: tuple[int, str] | None,
        limit: int,
        max_bytes: int,
    ) -> TaskPage:
        """Returns a page in the tasks' order; an empty one if the session does not exist.

        Args:
            key: the session's key.
            project_id: the caller's project.
            status: which tasks; 0 for all.
            after: position and task_id of the last task of the page before.
            limit: the most tasks.
            max_bytes: no task begins after so many bytes of the page; the first one always fits.
        """
        position, task_id = after or (0, "")
        parameters = {
            "key": key,
            "project_id": project_id,
            "status": status,
            "after": position,
            "after_id": task_id,
            "limit": limit,
            "max_bytes": max_bytes,
        }
        rows = await self._database.rows(_LIST, parameters)
        has_more = bool(rows) and rows[0]["remaining"] > len(rows)
        for row in rows:
            del row["remaining"]
        return TaskPage([TaskRow(**row) for row in rows], has_more)

    async def find(self, change: Change, task_id: str) -> TaskRow | None:
        """Returns a task; None if it does not exist."""
        rows = await change.rows(_FIND, task_id=task_id)
        return TaskRow(**rows[0]) if rows else None

    async def order(self, change: Change) -> builtins.list[str]:
        """Returns all task_ids in their order."""
        return [row["task_id"] for row in await change.rows(_ORDER)]

    async def count(self, change: Change) -> int:
        """Returns how many tasks the session has."""
        [row] = await change.rows(_COUNT)
        return int(row["count"])

    async def insert(
        self,
        change: Change,
        task_id: str,
        position: int,
        status: int,
        data: dict[str, Any],
        message_seqs: Sequence[int],
    ) -> TaskRow:
        """Adds a task with a new task_id."""
        [row] = await change.rows(
            _INSERT,
            task_id=task_id,
            position=position,
            status=status,
            data=Jsonb(data),
            message_seqs=list(message_seqs),
        )
        return TaskRow(**row)

    async def update(
        self,
        change: Change,
        task_id: str,
        values: Mapping[str, Any],
        data_patch: dict[str, Any] | None,
    ) -> TaskRow:
        """Changes a task that exists.

        Args:
            change: the change.
            task_id: the task.
            values: new values by column; data as a dict.
            data_patch: an RFC 7396 merge patch of `data`; None for none.
        """
        columns = dict(values)
        if "data" in columns:
            columns["data"] = literal(Jsonb(columns["data"]), JSONB)
        if data_patch is not None:
            patch = literal(Jsonb(data_patch), JSONB)
            columns["data"] = func.sessiond_merge_patch(T.data, patch)
        statement = (
            update(tables.tasks)
            .where(T.key == change.key, T.log == change.log, T.task_id == task_id)
            .values(revision=T.revision + 1, updated_at=NOW, **columns)
            .returning(*(T[field.name] for field in fields(TaskRow)))
        )
        [row] = await change.rows(statement)
        return TaskRow(**row)

    async def reorder(self, change: Change, task_ids: Sequence[str]) -> None:
        """Gives all tasks of the session their positions in this list."""
        await change.rows(_REORDER, task_ids=list(task_ids))

    async def delete(self, change: Change, task_id: str) -> bool:
        """Removes a task and moves up those after it.

        Returns:
            False if it does not exist.
        """
        if not (rows := await change.rows(_DELETE, task_id=task_id)):
            return False
        await change.rows(_CLOSE_GAP, position=rows[0]["position"])
        return True
