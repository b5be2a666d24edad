"""Ends a turn with one statement, while no other turn of the session runs.

The statement also appends the answer, if there is one. If turns are queued, the statement starts
the next one, or appends the messages that were sent to steer the running turn. See conditions.py
for when nothing is stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from sessiond_server.core.pg_time import from_pg_us
from sessiond_server.core.states import SessionStatus, TurnState
from sessiond_server.db.expiry import ALIVE
from sessiond_server.db.pool import Database, PooledConnection
from sessiond_server.db.prepared import INT8, TIMESTAMPTZ, UUID_KEY, PreparedStatement
from sessiond_server.messages.store import message_ids
from sessiond_server.messages.store.append import Append, Appended, parameters_of
from sessiond_server.messages.store.append_statements import MANY, NAME, ONE, bump, types
from sessiond_server.messages.store.rows import Rows
from sessiond_server.turns.store.attempts import run_end
from sessiond_server.turns.store.conditions import ALONE, IS_ANSWERED, IS_FREE, IS_RUNNING
from sessiond_server.turns.store.rows import TURN_TYPES, Changes

# %(later)s is the number of messages of the append that belong to other turns.
_ENDED = f"""
ended AS (
    UPDATE turns SET state = {TurnState.COMPLETED}, prompt = NULL,
        end_seq = bump.last_seq - %(later)s, last_seq = bump.last_seq - %(later)s,
        first_seq = CASE first_seq WHEN 0 THEN bump.last_seq - %(count)s + 1 ELSE first_seq END,
        partial_seq = 0, stop_reason = %(stop_reason)s,
        usage = COALESCE(%(usage)s::bigint[], usage), error = NULL, changes = %(changes)s::jsonb,
        change_count = %(change_count)s, ended_at = clock_timestamp(), lease_until = NULL
    FROM bump WHERE turns.key = %(key)s AND turns.log = %(log)s AND turns.turn_id = %(turn)s
    RETURNING turns.first_seq, turns.ended_at
)"""
_ANSWER = "SELECT last_seq, active_at, message_log, epoch"
_ANSWER_COLUMNS = (INT8, TIMESTAMPTZ, UUID_KEY, INT8)
_ENDED_COLUMNS = (*_ANSWER_COLUMNS, INT8, TIMESTAMPTZ)

_END_BUMP = bump(f"{ALONE} {IS_ANSWERED}", sets=", running_turn = NULL")
_ENDS = {
    is_single: PreparedStatement(
        "turns.direct.end",
        f"""WITH {_END_BUMP}, {ONE if is_single else MANY}, {_ENDED}
{_ANSWER}, first_seq, ended_at FROM bump, ended""",
        TURN_TYPES | types(single=is_single),
        _ENDED_COLUMNS,
    )
    for is_single in (True, False)
}

# The end of a turn that appends nothing.
_FAIL = PreparedStatement(
    "turns.direct.fail",
    f"""
WITH freed AS (
    UPDATE sessions SET running_turn = NULL, active_at = clock_timestamp(),
        used_at = clock_timestamp()
    WHERE key = %(key)s AND project_id = %(project_id)s AND state = {SessionStatus.ACTIVE}
        AND {ALIVE} {ALONE} {IS_RUNNING}
    RETURNING log
)
UPDATE turns SET state = {TurnState.FAILED}, prompt = NULL, last_seq = 0, partial_seq = 0,
    stop_reason = '', usage = COALESCE(%(usage)s::bigint[], usage), error = %(error)s::jsonb,
    changes = %(changes)s::jsonb, change_count = %(change_count)s, ended_at = clock_timestamp(),
    lease_until = NULL
FROM freed WHERE turns.key = %(key)s AND turns.log = freed.log AND turns.turn_id = %(turn)s
RETURNING turns.first_seq, turns.end_seq, turns.ended_at""",
    TURN_TYPES,
    (INT8, INT8, TIMESTAMPTZ),
)

_FENCE = f"{IS_ANSWERED} AND {IS_FREE} AND active_at = %(seen_at)s {message_ids.IS_NEW}"
_FOLLOW = PreparedStatement(
    "turns.queue.follow",
    f"""
WITH {bump(_FENCE, sets=", running_turn = %(next)s")},
following AS (
    UPDATE turns SET state = {TurnState.RUNNING}, steers = NULL, prompt = NULL,
        holder = %(holder)s::uuid, first_seq = bump.last_seq - %(later)s + 1,
        lease_until = clock_timestamp() + %(lease_s)s::float8 * interval '1 second',
        end_seq = bump.last_seq, started_at = active_at
    FROM bump WHERE turns.key = %(key)s AND turns.log = %(log)s AND turns.turn_id = %(next)s
),
{NAME}, {MANY}, {_ENDED}
{_ANSWER}, first_seq, ended_at FROM bump, ended""",
    TURN_TYPES | types(single=False),
    _ENDED_COLUMNS,
)
_JOIN = PreparedStatement(
    "turns.queue.join",
    f"""
WITH {bump(_FENCE)},
joined AS (
    UPDATE turns SET state = {TurnState.JOINED}, joined = %(turn)s, prompt = NULL,
        first_seq = bump.last_seq - j.first, end_seq = bump.last_seq - j.last,
        ended_at = clock_timestamp()
    FROM bump, unnest(%(joined)b::uuid[], %(firsts)b::bigint[], %(lasts)b::bigint[])
        AS j (turn_id, first, last)
    WHERE turns.key = %(key)s AND turns.log = %(log)s AND turns.turn_id = j.turn_id
),
continued AS (
    UPDATE turns SET end_seq = bump.last_seq, prompt = NULL,
        first_seq = CASE first_seq WHEN 0 THEN bump.last_seq - %(count)s + 1 ELSE first_seq END
    FROM bump WHERE turns.key = %(key)s AND turns.log = %(log)s AND turns.turn_id = %(turn)s
),
{NAME}, {MANY}
{_ANSWER} FROM bump""",
    TURN_TYPES | types(single=False),
    _ANSWER_COLUMNS,
)


@dataclass(frozen=True, slots=True)
class Ended:
    """A turn that was completed.

    Attributes:
        appended: the answer's messages.
        message_log: log of the messages.
        first_seq: seq of the first message of the turn.
        ended_at: time of the end.
    """

    appended: Appended
    message_log: UUID
    first_seq: int
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Failed:
    """A turn that was recorded as failed.

    Attributes:
        first_seq: seq of the first message of the turn; 0 if there is none.
        end_seq: seq of the last message of the turn; 0 if there is none.
        ended_at: time of the end.
    """

    first_seq: int
    end_seq: int
    ended_at: datetime


class EndStore:
    """Runs the statements.

    The `columns` of its methods contain the turn that ends:

    - turn and log: the turn, and the session's log.
    - end_seq: seq of the turn's last message that the caller knows. Nothing is stored if the turn
      has a later message.
    - answered_seq: seq of the message that the model has answered. Nothing is stored unless it is
      the session's newest message. `fail` does not need it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def connection(self) -> PooledConnection:
        """Return a context manager that lends a connection; see Database.connection."""
        return self._database.connection()

    async def end(
        self,
        connection: AsyncConnection[TupleRow],
        append: Append,
        rows: Rows,
        columns: Mapping[str, Any],
        *,
        drops_text: bool,
    ) -> Ended | None:
        """Store the answer of a turn and complete the turn, if no other turn is open.

        Args:
            connection: an autocommit connection.
            append: the append of the answer, which must be plain.
            rows: the answer's messages.
            columns: see the class and ending_columns.
            drops_text: whether to delete the saved text of the turn.

        Returns:
            The turn; None if nothing was stored.
        """
        row = await self._run(
            connection,
            _ENDS[len(rows) == 1],
            append,
            rows,
            {"later": 0, **columns},
            drops_text=drops_text,
        )
        return _ended(append, row) if row else None

    async def follow(
        self, append: Append, rows: Rows, columns: Mapping[str, Any], *, drops_text: bool
    ) -> Ended | None:
        """Store the answer of a turn, complete the turn, and start the next one.

        Args:
            append: the append of the answer and of the next turn's messages, which must be plain.
            rows: the messages of the append.
            columns: see the class and ending_columns; next: the next turn; later: number of its
                messages; seen_at: see queue.WaitingTurn; holder and lease_s of the next turn.
            drops_text: whether to delete the saved text of the turn that has ended.

        Returns:
            The turn that has ended; None if nothing was stored.
        """
        async with self.connection() as connection:
            row = await self._run(connection, _FOLLOW, append, rows, columns, drops_text=drops_text)
        return _ended(append, row) if row else None

    async def join(
        self, append: Append, rows: Rows, columns: Mapping[str, Any]
    ) -> tuple[Appended, UUID] | None:
        """Store the answer of a turn, and the messages that were sent to steer it.

        Args:
            append: the append of the answer and of the messages, which must be plain.
            rows: the messages of the append.
            columns: see the class; seen_at: see queue.WaitingTurn; joined: the turns that become a
                part of the running one; firsts and lasts: for each of these turns, the distances of
                its first and of its last message from the last message of the append.

        Returns:
            The append, and its log; None if nothing was stored.
        """
        async with self.connection() as connection:
            row = await self._run(connection, _JOIN, append, rows, columns, drops_text=False)
        if row is None:
            return None
        last_seq, created_us, message_log, epoch = row
        return append.stored(last_seq, created_us, epoch), message_log

    async def fail(
        self, connection: AsyncConnection[TupleRow], columns: Mapping[str, Any]
    ) -> Failed | None:
        """Record that a running turn has failed, if no other turn is open.

        Args:
            connection: an autocommit connection.
            columns: see the class and ending_columns; the key and the project_id of the session.
                The turn must have no saved text.

        Returns:
            The turn; None if nothing was stored.
        """
        found = await run_end(connection, _FAIL, columns, prepare=None, drops_text=False)
        if not found:
            return None
        first_seq, end_seq, ended_us = found[0]
        return Failed(first_seq, end_seq, from_pg_us(ended_us))

    async def _run(
        self,
        connection: AsyncConnection[TupleRow],
        statement: PreparedStatement,
        append: Append,
        rows: Rows,
        columns: Mapping[str, Any],
        *,
        drops_text: bool,
    ) -> Sequence[Any] | None:
        parameters = {
            **parameters_of(append, rows),
            **message_ids.columns(append.message_ids),
            **columns,
        }
        found = await run_end(
            connection,
            statement,
            parameters,
            prepare=self._database.prepare,
            drops_text=drops_text,
        )
        return found[0] if found else None


def _ended(append: Append, row: Sequence[Any]) -> Ended:
    last_seq, created_us, message_log, epoch, first_seq, ended_us = row
    appended = append.stored(last_seq, created_us, epoch)
    return Ended(appended, message_log, first_seq, from_pg_us(ended_us))


def ending_columns(
    changes: Changes | None,
    change_count: int,
    *,
    error: Mapping[str, Any] | None = None,
    stop_reason: str = "",
    usage: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Return the columns of the table turns that the end of a turn sets."""
    return {
        "changes": None if changes is None else orjson.dumps(changes).decode(),
        "change_count": change_count,
        "error": None if error is None else orjson.dumps(error).decode(),
        "stop_reason": stop_reason,
        "usage": usage,
    }
