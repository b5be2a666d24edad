"""The append: one statement, one round trip.

It bumps `last_seq` on the session's row, with every condition in that UPDATE's WHERE, and inserts the rows under the seqs that it got.
The row's lock makes the order of commits the order of seqs, so a reader that has seen n never finds a smaller one later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8

from sessiond_server.assets.store import assets
from sessiond_server.db.expiry import ALIVE
from sessiond_server.db.idempotency import DuplicateRequest
from sessiond_server.db.pool import Database, Int8s
from sessiond_server.messages.store.rows import Rows
from sessiond_server.messages.store.spool import Spool, Start

# Nothing indexed changes, except active_minute once a minute: the update stays HOT. Formatted with the name of each value.
SET = """
        last_seq = last_seq + {count},
        content_bytes = content_bytes + {bytes},
        largest_bytes = GREATEST(largest_bytes, {largest}::int),
        first_words = COALESCE(first_words, {first_words}),
        first_words_seq = CASE WHEN first_words IS NULL THEN last_seq + {first_words_place}::bigint ELSE first_words_seq END,
        token_count = token_count + {tokens},
        estimated_tokens = estimated_tokens + {estimated},
        active_at = clock_timestamp(),
        used_at = clock_timestamp(),
        has_news = true"""

TAKES_APPENDS = f"""{{in_project}} AND state = 1 AND {ALIVE}
        AND ({{expected}}::bigint IS NULL OR last_seq = {{expected}}::bigint)
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
    "parent_floor",
)
_GIVEN = {name: f"%({name})s" for name in _VALUES}


def _bump(fence: str) -> str:
    # Of a row waited for, READ COMMITTED reads the newest version again before it judges the WHERE: two appends with the same
    # expected_last_seq cannot both pass.
    return f"""
bump AS (
    UPDATE sessions SET {SET.format(**_GIVEN)}
    WHERE key = %(key)s AND {TAKES_APPENDS.format(in_project="project_id = %(project_id)s", **_GIVEN)} {fence}
    RETURNING log, last_seq, active_at, content_bytes AS total_bytes, token_count AS total_tokens
)"""


_BUMP = _bump("")

# A duplicate fails on the primary key, so that the bump rolls back with it; ON CONFLICT DO NOTHING would leave a gap.
_RECORD = """
recorded AS (
    INSERT INTO requests (key, log, request_id, content_hash, first_seq, last_seq, created_at)
    SELECT %(key)s, log, %(request_id)s, %(hash)s, last_seq - %(count)s + 1, last_seq, active_at FROM bump
)"""

_ONE = """
stored AS (
    INSERT INTO messages (key, log, seq, role, format, content_bytes, created_at, body, tokens, total_bytes, total_tokens)
    SELECT %(key)s, log, last_seq, %(role)s::smallint, %(format)s::smallint, %(bytes)s::int, active_at, %(body)b,
        %(row_tokens)s::int, total_bytes, total_tokens
    FROM bump
)"""

# %b: as text, an array of bytea is escaped twice, which takes longer than all the rest of the append. Set-returning functions in a SELECT's
# list hand on row by row; in FROM, all rows of all arrays would be written into a table of their own first.
_MANY = """
stored AS (
    INSERT INTO messages (key, log, seq, role, format, content_bytes, created_at, body, tokens, total_bytes, total_tokens)
    SELECT %(key)s, log, last_seq - %(count)s + m.place, m.role::smallint, m.format::smallint, m.content_bytes::int, active_at, m.body,
        m.tokens::int, total_bytes - %(bytes)s + m.sum_bytes, total_tokens - %(tokens)s + m.sum_tokens
    FROM bump, (
        SELECT place, body, (%(roles)b::bigint[])[place] AS role, (%(formats)b::bigint[])[place] AS format,
            (%(sizes)b::bigint[])[place] AS content_bytes, (%(row_tokens)b::bigint[])[place] AS tokens,
            (%(sum_bytes)b::bigint[])[place] AS sum_bytes, (%(sum_tokens)b::bigint[])[place] AS sum_tokens
        FROM (SELECT unnest(%(bodies)b::bytea[]) AS body, generate_series(1, %(count)s) AS place) AS b
    ) AS m
)"""

_SELECT = "SELECT last_seq, active_at, log FROM bump"


_STATEMENTS = {
    (
        single,
        recorded,
    ): f"WITH {_BUMP}, {_RECORD + ',' if recorded else ''} {_ONE if single else _MANY} {_SELECT}"
    for single in (True, False)
    for recorded in (True, False)
}

# What a turn appends: nothing, once the session has another one.
_FENCED = {
    single: f"WITH {_bump('AND running_turn = %(turn)s')}, {_ONE if single else _MANY} {_SELECT}"
    for single in (True, False)
}

_BUMPS = {
    recorded: f"WITH {_BUMP}{',' + _RECORD if recorded else ''} SELECT log, last_seq, active_at, total_bytes, total_tokens FROM bump"
    for recorded in (True, False)
}

_COPY = """COPY messages (key, log, seq, role, format, content_bytes, created_at, body, tokens, total_bytes, total_tokens)
FROM STDIN (FORMAT BINARY)"""


@dataclass(frozen=True, slots=True)
class Append:
    """What one append asks for.

    Args:
        count: messages; content_bytes: of their content; largest: bytes of the largest one.
        tokens: of all of them; estimated: the part of it that is estimated.
        first_words: of the first user message among them, or None; first_words_place: which one it is, from 1, or None.
        expected_last_seq: the last_seq that the session must have, or None.
        parent_floor: the least last_seq under which every parent_seq of the batch exists.
        request_id, content_hash: what makes it safe to repeat; "" for none.
        asset_refs: (place in the append, from 0; sha256) for each asset that a message refers to. assets: their sha256, each once.
    """

    key: UUID
    project_id: UUID
    count: int
    content_bytes: int
    largest: int
    tokens: int
    estimated: int
    first_words: str | None
    first_words_place: int | None
    expected_last_seq: int | None
    parent_floor: int
    request_id: str
    content_hash: bytes
    asset_refs: Sequence[tuple[int, bytes]] = ()
    assets: Sequence[bytes] = ()

    def parameters(self) -> dict[str, object]:
        # Int8: psycopg otherwise picks the parameter's type by the value, and each mix of types is a statement of its own to prepare.
        return {
            "key": self.key,
            "project_id": self.project_id,
            "count": Int8(self.count),
            "bytes": Int8(self.content_bytes),
            "largest": Int8(self.largest),
            "tokens": Int8(self.tokens),
            "estimated": Int8(self.estimated),
            "first_words": self.first_words,
            "first_words_place": None
            if self.first_words_place is None
            else Int8(self.first_words_place),
            "expected": None if self.expected_last_seq is None else Int8(self.expected_last_seq),
            "parent_floor": Int8(self.parent_floor),
            "request_id": self.request_id,
            "hash": self.content_hash,
        }


@dataclass(frozen=True, slots=True)
class Appended:
    """Where messages were stored; created_us is in microseconds since 2000-01-01 UTC, as PostgreSQL counts."""

    first_seq: int
    last_seq: int
    created_us: int


class AppendStore:
    """Appends to sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, append: Append, rows: Rows) -> Appended | None:
        """Store the rows, all or none. None: a condition did not hold, and nothing happened.

        Raises: DuplicateRequest; AssetMissing; those of Database.connection.
        """
        parameters = _parameters(append, rows)
        statement = _STATEMENTS[len(rows) == 1, bool(append.request_id)]
        if append.asset_refs:
            async with self._database.transaction() as connection:
                await assets.hold(connection, append.project_id, append.assets)
                found = await self._run(connection, statement, parameters)
                if found:
                    await _refer(connection, append, log=found[2], last_seq=found[0])
        else:
            async with self._database.connection() as connection:
                found = await self._run(connection, statement, parameters)
        return Appended(found[0] - append.count + 1, found[0], found[1]) if found else None

    async def append_fenced(
        self, connection: AsyncConnection[TupleRow], append: Append, rows: Rows, turn_id: UUID
    ) -> Appended | None:
        """As append, in a transaction of the caller's, for a turn. None: the session has another one, or takes no appends.

        Raises: AssetMissing.
        """
        if append.asset_refs:
            await assets.hold(connection, append.project_id, append.assets)
        found = await self._run(
            connection, _FENCED[len(rows) == 1], _parameters(append, rows) | {"turn": turn_id}
        )
        if not found:
            return None
        if append.asset_refs:
            await _refer(connection, append, log=found[2], last_seq=found[0])
        return Appended(found[0] - append.count + 1, found[0], found[1])

    async def append_bulk(self, append: Append, spool: Spool) -> Appended | None:
        """As append, for the rows of a spool, through COPY. The session's row is locked while they stream in."""
        async with self._database.transaction() as connection:
            if append.asset_refs:
                await assets.hold(connection, append.project_id, append.assets)
            found = await self._run(
                connection, _BUMPS[bool(append.request_id)], append.parameters()
            )
            if found is None:
                return None
            log, last_seq, created_us, total_bytes, total_tokens = found
            appended = Appended(last_seq - append.count + 1, last_seq, created_us)
            before = total_bytes - append.content_bytes, total_tokens - append.tokens
            await copy_rows(
                connection, spool, Start(append.key, log, appended.first_seq, created_us, *before)
            )
            if append.asset_refs:
                await _refer(connection, append, log=log, last_seq=last_seq)
        return appended

    async def _run(
        self, connection: AsyncConnection[TupleRow], statement: str, parameters: dict[str, object]
    ) -> TupleRow | None:
        try:
            cursor = await connection.execute(
                statement, parameters, prepare=self._database.prepare, binary=True
            )
        except psycopg.errors.UniqueViolation as e:
            raise DuplicateRequest from e
        return await cursor.fetchone()


def _parameters(append: Append, rows: Rows) -> dict[str, object]:
    parameters = append.parameters()
    if len(rows) == 1:
        parameters.update(
            role=Int8(rows.roles[0]),
            format=Int8(rows.formats[0]),
            body=rows.bodies[0],
            row_tokens=Int8(rows.tokens[0]),
        )
    else:
        parameters.update(
            roles=Int8s(rows.roles),
            formats=Int8s(rows.formats),
            sizes=Int8s(rows.sizes),
            bodies=rows.bodies,
            row_tokens=Int8s(rows.tokens),
            sum_bytes=Int8s(accumulate(rows.sizes)),
            sum_tokens=Int8s(accumulate(map(abs, rows.tokens))),
        )
    return parameters


async def _refer(
    connection: AsyncConnection[TupleRow], append: Append, *, log: UUID, last_seq: int
) -> None:
    await assets.refer(
        connection,
        append.key,
        log,
        append.project_id,
        last_seq - append.count + 1,
        append.asset_refs,
    )


async def copy_rows(connection: AsyncConnection[TupleRow], spool: Spool, start: Start) -> None:
    """Write a spool's rows into the messages table."""
    async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for piece in spool.copy_data(start):
            await copy.write(piece)
