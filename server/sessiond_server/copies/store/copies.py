"""Copies: a copy is a new session row, with a list of segments that it shares with its source.

No message is copied, so the cost does not depend on the number of messages.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow, dict_row
from psycopg.types.json import Jsonb
from psycopg.types.numeric import Int8
from sqlalchemy import and_, not_

from sessiond_server.core.states import SessionStatus
from sessiond_server.db import schema as tables
from sessiond_server.db.expiry import ALIVE, TOUCH, TOUCH_DUE, alive
from sessiond_server.db.idempotency import DuplicateRequest, RequestRecord, record_request
from sessiond_server.db.message_log import MESSAGE_LOG
from sessiond_server.db.pool import Database
from sessiond_server.messages.store.segments import (
    SEGMENTS,
    Segment,
    columns,
    cut,
    joined,
    short_segments,
)
from sessiond_server.sessions.settings import NEVER
from sessiond_server.sessions.store.deletion import delete_sessions
from sessiond_server.sessions.store.sessions import SessionRow
from sessiond_server.sessions.store.state import COPY as COPY_STATE
from sessiond_server.sessions.store.state import StatePatch, patch_state

# KEY SHARE does not block appends, but prevents the source from being deleted or rewound and its
# messages from being moved.
_LOCK = f"""
SELECT log, {MESSAGE_LOG}, last_seq, base_seq, content_bytes, token_count, estimated_tokens,
    {TOUCH_DUE}
FROM sessions WHERE key = %(key)s AND project_id = %(project_id)s AND {ALIVE} FOR KEY SHARE"""

_BOOKMARK = "SELECT seq FROM bookmarks WHERE key = %(key)s AND log = %(log)s AND name = %(name)s"

_TOTALS = """
SELECT total_bytes, total_tokens FROM messages
WHERE key = %(key)s AND log = %(log)s AND seq = %(seq)s"""

# LATERAL enforces one scan of the primary key for each segment, however the planner estimates the
# size of the arrays.
SUMS = """
SELECT sum(bytes)::bigint AS bytes, sum(tokens)::bigint AS tokens,
    sum(estimated)::bigint AS estimated
FROM unnest(
    %(keys)s::uuid[], %(logs)s::uuid[], %(firsts)s::bigint[], %(lasts)s::bigint[]
) AS segment (key, log, first_seq, last_seq), LATERAL (
    SELECT COALESCE(sum(content_bytes), 0) AS bytes, COALESCE(sum(abs(tokens)), 0) AS tokens,
        COALESCE(sum(-tokens) FILTER (WHERE tokens < 0), 0) AS estimated
    FROM messages WHERE messages.key = segment.key AND messages.log = segment.log
        AND seq >= segment.first_seq AND seq <= segment.last_seq
) AS sums"""

# The counters were read with _LOCK, which blocks neither appends nor other updates. This statement
# reads the other columns later, so the copy includes the changes to them that were made in between.
_COPY = f"""
WITH made AS (
    INSERT INTO sessions (key, project_id, session_id, log, state, model, user_name, title, config,
        metadata, first_words, first_words_seq, last_seq, base_seq, short_segments, content_bytes,
        largest_bytes, token_count, estimated_tokens, created_at, active_at, used_at, idle_ttl_ms,
        expiry_check_at, origin_key, origin_log, origin_session_id, origin_seq, is_branched)
    SELECT %(new_key)s, project_id, %(new_id)s, %(new_log)s, {SessionStatus.ACTIVE},
        COALESCE(%(model)s, model), COALESCE(%(user)s, user_name), COALESCE(%(title)s, title),
        COALESCE(%(config)s, config), COALESCE(%(metadata)s, metadata),
        CASE WHEN %(cut)s = last_seq OR first_words_seq <= %(cut)s THEN first_words END,
        CASE WHEN first_words_seq <= %(cut)s THEN first_words_seq END,
        %(cut)s, %(cut)s, %(short_segments)s, %(bytes)s,
        CASE WHEN %(cut)s > 0 THEN largest_bytes ELSE 0 END, %(tokens)s, %(estimated)s,
        clock_timestamp(), clock_timestamp(), clock_timestamp(), ttl.ms,
        clock_timestamp() + ttl.ms * interval '1 millisecond', key, log, session_id, %(cut)s,
        is_branched
    FROM sessions, LATERAL (
        SELECT CASE WHEN %(with_ttl)s THEN %(ttl)s ELSE idle_ttl_ms END AS ms
    ) AS ttl
    WHERE key = %(key)s AND log = %(log)s
    ON CONFLICT DO NOTHING RETURNING *
), shared AS (
    INSERT INTO segments (key, first_seq, last_seq, src_key, src_log)
    SELECT made.key, segment.first_seq, segment.last_seq, segment.src_key, segment.src_log
    FROM made, unnest(
        %(firsts)s::bigint[], %(lasts)s::bigint[], %(keys)s::uuid[], %(logs)s::uuid[]
    ) AS segment (first_seq, last_seq, src_key, src_log)
), copied_tasks AS (
    INSERT INTO tasks (key, log, task_id, position, status, data, message_seqs, created_at,
        updated_at)
    SELECT made.key, made.log, task_id, position, status, data,
        CASE WHEN %(task_links)s THEN ARRAY(
            SELECT seq FROM unnest(message_seqs) AS seq WHERE seq <= %(cut)s ORDER BY seq
        ) ELSE '{{}}' END, tasks.created_at, tasks.updated_at
    FROM made, tasks WHERE tasks.key = %(key)s AND tasks.log = %(log)s
), copied_bookmarks AS (
    INSERT INTO bookmarks (key, log, name, seq, description, created_at, updated_at)
    SELECT made.key, made.log, name, seq, description, bookmarks.created_at, bookmarks.updated_at
    FROM made, bookmarks
    WHERE bookmarks.key = %(key)s AND bookmarks.log = %(log)s AND seq <= %(cut)s
), {COPY_STATE}, copied_mark AS (
    INSERT INTO context_marks (key, log, max_messages, max_tokens, keep_fraction, first_seq,
        kept_seqs, task_seq)
    SELECT made.key, made.log, max_messages, max_tokens, keep_fraction, first_seq, kept_seqs,
        task_seq
    FROM made, context_marks AS mark
    WHERE mark.key = %(key)s AND mark.log = %(log)s AND mark.first_seq <= %(cut)s
        AND mark.epoch = (SELECT epoch FROM sessions WHERE key = %(key)s)
)"""

_COPY_PROCESSING = """, copied_progress AS (
    INSERT INTO processing (key, log, queue, project_id, done_seq, is_ready, ready_at)
    SELECT made.key, made.log, queue, processing.project_id, LEAST(done_seq, %(cut)s), true,
        clock_timestamp()
    FROM made, processing WHERE processing.key = %(key)s AND processing.log = %(log)s
), copied_exceptions AS (
    INSERT INTO processing_exceptions (key, log, queue, seq, status, error, updated_at)
    SELECT made.key, made.log, queue, seq, status, error, updated_at
    FROM made, processing_exceptions AS e
    WHERE e.key = %(key)s AND e.log = %(log)s AND seq <= %(cut)s
)"""

_RETURNING = f" SELECT {', '.join(field.name for field in fields(SessionRow))} FROM made"

_COPIES = f"""
SELECT session_id, origin_seq AS seq, created_at, key FROM sessions
WHERE project_id = %(project_id)s AND origin_key = %(key)s AND origin_log = %(log)s AND {ALIVE}
    AND (created_at, key) < (%(before_time)s::timestamptz, %(before_key)s::uuid)
ORDER BY created_at DESC, key DESC LIMIT %(limit)s"""
# A position before every copy in a listing that begins with the newest copy.
_NEWEST: tuple[str, UUID] = ("infinity", UUID(int=0))

T = tables.sessions.c


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """A request for a copy.

    Attributes:
        session_id: id of the source.
        new_session_id: id of the copy; "" = generated.
        up_to: the last seq to copy, or the name of the bookmark at which the copy ends; None = the
            newest message.
        model: model of the copy; None = as in the source.
        user_name: user of the copy; None = as in the source.
        title: title of the copy; None = as in the source.
        config: config of the copy; None = as in the source.
        metadata: metadata of the copy; None = as in the source.
        idle_ttl_ms: idle TTL of the copy, in milliseconds; None = as in the source, NEVER = no
            expiry.
        keep_processing_status: whether to copy the queues' progress.
        keep_task_links: whether to keep the tasks' links to copied messages.
        request_id: makes the copy safe to repeat; "" = none.
        state: change of the state that the copy takes over from the source.
    """

    session_id: str
    new_session_id: str
    up_to: int | str | None
    model: str | None
    user_name: str | None
    title: str | None
    config: dict[str, Any] | None
    metadata: dict[str, Any] | None
    idle_ttl_ms: int | None
    keep_processing_status: bool
    keep_task_links: bool
    request_id: str
    state: StatePatch


@dataclass(frozen=True, slots=True)
class Copy:
    """Parameters of one copy.

    Attributes:
        request: the caller's request.
        project_id: project of the source and the copy.
        source_key: key of the source.
        new_key: key of the copy.
        new_id: session_id of the copy.
        new_log: log of the copy.
        max_messages: maximum number of messages; 0 = no limit.
    """

    request: CopyRequest
    project_id: UUID
    source_key: UUID
    new_key: UUID
    new_id: str
    new_log: UUID
    max_messages: int


@dataclass(frozen=True, slots=True)
class CopyRow:
    """A copy of a session.

    Attributes:
        session_id: id of the copy.
        seq: seq of the last copied message.
        created_at: create time of the copy.
        key: key of the copy.
    """

    session_id: str
    seq: int
    created_at: datetime
    key: UUID


class NoSource(Exception):
    """The source does not exist in the project, or has expired."""


@dataclass(eq=False)
class NoSuchSeq(Exception):
    """The source has no message with this seq.

    Attributes:
        last_seq: seq of the source's last message.
    """

    last_seq: int


class NoSuchBookmark(Exception):
    """The source has no bookmark with this name."""


@dataclass(eq=False)
class CopyTooLarge(Exception):
    """The copy would have more messages than allowed.

    Attributes:
        messages: number of messages that the copy would have.
    """

    messages: int


class CopyStore:
    """Copies of sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def copy(self, copy: Copy, record: RequestRecord | None) -> SessionRow | None:
        """Create a copy.

        Returns:
            The new session; None if its key is taken, in which case nothing is changed.

        Raises:
            NoSource: the source does not exist.
            NoSuchSeq: the source has no message with the seq `up_to`.
            NoSuchBookmark: the source has no bookmark with the name `up_to`.
            CopyTooLarge: the copy would have more than max_messages.
            DuplicateRequest: the request_id was already recorded.
            StateTooLarge: the state of the copy would exceed its limits.
        """
        async with self._database.transaction() as connection:
            if record:
                await record_request(self._database, connection, record)
            row = await self._copy(connection, copy)
            # An expired session that has not been purged yet must not block its id.
            if row is None and await delete_sessions(
                self._database, connection, and_(T.key == copy.new_key, not_(alive()))
            ):
                row = await self._copy(connection, copy)
            if row is None:
                raise psycopg.Rollback
            await patch_state(connection, copy.new_key, copy.new_log, copy.request.state)
            return row
        return None

    async def copies_of(
        self,
        key: UUID,
        log: UUID,
        project_id: UUID,
        after: tuple[datetime, UUID] | None,
        limit: int,
    ) -> list[CopyRow]:
        """Return at most `limit` existing copies of the session, newest first.

        Args:
            key: key of the source.
            log: log of the source.
            project_id: project of the source.
            after: (created_at, key) of the last copy of the previous page; None = the first page.
            limit: maximum number of copies.
        """
        before_time, before_key = after or _NEWEST
        parameters = {
            "key": key,
            "log": log,
            "project_id": project_id,
            "before_time": before_time,
            "before_key": before_key,
            "limit": limit,
        }
        return [CopyRow(**row) for row in await self._database.rows(_COPIES, parameters)]

    async def _copy(self, connection: AsyncConnection[TupleRow], copy: Copy) -> SessionRow | None:
        request, prepare = copy.request, self._database.prepare

        async def fetch(statement: str, **parameters: object) -> list[TupleRow]:
            cursor = await connection.execute(statement, parameters, prepare=prepare, binary=True)
            return await cursor.fetchall()

        found = await fetch(_LOCK, key=copy.source_key, project_id=copy.project_id)
        if not found:
            raise NoSource
        log, message_log, last_seq, base_seq, *counters, touch_due = found[0]
        content_bytes, tokens, estimated = counters
        match request.up_to:
            case None:
                through = last_seq
            case int():
                through = request.up_to
                if through > last_seq:
                    raise NoSuchSeq(last_seq)
            case str():
                marked = await fetch(_BOOKMARK, key=copy.source_key, log=log, name=request.up_to)
                if not marked:
                    raise NoSuchBookmark
                (through,) = marked[0]
                # The bookmarked message may have been appended after the row was read. Read the row
                # again.
                if through > last_seq:
                    return await self._copy(connection, copy)
        if copy.max_messages and through > copy.max_messages:
            raise CopyTooLarge(through)
        # This statement must run after the one that locks the source. It then sees where the
        # messages are, even if another transaction has just moved them.
        segments = (
            [Segment(*row) for row in await fetch(SEGMENTS, key=copy.source_key)]
            if base_seq
            else []
        )
        segments = joined(
            cut(
                [*segments, Segment(copy.source_key, message_log, base_seq + 1, last_seq)],
                0,
                through,
            )
        )
        if through < last_seq:
            content_bytes, tokens, estimated = await self._totals(
                fetch, segments, tokens, estimated
            )
        statement = (
            _COPY + (_COPY_PROCESSING if request.keep_processing_status else "") + _RETURNING
        )
        async with connection.cursor(row_factory=dict_row) as cursor:
            try:
                values = _values(copy, log, through, segments) | {
                    "bytes": Int8(content_bytes),
                    "tokens": Int8(tokens),
                    "estimated": Int8(estimated),
                }
                await cursor.execute(statement, values, prepare=prepare)
            except psycopg.errors.UniqueViolation as e:
                raise DuplicateRequest from e
            row = await cursor.fetchone()
        if row and touch_due:
            # Copying a session counts as an access, so that a template in use does not expire.
            await connection.execute(TOUCH, [copy.source_key, copy.project_id], prepare=prepare)
        return SessionRow(**row) if row else None

    @staticmethod
    async def _totals(
        fetch: Any, segments: list[Segment], tokens: int, estimated: int
    ) -> tuple[int, int, int]:
        """Return the content_bytes, tokens and estimated tokens of segments.

        Args:
            fetch: runs a statement.
            segments: segments that form a prefix of the session.
            tokens: number of tokens in the whole session.
            estimated: number of estimated tokens in the whole session.
        """
        if not segments:
            return 0, 0, 0
        last = segments[-1]
        found = await fetch(_TOTALS, key=last.key, log=last.log, seq=Int8(last.last_seq))
        # Messages that were stored before the totals were introduced have no totals. If only some
        # of the session's tokens are estimated, the totals do not show which ones.
        if found and found[0][0] is not None and estimated in (0, tokens):
            total_bytes, total_tokens = found[0]
            return total_bytes, total_tokens, total_tokens if estimated else 0
        [(total_bytes, total_tokens, total_estimated)] = await fetch(SUMS, **columns(segments))
        return total_bytes, total_tokens, total_estimated


def _values(copy: Copy, log: UUID, through: int, segments: Sequence[Segment]) -> dict[str, object]:
    """Return the values of _COPY, except the sizes of the copy."""
    request = copy.request
    return {
        "key": copy.source_key,
        "log": log,
        "new_key": copy.new_key,
        "new_id": copy.new_id,
        "new_log": copy.new_log,
        "cut": Int8(through),
        "short_segments": Int8(len(short_segments(segments, copy.new_key, copy.new_log))),
        "model": request.model,
        "user": request.user_name,
        "title": request.title,
        "config": None if request.config is None else Jsonb(request.config),
        "metadata": None if request.metadata is None else Jsonb(request.metadata),
        "with_ttl": request.idle_ttl_ms is not None,
        "ttl": None if request.idle_ttl_ms in (None, NEVER) else Int8(request.idle_ttl_ms),
        "task_links": request.keep_task_links,
        **columns(segments),
    }
