"""Appends to many sessions with one statement, in one round trip and one commit.

The statement never waits for a session's row: it skips locked rows and leaves their appends to the
caller. While it has a row locked, no other transaction inserts messages or request records of that
session. It can therefore lock many rows in any order without a deadlock.
"""

from collections.abc import Sequence
from uuid import UUID

import psycopg
from psycopg.types.numeric import Int8

from sessiond_server.db.idempotency import DuplicateRequest
from sessiond_server.db.int8s import Int8s
from sessiond_server.db.message_log import MESSAGE_LOG
from sessiond_server.db.pool import Database
from sessiond_server.db.prepared import (
    BYTEA_ARRAY,
    INT8,
    INT8_ARRAY,
    TEXT_ARRAY,
    TIMESTAMPTZ,
    UUID_KEY_ARRAY,
    PreparedStatement,
    Type,
)
from sessiond_server.messages.store.append import Append, Appended
from sessiond_server.messages.store.append_statements import SET, TAKES_APPENDS
from sessiond_server.messages.store.rows import MESSAGE_COLUMNS, Rows

# The comparison is written as a function call, which cannot use an index. Otherwise the planner
# would read all sessions of the project if the table has no statistics.
_CONDITIONS = {
    "in_project": "uuid_eq(project_id, w_project)",
    "expected": "NULLIF(w_expected, -1)",
    "expected_epoch": "NULLIF(w_expected_epoch, -1)",
    "parent_floor": "w_parent_floor",
}

# The LIMIT excludes no rows. The planner does not know its value and assumes one row, so it looks
# up each session by key, even if the table is small or was small when it was analysed.
_HOLD = f"""
wanted AS MATERIALIZED (
    SELECT * FROM unnest(%(keys)b::uuid[], %(projects)b::uuid[], %(counts)b::bigint[],
            %(bytes)b::bigint[], %(largest)b::bigint[], %(first_words)b::text[],
            %(first_words_places)b::bigint[], %(tokens)b::bigint[], %(estimated)b::bigint[],
            %(expected)b::bigint[], %(expected_epochs)b::bigint[], %(parent_floors)b::bigint[])
        WITH ORDINALITY AS w (w_key, w_project, w_count, w_bytes, w_largest, w_words,
            w_words_place, w_tokens, w_estimated, w_expected, w_expected_epoch, w_parent_floor,
            place)
    LIMIT %(limit)s
),
held AS (
    SELECT w.* FROM wanted AS w JOIN sessions ON key = w_key
    WHERE {TAKES_APPENDS.format(**_CONDITIONS)}
    FOR NO KEY UPDATE OF sessions SKIP LOCKED
)"""

_VALUES = {
    "count": "w_count",
    "bytes": "w_bytes",
    "largest": "w_largest",
    "first_words": "NULLIF(w_words, '')",
    "first_words_place": "NULLIF(w_words_place, 0)",
    "tokens": "w_tokens",
    "estimated": "w_estimated",
}

_BUMP = f"""
bump AS (
    UPDATE sessions SET {SET.format(**_VALUES)}
    FROM held WHERE key = w_key
    RETURNING place, key, log, {MESSAGE_LOG} AS message_log, epoch, last_seq, active_at,
        last_seq - w_count AS seq_before, content_bytes - w_bytes AS bytes_before,
        token_count - w_tokens AS tokens_before
)"""

_RECORD = """
recorded AS (
    INSERT INTO requests (key, log, request_id, content_hash, first_seq, last_seq, epoch,
        created_at)
    SELECT key, log, r.request_id, r.content_hash, seq_before + r.first, seq_before + r.last,
        epoch, active_at
    FROM bump JOIN unnest(%(r_places)b::bigint[], %(r_ids)b::text[], %(r_hashes)b::bytea[],
            %(r_firsts)b::bigint[], %(r_lasts)b::bigint[])
        AS r (place, request_id, content_hash, first, last) USING (place)
)"""

_STORE = f"""
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

_SESSION_COLUMNS = (
    "counts",
    "bytes",
    "largest",
    "first_words_places",
    "tokens",
    "estimated",
    "expected",
    "expected_epochs",
    "parent_floors",
)
_RECORD_COLUMNS = ("r_places", "r_firsts", "r_lasts")
_MESSAGE_COLUMNS = (
    "m_places",
    "m_numbers",
    "roles",
    "formats",
    "sizes",
    "row_tokens",
    "sum_bytes",
    "sum_tokens",
)

STATEMENTS = {
    recorded: f"WITH {_HOLD}, {_BUMP}, {_RECORD + ',' if recorded else ''} {_STORE} "
    "SELECT place, last_seq, active_at, epoch FROM bump"
    for recorded in (True, False)
}

_TYPES: dict[str, Type] = {
    **dict.fromkeys(("keys", "projects"), UUID_KEY_ARRAY),
    **dict.fromkeys(("first_words", "r_ids"), TEXT_ARRAY),
    **dict.fromkeys(("r_hashes", "bodies"), BYTEA_ARRAY),
    **dict.fromkeys((*_SESSION_COLUMNS, *_RECORD_COLUMNS, *_MESSAGE_COLUMNS), INT8_ARRAY),
    "limit": INT8,
}

_PREPARED = {
    recorded: PreparedStatement(
        "messages.batch_append.append", text, _TYPES, (INT8, INT8, TIMESTAMPTZ, INT8)
    )
    for recorded, text in STATEMENTS.items()
}

Series = Sequence[tuple[Append, Rows]]
"""Consecutive appends to one session."""


class BatchAppendStore:
    """Stores appends to many sessions together."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, many: Sequence[Series]) -> list[list[Appended] | None]:
        """Store several series of appends, each series to a different session.

        Each series is stored completely or not at all, independently of the others.

        Args:
            many: the series. In each series, only the first append may have an expected_last_seq
                or an expected_epoch, no two appends may have the same request_id, and no message
                may refer to assets.

        Returns:
            The results of each series; None if nothing of the series was stored, because a
            condition did not hold or another transaction had locked the session.

        Raises:
            DuplicateRequest: a request_id was already recorded. Nothing was stored at all.
        """
        parameters = parameters_of(many)
        stored: list[list[Appended] | None] = [None] * len(many)
        async with self._database.connection() as connection:
            try:
                found = await _PREPARED[bool(parameters["r_ids"])].run(connection, parameters)
            except psycopg.errors.UniqueViolation as e:
                raise DuplicateRequest from e
        for place, last_seq, created_us, epoch in found:
            stored[place - 1] = _results(many[place - 1], last_seq, created_us, epoch)
        return stored


def _results(series: Series, last_seq: int, created_us: int, epoch: int) -> list[Appended]:
    appended: list[Appended] = []
    for append, _ in reversed(series):
        first_seq = last_seq - append.totals.count + 1
        appended.append(Appended(first_seq, last_seq, created_us, epoch))
        last_seq = first_seq - 1
    return appended[::-1]


def parameters_of(many: Sequence[Series]) -> dict[str, object]:
    """Return the statement's parameters, which form three tables, each as a list of columns.

    The tables are the sessions, the request records and the messages. Rows of the latter two
    contain the position of their session in the first table, from 1.
    """
    keys: list[UUID] = []
    projects: list[UUID] = []
    first_words: list[str] = []
    request_ids: list[str] = []
    hashes: list[bytes] = []
    bodies: list[bytes] = []
    sessions: list[tuple[int, ...]] = []
    records: list[tuple[int, ...]] = []
    messages: list[tuple[int, ...]] = []
    for place, series in enumerate(many, 1):
        count = content_bytes = tokens = estimated = largest = parent_floor = words_place = 0
        words = ""
        for append, rows in series:
            totals = append.totals
            if not words and totals.first_words:
                words, words_place = totals.first_words, count + (totals.first_words_place or 0)
            parent_floor = max(parent_floor, totals.parent_floor - count)
            if append.request_id:
                request_ids.append(append.request_id)
                hashes.append(append.content_hash)
                records.append((place, count + 1, count + totals.count))
            for role, message_format, size, message_tokens in zip(
                rows.roles, rows.formats, rows.sizes, rows.tokens, strict=True
            ):
                count += 1
                content_bytes += size
                tokens += abs(message_tokens)
                messages.append(
                    (
                        place,
                        count,
                        role,
                        message_format,
                        size,
                        message_tokens,
                        content_bytes,
                        tokens,
                    )
                )
            bodies += rows.bodies
            estimated += totals.estimated
            largest = max(largest, totals.largest_bytes)
        first = series[0][0]
        expected = -1 if first.expected_last_seq is None else first.expected_last_seq
        epoch = -1 if first.expected_epoch is None else first.expected_epoch
        keys.append(first.key)
        projects.append(first.project_id)
        first_words.append(words)
        sessions.append(
            (
                count,
                content_bytes,
                largest,
                words_place,
                tokens,
                estimated,
                expected,
                epoch,
                parent_floor,
            )
        )
    parameters: dict[str, object] = {
        "limit": Int8(len(keys)),
        "keys": keys,
        "projects": projects,
        "first_words": first_words,
        "r_ids": request_ids,
        "r_hashes": hashes,
        "bodies": bodies,
    }
    for names, table in (
        (_SESSION_COLUMNS, sessions),
        (_RECORD_COLUMNS, records),
        (_MESSAGE_COLUMNS, messages),
    ):
        parameters.update(zip(names, map(Int8s, zip(*table, strict=True)), strict=bool(table)))
    return parameters
