"""Reads messages with short keyset queries on the primary key, one query per page.

No connection therefore waits for a client.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8

from sessiond_server.db.expiry import ALIVE, TOUCH, TOUCH_DUE
from sessiond_server.db.message_log import MESSAGE_LOG
from sessiond_server.db.pool import Database
from sessiond_server.db.prepared import (
    BOOL,
    INT8,
    INT8_ARRAY,
    UUID_KEY,
    UUID_KEY_ARRAY,
    PreparedStatement,
)
from sessiond_server.messages.store.branches import PARENT_LINKS
from sessiond_server.messages.store.message_ids import FOUND
from sessiond_server.messages.store.segments import UNNESTED, Segment, columns

HEAD_COLUMNS = f"""log, {MESSAGE_LOG}, epoch, last_seq, content_bytes, largest_bytes, {TOUCH_DUE},
    is_branched, base_seq, shared.keys, shared.logs, shared.lasts, running_turn"""

# Because of base_seq > 0 in the condition, the join reads no segments if the message log contains
# all messages of the session.
HEAD_SOURCE = """sessions LEFT JOIN LATERAL (
    SELECT array_agg(src_key ORDER BY first_seq) AS keys,
        array_agg(src_log ORDER BY first_seq) AS logs,
        array_agg(segments.last_seq ORDER BY first_seq) AS lasts
    FROM segments WHERE sessions.base_seq > 0 AND segments.key = sessions.key
) AS shared ON true"""
"""The tables of a statement that selects HEAD_COLUMNS."""

_HEAD = PreparedStatement(
    "messages.history.head",
    f"""
SELECT {HEAD_COLUMNS} FROM {HEAD_SOURCE}
WHERE key = %(key)s AND project_id = %(project_id)s AND {ALIVE}""",
    {"key": UUID_KEY, "project_id": UUID_KEY},
    # The types of HEAD_COLUMNS, in their order.
    (
        UUID_KEY,
        UUID_KEY,
        *(INT8,) * 4,
        BOOL,
        BOOL,
        INT8,
        UUID_KEY_ARRAY,
        UUID_KEY_ARRAY,
        INT8_ARRAY,
        UUID_KEY,
    ),
)

_CONTENT_BYTES = f"""
SELECT COALESCE(sum(bytes), 0)::bigint AS bytes FROM {UNNESTED}, LATERAL (
    SELECT sum(content_bytes) AS bytes FROM messages
    WHERE messages.key = segment.key AND messages.log = segment.log
        AND seq >= segment.first_seq AND seq <= segment.last_seq
) AS sums"""


def _page(columns: str, *, many: bool, descending: bool, by_role: bool, by_bytes: bool) -> str:
    order = "DESC" if descending else "ASC"
    role = "AND role = ANY(%(roles)s::smallint[])" if by_role else ""

    def picked(columns: str) -> str:
        if not many:
            return f"""
SELECT {columns} FROM messages
WHERE key = %(key)s AND log = %(log)s AND seq >= %(first)s AND seq <= %(last)s {role}
ORDER BY seq {order} LIMIT %(rows)s"""
        # LATERAL with its own LIMIT enforces one scan of the primary key for each segment, however
        # the planner estimates the size of the arrays.
        return f"""
SELECT {columns} FROM {UNNESTED}, LATERAL (
    SELECT * FROM messages
    WHERE messages.key = segment.key AND messages.log = segment.log
        AND seq >= segment.first_seq AND seq <= segment.last_seq {role}
    ORDER BY seq {order} LIMIT %(rows)s
) AS messages ORDER BY seq {order} LIMIT %(rows)s"""

    if not by_bytes:
        return picked(columns)
    # The page is cut by the running total of content_bytes, a plain column, so that no body after
    # the cut is read from TOAST. A message that is larger than a page becomes a page of its own.
    return f"""
SELECT {columns} FROM (
    SELECT *, sum(content_bytes) OVER (ORDER BY seq {order} ROWS UNBOUNDED PRECEDING) AS running
    FROM ({picked("messages.*")}) AS picked
) AS page WHERE running - content_bytes < %(bytes)s ORDER BY seq {order}"""


_FULL = "seq, created_at, body"
_BASIC = "seq, created_at, role, format, content_bytes, tokens"
_PAGES = {
    (basic, many, descending, by_role, by_bytes): _page(
        _BASIC if basic else _FULL,
        many=many,
        descending=descending,
        by_role=by_role,
        by_bytes=by_bytes,
    )
    for basic in (True, False)
    for many in (True, False)
    for descending in (True, False)
    for by_role in (True, False)
    for by_bytes in (True, False)
}

# Estimated numbers of tokens are negative. Messages of %(roles)s count only for content_bytes.
_TOTALS = f"""
SELECT count(*) FILTER (WHERE role <> ALL(%(roles)s::smallint[])) AS count,
    COALESCE(sum(abs(tokens)) FILTER (WHERE role <> ALL(%(roles)s::smallint[])), 0)::bigint
        AS tokens,
    COALESCE(sum(content_bytes), 0)::bigint AS content_bytes
FROM ({_page(_BASIC, many=True, descending=True, by_role=False, by_bytes=False)}) AS newest"""


@dataclass(frozen=True, slots=True)
class LogHead:
    """Location and size of a session's messages.

    Attributes:
        log: the session's log. A re-created session has a different log.
        message_log: log of the session's new messages.
        epoch: number of rewinds.
        last_seq: seq of the newest message.
        content_bytes: size of the content of all messages.
        largest_bytes: size of the content of the largest message.
        touch_due: whether a read should postpone the session's expiry.
        is_branched: whether some messages have a parent other than the previous message.
        segments: the segments with the session's messages, in order. The last segment is in the
            message log, unless that is empty.
        running_turn: the turn that is running; None = no turn.
        base_seq: seq of the last message that is not in the message log; 0 if there is none.
    """

    log: UUID
    message_log: UUID
    epoch: int
    last_seq: int
    content_bytes: int
    largest_bytes: int
    touch_due: bool
    is_branched: bool
    segments: tuple[Segment, ...]
    running_turn: UUID | None = None
    base_seq: int = 0

    def segments_through(self, key: UUID, last_seq: int) -> tuple[Segment, ...]:
        """Return the segments of the session `key` after an append that ends at last_seq."""
        shared = [segment for segment in self.segments if segment.first_seq <= self.base_seq]
        if last_seq > self.base_seq:
            shared.append(Segment(key, self.message_log, self.base_seq + 1, last_seq))
        return tuple(shared)


def head_of(key: UUID, row: Sequence[Any]) -> LogHead:
    """Return the head of a session, given the values of HEAD_COLUMNS."""
    log, message_log, epoch, last_seq, size, largest, touch_due, is_branched, *shared = row
    base_seq, keys, logs, lasts, running_turn = shared
    segments = list[Segment]()
    if base_seq:
        # Each segment begins after the end of the previous one.
        segments += map(Segment, keys, logs, [1, *(last + 1 for last in lasts)], lasts)
    if last_seq > base_seq:
        segments.append(Segment(key, message_log, base_seq + 1, last_seq))
    return LogHead(
        log,
        message_log,
        epoch,
        last_seq,
        size,
        largest,
        touch_due,
        is_branched,
        tuple(segments),
        running_turn,
        base_seq,
    )


@dataclass(frozen=True, slots=True)
class NewestTotals:
    """Totals of the newest messages.

    Attributes:
        count: number of messages, without those of the uncounted roles.
        tokens: number of tokens of the counted messages.
        content_bytes: size of the content of all messages, counted or not, in bytes.
    """

    count: int
    tokens: int
    content_bytes: int


@dataclass(frozen=True, slots=True)
class PageQuery:
    """A query for one page of messages.

    Attributes:
        segments: the segments to read, in order.
        max_rows: maximum number of messages.
        max_bytes: size of the content at which the page ends. The message that reaches this size is
            still on the page. None = unlimited, which is 1.5 times as fast.
        descending: whether to read from the last message backwards.
        roles: roles of the messages to return; empty = all roles.
        basic: whether to leave out the bodies.
        as_parts: whether to encode the page with typed parts. The rows are the same.
    """

    segments: tuple[Segment, ...]
    max_rows: int
    max_bytes: int | None
    descending: bool = False
    roles: tuple[int, ...] = ()
    basic: bool = False
    as_parts: bool = False


class HistoryStore:
    """Reads messages."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def head(self, key: UUID, project_id: UUID) -> LogHead | None:
        """Return a session's head; None if it does not exist in the project or has expired."""
        async with self._database.connection() as connection:
            rows = await _HEAD.run(connection, {"key": key, "project_id": project_id})
        return head_of(key, rows[0]) if rows else None

    async def parent_links(self, segments: Sequence[Segment]) -> dict[int, int]:
        """Return the parent_seqs of messages whose parent is not the previous one, by seq."""
        rows = await self._database.rows(PARENT_LINKS, columns(segments))
        return {row["seq"]: row["parent_seq"] for row in rows}

    async def seq_of(self, segments: Sequence[Segment], message_id: str) -> int | None:
        """Return the seq of the message with a message_id; None if no segment has one."""
        rows = await self._database.rows(FOUND, columns(segments) | {"ids": [message_id]})
        return rows[0]["seq"] if rows else None

    async def content_bytes(self, segments: Sequence[Segment]) -> int:
        """Return the size of the content of messages, in bytes."""
        [row] = await self._database.rows(_CONTENT_BYTES, columns(segments))
        return int(row["bytes"])

    async def newest_totals(
        self, segments: Sequence[Segment], max_rows: int, uncounted_roles: Sequence[int]
    ) -> NewestTotals:
        """Return the totals of the newest messages, without reading their bodies.

        Args:
            segments: the segments with the messages, in order.
            max_rows: maximum number of messages.
            uncounted_roles: roles whose messages count only for content_bytes.
        """
        parameters = columns(segments) | {"rows": Int8(max_rows), "roles": list(uncounted_roles)}
        [row] = await self._database.rows(_TOTALS, parameters)
        return NewestTotals(**row)

    async def touch(self, key: UUID, project_id: UUID) -> None:
        """Update used_at of the session, so that its idle time starts again."""
        async with self._database.connection() as connection:
            await connection.execute(TOUCH, (key, project_id), prepare=self._database.prepare)

    async def page(
        self, query: PageQuery, *, on: AsyncConnection[TupleRow] | None = None
    ) -> list[TupleRow]:
        """Return the rows of a page, in order.

        Args:
            query: the page.
            on: a connection in a transaction; None = one of the pool.

        Returns:
            Tuples of (seq, created_us, body), or of (seq, created_us, role, format, content_bytes,
            tokens) for basic queries. created_us is in microseconds since 2000-01-01 UTC.
        """
        many = len(query.segments) > 1
        if many:
            parameters = columns(query.segments)
        else:
            (one,) = query.segments
            first, last = Int8(one.first_seq), Int8(one.last_seq)
            parameters = {"key": one.key, "log": one.log, "first": first, "last": last}
        parameters["rows"] = Int8(query.max_rows)
        if query.max_bytes is not None:
            parameters["bytes"] = Int8(query.max_bytes)
        if query.roles:
            parameters["roles"] = list(query.roles)
        statement = _PAGES[
            query.basic, many, query.descending, bool(query.roles), query.max_bytes is not None
        ]
        async with nullcontext(on) if on else self._database.connection() as connection:
            cursor = await connection.execute(
                statement, parameters, prepare=self._database.prepare, binary=True
            )
            return await cursor.fetchall()
