"""The turns table: queued turns, and the running turn.

A session runs one turn at a time, which `sessions.running_turn` names. That column also fences the
turn's appends. A transaction that starts, continues or ends a turn holds the lock on the session's
row (sessions/store/lock.py), so the statements here never run concurrently for one session.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from sessiond_server.core.errors import Fault
from sessiond_server.core.states import TurnState
from sessiond_server.db.expiry import ALIVE
from sessiond_server.db.idempotency import RequestRecord
from sessiond_server.db.pages import RowPage, page_of
from sessiond_server.db.pool import Database, columns_of
from sessiond_server.messages.branches import is_ancestor
from sessiond_server.messages.store.append import Append, Appended, AppendStore
from sessiond_server.messages.store.branches import PARENT_LINKS
from sessiond_server.messages.store.rows import Rows
from sessiond_server.messages.store.segments import Segment, columns
from sessiond_server.sessions.store.lock import Change, change
from sessiond_server.turns.store.attempts import TRANSIENT_ERRORS
from sessiond_server.turns.store.conditions import HELD, OF_SESSION, OF_TURN, QUEUED
from sessiond_server.turns.store.rows import (
    Ending,
    NewTurn,
    OpenTurns,
    OwnedTurn,
    QueuedTurn,
    TurnRow,
    changes_of,
    options_of,
    stored_options,
)


class StartFailed(Exception):
    """A turn cannot start, for the reason in __cause__."""


_QUEUED_TURN = f"turn_id, prompt, held_until IS NOT NULL AS was_held, {HELD} AS is_held"
_OF_CALLER = f"key = %(key)s AND project_id = %(project_id)s AND {ALIVE}"
_COLUMNS = columns_of(TurnRow)
_OWNED = f"{_COLUMNS}, options, holder, keep_partial"

_OPEN = """
SELECT running_turn, sessions.last_seq, count(turns.turn_id) AS count,
    COALESCE(max(turns.place), 0) AS last_place
FROM sessions LEFT JOIN turns
    ON turns.key = sessions.key AND turns.log = sessions.log AND turns.state <= 2
WHERE sessions.key = %(key)s GROUP BY sessions.key"""

_INSERT = f"""
INSERT INTO turns (key, log, turn_id, place, state, model, prompt, message_id, options, timeout_ms,
    steers, held_until, keep_partial, parent_seq, created_at)
VALUES (%(key)s, %(log)s, %(turn_id)s, %(place)s, {TurnState.QUEUED}, %(model)s, %(prompt)s,
    %(message_id)s, %(options)s, %(timeout_ms)s, %(steers)s,
    CASE WHEN %(is_held)s THEN clock_timestamp() + %(timeout_ms)s * interval '1 millisecond' END,
    %(keep_partial)s, %(parent_seq)s, clock_timestamp())"""

# Messages that were sent to steer a turn come first once that turn is over.
_NEXT = f"""
SELECT {_QUEUED_TURN} FROM turns WHERE {OF_SESSION} AND {QUEUED}
ORDER BY is_held, steers IS NULL AND held_until IS NULL, place LIMIT 1"""
_STEERING = f"""
SELECT {_QUEUED_TURN} FROM turns WHERE {OF_SESSION} AND {QUEUED}
    AND (steers = %(turn_id)s OR held_until IS NOT NULL)
ORDER BY place"""
_HOLD = f"""
UPDATE turns SET steers = NULL,
    held_until = clock_timestamp() + timeout_ms * interval '1 millisecond'
WHERE {OF_SESSION} AND {QUEUED} AND steers = %(turn_id)s RETURNING turn_id"""
_RELEASE = f"""
UPDATE turns SET held_until = clock_timestamp()
WHERE {OF_SESSION} AND {QUEUED} AND held_until > clock_timestamp() RETURNING turn_id"""
_QUEUED_IDS = f"""
SELECT turn_id FROM turns
WHERE {OF_SESSION} AND {QUEUED} AND parent_seq >= %(least_parent)s ORDER BY place"""

_FENCE = f"UPDATE sessions SET running_turn = %(turn_id)s WHERE {OF_SESSION}"
_START = f"""
UPDATE turns SET state = {TurnState.RUNNING}, steers = NULL, holder = %(holder)s,
    lease_until = clock_timestamp() + %(lease)s, started_at = clock_timestamp()
WHERE {OF_TURN} RETURNING {_OWNED}"""
_APPENDED = f"""
UPDATE turns SET prompt = NULL, end_seq = %(end_seq)s,
    first_seq = CASE WHEN first_seq = 0 THEN %(first_seq)s ELSE first_seq END
WHERE {OF_TURN}"""
_JOIN = f"""
UPDATE turns SET state = {TurnState.JOINED}, joined = %(joined)s, prompt = NULL,
    first_seq = %(first_seq)s, end_seq = %(end_seq)s, ended_at = clock_timestamp()
WHERE {OF_TURN}"""
_END = f"""
UPDATE turns SET state = %(state)s, prompt = NULL, end_seq = COALESCE(%(end_seq)s, end_seq),
    last_seq = %(last_seq)s, partial_seq = %(partial_seq)s, stop_reason = %(stop_reason)s,
    usage = COALESCE(%(usage)s::bigint[], usage), error = %(error)s::jsonb,
    changes = %(changes)s::jsonb, change_count = %(change_count)s,
    ended_at = clock_timestamp(), lease_until = NULL
WHERE {OF_TURN} AND state <= 2 RETURNING {_COLUMNS}"""
_UNFENCE = """
UPDATE sessions SET running_turn = NULL WHERE key = %(key)s AND running_turn = %(turn_id)s"""

_FIND = f"SELECT {_OWNED} FROM turns WHERE {OF_TURN}"

_RUNNING_TURN = f"SELECT running_turn FROM sessions WHERE {_OF_CALLER}"
_GET = f"""
SELECT {columns_of(TurnRow, "turns")} FROM turns JOIN sessions USING (key, log)
WHERE {_OF_CALLER} AND turn_id = %(turn_id)s"""
_LIST = f"""
SELECT {columns_of(TurnRow, "turns")} FROM turns JOIN sessions USING (key, log)
WHERE {_OF_CALLER} AND turns.state <> {TurnState.JOINED}
    AND (%(state)s = 0 OR turns.state = %(state)s)
    AND (%(before)s::uuid IS NULL OR turn_id < %(before)s)
ORDER BY turn_id DESC LIMIT %(limit)s"""


class TurnStore:
    """The turns of sessions. Methods with a Change parameter run in its transaction."""

    def __init__(self, database: Database, appends: AppendStore) -> None:
        self._database = database
        self._appends = appends

    def change(
        self,
        key: UUID,
        project_id: UUID,
        record: RequestRecord | None = None,
        *,
        excludes_copies: bool = False,
        waits: bool = True,
    ) -> AbstractAsyncContextManager[Change]:
        """Return sessions.store.lock.change for the session.

        Entering it raises:
            SessionMissing: if the project has no such session.
            DuplicateRequest: if the request is recorded already.
        """
        return change(
            *(self._database, key, project_id, record),
            excludes_copies=excludes_copies,
            waits=waits,
        )

    @asynccontextmanager
    async def savepoint(self, change: Change) -> AsyncIterator[None]:
        """Undo the block's statements if it raises, and keep the transaction usable.

        Raises:
            StartFailed: the block raised an error that repeating the transaction cannot fix. A
                Fault, and errors of the connection and of locks, are raised unchanged.
        """
        try:
            async with change.connection.transaction():
                yield
        except (Fault, *TRANSIENT_ERRORS):
            raise
        except Exception as e:
            raise StartFailed from e

    async def get(self, key: UUID, project_id: UUID, turn_id: UUID) -> TurnRow | None:
        rows = await self._database.rows(
            _GET, {"key": key, "project_id": project_id, "turn_id": turn_id}
        )
        return TurnRow(**rows[0]) if rows else None

    async def running(self, key: UUID, project_id: UUID) -> UUID | None:
        """Return the running turn of a session, without locking it."""
        rows = await self._database.rows(_RUNNING_TURN, {"key": key, "project_id": project_id})
        return rows[0]["running_turn"] if rows else None

    async def open(self, change: Change) -> OpenTurns:
        """Return the turns of the session that have not ended."""
        [row] = await change.rows(_OPEN)
        return OpenTurns(**row)

    async def add(self, change: Change, turn: NewTurn, place: int) -> None:
        """Queue a turn at a place."""
        await change.rows(
            _INSERT,
            turn_id=turn.turn_id,
            place=place,
            model=turn.model,
            prompt=turn.prompt,
            message_id=turn.message_id,
            options=stored_options(turn.options_json),
            timeout_ms=turn.timeout_ms,
            steers=turn.steers,
            is_held=turn.is_held,
            keep_partial=turn.keep_partial,
            parent_seq=turn.parent_seq,
        )

    async def next_queued(self, change: Change) -> QueuedTurn | None:
        """Return the turn to start when no turn is running; None if none is queued.

        If all queued turns are held, a held turn is returned, which must not start yet.
        """
        rows = await change.rows(_NEXT)
        return QueuedTurn(**rows[0]) if rows else None

    async def steering(self, change: Change, turn_id: UUID) -> list[QueuedTurn]:
        """Return the queued turns that should become a part of a running one, in order."""
        return [QueuedTurn(**row) for row in await change.rows(_STEERING, turn_id=turn_id)]

    async def hold(self, change: Change, turn_id: UUID) -> bool:
        """Hold the turns that were sent to steer a turn, until the calls of that turn have results.

        Returns:
            Whether there are any such turns.
        """
        return bool(await change.rows(_HOLD, turn_id=turn_id))

    async def release(self, change: Change) -> bool:
        """Release all held turns of the session; return whether there were any."""
        return bool(await change.rows(_RELEASE))

    async def queued_ids(self, change: Change, least_parent: int = 0) -> list[UUID]:
        """Return the ids of the queued turns whose parent is least_parent or later, in order."""
        rows = await change.rows(_QUEUED_IDS, least_parent=least_parent)
        return [row["turn_id"] for row in rows]

    async def start(self, change: Change, turn_id: UUID, holder: UUID, lease_s: float) -> OwnedTurn:
        """Make a queued turn the running one."""
        await change.rows(_FENCE, turn_id=turn_id)
        lease = timedelta(seconds=lease_s)
        [row] = await change.rows(_START, turn_id=turn_id, holder=holder, lease=lease)
        return _owned(row)

    async def append(
        self, change: Change, turn_id: UUID, append: Append, rows: Rows
    ) -> Appended | None:
        """Append messages to the running turn.

        Returns:
            The result; None if the session runs another turn or accepts no appends.

        Raises:
            AssetMissing: if a message refers to an asset that does not exist.
            MessageIdTaken: if the session already has a message with one of the message_ids.
        """
        appended = await self._appends.append_fenced(change.connection, append, rows, turn_id)
        if appended:
            first, last = appended.first_seq, appended.last_seq
            await change.rows(_APPENDED, turn_id=turn_id, first_seq=first, end_seq=last)
        return appended

    async def stored_ids(
        self, key: UUID, project_id: UUID, ids: Sequence[tuple[int, str]]
    ) -> dict[str, int]:
        """Return the seqs of the message_ids that the session has already, by message_id.

        Args:
            key: the session's key.
            project_id: the session's project.
            ids: pairs of (place, message_id), one for each message to look up.
        """
        return await self._appends.stored_ids(key, project_id, [name for _, name in ids])

    async def is_continued(self, change: Change, seq: int) -> bool:
        """Return whether the branch of the session's newest message contains an earlier message.

        Args:
            change: the transaction on the session.
            seq: the earlier message; all messages after it are in the session's message log.
        """
        after = Segment(change.key, change.message_log, seq + 1, change.last_seq)
        links = await change.rows(PARENT_LINKS, **columns([after]))
        parents = {row["seq"]: row["parent_seq"] for row in links}
        return is_ancestor(parents, seq, change.last_seq)

    async def join(self, change: Change, turn_id: UUID, joined: UUID, appended: Appended) -> None:
        """Make a queued turn, whose messages were appended, a part of the turn `joined`."""
        first, last = appended.first_seq, appended.last_seq
        await change.rows(_JOIN, turn_id=turn_id, joined=joined, first_seq=first, end_seq=last)

    async def end(self, change: Change, turn_id: UUID, ending: Ending) -> TurnRow | None:
        """End a running or queued turn. Return the turn; None if it had already ended."""
        changes, change_count = changes_of(ending.report)
        rows = await change.rows(
            _END,
            turn_id=turn_id,
            state=ending.state,
            end_seq=ending.end_seq,
            last_seq=ending.last_seq,
            partial_seq=ending.partial_seq,
            stop_reason=ending.stop_reason,
            usage=None if ending.usage is None else list(ending.usage),
            error=None if ending.error is None else Jsonb(ending.error),
            changes=None if changes is None else Jsonb(changes),
            change_count=change_count,
        )
        if not rows:
            return None
        await change.rows(_UNFENCE, turn_id=turn_id)
        return TurnRow(**rows[0])

    async def find(self, change: Change, turn_id: UUID) -> OwnedTurn | None:
        """Return the current row of a turn of the session; None if there is none."""
        rows = await change.rows(_FIND, turn_id=turn_id)
        return _owned(rows[0]) if rows else None

    async def list(
        self, key: UUID, project_id: UUID, state: int, before: UUID | None, size: int
    ) -> RowPage[TurnRow]:
        """Return a page of turns, the newest first.

        Args:
            key: the session's key.
            project_id: the caller's project.
            state: only turns in this state; 0 = any.
            before: only turns older than this one; None = start with the newest.
            size: maximum number of turns.
        """
        caller = {"key": key, "project_id": project_id}
        parameters = {**caller, "state": state, "before": before, "limit": size + 1}
        return await page_of(self._database, _LIST, parameters, size, TurnRow)


def _owned(row: dict[str, Any]) -> OwnedTurn:
    options, holder = row.pop("options"), row.pop("holder")
    keep_partial = row.pop("keep_partial")
    return OwnedTurn(TurnRow(**row), options_of(options), holder, keep_partial)
