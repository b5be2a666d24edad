"""Reading messages: short keyset queries on the primary key, a page each, so that no connection waits for a client."""

from dataclasses import dataclass
from uuid import UUID

from psycopg.types.numeric import Int8

from sessiond_server.store.database import Database
from sessiond_server.store.expiry import ALIVE




_HEAD = f"""
SELECT log, last_seq, idle_ttl_ms, (idle_ttl_ms IS NOT NULL
    AND statement_timestamp() - used_at > LEAST(idle_ttl_ms * 0.05, 60000) * interval '1 millisecond')
FROM sessions WHERE key = %s AND project_id = %s AND {ALIVE}"""

_TOUCH = f"UPDATE sessions SET used_at = clock_timestamp() WHERE key = %s AND project_id = %s AND {ALIVE}"


def _page(columns: str, *, descending: bool, by_role: bool) -> str:
    # The inner query picks at most a page of rows by the key alone; the running sum of content_bytes, a plain column, then cuts
    # it, so that a body beyond the cut is never read from TOAST. Parentheses keep one message that is larger than the page.
    order = "DESC" if descending else "ASC"
    return f"""
SELECT {columns} FROM (
    SELECT *, sum(content_bytes) OVER (ORDER BY seq {order} ROWS UNBOUNDED PRECEDING) AS running FROM (
        SELECT seq, created_at, role, format, content_bytes, body FROM messages
        WHERE key = %(key)s AND log = %(log)s AND seq > %(after)s AND seq <= %(through)s
            {"AND role = ANY(%(roles)s::smallint[])" if by_role else ""}
        ORDER BY seq {order} LIMIT %(rows)s
    ) AS picked
) AS page WHERE running - content_bytes < %(bytes)s ORDER BY seq {order}"""


_FULL = "seq, created_at, body"
_BASIC = "seq, created_at, role, format, content_bytes"
_PAGES = {
    (basic, descending, by_role): _page(_BASIC if basic else _FULL, descending=descending, by_role=by_role)
    for basic in (True, False)
    for descending in (True, False)
    for by_role in (True, False)
}


@dataclass(frozen=True, slots=True)
class LogHead:
    """Where a session's messages lie and how far they go. touch_due: its expiry is worth moving on."""

    log: UUID
    last_seq: int
    touch_due: bool


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Messages with after < seq <= through, at most max_rows and about max_bytes of content (one message at least)."""

    key: UUID
    log: UUID
    after: int
    through: int
    max_rows: int
    max_bytes: int
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
            cursor = await connection.execute(
                _HEAD, (key, project_id), prepare=self._database.prepare, binary=True
            )
            row = await cursor.fetchone()
        return row and LogHead(row[0], row[1], row[3])

    async def touch(self, key: UUID, project_id: UUID) -> None:
        """Count a use: the idle time starts anew."""
        async with self._database.connection() as connection:
            await connection.execute(_TOUCH, (key, project_id), prepare=self._database.prepare)

    async def page(self, query: PageQuery) -> list[tuple[int, ...]]:
        """Rows in order: (seq, created_us, body), or for basic (seq, created_us, role, format, content_bytes).

        created_us is in microseconds since 2000-01-01 UTC.
        """
        parameters: dict[str, object] = {
            "key": query.key,
            "log": query.log,
            "after": Int8(query.after),
            "through": Int8(query.through),
            "rows": Int8(query.max_rows),
            "bytes": Int8(query.max_bytes),
        }
        if query.roles:
            parameters["roles"] = list(query.roles)
        statement = _PAGES[query.basic, query.descending, bool(query.roles)]
        async with self._database.connection() as connection:
            cursor = await connection.execute(statement, parameters, prepare=self._database.prepare, binary=True)
            return await cursor.fetchall()
