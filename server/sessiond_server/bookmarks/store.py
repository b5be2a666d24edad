"""The bookmarks table."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import update

from sessiond_server.db import schema as tables
from sessiond_server.db.expiry import LIVE_SESSION
from sessiond_server.db.idempotency import RequestRecord
from sessiond_server.db.pool import Database, columns_of
from sessiond_server.sessions.store.lock import NOW, Change, change, session_exists

B = tables.bookmarks.c


@dataclass(frozen=True, slots=True)
class BookmarkRow:
    """A row of the bookmarks table; db/schema/ describes the columns."""

    name: str
    seq: int
    description: str
    created_at: datetime
    updated_at: datetime


_COLUMNS = columns_of(BookmarkRow)
_OF_SESSION = f"""
SELECT {columns_of(BookmarkRow, "bookmarks")}
FROM sessions JOIN bookmarks ON bookmarks.key = sessions.key AND bookmarks.log = sessions.log
WHERE {LIVE_SESSION}"""
_GET = f"{_OF_SESSION} AND bookmarks.name = %(name)s"
_LIST = f"""{_OF_SESSION} AND (bookmarks.seq, bookmarks.name) > (%(after)s, %(after_name)s)
ORDER BY bookmarks.seq, bookmarks.name LIMIT %(limit)s"""
_FIND = f"""
SELECT {_COLUMNS} FROM bookmarks WHERE key = %(key)s AND log = %(log)s AND name = %(name)s"""
_COUNT = "SELECT count(*) AS count FROM bookmarks WHERE key = %(key)s AND log = %(log)s"
_INSERT = f"""
INSERT INTO bookmarks (key, log, name, seq, description, created_at, updated_at)
VALUES (%(key)s, %(log)s, %(name)s, %(seq)s, %(description)s, statement_timestamp(),
    statement_timestamp())
RETURNING {_COLUMNS}"""
_DELETE = """
DELETE FROM bookmarks WHERE key = %(key)s AND log = %(log)s AND name = %(name)s RETURNING name"""


class BookmarkStore:
    """Bookmarks of sessions. Methods that take a Change run in its transaction."""

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

    async def get(self, key: UUID, project_id: UUID, name: str) -> BookmarkRow | None:
        """Returns a bookmark; None if it or its session does not exist."""
        rows = await self._database.rows(_GET, {"key": key, "project_id": project_id, "name": name})
        return BookmarkRow(**rows[0]) if rows else None

    async def seq_of(self, key: UUID, project_id: UUID, name: str) -> int | None:
        """Returns the seq of a bookmark; None if it or its session does not exist."""
        row = await self.get(key, project_id, name)
        return row.seq if row else None

    async def list(
        self, key: UUID, project_id: UUID, after: tuple[int, str] | None, limit: int
    ) -> list[BookmarkRow]:
        """Returns at most `limit` bookmarks by seq, then by name.

        Args:
            key: the session's key.
            project_id: the caller's project.
            after: seq and name of the last bookmark of the page before.
            limit: the most bookmarks.
        """
        seq, name = after or (-1, "")
        parameters = {
            "key": key,
            "project_id": project_id,
            "after": seq,
            "after_name": name,
            "limit": limit,
        }
        return [BookmarkRow(**row) for row in await self._database.rows(_LIST, parameters)]

    async def find(self, change: Change, name: str) -> BookmarkRow | None:
        """Returns a bookmark; None if it does not exist."""
        rows = await change.rows(_FIND, name=name)
        return BookmarkRow(**rows[0]) if rows else None

    async def count(self, change: Change) -> int:
        """Returns how many bookmarks the session has."""
        [row] = await change.rows(_COUNT)
        return int(row["count"])

    async def insert(self, change: Change, name: str, seq: int, description: str) -> BookmarkRow:
        """Adds a bookmark with a new name."""
        [row] = await change.rows(_INSERT, name=name, seq=seq, description=description)
        return BookmarkRow(**row)

    async def update(self, change: Change, name: str, values: Mapping[str, Any]) -> BookmarkRow:
        """Sets columns (name, seq, description) of a bookmark that exists."""
        statement = (
            update(tables.bookmarks)
            .where(B.key == change.key, B.log == change.log, B.name == name)
            .values(**values, updated_at=NOW)
            .returning(*(B[field.name] for field in fields(BookmarkRow)))
        )
        [row] = await change.rows(statement)
        return BookmarkRow(**row)

    async def delete(self, change: Change, name: str) -> bool:
        """Removes a bookmark.

        Returns:
            False if it does not exist.
        """
        return bool(await change.rows(_DELETE, name=name))
