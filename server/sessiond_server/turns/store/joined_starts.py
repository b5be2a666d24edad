"""Starts the turns of many sessions with one statement.

The statement follows the rules of the statement for a single turn in starts.py. It contains the
appends of the turns' messages (messages/store/joined_statements.py).
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any
from uuid import UUID

import psycopg

from sessiond_server.core.states import TurnState
from sessiond_server.db.pool import Database
from sessiond_server.db.prepared import (
    BOOL,
    FLOAT8,
    INT8,
    INT8_ARRAY,
    TEXT_ARRAY,
    TIMESTAMPTZ,
    UUID_KEY,
    UUID_KEY_ARRAY,
    PreparedStatement,
    Type,
)
from sessiond_server.messages.store.joined_statements import STORE, TYPES, bump, held, wanted
from sessiond_server.turns.store.attempts import TRANSIENT_ERRORS
from sessiond_server.turns.store.rows import stored_options
from sessiond_server.turns.store.starts import Start, Started, started

NO_ID = UUID(int=0)

_WANTED = wanted(
    {
        "w_turn": "%(turns)b::uuid[]",
        "w_model": "%(models)b::text[]",
        "w_message_id": "%(message_ids)b::uuid[]",
        "w_options": "%(options)b::text[]",
        "w_timeout": "%(timeouts)b::bigint[]",
        "w_keep": "%(keeps)b::bigint[]",
        "w_parent": "%(parents)b::bigint[]",
    }
)

# LATERAL with its own LIMIT makes the planner look up each session by key. With a join, PostgreSQL
# 15 reads all sessions if the table has no statistics yet. For active_at, see conditions.py.
_SEEN = """
seen AS MATERIALIZED (
    SELECT w.*, active_at AS w_active_at FROM wanted AS w, LATERAL (
        SELECT log, active_at FROM sessions WHERE key = w_key LIMIT 1
    ) AS session
    WHERE (
        SELECT 1 FROM turns WHERE turns.key = w_key AND turns.log = session.log
            AND turns.state <= 2 LIMIT 1
    ) IS NULL
)"""
_HELD = held("seen", condition="AND running_turn IS NULL AND active_at = w_active_at")
_BUMP = bump(
    sets=", running_turn = w_turn",
    returning=""", content_bytes AS total_bytes, base_seq, is_branched, revision, largest_bytes,
        w_count, w_turn, w_model, w_message_id, w_options, w_timeout, w_keep, w_parent""",
)

_BEGIN = f"""
begun AS (
    INSERT INTO turns (key, log, turn_id, place, state, model, message_id, options, timeout_ms,
        keep_partial, parent_seq, holder, lease_until, first_seq, end_seq, created_at, started_at)
    SELECT key, log, w_turn, 1, {TurnState.RUNNING}, w_model, NULLIF(w_message_id, '{NO_ID}'),
        w_options::jsonb, w_timeout, w_keep = 1, w_parent, %(holder)s::uuid,
        clock_timestamp() + %(lease_s)s::float8 * interval '1 second',
        CASE w_count WHEN 0 THEN 0 ELSE seq_before + 1 END,
        CASE w_count WHEN 0 THEN 0 ELSE last_seq END, active_at, active_at
    FROM bump
)"""

_RECORD = """
recorded AS (
    INSERT INTO requests (key, log, request_id, content_hash, first_seq, last_seq, epoch,
        session_id, created_at)
    SELECT key, log, r.request_id, r.content_hash, seq_before + 1, last_seq, epoch, r.result,
        active_at
    FROM bump JOIN unnest(%(r_places)b::bigint[], %(r_ids)b::text[], %(r_hashes)b::bytea[],
            %(r_results)b::text[])
        AS r (place, request_id, content_hash, result) USING (place)
)"""

_NAME = """
named AS (
    INSERT INTO message_ids (key, log, seq, message_id)
    SELECT key, message_log, seq_before + n.number, n.message_id
    FROM bump JOIN unnest(%(n_places)b::bigint[], %(n_numbers)b::bigint[], %(n_ids)b::text[])
        AS n (place, number, message_id) USING (place)
)"""

# A duplicate request_id violates the primary key, so that nothing is stored at all.
STARTS = f"""WITH {_WANTED}, {_SEEN}, {_HELD}, {_BUMP}, {_BEGIN}, {_RECORD}, {_NAME}, {STORE}
SELECT place, last_seq, active_at, message_log, epoch, log, total_bytes, base_seq, is_branched,
    revision, largest_bytes
FROM bump"""

_TYPES: dict[str, Type] = {
    **TYPES,
    **dict.fromkeys(("turns", "message_ids"), UUID_KEY_ARRAY),
    **dict.fromkeys(("models", "options", "r_results", "n_ids"), TEXT_ARRAY),
    **dict.fromkeys(("timeouts", "keeps", "parents", "n_places", "n_numbers"), INT8_ARRAY),
    "holder": UUID_KEY,
    "lease_s": FLOAT8,
}
_STARTS = PreparedStatement(
    "turns.joined.starts",
    STARTS,
    _TYPES,
    (INT8, INT8, TIMESTAMPTZ, UUID_KEY, INT8, UUID_KEY, INT8, INT8, BOOL, INT8, INT8),
)


class StatementRefused(Exception):
    """The database refused a statement for a reason that concerns one of its Sends."""


class JoinedStartStore:
    """Runs the statement."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def starts(
        self, starts: Sequence[Start], holder: UUID, lease_s: float
    ) -> list[Started | None]:
        """Start turns, each in a different session.

        Each turn is stored completely or not at all, independently of the others.

        Args:
            starts: the turns. Their appends must be plain, and each message_id must be a new one.
            holder: the process that runs the turns.
            lease_s: duration of the leases. Unit: seconds.

        Returns:
            The turns; None for a turn that was not stored, because a condition did not hold or
            because its session is locked.

        Raises:
            StatementRefused: the database refused the statement, for example because a request_id
                was recorded meanwhile. Nothing was stored at all.
        """
        parameters = _parameters_of(starts) | {"holder": holder, "lease_s": lease_s}
        async with self._database.connection() as connection:
            try:
                found = await _STARTS.run(connection, parameters)
            except psycopg.Error as e:
                if isinstance(e, TRANSIENT_ERRORS):
                    raise
                raise StatementRefused from e
        stored: list[Started | None] = [None] * len(starts)
        for place, *row in found:
            stored[place - 1] = started(starts[place - 1], row)
        return stored


def _parameters_of(starts: Sequence[Start]) -> dict[str, object]:
    """Return the parameters of STARTS.

    They form four tables, each as a list of columns: sessions, records, message_ids and messages.
    Each row of the last three tables contains the place of its session in the first one, from 1.
    """
    parameters: dict[str, list[Any]] = {name: [] for name in _TYPES}

    def add(**values: Any) -> None:
        for name, value in values.items():
            parameters[name].append(value)

    for place, one in enumerate(starts, 1):
        turn, append, record = one.turn, one.turn.append, one.record
        totals, rows = append.totals, one.turn.rows
        add(
            keys=append.key,
            projects=append.project_id,
            counts=totals.count,
            bytes=totals.content_bytes,
            largest=totals.largest_bytes,
            first_words=totals.first_words or "",
            first_words_places=totals.first_words_place or 0,
            tokens=totals.tokens,
            estimated=totals.estimated,
            expected_epochs=-1 if append.expected_epoch is None else append.expected_epoch,
            parent_floors=totals.parent_floor,
            turns=turn.turn_id,
            models=turn.model,
            message_ids=turn.message_id or NO_ID,
            options=stored_options(turn.options_json),
            timeouts=turn.timeout_ms,
            keeps=int(turn.keep_partial),
            parents=turn.parent_seq,
        )
        if record:
            add(
                r_places=place,
                r_ids=record.request_id,
                r_hashes=record.content_hash,
                r_results=record.result,
            )
        for number, message_id in append.message_ids:
            add(n_places=place, n_numbers=number + 1, n_ids=message_id)
        sums = zip(accumulate(rows.sizes), accumulate(map(abs, rows.tokens)), strict=True)
        for number, (sum_bytes, sum_tokens) in enumerate(sums):
            add(
                m_places=place,
                m_numbers=number + 1,
                roles=rows.roles[number],
                formats=rows.formats[number],
                sizes=rows.sizes[number],
                bodies=rows.bodies[number],
                row_tokens=rows.tokens[number],
                sum_bytes=sum_bytes,
                sum_tokens=sum_tokens,
            )
    return {**parameters, "limit": len(starts)}
