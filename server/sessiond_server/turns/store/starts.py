"""Starts and ends a turn with one statement, in a session that has no other open turn.

Each statement contains the append of the turn's messages (messages/store/append_statements.py). It
stores either everything or nothing. It never waits for the session's row. If the row is locked, or
if the session has another open turn, it stores nothing, and a transaction of transitions.py starts
or ends the turn instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from sessiond_server.core.pg_time import from_pg_us
from sessiond_server.core.states import TurnState
from sessiond_server.db.idempotency import RequestRecord
from sessiond_server.db.message_log import MESSAGE_LOG
from sessiond_server.db.pool import Database, PooledConnection
from sessiond_server.db.prepared import (
    BOOL,
    FLOAT8,
    INT8,
    INT8_ARRAY,
    JSONB,
    TEXT,
    TIMESTAMPTZ,
    UUID_KEY,
    PreparedStatement,
    Type,
)
from sessiond_server.messages.store import message_ids
from sessiond_server.messages.store.append import Append, Appended, parameters_of
from sessiond_server.messages.store.append_statements import MANY, NAME, ONE, RECORD, bump, types
from sessiond_server.messages.store.history import LogHead
from sessiond_server.messages.store.rows import Rows
from sessiond_server.turns.store.attempts import run_end, run_start
from sessiond_server.turns.store.rows import NewTurn

# Every change of a session's turns also sets active_at. If active_at still has the value that it
# has in the statement's snapshot, the snapshot also shows the current open turns. This check is
# necessary because, if the session's row has changed since the snapshot, PostgreSQL rereads that
# row only, and not the turns.
ALONE = f"""
        AND key = (SELECT key FROM sessions WHERE key = %(key)s FOR NO KEY UPDATE SKIP LOCKED)
        AND active_at = (SELECT active_at FROM sessions WHERE key = %(key)s)
        AND {MESSAGE_LOG} = (SELECT {MESSAGE_LOG} FROM sessions WHERE key = %(key)s)
        AND NOT EXISTS (
            SELECT FROM turns WHERE turns.key = %(key)s AND turns.log = sessions.log
                AND turns.state <= 2 AND turns.turn_id <> %(turn)s)"""

_START = (
    bump(
        f"AND running_turn IS NULL {ALONE}",
        sets=", running_turn = %(turn)s",
        returning=", base_seq, is_branched, revision, largest_bytes",
    ),
    bump(
        f"AND running_turn IS NULL {ALONE} {message_ids.IS_NEW}",
        sets=", running_turn = %(turn)s",
        returning=", base_seq, is_branched, revision, largest_bytes",
    ),
)
_BEGUN = f"""
begun AS (
    INSERT INTO turns (key, log, turn_id, place, state, model, message_id, options, timeout_ms,
        keep_partial, parent_seq, holder, lease_until, first_seq, end_seq, created_at, started_at)
    SELECT %(key)s, log, %(turn)s, 1, {TurnState.RUNNING}, %(model)s, %(message_id)s::uuid,
        %(options)s, %(timeout_ms)s, %(keep_partial)s, %(parent_seq)s, %(holder)s::uuid,
        clock_timestamp() + %(lease_s)s::float8 * interval '1 second',
        CASE %(count)s WHEN 0 THEN 0 ELSE last_seq - %(count)s + 1 END,
        CASE %(count)s WHEN 0 THEN 0 ELSE last_seq END, active_at, active_at
    FROM bump
)"""
_STARTED = """
SELECT last_seq, active_at, message_log, epoch, log, total_bytes, base_seq, is_branched, revision,
    largest_bytes
FROM bump"""


def _start(count: int, *, is_recorded: bool, is_named: bool) -> str:
    parts = [_START[is_named], _BEGUN]
    parts += [RECORD] if is_recorded else []
    parts += [NAME] if is_named else []
    parts += [(ONE if count == 1 else MANY)] if count else []
    return f"WITH {','.join(parts)} {_STARTED}"


# The keys are (number of messages, where 2 means several; whether there is a request_id; whether
# there are message_ids).
_STARTS = {
    (count, is_recorded, is_named): _start(count, is_recorded=is_recorded, is_named=is_named)
    for count in (0, 1, 2)
    for is_recorded in (True, False)
    for is_named in (True, False)
}

# The answer continues the last message of the model's input. One condition is therefore that this
# message is still the newest one.
IS_ANSWERED = f"""
        AND log = %(log)s AND running_turn = %(turn)s AND last_seq = %(answered_seq)s
        AND EXISTS (
            SELECT FROM turns WHERE turns.key = %(key)s AND turns.log = %(log)s
                AND turns.turn_id = %(turn)s AND turns.state = {TurnState.RUNNING}
                AND turns.end_seq <= %(end_seq)s)"""
_END_BUMP = bump(f"{ALONE} {IS_ANSWERED}", sets=", running_turn = NULL")
# %(later)s is the number of messages of the append that belong to other turns.
ENDED = f"""
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
_ENDS = {
    is_single: f"""WITH {_END_BUMP}, {ONE if is_single else MANY}, {ENDED}
SELECT last_seq, active_at, message_log, epoch, first_seq, ended_at FROM bump, ended"""
    for is_single in (True, False)
}
TURN_TYPES: dict[str, Type] = {
    **dict.fromkeys(("turn", "message_id", "holder", "log"), UUID_KEY),
    **dict.fromkeys(("timeout_ms", "parent_seq", "answered_seq", "end_seq", "later"), INT8),
    "change_count": INT8,
    **dict.fromkeys(("model", "stop_reason"), TEXT),
    **dict.fromkeys(("options", "changes"), JSONB),
    "keep_partial": BOOL,
    "lease_s": FLOAT8,
    "usage": INT8_ARRAY,
}
_STARTED_COLUMNS = (INT8, TIMESTAMPTZ, UUID_KEY, INT8, UUID_KEY, INT8, INT8, BOOL, INT8, INT8)
_PREPARED_STARTS = {
    kind: PreparedStatement(
        "turns.direct.start", text, TURN_TYPES | types(single=kind[0] == 1), _STARTED_COLUMNS
    )
    for kind, text in _STARTS.items()
}
_ENDED_COLUMNS = (INT8, TIMESTAMPTZ, UUID_KEY, INT8, INT8, TIMESTAMPTZ)
_PREPARED_ENDS = {
    is_single: PreparedStatement(
        "turns.direct.end", text, TURN_TYPES | types(single=is_single), _ENDED_COLUMNS
    )
    for is_single, text in _ENDS.items()
}


@dataclass(frozen=True, slots=True)
class Opening:
    """The data of a session that a Send needs.

    Attributes:
        head: location and size of the messages.
        state: the session's SessionStatus.
        revision: grows with each change of the session's settings.
        model: the session's model; "" = none.
        config: the session's config.
        first: content hash and turn_id of the first Send with the same request_id; None = no
            earlier Send had it.
    """

    head: LogHead
    state: int
    revision: int
    model: str
    config: dict[str, Any]
    first: tuple[bytes, str] | None


@dataclass(frozen=True, slots=True)
class Start:
    """A turn to start.

    Attributes:
        turn: the turn.
        record: record of the request; None for a request without a request_id.
        known: the head of the session, as read before.
    """

    turn: NewTurn
    record: RequestRecord | None
    known: LogHead


@dataclass(frozen=True, slots=True)
class Started:
    """A turn that was started.

    Attributes:
        appended: the turn's messages; if there are none, last_seq is that of the session.
        message_log: log of the messages.
        head: where the messages of the session are stored; None = it must be looked up.
        revision: see Opening.
        created_at: time of the start.
    """

    appended: Appended
    message_log: UUID
    head: LogHead | None
    revision: int
    created_at: datetime


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


class DirectStore:
    """Runs the statements."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def connection(self) -> PooledConnection:
        """Return a context manager that lends a connection; see Database.connection."""
        return self._database.connection()

    async def start(self, start: Start, holder: UUID, lease_s: float) -> Started | None:
        """Start a turn and store its messages.

        Args:
            start: the turn. Its append must be plain.
            holder: the process that runs the turn.
            lease_s: duration of the lease. Unit: seconds.

        Returns:
            The turn; None if nothing was stored.

        Raises:
            DuplicateRequest: the request_id was already recorded.
        """
        turn, record = start.turn, start.record
        append, rows = turn.append, turn.rows
        parameters = turn_parameters(turn, append, rows, record) | {
            "holder": holder,
            "lease_s": lease_s,
        }
        statement = _PREPARED_STARTS[
            min(len(rows), 2), record is not None, bool(append.message_ids)
        ]
        async with self.connection() as connection:
            found = await run_start(connection, statement, parameters)
        return started(start, found[0]) if found else None

    async def end(
        self,
        connection: AsyncConnection[TupleRow],
        turn_id: UUID,
        append: Append,
        rows: Rows,
        *,
        log: UUID,
        answered_seq: int,
        end_seq: int,
        columns: Mapping[str, Any],
        drops_text: bool,
    ) -> Ended | None:
        """Store the answer of a turn and complete the turn.

        Args:
            connection: an autocommit connection.
            turn_id: the turn.
            append: the append of the answer, which must be plain.
            rows: the answer's messages.
            log: the session's log.
            answered_seq: seq of the message that the model has answered; nothing is stored unless
                it is the session's newest message.
            end_seq: seq of the turn's last message that the caller knows; nothing is stored if the
                turn has a later message.
            columns: stop_reason, usage, changes and change_count; see the table.
            drops_text: whether to delete the saved text of the turn.

        Returns:
            The turn; None if nothing was stored.
        """
        parameters = parameters_of(append, rows) | {
            "turn": turn_id,
            "log": log,
            "answered_seq": answered_seq,
            "end_seq": end_seq,
            "later": 0,
            **columns,
        }
        statement = _PREPARED_ENDS[len(rows) == 1]
        found = await run_end(
            connection, statement, parameters, prepare=self._database.prepare, drops_text=drops_text
        )
        if not found:
            return None
        last_seq, created_us, message_log, epoch, first_seq, ended_us = found[0]
        appended = Appended(last_seq - append.totals.count + 1, last_seq, created_us, epoch)
        return Ended(appended, message_log, first_seq, from_pg_us(ended_us))


def started(start: Start, row: Sequence[Any]) -> Started:
    """Return a turn that was started.

    Args:
        start: the turn.
        row: the result of the statement: last_seq, active_at, message_log, epoch, log,
            content_bytes, base_seq, is_branched, revision, largest_bytes.
    """
    turn, known = start.turn, start.known
    last_seq, started_us, message_log, epoch, log, total_bytes, *rest = row
    base_seq, is_branched, revision, largest_bytes = rest
    head = None
    if (log, message_log, epoch, base_seq) == (
        known.log,
        known.message_log,
        known.epoch,
        known.base_seq,
    ):
        head = replace(
            known,
            last_seq=last_seq,
            content_bytes=total_bytes,
            largest_bytes=largest_bytes,
            is_branched=is_branched,
            segments=known.segments_through(turn.append.key, last_seq),
            running_turn=turn.turn_id,
        )
    first_seq = last_seq - turn.append.totals.count + 1
    appended = Appended(first_seq, last_seq, started_us, epoch)
    return Started(appended, message_log, head, revision, from_pg_us(started_us))


def turn_parameters(
    turn: NewTurn, append: Append, rows: Rows, record: RequestRecord | None
) -> dict[str, Any]:
    """Return the parameters of a new turn and of the append of its messages."""
    parameters = parameters_of(append, rows) | {
        "turn": turn.turn_id,
        "model": turn.model,
        "message_id": turn.message_id,
        # The options are stored as one JSON string; see db/schema/work.py.
        "options": orjson.dumps(turn.options_json or "{}").decode(),
        "timeout_ms": turn.timeout_ms,
        "keep_partial": turn.keep_partial,
        "parent_seq": turn.parent_seq,
    }
    if record:
        parameters |= {
            "request_id": record.request_id,
            "hash": record.content_hash,
            "result": record.result,
        }
    if append.message_ids:
        parameters |= message_ids.columns(append.message_ids)
    return parameters


def ending_columns(
    stop_reason: str, usage: Sequence[int] | None, changes: Any, change_count: int
) -> dict[str, Any]:
    """Return the `columns` of DirectStore.end."""
    return {
        "stop_reason": stop_reason,
        "usage": usage,
        "changes": None if changes is None else orjson.dumps(changes).decode(),
        "change_count": change_count,
    }
