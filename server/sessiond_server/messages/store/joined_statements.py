"""The parts of the statements that append to many sessions at once.

Such a statement never waits for a session's row: it skips locked rows and leaves their appends to
the caller. While it has a row locked, no other transaction inserts messages, request records or
turns of that session. It can therefore lock many rows in any order without a deadlock.

Its parameters are columns, which form several tables. Each row of `wanted` is for one session. Each
row of the other tables contains the place of its session in `wanted`, from 1.
"""

from collections.abc import Mapping

from sessiond_server.db.message_log import MESSAGE_LOG
from sessiond_server.db.prepared import (
    BYTEA_ARRAY,
    INT8,
    INT8_ARRAY,
    TEXT_ARRAY,
    UUID_KEY_ARRAY,
    Type,
)
from sessiond_server.messages.store.append_statements import SET, TAKES_APPENDS
from sessiond_server.messages.store.rows import MESSAGE_COLUMNS

_WANTED = {
    "w_key": "%(keys)b::uuid[]",
    "w_project": "%(projects)b::uuid[]",
    "w_count": "%(counts)b::bigint[]",
    "w_bytes": "%(bytes)b::bigint[]",
    "w_largest": "%(largest)b::bigint[]",
    "w_words": "%(first_words)b::text[]",
    "w_words_place": "%(first_words_places)b::bigint[]",
    "w_tokens": "%(tokens)b::bigint[]",
    "w_estimated": "%(estimated)b::bigint[]",
    "w_expected_epoch": "%(expected_epochs)b::bigint[]",
    "w_parent_floor": "%(parent_floors)b::bigint[]",
}


def wanted(further: Mapping[str, str]) -> str:
    """Return the part of a statement that lists the appends, one row each, with their sessions.

    Args:
        further: more columns than those of _WANTED, and for each the array with its values.
    """
    columns = {**_WANTED, **further}
    # The LIMIT excludes no rows. The planner does not know its value and assumes one row, so it
    # looks up each session by key, even if the table is small or was small when it was analysed.
    return f"""
wanted AS MATERIALIZED (
    SELECT * FROM unnest({", ".join(columns.values())})
        WITH ORDINALITY AS w ({", ".join(columns)}, place)
    LIMIT %(limit)s
)"""


def held(source: str, *, expected: str = "NULL", condition: str = "") -> str:
    """Return the part that locks the sessions that take the appends.

    Args:
        source: the part with the appends.
        expected: the last_seq that a session must have; NULL = any.
        condition: a further condition, beginning with AND.
    """
    takes_appends = TAKES_APPENDS.format(
        # The comparison is written as a function call, which cannot use an index. Otherwise the
        # planner would read all sessions of the project if the table has no statistics.
        in_project="uuid_eq(project_id, w_project)",
        expected=expected,
        expected_epoch="NULLIF(w_expected_epoch, -1)",
        parent_floor="w_parent_floor",
    )
    return f"""
held AS (
    SELECT w.* FROM {source} AS w JOIN sessions ON key = w_key
    WHERE {takes_appends} {condition}
    FOR NO KEY UPDATE OF sessions SKIP LOCKED
)"""


def bump(*, sets: str = "", returning: str = "") -> str:
    """Return the part that updates the sessions; see append_statements.bump."""
    values = SET.format(
        count="w_count",
        bytes="w_bytes",
        largest="w_largest",
        first_words="NULLIF(w_words, '')",
        first_words_place="NULLIF(w_words_place, 0)",
        tokens="w_tokens",
        estimated="w_estimated",
    )
    return f"""
bump AS (
    UPDATE sessions SET {values} {sets}
    FROM held WHERE key = w_key
    RETURNING place, key, log, {MESSAGE_LOG} AS message_log, epoch, last_seq, active_at,
        last_seq - w_count AS seq_before, content_bytes - w_bytes AS bytes_before,
        token_count - w_tokens AS tokens_before {returning}
)"""


STORE = f"""
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

TYPES: dict[str, Type] = {
    **dict.fromkeys(("keys", "projects"), UUID_KEY_ARRAY),
    **dict.fromkeys(("first_words", "r_ids"), TEXT_ARRAY),
    **dict.fromkeys(("r_hashes", "bodies"), BYTEA_ARRAY),
    **dict.fromkeys(
        (
            *("counts", "bytes", "largest", "first_words_places", "tokens", "estimated"),
            *("expected_epochs", "parent_floors", "r_places", "m_places", "m_numbers"),
            *("roles", "formats", "sizes", "row_tokens", "sum_bytes", "sum_tokens"),
        ),
        INT8_ARRAY,
    ),
    "limit": INT8,
}
"""Types of the placeholders of the parts above, and of the parts that record requests."""
