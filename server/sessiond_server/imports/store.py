"""Imports a whole session with its messages, tasks and bookmarks in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection, Rollback
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb
from sqlalchemy import and_, not_

from sessiond_server.assets.store import assets
from sessiond_server.bookmarks.store import BookmarkRow
from sessiond_server.core.pg_time import to_pg_us
from sessiond_server.db import schema as tables
from sessiond_server.db.expiry import LIVE_SESSION, alive
from sessiond_server.db.idempotency import RequestRecord, record_request
from sessiond_server.db.pool import Database, columns_of
from sessiond_server.messages.store.branches import link_parents
from sessiond_server.messages.store.message_ids import add_ids
from sessiond_server.messages.store.rows import Totals
from sessiond_server.messages.store.spool import Spool, Start, copy_rows
from sessiond_server.sessions.settings import SessionSettings
from sessiond_server.sessions.store.children import of_session
from sessiond_server.sessions.store.deletion import delete_sessions
from sessiond_server.sessions.store.sessions import NewSession, SessionRow
from sessiond_server.sessions.store.state import patch_state
from sessiond_server.tasks.store import TaskRow

T = tables.sessions.c

_INSERT = f"""
INSERT INTO sessions (key, project_id, session_id, log, state, model, user_name, title, config,
    metadata, last_seq, content_bytes, largest_bytes, token_count, estimated_tokens, first_words,
    first_words_seq, created_at, active_at, used_at, idle_ttl_ms, expiry_check_at)
SELECT %(key)s, %(project_id)s, %(session_id)s, %(log)s, %(status)s, %(model)s, %(user_name)s,
    %(title)s, %(config)s, %(metadata)s, %(count)s, %(content_bytes)s, %(largest_bytes)s,
    %(tokens)s, %(estimated)s, %(first_words)s, %(first_words_place)s,
    COALESCE(%(created_at)s, now), COALESCE(%(active_at)s, now), now, %(idle_ttl_ms)s::bigint,
    now + %(idle_ttl_ms)s::bigint * interval '1 millisecond'
FROM clock_timestamp() AS now
ON CONFLICT DO NOTHING RETURNING {", ".join(field.name for field in fields(SessionRow))}"""

_INSERT_TASK = """
INSERT INTO tasks (key, log, task_id, position, status, data, message_seqs, created_at, updated_at)
SELECT %(key)s, %(log)s, %(task_id)s, %(position)s, %(status)s, %(data)s, %(message_seqs)s,
    COALESCE(%(created_at)s, now), COALESCE(%(updated_at)s, %(created_at)s, now)
FROM clock_timestamp() AS now"""

_INSERT_BOOKMARK = """
INSERT INTO bookmarks (key, log, name, seq, description, created_at, updated_at)
SELECT %(key)s, %(log)s, %(name)s, %(seq)s, %(description)s,
    COALESCE(%(created_at)s, now), COALESCE(%(updated_at)s, %(created_at)s, now)
FROM clock_timestamp() AS now"""


@dataclass(frozen=True, slots=True)
class ImportedTask:
    """A task of an imported session. Its index in the list determines its position.

    Attributes:
        task_id: id of the task.
        status: a TaskStatus.
        data: a JSON object.
        message_seqs: seqs of the messages that the task is linked to, in order.
        created_at: create time; None = now.
        updated_at: update time; None = created_at.
    """

    task_id: str
    status: int
    data: dict[str, Any]
    message_seqs: list[int]
    created_at: datetime | None
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class ImportedBookmark:
    """A bookmark of an imported session.

    Attributes:
        name: name of the bookmark.
        seq: seq of the message that the bookmark follows; None = the newest message.
        description: text for people to read.
        created_at: create time; None = now.
        updated_at: update time; None = created_at.
    """

    name: str
    seq: int | None
    description: str
    created_at: datetime | None
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class ImportHead:
    """A session to import, without its messages.

    Attributes:
        session_id: id of the new session; "" = generated.
        settings: settings of the session.
        status: SessionStatus of the session.
        created_at: create time of the session; None = now.
        active_at: time of the session's last activity; None = now.
        tasks: tasks of the session, in order.
        bookmarks: bookmarks of the session.
        request_id: makes the import safe to repeat; "" = none.
    """

    session_id: str
    settings: SessionSettings
    status: int
    created_at: datetime | None
    active_at: datetime | None
    tasks: Sequence[ImportedTask]
    bookmarks: Sequence[ImportedBookmark]
    request_id: str


@dataclass(frozen=True, slots=True)
class SessionImport:
    """A validated import, without the rows of the messages.

    Attributes:
        new: the session's id and settings.
        head: everything else but the messages.
        totals: totals of the messages.
        parents: pairs of a message's index and its parent_seq, for messages with a parent_seq.
        asset_refs: pairs of a message's index and the sha256 of an asset that it refers to.
        assets: sha256 of these assets, each once.
        message_ids: pairs of a message's index and its message_id, for messages with a message_id.
    """

    new: NewSession
    head: ImportHead
    totals: Totals
    parents: Sequence[tuple[int, int]]
    asset_refs: Sequence[tuple[int, bytes]]
    assets: Sequence[bytes]
    message_ids: Sequence[tuple[int, str]]


class SessionImportStore:
    """Imports of whole sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, made: SessionImport, spool: Spool, record: RequestRecord | None
    ) -> SessionRow | None:
        """Create the session.

        Returns:
            The session; None if its key is taken, in which case nothing is changed.

        Raises:
            DuplicateRequest: the request_id was already recorded.
            AssetMissing: a message refers to an asset that does not exist.
            StateTooLarge: the state would exceed its limits.
        """
        new = made.new
        async with self._database.transaction() as connection:
            if record:
                await record_request(self._database, connection, record)
            if made.asset_refs:
                await assets.hold(connection, new.project_id, made.assets)
            # An expired session that has not been purged yet must not block its id.
            await delete_sessions(self._database, connection, and_(T.key == new.key, not_(alive())))
            parameters = _columns(made.head) | _columns(new) | _columns(made.totals)
            parameters |= {"config": Jsonb(new.config), "metadata": Jsonb(new.metadata)}
            rows = await self._database.rows(_INSERT, parameters, on=connection)
            if not rows:
                raise Rollback
            row = SessionRow(**rows[0])
            await patch_state(connection, new.key, new.log, new.state)
            start = Start(new.key, new.log, 1, to_pg_us(row.used_at), 0, 0)
            await copy_rows(connection, spool, start)
            await add_ids(connection, new.key, new.log, 1, made.message_ids)
            if made.parents:
                await link_parents(connection, new.key, new.log, 1, made.parents)
            if made.asset_refs:
                await assets.refer(connection, new.key, new.log, new.project_id, 1, made.asset_refs)
            await self._insert_children(connection, made)
            return row
        return None

    async def _insert_children(
        self, connection: AsyncConnection[TupleRow], made: SessionImport
    ) -> None:
        own = {"key": made.new.key, "log": made.new.log}
        tasks = [
            own | _columns(task) | {"position": position, "data": Jsonb(task.data)}
            for position, task in enumerate(made.head.tasks, 1)
        ]
        bookmarks = [
            own
            | _columns(bookmark)
            | {"seq": made.totals.count if bookmark.seq is None else bookmark.seq}
            for bookmark in made.head.bookmarks
        ]
        async with connection.cursor() as cursor:
            await cursor.executemany(_INSERT_TASK, tasks)
            await cursor.executemany(_INSERT_BOOKMARK, bookmarks)


def _columns(row: Any) -> dict[str, Any]:
    """Return a dataclass's fields as statement parameters."""
    return {field.name: getattr(row, field.name) for field in fields(row)}


_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_STATE = """
SELECT name, value FROM session_state WHERE key = %(key)s AND log = %(log)s ORDER BY name"""
_SESSION = f"SELECT {columns_of(SessionRow)} FROM sessions WHERE {LIVE_SESSION}"
_TASKS = f"{of_session('tasks', TaskRow)} ORDER BY tasks.position"
_BOOKMARKS = f"{of_session('bookmarks', BookmarkRow)} ORDER BY bookmarks.seq, bookmarks.name"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A session with its state, tasks and bookmarks at one moment.

    Attributes:
        state: values of the state by key, as JSON text.
    """

    session: SessionRow
    state: dict[str, str]
    tasks: Sequence[TaskRow]
    bookmarks: Sequence[BookmarkRow]


class SnapshotStore:
    """Reads sessions for exports."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, key: UUID, project_id: UUID) -> Snapshot | None:
        """Return a session with all but its messages; None if there is no such session."""
        parameters = {"key": key, "project_id": project_id}
        async with self._database.transaction() as connection:
            await self._database.rows(_SNAPSHOT, on=connection)
            sessions = await self._database.rows(_SESSION, parameters, on=connection)
            if not sessions:
                return None
            session = SessionRow(**sessions[0])
            state = await self._database.rows(
                _STATE, {"key": key, "log": session.log}, on=connection
            )
            tasks = await self._database.rows(_TASKS, parameters, on=connection)
            bookmarks = await self._database.rows(_BOOKMARKS, parameters, on=connection)
        return Snapshot(
            session,
            {row["name"]: row["value"] for row in state},
            [TaskRow(**row) for row in tasks],
            [BookmarkRow(**row) for row in bookmarks],
        )
