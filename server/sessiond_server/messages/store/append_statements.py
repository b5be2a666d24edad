"""The statements that append messages to a session.

Each is a WITH query: `bump` updates the session's row and holds its lock, and the other parts
insert the rows that contain the new seqs.
"""

from sessiond_server.db.expiry import ALIVE
from sessiond_server.db.message_log import MESSAGE_LOG
from sessiond_server.db.prepared import (
    BYTEA,
    BYTEA_ARRAY,
    INT8,
    INT8_ARRAY,
    TEXT,
    TEXT_ARRAY,
    TIMESTAMPTZ,
    UUID_KEY,
    PreparedStatement,
    Type,
)
from sessiond_server.messages.store import message_ids
from sessiond_server.messages.store.rows import MESSAGE_COLUMNS
from sessiond_server.sessions.store.state import CHANGE, HAS_ROOM

# No indexed column changes, except active_minute once a minute, so the update stays heap-only
# (HOT). The names in braces are replaced by expressions for the values.
SET = """
        last_seq = last_seq + {count},
        content_bytes = content_bytes + {bytes},
        largest_bytes = GREATEST(largest_bytes, {largest}::int),
        first_words = COALESCE(first_words, {first_words}),
        first_words_seq = CASE WHEN first_words IS NULL
            THEN last_seq + {first_words_place}::bigint ELSE first_words_seq END,
        token_count = token_count + {tokens},
        written_seq = CASE WHEN message_log IS NOT NULL THEN last_seq + {count} END,
        estimated_tokens = estimated_tokens + {estimated},
        active_at = clock_timestamp(),
        used_at = clock_timestamp(),
        has_news = true"""

TAKES_APPENDS = f"""{{in_project}} AND state = 1 AND {ALIVE}
        AND ({{expected}}::bigint IS NULL OR last_seq = {{expected}}::bigint)
        AND ({{expected_epoch}}::bigint IS NULL OR epoch = {{expected_epoch}}::bigint)
        AND last_seq >= {{parent_floor}}"""

_VALUES = (
    "count",
    "bytes",
    "largest",
    "first_words",
    "first_words_place",
    "tokens",
    "estimated",
    "expected",
    "expected_epoch",
    "parent_floor",
)
_GIVEN = {name: f"%({name})s" for name in _VALUES}


def bump(fence: str = "", *, sets: str = "", returning: str = "") -> str:
    """Return the part of an append that updates the session's row.

    Args:
        fence: further conditions, beginning with AND.
        sets: further columns to set, beginning with a comma.
        returning: further columns to return, beginning with a comma.
    """
    # After waiting for a locked row, READ COMMITTED evaluates the WHERE clause on the newest
    # version of the row. Two appends with the same expected_last_seq can therefore not both
    # succeed.
    conditions = TAKES_APPENDS.format(in_project="project_id = %(project_id)s", **_GIVEN)
    return f"""
bump AS (
    UPDATE sessions SET {SET.format(**_GIVEN)} {sets}
    WHERE key = %(key)s AND {conditions} {fence}
    RETURNING log, {MESSAGE_LOG} AS message_log, epoch, last_seq, active_at,
        content_bytes AS total_bytes, token_count AS total_tokens {returning}
)"""


# The condition that the session has none of the message_ids. If the session got another message log
# while the statement waited, the statement has searched outdated segments. The condition then does
# not hold either.
_IS_NEW = (
    f"AND {MESSAGE_LOG} = (SELECT {MESSAGE_LOG} FROM sessions WHERE key = %(key)s)"
    + message_ids.IS_NEW
)
# The keys are (whether there are message_ids, whether the state changes).
_BUMPS = {
    (named, stated): bump((_IS_NEW if named else "") + (HAS_ROOM if stated else ""))
    for named in (True, False)
    for stated in (True, False)
}
_BUMP = _BUMPS[False, False]

# A duplicate violates the primary key, so that the update of last_seq is rolled back as well. ON
# CONFLICT DO NOTHING would leave a gap.
RECORD = """
recorded AS (
    INSERT INTO requests (key, log, request_id, content_hash, first_seq, last_seq, epoch,
        session_id, created_at)
    SELECT %(key)s, log, %(request_id)s, %(hash)s, last_seq - %(count)s + 1, last_seq, epoch,
        %(result)s,
        active_at
    FROM bump
)"""

NAME = f"""
named AS ({
    message_ids.INSERT.format(
        key="%(key)s", log="message_log", before="last_seq - %(count)s", source="bump,"
    )
}
)"""

ONE = f"""
stored AS (
    INSERT INTO messages ({MESSAGE_COLUMNS})
    SELECT %(key)s, message_log, last_seq, %(role)s::smallint, %(format)s::smallint, %(bytes)s::int,
        active_at, %(body)b, %(row_tokens)s::int, total_bytes, total_tokens
    FROM bump
)"""

# %b requests the binary format: as text, an array of bytea is escaped twice, which takes longer
# than the rest of the append. Set-returning functions in the SELECT list are streamed, while in
# FROM they would be materialised first.
MANY = f"""
stored AS (
    INSERT INTO messages ({MESSAGE_COLUMNS})
    SELECT %(key)s, message_log, last_seq - %(count)s + m.place, m.role::smallint,
        m.format::smallint, m.content_bytes::int, active_at, m.body, m.tokens::int,
        total_bytes - %(bytes)s + m.sum_bytes, total_tokens - %(tokens)s + m.sum_tokens
    FROM bump, (
        SELECT place, body,
            (%(roles)b::bigint[])[place] AS role, (%(formats)b::bigint[])[place] AS format,
            (%(sizes)b::bigint[])[place] AS content_bytes,
            (%(row_tokens)b::bigint[])[place] AS tokens,
            (%(sum_bytes)b::bigint[])[place] AS sum_bytes,
            (%(sum_tokens)b::bigint[])[place] AS sum_tokens
        FROM (
            SELECT unnest(%(bodies)b::bytea[]) AS body, generate_series(1, %(count)s) AS place
        ) AS b
    ) AS m
)"""

_SELECT = "SELECT last_seq, active_at, message_log, epoch, log FROM bump"

# The keys are (whether there is a single message, whether there is a request_id, whether there are
# message_ids, whether the state changes).
STATEMENTS = {
    (single, recorded, named, stated): (
        f"WITH {_BUMPS[named, stated]}, {RECORD + ',' if recorded else ''} "
        f"{NAME + ',' if named else ''} {CHANGE + ',' if stated else ''} "
        f"{ONE if single else MANY} {_SELECT}"
    )
    for single in (True, False)
    for recorded in (True, False)
    for named in (True, False)
    for stated in (True, False)
}

# For turns: the statement stores nothing unless the session is still running the given turn.
FENCED = {
    single: f"WITH {bump('AND running_turn = %(turn)s')}, {ONE if single else MANY} {_SELECT}"
    for single in (True, False)
}

BUMPS = {
    recorded: f"WITH {_BUMP}{',' + RECORD if recorded else ''} "
    "SELECT last_seq, active_at, message_log, epoch, log, total_bytes, total_tokens FROM bump"
    for recorded in (True, False)
}

_TYPES: dict[str, Type] = {
    **dict.fromkeys(_VALUES, INT8),
    **dict.fromkeys(("key", "project_id", "turn"), UUID_KEY),
    **dict.fromkeys(("first_words", "request_id", "result"), TEXT),
    "hash": BYTEA,
    "id_places": INT8_ARRAY,
    "ids": TEXT_ARRAY,
    "state_names": TEXT_ARRAY,
    "state_values": TEXT_ARRAY,
}
_ROW_TYPES = {**dict.fromkeys(("role", "format", "row_tokens"), INT8), "body": BYTEA}
_ROWS_TYPES = {
    **dict.fromkeys(
        ("roles", "formats", "sizes", "row_tokens", "sum_bytes", "sum_tokens"), INT8_ARRAY
    ),
    "bodies": BYTEA_ARRAY,
}
# The ids of logs are returned as bytes, because few appends need them as UUIDs.
_COLUMNS = (INT8, TIMESTAMPTZ, BYTEA, INT8, BYTEA, INT8, INT8)


def types(*, single: bool) -> dict[str, Type]:
    """Return the types of the placeholders of an append of a single message, or of several."""
    return _TYPES | (_ROW_TYPES if single else _ROWS_TYPES)


def _prepared(text: str, columns: int = 5, *, single: bool = False) -> PreparedStatement:
    declared = types(single=single)
    return PreparedStatement("messages.append.append", text, declared, _COLUMNS[:columns])


PREPARED = {kind: _prepared(text, single=kind[0]) for kind, text in STATEMENTS.items()}
PREPARED_FENCED = {single: _prepared(text, single=single) for single, text in FENCED.items()}
PREPARED_BUMPS = {recorded: _prepared(text, columns=7) for recorded, text in BUMPS.items()}
