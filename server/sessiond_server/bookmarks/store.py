"""The bookmarks table. Cold statements, written with SQLAlchemy Core."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from sessiond_server.db import schema as tables
from sessiond_server.db.idempotency import RequestRecord
from sessiond_server.db.pool import Database
from sessiond_server.sessions.store.lock import NOW, Change, change, is_there, joined

B = tables.bookmarks.c


@dataclass(frozen=True, slots=True)
class BookmarkRow:
    """A row of the bookmarks table, as tables.py describes it."""

    name: str
    seq: int
    description: str
    created_at: datetime
    updated_at: datetime


_COLUMNS = [B[field.name] for field in fields(BookmarkRow)]
_GET = joined(tables.bookmarks, *_COLUMNS).where(B.name == bindparam("name"))


class BookmarkStore:
    """Bookmarks of sessions. What takes a Change runs in it; what it does not find there, it leaves alone."""

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

    async def get(self, key: UUID, project_id: UUID, name: str) -> BookmarkRow | None:
        """None where the bookmark does not exist, or its session does not."""
        rows = await self._database.rows(_GET, {"key": key, "project_id": project_id, "name": name})
        return BookmarkRow(**rows[0]) if rows else None

    async def seq_of(self, key: UUID, project_id: UUID, name: str) -> int | None:
        """Where a bookmark stands. None where it does not exist, or its session does not."""
        row = await self.get(key, project_id, name)
        return row.seq if row else None

    async def list(
        self, key: UUID, project_id: UUID, after: tuple[int, str] | None, limit: int
    ) -> list[BookmarkRow]:
        """At most `limit` bookmarks by seq, then by name. after: seq and name of the last one of the page before."""
        statement = joined(tables.bookmarks, *_COLUMNS).order_by(B.seq, B.name).limit(limit)
        if after:
            statement = statement.where(tuple_(B.seq, B.name) > tuple_(*after))
        return [
            BookmarkRow(**row)
            for row in await self._database.rows(statement.params(key=key, project_id=project_id))
        ]

    async def find(self, change: Change, name: str) -> BookmarkRow | None:
        """None where it does not exist."""
        rows = await change.rows(select(*_COLUMNS).where(*_of(change), B.name == name))
        return BookmarkRow(**rows[0]) if rows else None

    async def count(self, change: Change) -> int:
        """How many bookmarks the session has."""
        [row] = await change.rows(select(func.count().label("count")).where(*_of(change)))
        return int(row["count"])

    async def insert(self, change: Change, name: str, seq: int, description: str) -> BookmarkRow:
        """Add a bookmark of a new name."""
        statement = (
            insert(tables.bookmarks)
            .values(
                key=change.key,
                log=change.log,
                name=name,
                seq=seq,
                description=description,
                created_at=NOW,
                updated_at=NOW,
            )
            .returning(*_COLUMNS)
        )
        [row] = await change.rows(statement)
        return BookmarkRow(**row)

    async def update(self, change: Change, name: str, values: Mapping[str, Any]) -> BookmarkRow:
        """Set columns (name, seq, description) of a bookmark that exists."""
        statement = (
            update(tables.bookmarks)
            .where(*_of(change), B.name == name)
            .values(**values, updated_at=NOW)
            .returning(*_COLUMNS)
        )
        [row] = await change.rows(statement)
        return BookmarkRow(**row)

    async def delete(self, change: Change, name: str) -> bool:
        """False where it does not exist."""
        return bool(
            await change.rows(
                delete(tables.bookmarks).where(*_of(change), B.name == name).returning(B.name)
            )
        )


def _of(change: Change) -> list[ColumnElement[bool]]:
    return [B.key == change.key, B.log == change.log]
