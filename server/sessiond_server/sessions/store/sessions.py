"""The sessions table: create, get, list, update, delete."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection, Rollback
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb
from sqlalchemy import (
    ColumnElement,
    Text,
    and_,
    cast,
    func,
    update,
)

from sessiond_server.core.states import SessionStatus
from sessiond_server.db import schema as tables
from sessiond_server.db.expiry import LIVE_SESSION, alive
from sessiond_server.db.idempotency import (
    NO_LOG,
    RecordedRequest,
    RequestRecord,
    find_request,
    recorded_transaction,
)
from sessiond_server.db.pages import RowPage, page_of
from sessiond_server.db.pool import Database, columns_of
from sessiond_server.sessions.store.deletion import DeletedSession, delete_sessions
from sessiond_server.sessions.store.filters import as_jsonb
from sessiond_server.sessions.store.listing import ActivityKey, Listing, list_text
from sessiond_server.sessions.store.state import (
    NO_PATCH,
    StateChange,
    StatePatch,
    check_state_etag,
    patch_state,
    state_sizes,
    states_of,
)

T = tables.sessions.c


MODEL_OPTIONS = "model_options"
"""The key of a config that holds JSON text, which does not count towards the config's limit."""

_COUNTED_CONFIG = T.config.op("-")(cast(MODEL_OPTIONS, Text))


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A row of the sessions table; db/schema/ describes the columns."""

    key: UUID
    project_id: UUID
    session_id: str
    log: UUID
    state: int
    revision: int
    model: str
    user_name: str
    title: str
    first_words: str | None
    config: dict[str, Any]
    metadata: dict[str, Any]
    last_seq: int
    content_bytes: int
    created_at: datetime
    active_at: datetime
    active_minute: int
    idle_ttl_ms: int | None
    used_at: datetime
    token_count: int
    estimated_tokens: int
    origin_session_id: str | None
    origin_seq: int | None
    epoch: int


COLUMNS = [T[field.name] for field in fields(SessionRow)]
_COLUMNS = columns_of(SessionRow)

_GET = f"SELECT {_COLUMNS} FROM sessions WHERE {LIVE_SESSION}"

_INSERT = f"""
INSERT INTO sessions (key, project_id, session_id, log, state, model, user_name, title, config,
    metadata, created_at, active_at, used_at, idle_ttl_ms, expiry_check_at)
VALUES (%(key)s, %(project_id)s, %(session_id)s, %(log)s, {SessionStatus.ACTIVE.value}, %(model)s,
    %(user_name)s, %(title)s, %(config)s, %(metadata)s, statement_timestamp(),
    statement_timestamp(), statement_timestamp(), %(idle_ttl_ms)s::bigint,
    statement_timestamp() + %(idle_ttl_ms)s::bigint * interval '1 millisecond')
ON CONFLICT DO NOTHING RETURNING {_COLUMNS}"""

_SET_STATE = f"""
UPDATE sessions SET state = %(state)s, revision = revision + (state <> %(state)s)::integer,
    active_at = clock_timestamp(), used_at = clock_timestamp()
WHERE {LIVE_SESSION} RETURNING {_COLUMNS}"""


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to create."""

    key: UUID
    project_id: UUID
    session_id: str
    log: UUID
    model: str
    user_name: str
    title: str
    config: dict[str, Any]
    metadata: dict[str, Any]
    idle_ttl_ms: int | None
    state: StatePatch = NO_PATCH


class ListedSession(NamedTuple):
    """A session in a listing.

    Attributes:
        row: the session's row.
        sort_key: the session's place in the order of the listing, for Listing.after.
    """

    row: SessionRow
    sort_key: tuple[Any, ...]


class Etag(NamedTuple):
    """The version of a session. It contains the log, so a re-created session has other etags."""

    log: UUID
    revision: int


class TooLarge(Exception):
    """A JSON column would exceed its limit; nothing was changed. Args: column, bytes."""


_NOW: ColumnElement[datetime] = func.clock_timestamp()


class SessionStore:
    """Sessions by key. Methods for a single session also take the caller's project."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, key: UUID, project_id: UUID) -> SessionRow | None:
        """Return a session; None if it has expired or the project has no session with this key."""
        rows = await self._database.rows(_GET, {"key": key, "project_id": project_id})
        return SessionRow(**rows[0]) if rows else None

    async def create(self, new: NewSession, record: RequestRecord | None) -> SessionRow | None:
        """Create a session.

        Returns:
            The new session; None if the key is taken, in which case nothing is changed.

        Raises:
            DuplicateRequest: if the request was already recorded.
        """
        async with recorded_transaction(self._database, record) as connection:
            if row := await insert_session(self._database, connection, new):
                return row
            raise Rollback
        return None

    async def set_status(
        self, key: UUID, project_id: UUID, status: SessionStatus, record: RequestRecord | None
    ) -> SessionRow | None:
        """Destroy or resume a session.

        Returns:
            The session; None if it does not exist.

        Raises:
            DuplicateRequest: if the request was already recorded.
        """
        parameters = {"key": key, "project_id": project_id, "state": status.value}
        async with recorded_transaction(self._database, record) as connection:
            if rows := await self._database.rows(_SET_STATE, parameters, on=connection):
                return SessionRow(**rows[0])
            raise Rollback
        return None

    async def update(
        self,
        key: UUID,
        project_id: UUID,
        values: Mapping[str, Any],
        patches: Mapping[str, dict[str, Any]],
        etag: Etag | None,
        max_json_bytes: int,
        record: RequestRecord | None,
        state: StateChange,
    ) -> SessionRow | None:
        """Set columns, apply RFC 7396 merge patches, and change the state.

        Args:
            key: the session's key.
            project_id: the caller's project.
            values: new values by column; JSON columns as dicts.
            patches: merge patches of `config` and `metadata`.
            etag: the version that the session must have; None for any.
            max_json_bytes: maximum size of config and of metadata, as JSON text.
            record: record of the request; None for a request without a request_id.
            state: the change of the state.

        Returns:
            The new row; None if the session does not exist or has another etag.

        Raises:
            StateChanged: if the state has another etag.
            StateTooLarge: if the state would exceed its limits.
            TooLarge: if config or metadata would exceed max_json_bytes.
            DuplicateRequest: if the request was already recorded.
        """
        columns: dict[str, Any] = dict(values)
        for name in ("config", "metadata"):
            if name in columns:
                columns[name] = as_jsonb(columns[name])
        for name, patch in patches.items():
            columns[name] = func.sessiond_merge_patch(T[name], as_jsonb(patch))
        if "idle_ttl_ms" in columns:
            ttl_ms = columns["idle_ttl_ms"]
            expiry = None if ttl_ms is None else _NOW + timedelta(milliseconds=ttl_ms)
            columns["expiry_check_at"] = expiry
        statement = (
            update(tables.sessions)
            .where(*_is(key, project_id, etag))
            .values(
                revision=T.revision + (1 if columns else 0), active_at=_NOW, used_at=_NOW, **columns
            )
            .returning(
                *COLUMNS,
                func.octet_length(cast(_COUNTED_CONFIG, Text)).label("config_size"),
                func.octet_length(cast(T.metadata, Text)).label("metadata_size"),
            )
        )
        async with recorded_transaction(self._database, record) as connection:
            rows = await self._database.rows(statement, on=connection)
            if not rows:
                raise Rollback
            row = rows[0]
            for name in ("config", "metadata"):
                size = row.pop(f"{name}_size")
                if name in columns and size > max_json_bytes:
                    raise TooLarge(name, size)
            await check_state_etag(connection, key, row["log"], state.etag)
            await patch_state(connection, key, row["log"], state.patch)
            return SessionRow(**row)
        return None

    async def delete(
        self, key: UUID, project_id: UUID, etag: Etag | None, record: RequestRecord | None
    ) -> DeletedSession | None:
        """Delete a session and queue its log for purging, in one transaction.

        Returns:
            The session; None if it does not exist or has another etag.

        Raises:
            DuplicateRequest: if the request was already recorded.
        """
        condition = and_(*_is(key, project_id, etag))
        async with recorded_transaction(self._database, record) as connection:
            if deleted := await delete_sessions(self._database, connection, condition):
                return deleted[0]
            raise Rollback
        return None

    async def list(self, listing: Listing) -> RowPage[ListedSession]:
        """Return at most listing.limit rows after listing.after, in order."""

        def listed(*, is_crowded: bool, **columns: Any) -> ListedSession:
            row = SessionRow(**columns)
            return ListedSession(row, _sort_key(listing.order, row, is_crowded))

        text, values = list_text(replace(listing, limit=listing.limit + 1), COLUMNS)
        return await page_of(self._database, text, values, listing.limit, listed)

    async def states(self, rows: Sequence[SessionRow]) -> Sequence[str]:
        """Return the states of sessions as JSON text, in the order of the rows."""
        async with self._database.connection() as connection:
            states = await states_of(connection, [(row.key, row.log) for row in rows])
        return [states[row.key] for row in rows]

    async def state_sizes(self, rows: Sequence[SessionRow]) -> Sequence[int]:
        """Return the sizes of the states of sessions, in bytes, in the order of the rows."""
        async with self._database.connection() as connection:
            sizes = await state_sizes(connection, [(row.key, row.log) for row in rows])
        return [sizes[row.key] for row in rows]

    async def find_request(self, key: UUID, log: UUID, request_id: str) -> RecordedRequest | None:
        """Return the first request with a request_id; None if there is none."""
        return await find_request(self._database, key, log, request_id)

    async def is_recorded(self, record: RequestRecord | None) -> bool:
        """Return whether a creation is the repetition of an earlier one."""
        return record is not None and bool(
            await self.find_request(record.key, NO_LOG, record.request_id)
        )


async def insert_session(
    database: Database, connection: AsyncConnection[TupleRow], new: NewSession
) -> SessionRow | None:
    """Insert a session in the caller's transaction; return None if its key is taken."""
    # An expired session may still have its row, until the purger removes it.
    await delete_sessions(
        database,
        connection,
        and_(T.key == new.key, T.project_id == new.project_id, ~alive()),
    )
    values = asdict(new) | {"config": Jsonb(new.config), "metadata": Jsonb(new.metadata)}
    del values["state"]
    rows = await database.rows(_INSERT, values, on=connection)
    if not rows:
        return None
    await patch_state(connection, new.key, new.log, new.state)
    return SessionRow(**rows[0])


def _sort_key(order: str, row: SessionRow, is_crowded: bool) -> tuple[Any, ...]:
    match order:
        case "active_desc" | "active_asc":
            return ActivityKey(row.active_minute, None if is_crowded else row.active_at, row.key)
        case "id_asc":
            return (row.session_id,)
        case _:
            return (row.created_at, row.key)


def _is(key: UUID, project_id: UUID, etag: Etag | None) -> list[ColumnElement[bool]]:
    conditions = [T.key == key, T.project_id == project_id, alive()]
    if etag:
        conditions += [T.log == etag.log, T.revision == etag.revision]
    return conditions
