"""Changes to a session's tasks, bookmarks and turns.

Every change is one transaction that first locks the session's row. Positions, counts and names
therefore need no other lock, and a concurrent deletion of the session happens either before or
after the change.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, TupleRow
from sqlalchemy import ClauseElement, ColumnElement, func

from sessiond_server.db.expiry import LIVE_SESSION
from sessiond_server.db.idempotency import RequestRecord, record_request
from sessiond_server.db.message_log import MESSAGE_LOG
from sessiond_server.db.pool import Database

# The time is constant within a statement, so a new row has equal create and update times.
NOW: ColumnElement[datetime] = func.statement_timestamp()

# A change counts as an access. Setting the times here costs little, since the row must be locked
# anyway.
_LOCK = f"""
UPDATE sessions SET active_at = clock_timestamp(), used_at = clock_timestamp()
WHERE {LIVE_SESSION} RETURNING log, {MESSAGE_LOG} AS message_log, epoch, state, last_seq"""

# The statement above, except that this one fails at once if the row is locked.
_LOCK_NOW = f"""
UPDATE sessions SET active_at = clock_timestamp(), used_at = clock_timestamp()
WHERE {LIVE_SESSION}
    AND key = (SELECT key FROM sessions WHERE key = %(key)s FOR NO KEY UPDATE NOWAIT)
RETURNING log, {MESSAGE_LOG} AS message_log, epoch, state, last_seq"""

# FOR UPDATE also excludes copies, which only take FOR KEY SHARE.
_LOCK_WHOLE = f"SELECT 1 FROM sessions WHERE {LIVE_SESSION} FOR UPDATE"


class SessionMissing(Exception):
    """The project has no such session; nothing was changed."""


class SavepointRefused(Exception):
    """The database refused a write after a savepoint; the rest of the change remains valid."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change in progress.

    Attributes:
        database: runs the statements.
        connection: the connection in the change's transaction.
        key: the session's key.
        log: the session's log.
        message_log: log of the session's new messages.
        epoch: number of rewinds.
        state: the session's SessionStatus.
        last_seq: seq of the session's newest message.
    """

    database: Database
    connection: AsyncConnection[TupleRow]
    key: UUID
    log: UUID
    message_log: UUID
    epoch: int
    state: int
    last_seq: int

    async def rows(self, statement: str | ClauseElement, **parameters: Any) -> list[DictRow]:
        """Run a statement in the change's transaction.

        Args:
            statement: see Database.rows.
            parameters: values for the placeholders, if the statement is a str. The session's `key`
                and `log` are added to them.
        """
        if not isinstance(statement, str):
            return await self.database.rows(statement, on=self.connection)
        values = {"key": self.key, "log": self.log, **parameters}
        return await self.database.rows(statement, values, on=self.connection)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """If the block raises, undo its writes and keep the rest of the change.

        Raises:
            SavepointRefused: if the database refuses a statement for a reason that persists. A lost
                connection or a deadlock is no such reason.
        """
        try:
            async with self.connection.transaction():
                yield
        except psycopg.OperationalError:
            raise
        except psycopg.Error as e:
            raise SavepointRefused(e.diag.message_primary or type(e).__name__) from e


@asynccontextmanager
async def change(
    database: Database,
    key: UUID,
    project_id: UUID,
    record: RequestRecord | None,
    *,
    excludes_copies: bool = False,
    waits: bool = True,
) -> AsyncIterator[Change]:
    """Lock a session for a change.

    The change is committed at the end of the block, and rolled back on an exception.

    Args:
        database: runs the statements.
        key: the session's key.
        project_id: the caller's project.
        record: record of the request; None for a request without a request_id.
        excludes_copies: whether the change and copies of the session wait for each other.
        waits: whether to wait while the session is locked, which occupies a connection.

    Raises:
        LockTimeout: if the session is locked and `waits` is false, or if it stays locked.
        SessionMissing: if the project has no such session.
        DuplicateRequest: if the request was already recorded with the same content.
        Fault: REQUEST_ID_REUSED if the request_id was recorded with other content.
    """
    async with database.transaction() as connection:
        parameters = {"key": key, "project_id": project_id}
        if excludes_copies:
            # Take this lock before the update. If the update came first, the stronger lock could
            # deadlock with a copy that updates used_at.
            await database.rows(_LOCK_WHOLE, parameters, on=connection)
        rows = await database.rows(_LOCK if waits else _LOCK_NOW, parameters, on=connection)
        if not rows:
            raise SessionMissing
        locked = Change(database, connection, key, **rows[0])
        if record:
            await record_request(database, connection, record, locked.log)
        yield locked
