"""Statements of a deletion by filter.

A deletion first reads the keys of the sessions that match, and then deletes them in batches. So no
batch searches all sessions again. Each batch evaluates the filter again, for its own sessions only.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    LargeBinary,
    Text,
    Uuid,
    and_,
    any_,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from sessiond_server.db import schema as tables
from sessiond_server.db.idempotency import (
    NO_LOG,
    DuplicateRequest,
    RequestRecord,
    find_request,
    recorded_transaction,
)
from sessiond_server.db.pool import Database
from sessiond_server.sessions.store.deletion import DeletedSession, delete_sessions
from sessiond_server.sessions.store.filters import SessionFilter, filter_conditions

T = tables.sessions.c
_EMPTY: ColumnElement[bytes] = literal_column("''::bytea", LargeBinary)


class SessionCounts(NamedTuple):
    """A number of sessions, and the number of messages in them."""

    sessions: int
    messages: int


class DoomedSessions(NamedTuple):
    """Selects the sessions that a deletion deletes.

    Attributes:
        filter: the filter that all of them match.
        before: time when the deletion started. Sessions created later are kept.
    """

    filter: SessionFilter
    before: datetime

    @property
    def condition(self) -> ColumnElement[bool]:
        """The condition of a statement."""
        # created_at alone is not enough: an imported session may have a created_at in the future.
        existed = or_(T.created_at < self.before, T.used_at < self.before)
        return and_(*filter_conditions(self.filter), existed)


class PackedKeys:
    """The encoded keys of sessions. A slice is a list of UUIDs.

    Making many thousands of UUIDs at once would block the event loop for tens of milliseconds.
    """

    def __init__(self, packed: bytes) -> None:
        """Create the object from the keys, each of which has 16 bytes."""
        self._packed = packed

    def __len__(self) -> int:
        return len(self._packed) // 16

    def __getitem__(self, part: slice) -> list[UUID]:
        start, stop, _ = part.indices(len(self))
        return [UUID(bytes=self._packed[16 * i : 16 * (i + 1)]) for i in range(start, stop)]


class BulkDeletionStore:
    """Counts and deletes sessions by filter."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def start(self, record: RequestRecord | None) -> datetime:
        """Return the start time of a deletion.

        A repetition gets the start time of the first request.

        Raises:
            Fault: REQUEST_ID_REUSED if the first request had another filter.
        """
        if record:
            try:
                async with recorded_transaction(self._database, record):
                    pass
            except DuplicateRequest:
                pass
            first = await find_request(self._database, record.key, NO_LOG, record.request_id)
            if first:
                return first.created_at
        [row] = await self._database.rows("SELECT clock_timestamp() AS now")
        return row["now"]  # type: ignore[no-any-return]

    async def count(self, doomed: DoomedSessions) -> SessionCounts:
        """Count the sessions."""
        statement = select(
            func.count().label("sessions"),
            cast(func.coalesce(func.sum(T.last_seq), 0), BigInteger).label("messages"),
        ).where(doomed.condition)
        [row] = await self._database.rows(statement)
        return SessionCounts(**row)

    async def keys(self, doomed: DoomedSessions, after: UUID | None, limit: int) -> PackedKeys:
        """Return at most `limit` keys of sessions: those that follow a key, in order."""
        chosen = select(T.key).where(doomed.condition).order_by(T.key).limit(limit)
        if after:
            chosen = chosen.where(T.key > after)
        key = chosen.subquery().c.key
        packed = func.string_agg(func.uuid_send(key), aggregate_order_by(_EMPTY, key))
        [row] = await self._database.rows(select(func.coalesce(packed, _EMPTY).label("packed")))
        return PackedKeys(row["packed"])

    async def delete(
        self, doomed: DoomedSessions, keys: Sequence[UUID], *, skip_locked: bool
    ) -> list[DeletedSession]:
        """Delete and return those of the given sessions that still match.

        Args:
            doomed: see DoomedSessions.
            keys: keys of the sessions.
            skip_locked: whether to skip sessions that others have locked, instead of waiting for
                them.

        Raises:
            LockTimeout: if a session or table stayed locked; never for sessions that are skipped.
                Nothing was deleted.
        """
        async with self._database.transaction() as connection:
            return await delete_sessions(
                self._database,
                connection,
                and_(_is_one_of(keys), doomed.condition),
                skip_locked=skip_locked,
            )

    async def matching(self, doomed: DoomedSessions, keys: Sequence[UUID]) -> dict[UUID, str]:
        """Return those of the given sessions that still match: their keys and session_ids."""
        statement = select(T.key, T.session_id).where(_is_one_of(keys), doomed.condition)
        rows = await self._database.rows(statement.order_by(T.session_id))
        return {row["key"]: row["session_id"] for row in rows}


def _is_one_of(keys: Sequence[UUID]) -> ColumnElement[bool]:
    # The keys are passed as one text, because psycopg would search each key of a list for
    # characters to escape.
    text = literal(f"{{{','.join(map(str, keys))}}}", Text)
    return T.key == any_(cast(text, ARRAY(Uuid)))
