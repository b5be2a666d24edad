"""The tasks table. Cold statements, written with SQLAlchemy Core."""

import builtins
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Text,
    bindparam,
    cast,
    delete,
    func,
    literal,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert

from sessiond_server.db import schema as tables
from sessiond_server.db.idempotency import RequestRecord
from sessiond_server.db.pool import Database
from sessiond_server.sessions.store.lock import NOW, Change, change, is_there, joined

T = tables.tasks.c


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A row of the tasks table, as tables.py describes it."""

    log: UUID
    task_id: str
    position: int
    status: int
    data: dict[str, Any]
    message_seqs: list[int]
    revision: int
    created_at: datetime
    updated_at: datetime


_COLUMNS = [T[field.name] for field in fields(TaskRow)]
_GET = joined(tables.tasks, *_COLUMNS).where(T.task_id == bindparam("task_id"))
_BYTES = func.octet_length(cast(T.data, Text)) + 8 * func.cardinality(T.message_seqs)


class TaskStore:
    """Tasks of sessions. What takes a Change runs in it; what it does not find there, it leaves alone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def change(
        self, key: UUID, project_id: UUID, record: RequestRecord | None
    ) -> AbstractAsyncContextManager[Change]:
        """See changes.change."""
        return change(self._database, key, project_id, record)

    async def has_session(self, key: UUID, project_id: UUID) -> bool:
        """Whether the project has the session."""
        return await is_there(self._database, key, project_id)

    async def get(self, key: UUID, project_id: UUID, task_id: str) -> TaskRow | None:
        """None where the task does not exist, or its session does not."""
        rows = await self._database.rows(
            _GET, {"key": key, "project_id": project_id, "task_id": task_id}
        )
        return TaskRow(**rows[0]) if rows else None

    async def list(
        self,
        key: UUID,
        project_id: UUID,
        status: int,
        after: tuple[int, str] | None,
        limit: int,
        max_bytes: int,
    ) -> tuple[list[TaskRow], bool]:
        """A page in the tasks' order, and whether there are more.

        Args:
            status: 0 = all.
            after: position and task_id of the last task of the page before.
            max_bytes: no task begins after so many bytes of the page; the first one comes in any case.
        """
        query = joined(
            tables.tasks,
            *_COLUMNS,
            (func.sum(_BYTES).over(order_by=T.position) - _BYTES).label("bytes_before"),
            func.count().over().label("to_come"),
        ).where(T.status == status if status else true())
        if after:
            # The task may have moved up since, because others before it are gone, or be gone itself: then one that moved up must not be
            # passed over. Where it was moved down, the page begins where it would have.
            position, task_id = after
            other = tables.tasks.alias()
            now = (
                select(other.c.position)
                .where(
                    other.c.key == tables.sessions.c.key,
                    other.c.log == tables.sessions.c.log,
                    other.c.task_id == task_id,
                )
                .correlate(tables.sessions)
                .scalar_subquery()
            )
            query = query.where(
                T.position
                > func.least(func.coalesce(now, position - 1), literal(position, Integer))
            )
        page = query.subquery()
        statement = (
            select(*(page.c[field.name] for field in fields(TaskRow)), page.c.to_come)
            .where(page.c.bytes_before < max_bytes)
            .order_by(page.c.position)
            .limit(limit)
            .params(key=key, project_id=project_id)
        )
        rows = await self._database.rows(statement)
        has_more = bool(rows) and rows[0]["to_come"] > len(rows)
        for row in rows:
            del row["to_come"]
        return [TaskRow(**row) for row in rows], has_more

    async def find(self, change: Change, task_id: str) -> TaskRow | None:
        """None where it does not exist."""
        rows = await change.rows(select(*_COLUMNS).where(*_of(change), T.task_id == task_id))
        return TaskRow(**rows[0]) if rows else None

    async def order(self, change: Change) -> builtins.list[str]:
        """All task_ids in their order."""
        rows = await change.rows(select(T.task_id).where(*_of(change)).order_by(T.position))
        return [row["task_id"] for row in rows]

    async def count(self, change: Change) -> int:
        """How many tasks the session has."""
        [row] = await change.rows(select(func.count().label("count")).where(*_of(change)))
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
        """Add a task of a new task_id."""
        statement = (
            insert(tables.tasks)
            .values(
                key=change.key,
                log=change.log,
                task_id=task_id,
                position=position,
                status=status,
                data=_json(data),
                message_seqs=list(message_seqs),
                created_at=NOW,
                updated_at=NOW,
            )
            .returning(*_COLUMNS)
        )
        [row] = await change.rows(statement)
        return TaskRow(**row)

    async def update(
        self,
        change: Change,
        task_id: str,
        values: Mapping[str, Any],
        data_patch: dict[str, Any] | None,
    ) -> TaskRow:
        """Set columns, and apply an RFC 7396 merge patch to `data`, of a task that exists.

        Args:
            values: column names and new values; data as a dict.
        """
        columns = dict(values)
        if "data" in columns:
            columns["data"] = _json(columns["data"])
        if data_patch is not None:
            columns["data"] = func.sessiond_merge_patch(T.data, _json(data_patch))
        statement = (
            update(tables.tasks)
            .where(*_of(change), T.task_id == task_id)
            .values(revision=T.revision + 1, updated_at=NOW, **columns)
            .returning(*_COLUMNS)
        )
        [row] = await change.rows(statement)
        return TaskRow(**row)

    async def reorder(self, change: Change, task_ids: Sequence[str]) -> None:
        """Give all tasks of the session the positions that they have in this list."""
        placed = (
            func.unnest(literal(list(task_ids), ARRAY(Text)), type_=Text)
            .table_valued("task_id", with_ordinality="place", name="placed")
            .render_derived()
        )
        statement = (
            update(tables.tasks)
            .where(
                *_of(change),
                T.task_id == placed.c.task_id,
                T.position != cast(placed.c.place, BigInteger),
            )
            .values(position=cast(placed.c.place, Integer))
        )
        await change.rows(statement)

    async def delete(self, change: Change, task_id: str) -> bool:
        """Remove a task and move up those after it. False where it does not exist."""
        rows = await change.rows(
            delete(tables.tasks).where(*_of(change), T.task_id == task_id).returning(T.position)
        )
        if not rows:
            return False
        later = (
            update(tables.tasks)
            .where(*_of(change), T.position > rows[0]["position"])
            .values(position=T.position - 1)
        )
        await change.rows(later)
        return True


def _of(change: Change) -> list[ColumnElement[bool]]:
    return [T.key == change.key, T.log == change.log]


def _json(value: dict[str, Any]) -> ColumnElement[Any]:
    return literal(Jsonb(value), JSONB)
