"""Reading messages: short keyset queries on the primary key, a page each, so that no connection waits for a client."""

from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8

from sessiond_server.store.database import Database
from sessiond_server.store.expiry import ALIVE

_HEAD = f"""
SELECT log, last_seq, content_bytes, largest_bytes, (idle_ttl_ms IS NOT NULL
    AND statement_timestamp() - used_at > LEAST(idle_ttl_ms * 0.05, 60000) * interval '1 millisecond')
FROM sessions WHERE key = %s AND project_id = %s AND {ALIVE}"""

_TOUCH = f"UPDATE sessions SET used_at = clock_timestamp() WHERE key = %s AND project_id = %s AND {ALIVE}"


def _page(columns: str, *, descending: bool, by_role: bool, by_bytes: bool) -> str:
    order = "DESC" if descending else "ASC"
    role = "AND role = ANY(%(roles)s::smallint[])" if by_role else ""

    def picked(columns: str) -> str:
        return f"""
SELECT {columns} FROM messages
WHERE key = %(key)s AND log = %(log)s AND seq > %(after)s AND seq <= %(through)s {role}
ORDER BY seq {order} LIMIT %(rows)s"""

    if not by_bytes:
        return picked(columns)
    # The running sum of content_bytes, a plain column, cuts the page, so that a body beyond the cut is never read from TOAST.
    # A message that is larger than the page is a page.
    return f"""
SELECT {columns} FROM (
    SELECT *, sum(content_bytes) OVER (ORDER BY seq {order} ROWS UNBOUNDED PRECEDING) AS running
    FROM ({picked("*")}) AS picked
) AS page WHERE running - content_bytes < %(bytes)s ORDER BY seq {order}"""


_FULL = "seq, created_at, body"
_BASIC = "seq, created_at, role, format, content_bytes"
_PAGES = {
    (basic, descending, by_role, by_bytes): _page(_BASIC if basic else _FULL, descending=descending, by_role=by_role, by_bytes=by_bytes)
    for basic in (True, False)
    for descending in (True, False)
    for by_role in (True, False)
    for by_bytes in (True, False)
}


@dataclass(frozen=True, slots=True)
class LogHead:
    """Where a session's messages lie and how far they go.

    content_bytes: content of all of them; largest_bytes: of the largest one. touch_due: the session's expiry is worth moving on.
    """

    log: UUID
    last_seq: int
    content_bytes: int
    largest_bytes: int
    touch_due: bool


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Messages with after < seq <= through, at most max_rows.

    max_bytes: end with the message that reaches this much content; None where max_rows bounds that well enough (it is 1.5 times as fast).
    """

    key: UUID
    log: UUID
    after: int
    through: int
    max_rows: int
    max_bytes: int | None
    descending: bool = False
    roles: tuple[int, ...] = ()
    basic: bool = False


class HistoryStore:
    """Reads of messages."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def head(self, key: UUID, project_id: UUID) -> LogHead | None:
        """None where the session does not exist for the project, or has expired."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(_HEAD, (key, project_id), prepare=self._database.prepare, binary=True)
            row = await cursor.fetchone()
        return LogHead(*row) if row else None

    async def touch(self, key: UUID, project_id: UUID) -> None:
        """Count a use: the idle time starts anew."""
        async with self._database.connection() as connection:
            await connection.execute(_TOUCH, (key, project_id), prepare=self._database.prepare)

    async def page(self, query: PageQuery) -> list[TupleRow]:
        """Rows in order: (seq, created_us, body), or for basic (seq, created_us, role, format, content_bytes).

        created_us is in microseconds since 2000-01-01 UTC.
        """
        parameters: dict[str, object] = {
            "key": query.key,
            "log": query.log,
            "after": Int8(query.after),
            "through": Int8(query.through),
            "rows": Int8(query.max_rows),
        }
        if query.max_bytes is not None:
            parameters["bytes"] = Int8(query.max_bytes)
        if query.roles:
            parameters["roles"] = list(query.roles)
        statement = _PAGES[query.basic, query.descending, bool(query.roles), query.max_bytes is not None]
        async with self._database.connection() as connection:
            cursor = await connection.execute(statement, parameters, prepare=self._database.prepare, binary=True)
            return await cursor.fetchall()
