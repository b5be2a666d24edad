"""Records turns that fail without any text, with one statement each.

As in starts.py, each statement stores either everything or nothing, and never waits for the
session's row. A failure for which it stores nothing is recorded like the failures that are not
handled here (see turns/failures.py).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from sessiond_server.core.pg_time import from_pg_us
from sessiond_server.core.states import SessionStatus, TurnState
from sessiond_server.db.expiry import ALIVE
from sessiond_server.db.idempotency import RequestRecord
from sessiond_server.db.pool import Database, PooledConnection
from sessiond_server.db.prepared import (
    INT8,
    INT8_ARRAY,
    JSONB,
    TIMESTAMPTZ,
    UUID_KEY,
    PreparedStatement,
)
from sessiond_server.messages.store import message_ids
from sessiond_server.messages.store.append import Append, Appended
from sessiond_server.messages.store.append_statements import MANY, NAME, ONE, RECORD, bump, types
from sessiond_server.turns.state import RunningTurn
from sessiond_server.turns.store.attempts import check_refused, run_start
from sessiond_server.turns.store.rows import NewTurn
from sessiond_server.turns.store.starts import (
    ALONE,
    TURN_TYPES,
    Started,
    turn_parameters,
)

# The end of a turn that appends nothing, in a session without other open turns.
_FAIL = PreparedStatement(
    "turns.direct.fail",
    f"""
WITH freed AS (
    UPDATE sessions SET running_turn = NULL, active_at = clock_timestamp(),
        used_at = clock_timestamp()
    WHERE key = %(key)s AND project_id = %(project_id)s AND log = %(log)s
        AND state = {SessionStatus.ACTIVE} AND {ALIVE} AND running_turn = %(turn)s {ALONE}
        AND EXISTS (
            SELECT FROM turns WHERE turns.key = %(key)s AND turns.log = %(log)s
                AND turns.turn_id = %(turn)s AND turns.state = {TurnState.RUNNING}
                AND turns.end_seq <= %(end_seq)s)
    RETURNING log
)
UPDATE turns SET state = {TurnState.FAILED}, prompt = NULL, last_seq = 0, partial_seq = 0,
    stop_reason = '', usage = COALESCE(%(usage)s::bigint[], usage), error = %(error)s::jsonb,
    changes = %(changes)s::jsonb, change_count = %(change_count)s, ended_at = clock_timestamp(),
    lease_until = NULL
FROM freed WHERE turns.key = %(key)s AND turns.log = freed.log AND turns.turn_id = %(turn)s
RETURNING turns.first_seq, turns.end_seq, turns.ended_at""",
    {
        **dict.fromkeys(("key", "project_id", "log", "turn"), UUID_KEY),
        **dict.fromkeys(("end_seq", "change_count"), INT8),
        **dict.fromkeys(("error", "changes"), JSONB),
        "usage": INT8_ARRAY,
    },
    (INT8, INT8, TIMESTAMPTZ),
)

# A turn that fails without having run. Its messages are stored like those of any other turn.
_SETTINGS = "AND running_turn IS NULL AND revision = %(revision)s"
_REFUSED = f"""
refused AS (
    INSERT INTO turns (key, log, turn_id, place, state, model, message_id, options, timeout_ms,
        keep_partial, parent_seq, first_seq, end_seq, error, changes, change_count, created_at,
        started_at, ended_at)
    SELECT %(key)s, log, %(turn)s, 1, {TurnState.FAILED}, %(model)s, %(message_id)s::uuid,
        %(options)s, %(timeout_ms)s, %(keep_partial)s, %(parent_seq)s,
        CASE %(count)s WHEN 0 THEN 0 ELSE last_seq - %(count)s + 1 END,
        CASE %(count)s WHEN 0 THEN 0 ELSE last_seq END, %(error)s, %(changes)s, %(change_count)s,
        active_at, active_at, active_at
    FROM bump
)"""


def _refuse(count: int, *, is_recorded: bool, is_named: bool) -> PreparedStatement:
    new_ids = message_ids.IS_NEW if is_named else ""
    parts = [bump(f"{_SETTINGS} {ALONE} {new_ids}"), _REFUSED]
    parts += [RECORD] if is_recorded else []
    parts += [NAME] if is_named else []
    parts += [(ONE if count == 1 else MANY)] if count else []
    return PreparedStatement(
        "turns.direct.refuse",
        f"WITH {','.join(parts)} SELECT last_seq, active_at, message_log, epoch FROM bump",
        TURN_TYPES | types(single=count == 1) | {"error": JSONB, "revision": INT8},
        (INT8, TIMESTAMPTZ, UUID_KEY, INT8),
    )


# The keys are (number of messages, where 2 means several; whether there is a request_id; whether
# there are message_ids).
_REFUSALS = {
    (count, is_recorded, is_named): _refuse(count, is_recorded=is_recorded, is_named=is_named)
    for count in (0, 1, 2)
    for is_recorded in (True, False)
    for is_named in (True, False)
}


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


class FailureStore:
    """Runs the statements."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def connection(self) -> PooledConnection:
        """Return a context manager that lends a connection; see Database.connection."""
        return self._database.connection()

    async def fail(
        self, connection: AsyncConnection[TupleRow], running: RunningTurn, columns: dict[str, Any]
    ) -> Failed | None:
        """Record that a running turn has failed. The turn must have no saved text.

        Args:
            connection: an autocommit connection.
            running: the turn.
            columns: the values of error, usage, changes and change_count in the table turns.

        Returns:
            The turn; None if nothing was stored.
        """
        parameters = {
            "key": running.key,
            "project_id": running.project_id,
            "log": running.log,
            "turn": running.turn_id,
            "end_seq": running.end_seq,
            **columns,
        }
        try:
            rows = await _FAIL.run(connection, parameters)
        except psycopg.Error as e:
            check_refused(e)
            return None
        if not rows:
            return None
        first_seq, end_seq, ended_us = rows[0]
        return Failed(first_seq, end_seq, from_pg_us(ended_us))

    async def refuse(
        self,
        connection: AsyncConnection[TupleRow],
        turn: NewTurn,
        append: Append,
        record: RequestRecord | None,
        revision: int,
        columns: dict[str, Any],
    ) -> Started | None:
        """Store a turn that has failed, and its messages.

        Args:
            connection: an autocommit connection.
            turn: the turn.
            append: the append of its messages, which must be plain.
            record: record of the request; None for a request without a request_id.
            revision: revision of the session's settings. If it has changed, nothing is stored.
            columns: the values of error, changes and change_count in the table turns.

        Returns:
            The turn, without a head; None if nothing was stored.

        Raises:
            DuplicateRequest: the request_id was already recorded.
        """
        parameters = turn_parameters(turn, append, turn.rows, record) | {
            "revision": revision,
            **columns,
        }
        count = len(turn.rows)
        statement = _REFUSALS[min(count, 2), record is not None, bool(append.message_ids)]
        rows = await run_start(connection, statement, parameters)
        if not rows:
            return None
        last_seq, created_us, message_log, epoch = rows[0]
        appended = Appended(last_seq - count + 1, last_seq, created_us, epoch)
        return Started(appended, message_log, None, revision, from_pg_us(created_us))
