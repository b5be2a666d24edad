"""Starts a turn with one statement, in a session that has no other open turn.

The statement contains the append of the turn's messages (messages/store/append_statements.py). The
module also stores turns that have failed when they were accepted, and thus never run. See
conditions.py for when nothing is stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import product
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from sessiond_server.core.pg_time import from_pg_us
from sessiond_server.core.states import TurnState
from sessiond_server.db.idempotency import RequestRecord
from sessiond_server.db.pool import Database
from sessiond_server.db.prepared import (
    BOOL,
    INT8,
    TIMESTAMPTZ,
    UUID_KEY,
    PreparedStatement,
)
from sessiond_server.messages.store import message_ids
from sessiond_server.messages.store.append import Append, Appended, parameters_of
from sessiond_server.messages.store.append_statements import MANY, NAME, ONE, RECORD, bump, types
from sessiond_server.messages.store.history import LogHead
from sessiond_server.turns.store.attempts import run_start
from sessiond_server.turns.store.conditions import ALONE
from sessiond_server.turns.store.rows import TURN_TYPES, NewTurn, turn_parameters

_STARTED_COLUMNS = (INT8, TIMESTAMPTZ, UUID_KEY, INT8, UUID_KEY, INT8, INT8, BOOL, INT8, INT8)


def _statements(
    name: str, state: TurnState, values: Mapping[str, str], *, condition: str = "", sets: str = ""
) -> Mapping[tuple[int, bool, bool], PreparedStatement]:
    """Return the variants of a statement that stores a turn and its messages.

    Args:
        name: name of the statement in metrics.
        state: the state of the turn.
        values: further columns of the turn, and their values.
        condition: a further condition on the session, beginning with AND.
        sets: further columns of the session to set, beginning with a comma.

    Returns:
        The variants. The keys are (number of messages, where 2 means several; whether there is a
        request_id; whether there are message_ids).
    """
    turn = f"""
turn AS (
    INSERT INTO turns (key, log, turn_id, place, state, model, message_id, options, timeout_ms,
        keep_partial, parent_seq, first_seq, end_seq, created_at, started_at, {", ".join(values)})
    SELECT %(key)s, log, %(turn)s, 1, {state}, %(model)s, %(message_id)s::uuid, %(options)s,
        %(timeout_ms)s, %(keep_partial)s, %(parent_seq)s,
        CASE %(count)s WHEN 0 THEN 0 ELSE last_seq - %(count)s + 1 END,
        CASE %(count)s WHEN 0 THEN 0 ELSE last_seq END, active_at, active_at,
        {", ".join(values.values())}
    FROM bump
)"""
    statements = {}
    for count, is_recorded, is_named in product((0, 1, 2), (True, False), (True, False)):
        fence = f"AND running_turn IS NULL {condition} {ALONE}"
        parts = [
            bump(
                fence + (message_ids.IS_NEW if is_named else ""),
                sets=sets,
                returning=", base_seq, is_branched, revision, largest_bytes",
            ),
            turn,
            *([RECORD] if is_recorded else []),
            *([NAME] if is_named else []),
            *([ONE if count == 1 else MANY] if count else []),
        ]
        statements[count, is_recorded, is_named] = PreparedStatement(
            name,
            f"WITH {','.join(parts)} SELECT last_seq, active_at, message_log, epoch, log, "
            "total_bytes, base_seq, is_branched, revision, largest_bytes FROM bump",
            TURN_TYPES | types(single=count == 1),
            _STARTED_COLUMNS,
        )
    return statements


_STARTS = _statements(
    "turns.direct.start",
    TurnState.RUNNING,
    {
        "holder": "%(holder)s::uuid",
        "lease_until": "clock_timestamp() + %(lease_s)s::float8 * interval '1 second'",
    },
    sets=", running_turn = %(turn)s",
)
_REFUSALS = _statements(
    "turns.direct.refuse",
    TurnState.FAILED,
    {
        "error": "%(error)s",
        "changes": "%(changes)s",
        "change_count": "%(change_count)s",
        "ended_at": "active_at",
    },
    condition="AND revision = %(revision)s",
)


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
        revision: see openings.Opening.
        created_at: time of the start.
    """

    appended: Appended
    message_log: UUID
    head: LogHead | None
    revision: int
    created_at: datetime


class StartStore:
    """Runs the statements."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        turn = start.turn
        lease = {"holder": holder, "lease_s": lease_s}
        async with self._database.connection() as connection:
            row = await _run(connection, _STARTS, turn, turn.append, start.record, lease)
        return started(start, row) if row else None

    async def refuse(
        self,
        connection: AsyncConnection[TupleRow],
        turn: NewTurn,
        append: Append,
        record: RequestRecord | None,
        revision: int,
        columns: Mapping[str, Any],
    ) -> Started | None:
        """Store a turn that has failed, and its messages.

        Args:
            connection: an autocommit connection.
            turn: the turn.
            append: the append of its messages, which must be plain.
            record: record of the request; None for a request without a request_id.
            revision: revision of the session's settings. If it has changed, nothing is stored.
            columns: see ends.ending_columns.

        Returns:
            The turn, without a head; None if nothing was stored.

        Raises:
            DuplicateRequest: the request_id was already recorded.
        """
        values = {"revision": revision, **columns}
        row = await _run(connection, _REFUSALS, turn, append, record, values)
        if row is None:
            return None
        last_seq, created_us, message_log, epoch, *_ = row
        appended = append.stored(last_seq, created_us, epoch)
        return Started(appended, message_log, None, revision, from_pg_us(created_us))


async def _run(
    connection: AsyncConnection[TupleRow],
    statements: Mapping[tuple[int, bool, bool], PreparedStatement],
    turn: NewTurn,
    append: Append,
    record: RequestRecord | None,
    values: Mapping[str, Any],
) -> Sequence[Any] | None:
    parameters = {
        **parameters_of(append, turn.rows),
        **message_ids.columns(append.message_ids),
        **turn_parameters(turn, record),
        **values,
    }
    kind = min(len(turn.rows), 2), record is not None, bool(append.message_ids)
    found = await run_start(connection, statements[kind], parameters)
    return found[0] if found else None


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
    appended = turn.append.stored(last_seq, started_us, epoch)
    return Started(appended, message_log, head, revision, from_pg_us(started_us))
