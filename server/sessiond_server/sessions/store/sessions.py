"""The sessions table: create, get, list, update, delete. Cold statements, written with SQLAlchemy Core."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import INTERVAL, JSONB, insert

from sessiond_server.core.states import SessionState
from sessiond_server.db import schema as tables
from sessiond_server.db.expiry import alive
from sessiond_server.db.idempotency import (
    RecordedRequest,
    RequestRecord,
    find_request,
    record_request,
)
from sessiond_server.db.pool import Database
from sessiond_server.sessions.store.deletion import DeletedSession, delete_sessions

T = tables.sessions.c


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A row of the sessions table, as tables.py describes it."""

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


COLUMNS = [tables.sessions.c[field.name] for field in fields(SessionRow)]
_GET = select(*COLUMNS).where(
    T.key == bindparam("key"), T.project_id == bindparam("project_id"), alive()
)


@dataclass(frozen=True, slots=True)
class NewSession:
    """Settings of a session to create."""

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


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions of a project."""

    project_id: UUID
    session_id_prefix: str = ""
    user_name: str = ""
    state: int = 0
    model: str = ""
    config_contains: dict[str, Any] | None = None
    metadata_contains: dict[str, Any] | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None
    active_from: datetime | None = None
    active_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """SessionFilter and order of a listing. `after` is the sort key of the last row of the page before."""

    filter: SessionFilter
    order: str  # active_desc, created_desc, created_asc, id_asc
    limit: int
    after: tuple[Any, ...] | None = None


class TooLarge(Exception):
    """A JSON column would grow beyond its limit; nothing was changed. args: column, bytes."""


_NOW: ColumnElement[datetime] = func.clock_timestamp()


def after_ms(idle_ttl_ms: int | None) -> ColumnElement[datetime] | None:
    return (
        None
        if idle_ttl_ms is None
        else _NOW + cast(literal(f"{idle_ttl_ms} milliseconds"), INTERVAL)
    )


def _used() -> dict[str, Any]:
    """The columns that every use but an append sets (an append has its own statement)."""
    return {"active_at": _NOW, "used_at": _NOW}


class SessionStore:
    """Sessions, by key. Every method that takes a caller's session takes its project too."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, key: UUID, project_id: UUID) -> SessionRow | None:
        """None where it does not exist for the project, or has expired."""
        rows = await self._database.rows(_GET, {"key": key, "project_id": project_id})
        return SessionRow(**rows[0]) if rows else None

    async def create(self, new: NewSession, record: RequestRecord | None) -> SessionRow | None:
        """None where there is a session of this key already; then nothing happened.

        Raises: DuplicateRequest.
        """
        try:
            async with self._database.transaction() as connection:
                if record:
                    await record_request(self._database, connection, record)
                # An expired session that the purger has not reached yet is gone for everybody else; it must be for us too.
                await delete_sessions(
                    self._database,
                    connection,
                    and_(T.key == new.key, T.project_id == new.project_id, ~alive()),
                )
                statement = (
                    insert(tables.sessions)
                    .values(
                        key=new.key,
                        project_id=new.project_id,
                        session_id=new.session_id,
                        log=new.log,
                        state=SessionState.ACTIVE,
                        model=new.model,
                        user_name=new.user_name,
                        title=new.title,
                        config=_json(new.config),
                        metadata=_json(new.metadata),
                        created_at=_NOW,
                        idle_ttl_ms=new.idle_ttl_ms,
                        expiry_check_at=after_ms(new.idle_ttl_ms),
                        **_used(),
                    )
                    .on_conflict_do_nothing()
                    .returning(*COLUMNS)
                )
                rows = await self._database.rows(statement, on=connection)
                if not rows:
                    raise _Exists
                return SessionRow(**rows[0])
        except _Exists:
            return None

    async def set_state(self, key: UUID, project_id: UUID, state: int) -> SessionRow | None:
        """Make it active (1) or destroyed (2). None where it does not exist."""
        statement = (
            update(tables.sessions)
            .where(*_of(key, project_id))
            .values(
                state=state, revision=T.revision + case((T.state == state, 0), else_=1), **_used()
            )
            .returning(*COLUMNS)
        )
        rows = await self._database.rows(statement)
        return SessionRow(**rows[0]) if rows else None

    async def update(
        self,
        key: UUID,
        project_id: UUID,
        values: Mapping[str, Any],
        patches: Mapping[str, dict[str, Any]],
        etag: tuple[UUID, int] | None,
        max_json_bytes: int,
        record: RequestRecord | None,
    ) -> SessionRow | None:
        """Set columns, and apply RFC 7396 merge patches to `config` and `metadata`, in one statement.

        Args:
            values: column names and new values; JSON columns as dicts.
            etag: the (log, revision) that the row must have, or None.
            max_json_bytes: the most that config or metadata may take as text.
        Returns: the new row; None where it does not exist or the etag is not its own.
        Raises: TooLarge; DuplicateRequest.
        """
        columns: dict[str, Any] = dict(values)
        for name in ("config", "metadata"):
            if name in columns:
                columns[name] = _json(columns[name])
        for name, patch in patches.items():
            columns[name] = func.sessiond_merge_patch(T[name], _json(patch))
        if "idle_ttl_ms" in columns:
            columns["expiry_check_at"] = after_ms(columns["idle_ttl_ms"])
        conditions = _of(key, project_id)
        if etag:
            conditions += [T.log == etag[0], T.revision == etag[1]]
        statement = (
            update(tables.sessions)
            .where(*conditions)
            .values(revision=T.revision + 1, **columns, **_used())
            .returning(
                *COLUMNS,
                func.octet_length(cast(T.config, Text)).label("config_size"),
                func.octet_length(cast(T.metadata, Text)).label("metadata_size"),
            )
        )
        async with self._database.transaction() as connection:
            rows = await self._database.rows(statement, on=connection)
            if not rows:
                return None
            row = rows[0]
            for name in ("config", "metadata"):
                size = row.pop(f"{name}_size")
                if name in columns and size > max_json_bytes:
                    raise TooLarge(name, size)
            if record:
                await record_request(self._database, connection, record)
        return SessionRow(**row)

    async def delete(
        self,
        key: UUID,
        project_id: UUID,
        etag: tuple[UUID, int] | None,
        record: RequestRecord | None,
    ) -> DeletedSession | None:
        """Remove the row and queue its log for the purger, in one transaction. None where it does not exist (or the etag differs).

        Raises: DuplicateRequest.
        """
        conditions = _of(key, project_id)
        if etag:
            conditions += [T.log == etag[0], T.revision == etag[1]]
        async with self._database.transaction() as connection:
            gone = await delete_sessions(self._database, connection, and_(*conditions))
            if not gone:
                return None
            if record:
                await record_request(self._database, connection, record)
        return gone[0]

    async def count(self, chosen: SessionFilter, before: datetime) -> tuple[int, int]:
        """How many sessions meet a filter that were there at a time, and how many messages they have."""
        statement = select(func.count(), func.coalesce(func.sum(T.last_seq), 0)).where(
            *filter_conditions(chosen), _was_there(before)
        )
        (row,) = await self._database.rows(statement)
        sessions, messages = row.values()
        return sessions, int(messages)

    async def delete_some(
        self, chosen: SessionFilter, before: datetime, limit: int
    ) -> list[DeletedSession]:
        """Remove at most `limit` of these sessions. Answers those that went."""
        async with self._database.transaction() as connection:
            return await delete_sessions(
                self._database,
                connection,
                and_(*filter_conditions(chosen), _was_there(before)),
                limit=limit,
            )

    async def now(self) -> datetime:
        """The database's clock."""
        (row,) = await self._database.rows(select(_NOW.label("now")))
        return row["now"]  # type: ignore[no-any-return]

    async def list(self, listing: Listing) -> list[SessionRow]:
        """At most listing.limit rows after listing.after, in order."""
        return [SessionRow(**row) for row in await self._database.rows(list_statement(listing))]

    async def find_request(self, key: UUID, log: UUID, request_id: str) -> RecordedRequest | None:
        """Returns what a request_id did; None if it is not recorded."""
        return await find_request(self._database, key, log, request_id)


def list_statement(listing: Listing) -> Select[Any]:
    """The statement of a listing; public so that a test can look at its plan."""
    conditions = filter_conditions(listing.filter)
    order, keyset = _ORDERS[listing.order]
    if listing.after is not None:
        conditions.append(keyset(*listing.after))
    return select(*COLUMNS).where(*conditions).order_by(*order).limit(listing.limit)


def filter_conditions(chosen: SessionFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [T.project_id == chosen.project_id, alive()]
    if chosen.session_id_prefix:
        # A range, not LIKE: nothing to escape, and it runs on the unique index. Byte order is what the collation "C" has.
        conditions.append(T.session_id >= chosen.session_id_prefix)
        conditions.append(T.session_id < _next_prefix(chosen.session_id_prefix))
    if chosen.user_name:
        conditions.append(T.user_name == chosen.user_name)
    if chosen.state:
        conditions.append(T.state == chosen.state)
    if chosen.model:
        conditions.append(T.model == chosen.model)
    if chosen.config_contains is not None:
        conditions.append(T.config.op("@>")(_json(chosen.config_contains)))
    if chosen.metadata_contains is not None:
        conditions.append(T.metadata.op("@>")(_json(chosen.metadata_contains)))
    if chosen.created_from is not None:
        conditions.append(T.created_at >= chosen.created_from)
    if chosen.created_before is not None:
        conditions.append(T.created_at < chosen.created_before)
    if chosen.active_from is not None:
        conditions.append(T.active_at >= chosen.active_from)
    if chosen.active_before is not None:
        conditions.append(T.active_at < chosen.active_before)
    return conditions


# The first condition of each keyset is what the index can use; the row comparison is exact.
_ORDERS: dict[str, Any] = {
    "active_desc": (
        (T.active_minute.desc(), T.active_at.desc(), T.key.desc()),
        lambda minute, at, key: and_(
            T.active_minute <= minute,
            tuple_(T.active_minute, T.active_at, T.key) < tuple_(minute, at, key),
        ),
    ),
    "created_desc": (
        (T.created_at.desc(), T.key.desc()),
        lambda at, key: tuple_(T.created_at, T.key) < tuple_(at, key),
    ),
    "created_asc": (
        (T.created_at.asc(), T.key.asc()),
        lambda at, key: tuple_(T.created_at, T.key) > tuple_(at, key),
    ),
    "id_asc": ((T.session_id.asc(),), lambda session_id: T.session_id > session_id),
}


def _was_there(at: datetime) -> ColumnElement[bool]:
    # created_at alone would pass by a session that was imported with a time of creation that is still to come.
    return or_(T.created_at < at, T.used_at < at)


def sort_key(order: str, row: SessionRow) -> tuple[Any, ...]:
    """What `Listing.after` wants of the last row of a page."""
    match order:
        case "active_desc":
            return (row.active_minute, row.active_at, row.key)
        case "id_asc":
            return (row.session_id,)
        case _:
            return (row.created_at, row.key)


def _next_prefix(prefix: str) -> str:
    """The least string above every string that begins with prefix, in byte order."""
    # UTF-8 keeps the order of code points. Above the last one, and in the gap of the surrogates, there is nothing to step to.
    head, last = prefix[:-1], ord(prefix[-1])
    if last == 0x10FFFF:
        return _next_prefix(head) if head else "\U0010ffff" * 65
    return head + chr(0xE000 if last == 0xD7FF else last + 1)


def _of(key: UUID, project_id: UUID) -> list[ColumnElement[bool]]:
    return [T.key == key, T.project_id == project_id, alive()]


def _json(value: dict[str, Any]) -> ColumnElement[Any]:
    return literal(Jsonb(value), JSONB)


class _Exists(Exception):
    """Rolls a create back."""


__all__ = [
    "COLUMNS",
    "Listing",
    "NewSession",
    "SessionFilter",
    "SessionRow",
    "SessionStore",
    "TooLarge",
    "after_ms",
    "filter_conditions",
    "list_statement",
    "sort_key",
]
