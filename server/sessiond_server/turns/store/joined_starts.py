"""Statements that serve the Sends of many sessions at once.

One statement reads the data of the sessions, and the other one starts the turns. Both follow the
rules of the statements for a single Send in starts.py. The statement that starts turns never
waits for a session's row, because it skips locked rows. While it has a row locked, no other
transaction inserts turns, messages or request records of that session. The statement can therefore
lock many rows in any order without a deadlock.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any
from uuid import UUID

import orjson
import psycopg

from sessiond_server.core.states import TurnState
from sessiond_server.db.expiry import ALIVE
from sessiond_server.db.message_log import MESSAGE_LOG
from sessiond_server.db.pool import Database
from sessiond_server.db.prepared import (
    BOOL,
    BYTEA,
    BYTEA_ARRAY,
    FLOAT8,
    INT8,
    INT8_ARRAY,
    JSONB,
    TEXT,
    TEXT_ARRAY,
    TIMESTAMPTZ,
    UUID_KEY,
    UUID_KEY_ARRAY,
    PreparedStatement,
    Type,
)
from sessiond_server.messages.store.append_statements import SET, TAKES_APPENDS
from sessiond_server.messages.store.history import HEAD_COLUMNS, HEAD_SOURCE, head_of
from sessiond_server.messages.store.rows import MESSAGE_COLUMNS
from sessiond_server.turns.store.starts import Opening, Start, Started, started
from sessiond_server.turns.store.turns import TRANSIENT_ERRORS

NO_ID = UUID(int=0)

# The LIMIT excludes no rows. The planner does not know its value and assumes one row, so it looks
# up each session by key, even if the table is small or was small when it was analysed. For the same
# reason, projects are compared by a function call, which cannot use an index.
OPENINGS = f"""
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest(%(keys)b::uuid[], %(projects)b::uuid[], %(request_ids)b::text[])
        WITH ORDINALITY AS a (a_key, a_project, a_request_id, place)
    LIMIT %(limit)s
)
SELECT place, {HEAD_COLUMNS}, state, revision, model, config, r_hash, r_result
FROM asked JOIN {HEAD_SOURCE} ON key = a_key AND uuid_eq(project_id, a_project) AND {ALIVE}
LEFT JOIN LATERAL (
    SELECT content_hash AS r_hash, requests.session_id AS r_result FROM requests
    WHERE requests.key = sessions.key AND requests.log = sessions.log
        AND requests.request_id = a_request_id
    LIMIT 1
) AS recorded ON true"""

_PREPARED_OPENINGS = PreparedStatement(
    "turns.joined.openings",
    OPENINGS,
    {
        **dict.fromkeys(("keys", "projects"), UUID_KEY_ARRAY),
        "request_ids": TEXT_ARRAY,
        "limit": INT8,
    },
    (
        *(INT8, UUID_KEY, UUID_KEY, INT8, INT8, INT8, INT8, BOOL, BOOL, INT8),
        *(UUID_KEY_ARRAY, UUID_KEY_ARRAY, INT8_ARRAY, UUID_KEY),
        *(INT8, INT8, TEXT, JSONB, BYTEA, TEXT),
    ),
)

_CONDITIONS = {
    "in_project": "uuid_eq(project_id, w_project)",
    "expected": "NULL",
    "expected_epoch": "NULLIF(w_expected_epoch, -1)",
    "parent_floor": "w_parent_floor",
}
_VALUES = {
    "count": "w_count",
    "bytes": "w_bytes",
    "largest": "w_largest",
    "first_words": "NULLIF(w_words, '')",
    "first_words_place": "NULLIF(w_words_place, 0)",
    "tokens": "w_tokens",
    "estimated": "w_estimated",
}

# LATERAL with its own LIMIT makes the planner look up each session by key. With a join, PostgreSQL
# 15 reads all sessions if the table has no statistics yet.
#
# Every change of a session's turns also sets active_at. If active_at of the locked row still has
# the value that it has in the statement's snapshot, the snapshot also shows the current open turns.
_HOLD = f"""
wanted AS MATERIALIZED (
    SELECT * FROM unnest(%(keys)b::uuid[], %(projects)b::uuid[], %(counts)b::bigint[],
            %(bytes)b::bigint[], %(largest)b::bigint[], %(first_words)b::text[],
            %(first_words_places)b::bigint[], %(tokens)b::bigint[], %(estimated)b::bigint[],
            %(expected_epochs)b::bigint[], %(parent_floors)b::bigint[], %(turns)b::uuid[],
            %(models)b::text[], %(message_ids)b::uuid[], %(options)b::text[],
            %(timeouts)b::bigint[], %(keeps)b::bigint[], %(parents)b::bigint[])
        WITH ORDINALITY AS w (w_key, w_project, w_count, w_bytes, w_largest, w_words,
            w_words_place, w_tokens, w_estimated, w_expected_epoch, w_parent_floor, w_turn,
            w_model, w_message_id, w_options, w_timeout, w_keep, w_parent, place)
    LIMIT %(limit)s
),
seen AS MATERIALIZED (
    SELECT w.*, active_at AS w_active_at FROM wanted AS w, LATERAL (
        SELECT log, active_at FROM sessions WHERE key = w_key LIMIT 1
    ) AS session
    WHERE (
        SELECT 1 FROM turns WHERE turns.key = w_key AND turns.log = session.log
            AND turns.state <= 2 LIMIT 1
    ) IS NULL
),
held AS (
    SELECT w.* FROM seen AS w JOIN sessions ON key = w_key
    WHERE {TAKES_APPENDS.format(**_CONDITIONS)}
        AND running_turn IS NULL AND active_at = w_active_at
    FOR NO KEY UPDATE OF sessions SKIP LOCKED
)"""

_BUMP = f"""
bump AS (
    UPDATE sessions SET {SET.format(**_VALUES)}, running_turn = w_turn
    FROM held WHERE key = w_key
    RETURNING place, key, log, {MESSAGE_LOG} AS message_log, epoch, last_seq, active_at,
        last_seq - w_count AS seq_before, content_bytes AS total_bytes,
        content_bytes - w_bytes AS bytes_before, token_count - w_tokens AS tokens_before,
        base_seq, is_branched, revision, largest_bytes, w_count, w_turn, w_model, w_message_id,
        w_options, w_timeout, w_keep, w_parent
)"""

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

_STORE = f"""
named AS (
    INSERT INTO message_ids (key, log, seq, message_id)
    SELECT key, message_log, seq_before + n.number, n.message_id
    FROM bump JOIN unnest(%(n_places)b::bigint[], %(n_numbers)b::bigint[], %(n_ids)b::text[])
        AS n (place, number, message_id) USING (place)
),
stored AS (
    INSERT INTO messages ({MESSAGE_COLUMNS})
    SELECT key, message_log, seq_before + m.number, m.role::smallint, m.format::smallint,
        m.content_bytes::int, active_at, m.body, m.tokens::int, bytes_before + m.sum_bytes,
        tokens_before + m.sum_tokens
    FROM bump JOIN unnest(%(m_places)b::bigint[], %(m_numbers)b::bigint[], %(roles)b::bigint[],
            %(formats)b::bigint[], %(sizes)b::bigint[], %(bodies)b::bytea[],
            %(row_tokens)b::bigint[], %(sum_bytes)b::bigint[], %(sum_tokens)b::bigint[])
        AS m (place, number, role, format, content_bytes, body, tokens, sum_bytes, sum_tokens)
        USING (place)
)"""

# A duplicate request_id violates the primary key, so that nothing is stored at all.
STARTS = f"""WITH {_HOLD}, {_BUMP}, {_BEGIN}, {_RECORD}, {_STORE}
SELECT place, last_seq, active_at, message_log, epoch, log, total_bytes, base_seq, is_branched,
    revision, largest_bytes
FROM bump"""

_COLUMNS: dict[str, Type] = {
    **dict.fromkeys(("keys", "projects", "turns", "message_ids"), UUID_KEY_ARRAY),
    **dict.fromkeys(("first_words", "models", "options", "r_ids", "r_results"), TEXT_ARRAY),
    "n_ids": TEXT_ARRAY,
    **dict.fromkeys(("r_hashes", "bodies"), BYTEA_ARRAY),
    **dict.fromkeys(
        (
            *("counts", "bytes", "largest", "first_words_places", "tokens", "estimated"),
            *("expected_epochs", "parent_floors", "timeouts", "keeps", "parents"),
            *("r_places", "n_places", "n_numbers", "m_places", "m_numbers"),
            *("roles", "formats", "sizes", "row_tokens", "sum_bytes", "sum_tokens"),
        ),
        INT8_ARRAY,
    ),
}
_TYPES = {**_COLUMNS, "limit": INT8, "holder": UUID_KEY, "lease_s": FLOAT8}
_PREPARED_STARTS = PreparedStatement(
    "turns.joined.starts",
    STARTS,
    _TYPES,
    (INT8, INT8, TIMESTAMPTZ, UUID_KEY, INT8, UUID_KEY, INT8, INT8, BOOL, INT8, INT8),
)


class StatementRefused(Exception):
    """The database refused a statement for a reason that concerns one of its Sends."""


class JoinedStore:
    """Runs the statements."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def openings(self, asked: Sequence[tuple[UUID, UUID, str]]) -> list[Opening | None]:
        """Return the data for Sends, in their order.

        Args:
            asked: for each Send, the session's key, the caller's project, and the request_id; "" =
                none.

        Returns:
            For each Send, the data; None if the project has no such session.
        """
        keys, projects, request_ids = zip(*asked, strict=True)
        parameters = {"keys": keys, "projects": projects, "request_ids": request_ids}
        async with self._database.connection() as connection:
            found = await _PREPARED_OPENINGS.run(connection, parameters | {"limit": len(asked)})
        openings: list[Opening | None] = [None] * len(asked)
        for place, *head, state, revision, model, config, content_hash, result in found:
            openings[place - 1] = Opening(
                head_of(keys[place - 1], head),
                state,
                revision,
                model,
                config,
                None if content_hash is None else (content_hash, result),
            )
        return openings

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
                found = await _PREPARED_STARTS.run(connection, parameters)
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
    parameters: dict[str, list[Any]] = {name: [] for name in _COLUMNS}

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
            # The options are stored as one JSON string; see db/schema/work.py.
            options=orjson.dumps(turn.options_json or "{}").decode(),
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
