"""The purger's statements.

Every transaction is bounded. Any number of servers can run them at the same time (SKIP LOCKED).
"""

from collections.abc import Collection
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8

from sessiond_server.db.expiry import ALIVE
from sessiond_server.db.message_log import MESSAGE_LOG
from sessiond_server.db.pool import Database
from sessiond_server.sessions.store.deletion import DeletedSession, delete_locked

_DUE = f"""
SELECT key, {ALIVE}, project_id, session_id, log, last_seq FROM sessions
WHERE expiry_check_at <= statement_timestamp() ORDER BY expiry_check_at LIMIT %(batch)s
FOR UPDATE SKIP LOCKED"""

# A session that was accessed after its check was scheduled has not expired, so the check moves to
# the actual expiry time. The index on expiry_check_at is thus updated here and not by every append.
_RESCHEDULE = """
UPDATE sessions SET expiry_check_at = used_at + idle_ttl_ms * interval '1 millisecond'
WHERE key = ANY(%(keys)s)"""

_LOCK_LOGS = (
    "SELECT key, log FROM dead_logs WHERE queued_at <= clock_timestamp() "
    "ORDER BY queued_at LIMIT %(logs)s FOR UPDATE SKIP LOCKED"
)

_GIVEN = "unnest(%(keys)s::uuid[], %(logs)s::uuid[]) AS given (key, log)"
# The parts of a log that are still in use. A live log still gets new messages. After a rewind, a
# session's new messages are in another log, while its other rows stay in its first log. Scalar
# subqueries enforce one scan of a key for each log, however the planner estimates the tables.
_KINDS = f"""
SELECT given.key, given.log, COALESCE(session.message_log = given.log, false),
    COALESCE(session.log = given.log, false), COALESCE((
        SELECT true FROM segments WHERE src_key = given.key AND src_log = given.log LIMIT 1
    ), false)
FROM {_GIVEN} LEFT JOIN LATERAL (
    SELECT log, {MESSAGE_LOG} AS message_log FROM sessions WHERE key = given.key LIMIT 1
) AS session ON true"""

# Returns those ranges of seqs in a log to which no segment refers.
_UNREACHED = """
SELECT lower(gap), upper(gap) FROM (
    SELECT unnest(int8multirange(int8range(1, NULL))
        - COALESCE(range_agg(int8range(first_seq, last_seq, '[]')), '{}'))
    FROM segments WHERE src_key = %(key)s AND src_log = %(log)s
) AS gaps (gap) ORDER BY 1"""

# Each asset reference is deleted together with its message, and counts as a row. The first message
# is always deleted, even if it has more references than the batch allows. If not all picked
# messages fit into the batch, the batch counts as full. The statement deletes a range of seqs and
# not a list of seqs, because PostgreSQL would compare every message with every seq of the list if
# the planner believes the log to be small.
_DELETE_MESSAGES = """
WITH picked AS (
    SELECT seq, sum(1 + (
        SELECT count(*) FROM asset_refs AS r
        WHERE r.key = %(key)s AND r.log = %(log)s AND r.seq = m.seq
    )) OVER (ORDER BY seq) AS rows, row_number() OVER (ORDER BY seq) AS place
    FROM (
        SELECT seq FROM messages
        WHERE key = %(key)s AND log = %(log)s AND seq >= %(first)s
            AND (%(end)s::bigint IS NULL OR seq < %(end)s::bigint)
        ORDER BY seq LIMIT %(batch)s
    ) AS m
), doomed AS (
    SELECT count(*) AS messages, max(seq) AS last_seq, COALESCE(max(rows), 0) AS rows
    FROM picked WHERE rows <= %(batch)s OR place = 1
), deleted AS (
    DELETE FROM messages WHERE key = %(key)s AND log = %(log)s
        AND seq >= %(first)s AND seq <= (SELECT last_seq FROM doomed)
), unlinked AS (
    DELETE FROM parent_links WHERE key = %(key)s AND log = %(log)s
        AND seq >= %(first)s AND seq <= (SELECT last_seq FROM doomed)
), unnamed AS (
    DELETE FROM message_ids WHERE key = %(key)s AND log = %(log)s
        AND seq >= %(first)s AND seq <= (SELECT last_seq FROM doomed)
), unreferred AS (
    DELETE FROM asset_refs WHERE key = %(key)s AND log = %(log)s
        AND seq >= %(first)s AND seq <= (SELECT last_seq FROM doomed)
)
SELECT messages, CASE WHEN messages < (SELECT count(*) FROM picked)
    THEN GREATEST(rows, %(batch)s) ELSE rows END
FROM doomed"""

# Tables with the messages of a log. Their order does not matter, because no session reads the log.
_OF_MESSAGES = ("messages", "parent_links", "message_ids", "asset_refs")

# Tables of the session alone, which no copy reads. Rows of `processing` are deleted before their
# exceptions, because an acknowledgement that has locked such a row may still add exceptions.
_OWN = (
    "tasks",
    "bookmarks",
    "session_state",
    "processing",
    "processing_exceptions",
    "requests",
    "turns",
    "turn_texts",
    "context_marks",
    "rewinds",
)


def _delete_rows(table: str) -> str:
    """Return a statement that deletes at most `batch` rows of the given logs."""
    # LATERAL with its own LIMIT enforces one scan of the primary key for each log, however the
    # planner estimates the table. A row that another transaction is updating may be skipped.
    # _WITH_OWN then finds it.
    return f"""
DELETE FROM {table} WHERE ctid = ANY(ARRAY(
    SELECT own.ctid FROM {_GIVEN}, LATERAL (
        SELECT ctid FROM {table} AS t WHERE t.key = given.key AND t.log = given.log LIMIT %(batch)s
    ) AS own LIMIT %(batch)s))"""


_DELETE_ROWS = {table: _delete_rows(table) for table in (*_OF_MESSAGES, *_OWN)}


def _with_rows(*tables: str) -> str:
    """Return a statement that selects, from given logs, those with rows in one of the tables."""
    found = (
        f"(SELECT true FROM {t} AS own WHERE own.key = given.key AND own.log = given.log LIMIT 1)"
        for t in tables
    )
    return f"SELECT key, log FROM {_GIVEN} WHERE COALESCE({', '.join(found)}, false)"


_WITH_MESSAGES = _with_rows(*_OF_MESSAGES)
_WITH_OWN = _with_rows(*_OWN)
# Most tables have no rows of most sessions. One statement finds the tables that have some.
_FILLED = " UNION ALL ".join(
    f"SELECT '{table}' WHERE EXISTS (SELECT FROM {_GIVEN}, LATERAL ("
    f"SELECT FROM {table} AS t WHERE t.key = given.key AND t.log = given.log LIMIT 1) AS own)"
    for table in _DELETE_ROWS
)
_DELETE_LOGS = (
    f"DELETE FROM dead_logs USING {_GIVEN} "
    "WHERE dead_logs.key = given.key AND dead_logs.log = given.log"
)

_DELETE_OLD_REQUESTS = """
DELETE FROM requests WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM requests WHERE created_at < statement_timestamp() - %(age)s
    LIMIT %(batch)s FOR UPDATE SKIP LOCKED))"""


class Expiry(NamedTuple):
    """A batch of sessions that were due for an expiry check.

    Attributes:
        checked: number of sessions in the batch.
        expired: the sessions in the batch that were removed.
    """

    checked: int
    expired: list[DeletedSession]


class LogPurge(NamedTuple):
    """Numbers of removals from dead logs in one transaction.

    Attributes:
        logs: number of logs that are now completely purged.
        messages: number of deleted messages.
        rows: number of deleted rows in all tables, including messages.
    """

    logs: int
    messages: int
    rows: int


Log = tuple[UUID, UUID]
"""A log as a pair of (key, log)."""


class _Kind(NamedTuple):
    """The parts of a log that are still in use.

    Attributes:
        key, log: identify the log.
        is_live: whether a session's new messages are stored in the log.
        is_of_session: whether the log is the first log of a session that exists.
        is_shared: whether a segment refers to the log.
    """

    key: UUID
    log: UUID
    is_live: bool
    is_of_session: bool
    is_shared: bool


class PurgeStore:
    """Removes rows that are no longer reachable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def expire(self, batch: int) -> Expiry:
        """Check at most `batch` sessions whose check is due, and remove those that have expired."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(_DUE, {"batch": Int8(batch)})
            due = await cursor.fetchall()
            used = [key for key, is_alive, *_ in due if is_alive]
            if used:
                await connection.execute(_RESCHEDULE, {"keys": used})
            dead = {
                key: DeletedSession(*session) for key, is_alive, *session in due if not is_alive
            }
            await delete_locked(self._database, connection, list(dead))
        return Expiry(len(due), list(dead.values()))

    async def purge_logs(self, logs: int, batch: int) -> LogPurge:
        """Delete rows of queued logs: all messages that no segment refers to, and all other rows.

        The lock on a log's entry excludes other purgers. Meanwhile, no additional messages of the
        log can become reachable, because a copy only has messages that its source has. A deletion
        or a rewind of the source waits for the copy's commit, and then queues the log again.

        Args:
            logs: maximum number of logs.
            batch: maximum number of rows. A message of a log that other sessions read is deleted
                together with its asset references, so the transaction may delete up to
                MAX_MESSAGE_ASSETS more rows.

        Returns:
            The numbers of deleted rows; all zero if no log is queued or other purgers have locked
            all of them.
        """
        async with self._database.transaction() as connection:
            cursor = await self._run_prepared(connection, _LOCK_LOGS, {"logs": Int8(logs)})
            locked: list[Log] = await cursor.fetchall()
            if not locked:
                return LogPurge(0, 0, 0)
            # The message logs of existing sessions are kept. Such a log is queued when a copy no
            # longer refers to it.
            dead = [kind for kind in await self._kinds(connection, locked) if not kind.is_live]
            unread = [(kind.key, kind.log) for kind in dead if not kind.is_shared]
            shared = [(kind.key, kind.log) for kind in dead if kind.is_shared]
            gone = [(kind.key, kind.log) for kind in dead if not kind.is_of_session]
            filled = {table for (table,) in await self._pick(connection, _FILLED, unread + shared)}
            messages, room, unfinished = 0, batch, set[Log]()
            for table in _OF_MESSAGES:
                if room > 0 and table in filled:
                    rows = await self._delete(connection, table, unread, room)
                    messages += rows if table == "messages" else 0
                    room -= rows
            for key, log in shared:
                if room > 0:
                    deleted, rows = await self._delete_messages(connection, key, log, room)
                    messages += deleted
                    room -= rows
                # If the batch is full, there may be more messages.
                if room <= 0:
                    unfinished.add((key, log))
            for table in _OWN:
                if room > 0 and table in filled:
                    room -= await self._delete(connection, table, gone, room)
            if room <= 0:
                unfinished.update(await self._pick(connection, _WITH_MESSAGES, unread))
            unfinished.update(await self._pick(connection, _WITH_OWN, gone))
            done = [log for log in locked if log not in unfinished]
            await self._run_prepared(connection, _DELETE_LOGS, _parameters(done))
            return LogPurge(len(done), messages, batch - room)

    async def forget_requests(self, age_s: float, batch: int) -> int:
        """Delete and count at most `batch` request records older than age_s seconds."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                _DELETE_OLD_REQUESTS, {"age": timedelta(seconds=age_s), "batch": Int8(batch)}
            )
            return cursor.rowcount

    async def _delete_messages(
        self, connection: AsyncConnection[TupleRow], key: UUID, log: UUID, batch: int
    ) -> tuple[int, int]:
        """Delete those messages of a log to which no segment refers.

        Returns the number of deleted messages, and the number of deleted rows.
        """
        cursor = await self._run_prepared(connection, _UNREACHED, {"key": key, "log": log})
        messages, room = 0, batch
        for first, end in await cursor.fetchall():
            parameters = {
                "key": key,
                "log": log,
                "first": Int8(first),
                "end": None if end is None else Int8(end),
                "batch": Int8(room),
            }
            cursor = await self._run_prepared(connection, _DELETE_MESSAGES, parameters)
            [(deleted, rows)] = await cursor.fetchall()
            messages += deleted
            room -= int(rows)
            if room <= 0:
                break
        return messages, batch - room

    async def _kinds(
        self, connection: AsyncConnection[TupleRow], logs: Collection[Log]
    ) -> list[_Kind]:
        return [_Kind(*row) for row in await self._pick(connection, _KINDS, logs)]

    async def _delete(
        self, connection: AsyncConnection[TupleRow], table: str, logs: Collection[Log], batch: int
    ) -> int:
        """Delete at most `batch` rows of the logs in a table; return their number."""
        parameters = _parameters(logs) | {"batch": Int8(batch)}
        return (await self._run_prepared(connection, _DELETE_ROWS[table], parameters)).rowcount

    async def _pick(
        self, connection: AsyncConnection[TupleRow], statement: str, logs: Collection[Log]
    ) -> list[Any]:
        """Return the rows that a statement selects from the given logs."""
        if not logs:
            return []
        return await (await self._run_prepared(connection, statement, _parameters(logs))).fetchall()

    async def _run_prepared(
        self, connection: AsyncConnection[TupleRow], statement: str, parameters: dict[str, Any]
    ) -> AsyncCursor[TupleRow]:
        # Statements are prepared, because planning one takes longer than finding that a log has no
        # rows.
        return await connection.execute(
            statement.encode(), parameters, prepare=self._database.prepare
        )


def _parameters(logs: Collection[Log]) -> dict[str, Any]:
    return {"keys": [key for key, _ in logs], "logs": [log for _, log in logs]}
