"""Changes of a session's tasks, bookmarks and turns.

Every change is one transaction that starts by locking the session's row. So positions, counts and
names need no other lock, and a session that is being deleted exists for the whole of a change, or
not at all.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow, TupleRow
from sqlalchemy import ClauseElement, ColumnElement, func

from sessiond_server.db.expiry import LIVE_SESSION
from sessiond_server.db.idempotency import RequestRecord, record_request
from sessiond_server.db.pool import Database

# It is constant within a statement: a new row has the same time of creation and of change.
NOW: ColumnElement[datetime] = func.statement_timestamp()

# A change counts as use, and the row has to be locked in any case.
_LOCK = f"""
UPDATE sessions SET active_at = clock_timestamp(), used_at = clock_timestamp()
WHERE {LIVE_SESSION} RETURNING log, state, last_seq"""


class SessionMissing(Exception):
    """The project has no such session; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change in progress.

    Attributes:
        database: runs the statements.
        connection: the connection in the change's transaction.
        key: the session's key.
        log: the session's log.
        state: the session's SessionState.
        last_seq: the seq of its newest message.
    """

    database: Database
    connection: AsyncConnection[TupleRow]
    key: UUID
    log: UUID
    state: int
    last_seq: int

    async def rows(self, statement: str | ClauseElement, **parameters: Any) -> list[DictRow]:
        """Runs a statement in the change's transaction.

        Args:
            statement: see Database.rows.
            parameters: the values of a text, besides `key` and `log`, which are the session's.
        """
        if not isinstance(statement, str):
            return await self.database.rows(statement, on=self.connection)
        values = {"key": self.key, "log": self.log, **parameters}
        return await self.database.rows(statement, values, on=self.connection)


@asynccontextmanager
async def change(
    database: Database, key: UUID, project_id: UUID, record: RequestRecord | None
) -> AsyncIterator[Change]:
    """Locks a session for a change, which the end of the block commits and an exception undoes.

    Raises:
        SessionMissing: if the project has no such session.
        DuplicateRequest: if the request is recorded already, with the same content.
        Fault: REQUEST_ID_REUSED if it is recorded with other content.
    """
    async with database.transaction() as connection:
        parameters = {"key": key, "project_id": project_id}
        rows = await database.rows(_LOCK, parameters, on=connection)
        if not rows:
            raise SessionMissing
        locked = Change(database, connection, key, **rows[0])
        if record:
            await record_request(database, connection, record, locked.log)
        yield locked
