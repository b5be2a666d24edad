"""Appends messages to a session with one statement in one round trip.

The statement increases `last_seq` in the session's row, with all conditions in the WHERE clause of
this UPDATE, and inserts the messages with the new seqs. Because of the lock on the row, appends
commit in the order of their seqs. A reader that has seen seq n therefore never finds a new message
with a smaller seq later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from sessiond_server.assets.store import assets
from sessiond_server.db.idempotency import DuplicateRequest
from sessiond_server.db.pool import Database
from sessiond_server.db.prepared import PreparedStatement
from sessiond_server.messages.store import message_ids
from sessiond_server.messages.store.append_statements import (
    PREPARED,
    PREPARED_BUMPS,
    PREPARED_FENCED,
)
from sessiond_server.messages.store.branches import link_parents
from sessiond_server.messages.store.message_ids import MessageIdTaken
from sessiond_server.messages.store.rows import Rows, Totals
from sessiond_server.messages.store.spool import Spool, Start, copy_rows
from sessiond_server.sessions.store.sessions import NewSession, SessionRow, insert_session
from sessiond_server.sessions.store.state import NO_PATCH, StatePatch, check_state_etag, patch_state


# Not frozen, because each append creates several such objects, and the creation of a frozen one
# takes four times as long.
@dataclass(slots=True)
class Append:
    """Parameters of one append. An object is never modified.

    Attributes:
        key: key of the session.
        project_id: project of the session.
        totals: totals of the messages.
        expected_last_seq: the last_seq that the session must have; None = any.
        expected_epoch: the epoch that the session must have; None = any.
        request_id: makes the append safe to repeat; "" = none.
        content_hash: hash of the messages, which a repetition must match.
        parents: (place in the append, from 0; parent_seq) for each message that has one.
        asset_refs: (place in the append, from 0; sha256) for each asset that a message refers to.
        assets: sha256 of these assets, each once.
        message_ids: (place in the append, from 0; message_id) for each message that has one.
        skipped: number of further messages of the request, which are left out.
        state: change of the session's state.
        state_etag: the etag that the state must have; "" = any.
    """

    key: UUID
    project_id: UUID
    totals: Totals
    expected_last_seq: int | None
    expected_epoch: int | None
    request_id: str
    content_hash: bytes
    parents: Sequence[tuple[int, int]] = ()
    asset_refs: Sequence[tuple[int, bytes]] = ()
    assets: Sequence[bytes] = ()
    message_ids: Sequence[tuple[int, str]] = ()
    skipped: int = 0
    state: StatePatch = NO_PATCH
    state_etag: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether one statement can store the append, perhaps together with other appends."""
        return not (self.parents or self.asset_refs or self.state or self.state_etag)

    @property
    def changes_little(self) -> bool:
        """Whether one statement can store the append together with its change of the state."""
        is_alone = self.parents or self.asset_refs or self.state_etag
        return self.state.is_small and not is_alone

    def stored(self, last_seq: int, created_us: int, epoch: int) -> "Appended":
        """Return the result of the append, whose last message has the seq last_seq."""
        first_seq = last_seq - self.totals.count + 1
        return Appended(first_seq, last_seq, created_us, epoch, self.skipped)

    def parameters(self) -> dict[str, object]:
        """Return the parameters of the statements, except those for the rows."""
        totals = self.totals
        return {
            "key": self.key,
            "project_id": self.project_id,
            "count": totals.count,
            "bytes": totals.content_bytes,
            "largest": totals.largest_bytes,
            "tokens": totals.tokens,
            "estimated": totals.estimated,
            "first_words": totals.first_words,
            "first_words_place": totals.first_words_place,
            "expected": self.expected_last_seq,
            "expected_epoch": self.expected_epoch,
            "parent_floor": totals.parent_floor,
            "request_id": self.request_id,
            "hash": self.content_hash,
            "result": str(self.skipped or ""),
        }


@dataclass(slots=True)
class Appended:
    """The result of an append. An object is never modified.

    Attributes:
        first_seq: seq of the first message.
        last_seq: seq of the last message.
        created_us: create time of the messages, in microseconds since 2000-01-01 UTC.
        epoch: epoch of the session; the seqs are those of this epoch.
        skipped: number of messages that were left out because the session had their message_ids.
            If all messages were left out, first_seq and created_us are 0.
    """

    first_seq: int
    last_seq: int
    created_us: int
    epoch: int
    skipped: int = 0


class AppendStore:
    """Appends to sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, append: Append, rows: Rows) -> Appended | None:
        """Store all rows, or none.

        Returns:
            The result; None if a condition did not hold, in which case nothing was stored.

        Raises:
            DuplicateRequest: the request_id was already recorded.
            MessageIdTaken: the session's own log has one of the message_ids.
            StateChanged: the state does not have the expected etag.
            StateTooLarge: the state would exceed its limits.
            AssetMissing: a message refers to an asset that does not exist.
        """
        parameters = parameters_of(append, rows)
        if append.message_ids:
            parameters |= message_ids.columns(append.message_ids)
        kind = (len(rows) == 1, bool(append.request_id), bool(append.message_ids))
        if append.changes_little:
            changes = {
                "state_names": list(append.state.set),
                "state_values": list(append.state.set.values()),
            }
            async with self._database.connection() as connection:
                appended = await self._append(
                    connection,
                    append,
                    PREPARED[(*kind, True)],
                    parameters | changes,
                    is_named=True,
                    is_stated=True,
                )
            if appended:
                return appended
            # A condition did not hold, or the state is so large that the change must be measured.
        statement = PREPARED[(*kind, False)]
        lend = self._database.connection if append.is_plain else self._database.transaction
        async with lend() as connection:
            return await self._append(connection, append, statement, parameters, is_named=True)

    async def append_fenced(
        self, connection: AsyncConnection[TupleRow], append: Append, rows: Rows, turn_id: UUID
    ) -> Appended | None:
        """Store the rows of a turn in the caller's transaction.

        Returns:
            The result; None if the session is running another turn or accepts no appends.

        Raises:
            MessageIdTaken: the session has one of the message_ids.
            AssetMissing: a message refers to an asset that does not exist.
        """
        parameters = parameters_of(append, rows) | {"turn": turn_id}
        # Check the ids before the insert, because a violated constraint would abort the caller's
        # transaction. No other append can add ids: the transaction holds the session's row.
        await message_ids.check_ids(connection, append.key, append.project_id, append.message_ids)
        return await self._append(connection, append, PREPARED_FENCED[len(rows) == 1], parameters)

    async def create(
        self, new: NewSession, append: Append, rows: Rows | Spool
    ) -> tuple[SessionRow, Appended] | None:
        """Create a session and store its first messages, in one transaction.

        Args:
            new: the session.
            append: the append. Its conditions must hold for an empty session.
            rows: the messages.

        Returns:
            The session as it was before the append, and the result; None if another caller has
            created a session with this key.

        Raises:
            AssetMissing: a message refers to an asset that does not exist.
        """
        async with self._database.transaction() as connection:
            session = await insert_session(self._database, connection, new)
            if session is None:
                raise psycopg.Rollback
            if isinstance(rows, Spool):
                appended = await self._append(
                    connection,
                    append,
                    PREPARED_BUMPS[bool(append.request_id)],
                    append.parameters(),
                    rows,
                )
            else:
                appended = await self._append(
                    connection,
                    append,
                    PREPARED[len(rows) == 1, bool(append.request_id), False, False],
                    parameters_of(append, rows),
                )
            if appended is None:
                raise psycopg.Rollback
            return session, appended
        return None

    async def stored_ids(self, key: UUID, project_id: UUID, ids: Sequence[str]) -> dict[str, int]:
        """Return the seqs of the message_ids that the session has already, by message_id."""
        async with self._database.connection() as connection:
            return await message_ids.stored_ids(connection, key, project_id, ids)

    async def append_within(
        self, connection: AsyncConnection[TupleRow], append: Append, rows: Rows
    ) -> Appended | None:
        """Store the rows in the caller's transaction, without recording the request_id.

        Results and errors are those of `append`. The transaction must hold the session's row.
        """
        await message_ids.check_ids(connection, append.key, append.project_id, append.message_ids)
        statement = PREPARED[len(rows) == 1, False, False, False]
        return await self._append(connection, append, statement, parameters_of(append, rows))

    async def append_bulk(self, append: Append, spool: Spool) -> Appended | None:
        """Store the rows of a spool using COPY.

        Results and errors are those of `append`. The session's row is locked while the rows are
        copied.
        """
        statement = PREPARED_BUMPS[bool(append.request_id)]
        async with self._database.transaction() as connection:
            return await self._append(connection, append, statement, append.parameters(), spool)

    async def _append(
        self,
        connection: AsyncConnection[TupleRow],
        append: Append,
        statement: PreparedStatement,
        parameters: dict[str, object],
        spool: Spool | None = None,
        *,
        is_named: bool = False,
        is_stated: bool = False,
    ) -> Appended | None:
        """Run the statement of an append, and copy the rows of the spool if there is one.

        Args:
            connection: the connection.
            append: the append.
            statement: updates the session, and stores the rows unless they are in the spool.
            parameters: parameters of the statement.
            spool: the rows, if the statement does not store them.
            is_named: whether the statement also inserts the message_ids.
            is_stated: whether the statement also changes the state.
        """
        if append.asset_refs:
            await assets.hold(connection, append.project_id, append.assets)
        try:
            found = await statement.run(connection, parameters)
        except psycopg.errors.UniqueViolation as e:
            if e.diag.constraint_name == message_ids.CONSTRAINT:
                raise MessageIdTaken from e
            raise DuplicateRequest from e
        if not found:
            return None
        last_seq, created_us, message_log_id, epoch, log_id, *after = found[0]
        appended = append.stored(last_seq, created_us, epoch)
        if (append.is_plain or is_stated) and not spool and (is_named or not append.message_ids):
            return appended
        message_log, log = UUID(bytes=message_log_id), UUID(bytes=log_id)
        first_seq = appended.first_seq
        if append.message_ids and not is_named:
            if spool:
                await message_ids.check_ids(
                    connection, append.key, append.project_id, append.message_ids
                )
            await message_ids.add_ids(
                connection, append.key, message_log, first_seq, append.message_ids
            )
        if spool:
            total_bytes = after[0] - append.totals.content_bytes
            total_tokens = after[1] - append.totals.tokens
            start = Start(append.key, message_log, first_seq, created_us, total_bytes, total_tokens)
            await copy_rows(connection, spool, start)
        if append.parents:
            await link_parents(connection, append.key, message_log, first_seq, append.parents)
        if append.asset_refs:
            await assets.refer(
                connection,
                append.key,
                message_log,
                append.project_id,
                first_seq,
                append.asset_refs,
            )
        await check_state_etag(connection, append.key, log, append.state_etag)
        await patch_state(connection, append.key, log, append.state)
        return appended


def parameters_of(append: Append, rows: Rows) -> dict[str, object]:
    parameters = append.parameters()
    if len(rows) == 1:
        parameters.update(
            role=rows.roles[0],
            format=rows.formats[0],
            body=rows.bodies[0],
            row_tokens=rows.tokens[0],
        )
    else:
        parameters.update(
            roles=rows.roles,
            formats=rows.formats,
            sizes=rows.sizes,
            bodies=rows.bodies,
            row_tokens=rows.tokens,
            sum_bytes=list(accumulate(rows.sizes)),
            sum_tokens=list(accumulate(map(abs, rows.tokens))),
        )
    return parameters
