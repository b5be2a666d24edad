"""Changes of what hangs on a session besides its messages: its tasks and bookmarks.

Each is one transaction that begins with the session's row. Who holds that row is alone with the session's tasks and bookmarks, so
positions, counts and names need no other lock; and a session that is being deleted is there for the whole of a change, or not at all.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow, TupleRow
from sqlalchemy import ClauseElement, ColumnElement, Select, bindparam, func, select, update

from sessiond_server.db import schema as tables
from sessiond_server.db.expiry import alive
from sessiond_server.db.idempotency import RequestRecord, record_request
from sessiond_server.db.pool import Database

S = tables.sessions.c

# Within one statement it stands still: a new row has the same time of creation and of change.
NOW: ColumnElement[datetime] = func.statement_timestamp()


class SessionMissing(Exception):
    """There is no such session for the project; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change under way: the session as it is, and held, until the change ends."""

    database: Database
    connection: AsyncConnection[TupleRow]
    key: UUID
    log: UUID
    state: int
    last_seq: int

    async def rows(self, statement: ClauseElement) -> list[DictRow]:
        """Run a statement in the change's transaction."""
        return await self.database.rows(statement, on=self.connection)


@asynccontextmanager
async def change(
    database: Database, key: UUID, project_id: UUID, record: RequestRecord | None
) -> AsyncIterator[Change]:
    """Change things of a session: committed at the end of the block, undone by an exception.

    Raises: SessionMissing, DuplicateRequest.
    """
    # A change counts as use, and the row has to be locked in any case.
    use = (
        update(tables.sessions)
        .where(*_of(key, project_id))
        .values(active_at=func.clock_timestamp(), used_at=func.clock_timestamp())
        .returning(S.log, S.state, S.last_seq)
    )
    async with database.transaction() as connection:
        rows = await database.rows(use, on=connection)
        if not rows:
            raise SessionMissing
        begun = Change(database, connection, key, **rows[0])
        if record:
            await record_request(database, connection, record, begun.log)
        yield begun


def joined(table: Any, *columns: ColumnElement[Any]) -> Select[Any]:
    """SELECT of a table's rows that belong to the session :key of :project_id."""
    joint = (table.c.key == S.key) & (table.c.log == S.log)
    return (
        select(*columns)
        .select_from(tables.sessions.join(table, joint))
        .where(*_of(bindparam("key"), bindparam("project_id")))
    )


_THERE = select(S.log).where(
    S.key == bindparam("key"), S.project_id == bindparam("project_id"), alive()
)


async def is_there(database: Database, key: UUID, project_id: UUID) -> bool:
    """Whether the project has the session."""
    return bool(await database.rows(_THERE, {"key": key, "project_id": project_id}))


def _of(key: Any, project_id: Any) -> list[ColumnElement[bool]]:
    return [S.key == key, S.project_id == project_id, alive()]
