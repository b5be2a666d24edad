"""Whole sessions from elsewhere: the row, its messages through COPY, its tasks and bookmarks, as one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb
from sqlalchemy import and_, func, literal, not_, select
from sqlalchemy.dialects.postgresql import JSONB, insert

from sessiond_server.assets.store import assets
from sessiond_server.core.pg_time import to_pg_us
from sessiond_server.db import schema as tables
from sessiond_server.db.expiry import alive
from sessiond_server.db.idempotency import RequestRecord, record_request
from sessiond_server.db.pool import Database
from sessiond_server.messages.store.append import copy_rows
from sessiond_server.messages.store.spool import Spool, Start
from sessiond_server.sessions.store.deletion import delete_sessions
from sessiond_server.sessions.store.sessions import COLUMNS, NewSession, SessionRow, after_ms

T = tables.sessions.c
_NOW = func.clock_timestamp()


@dataclass(frozen=True, slots=True)
class ImportedTask:
    """A task; its position is its place in the list. Times: None = now."""

    task_id: str
    status: int
    data: dict[str, Any]
    message_seqs: list[int]
    created_at: datetime | None
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class ImportedBookmark:
    """A bookmark. seq: None = at the newest message. Times: None = now."""

    name: str
    seq: int | None
    description: str
    created_at: datetime | None
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class SessionImport:
    """Everything but the messages. Times: None = now. The counters are those of the messages."""

    new: NewSession
    state: int
    created_at: datetime | None
    active_at: datetime | None
    tasks: Sequence[ImportedTask]
    bookmarks: Sequence[ImportedBookmark]
    count: int
    content_bytes: int
    largest_bytes: int
    tokens: int
    estimated: int
    first_words: str | None
    first_words_place: int | None
    asset_refs: Sequence[tuple[int, bytes]]
    assets: Sequence[bytes]


class SessionImportStore:
    """Imports of whole sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, made: SessionImport, spool: Spool, record: RequestRecord | None
    ) -> SessionRow | None:
        """The new session. None where there is one of its key already; then nothing happened.

        Raises: DuplicateRequest, AssetMissing.
        """
        new = made.new
        try:
            async with self._database.transaction() as connection:
                if record:
                    await record_request(self._database, connection, record)
                if made.asset_refs:
                    await assets.hold(connection, new.project_id, made.assets)
                # An expired session that the purger has not reached yet is gone for everybody else; it must be for us too.
                await delete_sessions(
                    self._database, connection, and_(T.key == new.key, not_(alive()))
                )
                row = await self._insert(connection, made)
                if row is None:
                    raise _Exists
                now = (await self._database.rows(select(_NOW.label("now")), on=connection))[0][
                    "now"
                ]
                await copy_rows(connection, spool, Start(new.key, new.log, 1, to_pg_us(now), 0, 0))
                if made.asset_refs:
                    await assets.refer(
                        connection, new.key, new.log, new.project_id, 1, made.asset_refs
                    )
                await self._insert_tasks(connection, made)
                await self._insert_bookmarks(connection, made)
                return row
        except _Exists:
            return None

    async def _insert(
        self, connection: AsyncConnection[TupleRow], made: SessionImport
    ) -> SessionRow | None:
        new = made.new
        statement = (
            insert(tables.sessions)
            .values(
                key=new.key,
                project_id=new.project_id,
                session_id=new.session_id,
                log=new.log,
                state=made.state,
                model=new.model,
                user_name=new.user_name,
                title=new.title,
                config=_json(new.config),
                metadata=_json(new.metadata),
                last_seq=made.count,
                content_bytes=made.content_bytes,
                largest_bytes=made.largest_bytes,
                token_count=made.tokens,
                estimated_tokens=made.estimated,
                first_words=made.first_words,
                first_words_seq=made.first_words_place,
                created_at=made.created_at or _NOW,
                active_at=made.active_at or _NOW,
                used_at=_NOW,
                idle_ttl_ms=new.idle_ttl_ms,
                expiry_check_at=after_ms(new.idle_ttl_ms),
            )
            .on_conflict_do_nothing()
            .returning(*COLUMNS)
        )
        rows = await self._database.rows(statement, on=connection)
        return SessionRow(**rows[0]) if rows else None

    async def _insert_tasks(
        self, connection: AsyncConnection[TupleRow], made: SessionImport
    ) -> None:
        rows = [
            {
                "key": made.new.key,
                "log": made.new.log,
                "task_id": task.task_id,
                "position": position,
                "status": task.status,
                "data": _json(task.data),
                "message_seqs": task.message_seqs,
                "created_at": task.created_at or _NOW,
                "updated_at": task.updated_at or task.created_at or _NOW,
            }
            for position, task in enumerate(made.tasks, 1)
        ]
        if rows:
            await self._database.rows(insert(tables.tasks).values(rows), on=connection)

    async def _insert_bookmarks(
        self, connection: AsyncConnection[TupleRow], made: SessionImport
    ) -> None:
        rows = [
            {
                "key": made.new.key,
                "log": made.new.log,
                "name": bookmark.name,
                "seq": made.count if bookmark.seq is None else bookmark.seq,
                "description": bookmark.description,
                "created_at": bookmark.created_at or _NOW,
                "updated_at": bookmark.updated_at or bookmark.created_at or _NOW,
            }
            for bookmark in made.bookmarks
        ]
        if rows:
            await self._database.rows(insert(tables.bookmarks).values(rows), on=connection)


def _json(value: dict[str, Any]) -> Any:
    return literal(Jsonb(value), JSONB)


class _Exists(Exception):
    """Rolls an import back."""
