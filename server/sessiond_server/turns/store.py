"""Turns of sessions: those that wait, the one that runs, and the server that runs it.

A session runs one turn at a time: the one that `sessions.running_turn` names. That column is also
the fence of the turn's appends. Whoever starts, continues or ends a turn holds the session's row
(sessions/store/lock.py), so the statements here need not consider two at once.

The server that runs a turn renews its lease. Once the lease has run out, the server counts as gone,
and any other server may end the turn. If it was only asleep, it finds that the session has another
turn by then, or none, and its appends do nothing.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy import text

from sessiond_server.core.errors import Fault
from sessiond_server.core.states import TurnState
from sessiond_server.db.expiry import ALIVE
from sessiond_server.db.idempotency import RequestRecord
from sessiond_server.db.pool import Database
from sessiond_server.messages.store.append import Append, Appended, AppendStore
from sessiond_server.messages.store.rows import Rows
from sessiond_server.sessions.store.lock import Change, change

# What a later transaction may not meet again: a broken connection, a lock, a deadlock, a read-only standby.
TRANSIENT_ERRORS = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
)

QUEUED, RUNNING, COMPLETED, FAILED, ABORTED, JOINED = TurnState


@dataclass(frozen=True, slots=True)
class TurnRow:
    """A row of the turns table, as tables.py describes it, but for prompt, options and who runs it."""

    turn_id: UUID
    state: int
    model: str
    message_id: UUID | None
    timeout_ms: int
    steers: UUID | None
    joined: UUID | None
    first_seq: int
    end_seq: int
    last_seq: int
    stop_reason: str
    usage: list[int] | None
    error: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class OwnedTurn:
    """A turn, and who runs it."""

    turn: TurnRow
    options: dict[str, Any]
    holder: UUID | None


@dataclass(frozen=True, slots=True)
class NewTurn:
    """A turn that is sent. steers: the running one that it is to become a part of."""

    turn_id: UUID
    model: str
    prompt: bytes
    message_id: UUID | None
    options: Mapping[str, Any]
    timeout_ms: int
    steers: UUID | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A turn whose time has come, or what was sent to steer the running one."""

    turn_id: UUID
    prompt: bytes
    message_id: UUID | None


@dataclass(frozen=True, slots=True)
class OpenTurns:
    """What of a session's turns is not over. last_seq: the session's."""

    running_turn: UUID | None
    last_seq: int
    count: int
    last_place: int


@dataclass(frozen=True, slots=True)
class OrphanedTurn:
    """A session whose running turn has no server any more, or whose turns wait for one. running_turn: None = the latter.

    is_mine: the turn is this process's, which does not know of it: it never heard that it was started.
    """

    key: UUID
    project_id: UUID
    session_id: str
    running_turn: UUID | None
    is_mine: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """How a turn ends. last_seq: of its final answer, 0 where there is none."""

    state: int
    end_seq: int | None = None
    last_seq: int = 0
    stop_reason: str = ""
    usage: Sequence[int] | None = None
    error: Mapping[str, Any] | None = None


class StartFailed(Exception):
    """A turn cannot start, for the reason that __cause__ has."""


_COLUMNS = ", ".join(field.name for field in fields(TurnRow))
_OF_TURN = "key = :key AND log = :log AND turn_id = :turn_id"

_OPEN = text("""
SELECT running_turn, sessions.last_seq, count(turns.turn_id) AS count, COALESCE(max(turns.place), 0) AS last_place
FROM sessions LEFT JOIN turns ON turns.key = sessions.key AND turns.log = sessions.log AND turns.state <= 2
WHERE sessions.key = :key GROUP BY sessions.key""")

_INSERT = text(f"""
INSERT INTO turns (key, log, turn_id, place, state, model, prompt, message_id, options, timeout_ms, steers, created_at)
VALUES (:key, :log, :turn_id, :place, {QUEUED}, :model, :prompt, :message_id, :options, :timeout_ms, :steers, clock_timestamp())""")

# What was sent to steer a turn that is over comes first.
_NEXT = text(f"""
SELECT turn_id, prompt, message_id FROM turns WHERE key = :key AND log = :log AND state = {QUEUED} AND state <= 2
ORDER BY steers IS NULL, place LIMIT 1""")
_STEERING = text(f"""
SELECT turn_id, prompt, message_id FROM turns WHERE key = :key AND log = :log AND state = {QUEUED} AND state <= 2 AND steers = :turn_id
ORDER BY place""")

_FENCE = text("UPDATE sessions SET running_turn = :turn_id WHERE key = :key AND log = :log")
_START = text(f"""
UPDATE turns SET state = {RUNNING}, steers = NULL, holder = :holder, lease_until = clock_timestamp() + :lease,
    started_at = clock_timestamp()
WHERE {_OF_TURN} RETURNING {_COLUMNS}, options""")
_APPENDED = text(f"""
UPDATE turns SET prompt = NULL, end_seq = :end_seq, first_seq = CASE WHEN first_seq = 0 THEN :first_seq ELSE first_seq END
WHERE {_OF_TURN}""")
_JOIN = text(f"""
UPDATE turns SET state = {JOINED}, joined = :joined, prompt = NULL, first_seq = :first_seq, end_seq = :end_seq, ended_at = clock_timestamp()
WHERE {_OF_TURN}""")
_END = text(f"""
UPDATE turns SET state = :state, prompt = NULL, end_seq = COALESCE(:end_seq, end_seq), last_seq = :last_seq, stop_reason = :stop_reason,
    usage = COALESCE((:usage)::bigint[], usage), error = (:error)::jsonb, ended_at = clock_timestamp(), lease_until = NULL
WHERE {_OF_TURN} AND state <= 2 RETURNING {_COLUMNS}""")
_UNFENCE = text(
    "UPDATE sessions SET running_turn = NULL WHERE key = :key AND running_turn = :turn_id"
)
_WAITING = text(
    f"SELECT turn_id FROM turns WHERE key = :key AND log = :log AND state = {QUEUED} AND state <= 2 ORDER BY place"
)

_FIND = text(f"SELECT {_COLUMNS}, options, holder FROM turns WHERE {_OF_TURN}")
_SET_REPLAY_RESULT = text(
    "UPDATE requests SET session_id = :made WHERE key = :key AND log = :log AND request_id = :request_id"
)

_GET = text(f"""
SELECT {", ".join("turns." + field.name for field in fields(TurnRow))} FROM turns JOIN sessions USING (key, log)
WHERE key = :key AND project_id = :project_id AND {ALIVE} AND turn_id = :turn_id""")
_LIST = text(f"""
SELECT {", ".join("turns." + field.name for field in fields(TurnRow))} FROM turns JOIN sessions USING (key, log)
WHERE key = :key AND project_id = :project_id AND {ALIVE} AND turns.state <> {JOINED}
    AND (:state = 0 OR turns.state = :state) AND (CAST(:before AS uuid) IS NULL OR turn_id < :before)
ORDER BY turn_id DESC LIMIT :limit""")

_RENEW = text(f"""
UPDATE turns SET lease_until = clock_timestamp() + :lease
FROM unnest((:keys)::uuid[], (:turn_ids)::uuid[]) AS mine (key, turn_id)
WHERE turns.key = mine.key AND turns.turn_id = mine.turn_id AND state = {RUNNING} AND state <= 2 AND holder = :holder
RETURNING turns.turn_id""")

# What waits without anything running: its server was shut down between the two, and left it to the others.
_FORSAKEN = text(f"""
SELECT DISTINCT s.key, s.project_id, s.session_id, s.running_turn, COALESCE(turns.holder = :holder, false) AS is_mine
FROM turns JOIN sessions s USING (key, log)
WHERE turns.state <= 2 AND {ALIVE} AND (
    turns.state = {RUNNING} AND (turns.lease_until < clock_timestamp() OR turns.holder = :holder) AND NOT turn_id = ANY((:mine)::uuid[])
    OR turns.state = {QUEUED} AND s.running_turn IS NULL)
LIMIT :limit""")
_IS_FORSAKEN = text(
    f"SELECT lease_until < clock_timestamp() AS is_orphaned FROM turns WHERE {_OF_TURN} AND state = {RUNNING}"
)


class TurnStore:
    """Turns of sessions. What takes a Change happens in its transaction, under the session's row."""

    def __init__(self, database: Database, appends: AppendStore) -> None:
        self._database = database
        self._appends = appends

    def change(
        self, key: UUID, project_id: UUID, record: RequestRecord | None = None
    ) -> AbstractAsyncContextManager[Change]:
        """As changes.change. Raises: SessionMissing, DuplicateRequest."""
        return change(self._database, key, project_id, record)

    @asynccontextmanager
    async def savepoint(self, change: Change) -> AsyncIterator[None]:
        """Undo the block's statements if it raises, and keep the transaction usable.

        Raises:
            StartFailed: the block raised something that no repetition of the transaction mends. A
                Fault, and errors of the connection and of locks, pass as they are.
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

    async def open(self, change: Change) -> OpenTurns:
        [row] = await self._rows(change, _OPEN)
        return OpenTurns(**row)

    async def add(self, change: Change, turn: NewTurn, place: int) -> None:
        """Queue a turn."""
        await self._rows(
            change,
            _INSERT,
            turn_id=turn.turn_id,
            place=place,
            model=turn.model,
            prompt=turn.prompt,
            message_id=turn.message_id,
            options=Jsonb(turn.options),
            timeout_ms=turn.timeout_ms,
            steers=turn.steers,
        )

    async def next(self, change: Change) -> Waiting | None:
        """The turn to run when none is running."""
        rows = await self._rows(change, _NEXT)
        return Waiting(**rows[0]) if rows else None

    async def steering(self, change: Change, turn_id: UUID) -> list[Waiting]:
        """What was sent to steer a running turn, in order."""
        return [Waiting(**row) for row in await self._rows(change, _STEERING, turn_id=turn_id)]

    async def start(
        self, change: Change, turn_id: UUID, holder: UUID, lease_s: float
    ) -> tuple[TurnRow, dict[str, Any]]:
        """Make a turn that waits the running one. Answers it, and its options."""
        await self._rows(change, _FENCE, turn_id=turn_id)
        [row] = await self._rows(
            change, _START, turn_id=turn_id, holder=holder, lease=timedelta(seconds=lease_s)
        )
        options = row.pop("options")
        return TurnRow(**row), options

    async def append(
        self, change: Change, turn_id: UUID, append: Append, rows: Rows
    ) -> Appended | None:
        """Append messages of the running turn. None: it is not the running one, or the session takes no appends.

        Raises: AssetMissing.
        """
        appended = await self._appends.append_fenced(change.connection, append, rows, turn_id)
        if appended:
            await self._rows(
                change,
                _APPENDED,
                turn_id=turn_id,
                first_seq=appended.first_seq,
                end_seq=appended.last_seq,
            )
        return appended

    async def join(
        self, change: Change, turn_id: UUID, joined: UUID, appended: Appended | None
    ) -> None:
        """What was sent to steer has become a part of the turn `joined`."""
        first, last = (appended.first_seq, appended.last_seq) if appended else (0, 0)
        await self._rows(
            change, _JOIN, turn_id=turn_id, joined=joined, first_seq=first, end_seq=last
        )

    async def end(self, change: Change, turn_id: UUID, ending: Ending) -> TurnRow | None:
        """End a turn that runs or waits. None: it is over already."""
        rows = await self._rows(
            change,
            _END,
            turn_id=turn_id,
            state=ending.state,
            end_seq=ending.end_seq,
            last_seq=ending.last_seq,
            stop_reason=ending.stop_reason,
            usage=None if ending.usage is None else list(ending.usage),
            error=None if ending.error is None else Jsonb(ending.error),
        )
        if not rows:
            return None
        await self._rows(change, _UNFENCE, turn_id=turn_id)
        return TurnRow(**rows[0])

    async def waiting(self, change: Change) -> list[UUID]:
        """The turns that wait, in order."""
        return [row["turn_id"] for row in await self._rows(change, _WAITING)]

    async def find(self, change: Change, turn_id: UUID) -> OwnedTurn | None:
        """A turn of the session as it is now."""
        rows = await self._rows(change, _FIND, turn_id=turn_id)
        if not rows:
            return None
        options, holder = rows[0].pop("options"), rows[0].pop("holder")
        return OwnedTurn(TurnRow(**rows[0]), options, holder)

    async def set_replay_result(self, change: Change, request_id: str, made: str) -> None:
        """Have the repetition of a request be told what this one did, which was not known when it was recorded."""
        await self._rows(change, _SET_REPLAY_RESULT, request_id=request_id, made=made)

    async def is_orphaned(self, change: Change, turn_id: UUID) -> bool:
        """Whether a turn runs and its lease has run out."""
        rows = await self._rows(change, _IS_FORSAKEN, turn_id=turn_id)
        return bool(rows and rows[0]["is_orphaned"])

    async def renew(
        self, turns: Sequence[tuple[UUID, UUID]], holder: UUID, lease_s: float
    ) -> set[UUID]:
        """Renew the leases of turns, as (key, turn_id). Answers those that are still the holder's."""
        keys = [key for key, _ in turns]
        parameters = {
            "keys": keys,
            "turn_ids": [turn_id for _, turn_id in turns],
            "holder": holder,
            "lease": timedelta(seconds=lease_s),
        }
        return {row["turn_id"] for row in await self._database.rows(_RENEW, parameters)}

    async def orphans(self, holder: UUID, mine: Sequence[UUID], limit: int) -> list[OrphanedTurn]:
        """Sessions whose turns nobody runs. holder: this process; mine: the turns that it runs, whatever became of their leases."""
        parameters = {"holder": holder, "mine": list(mine), "limit": limit}
        return [OrphanedTurn(**row) for row in await self._database.rows(_FORSAKEN, parameters)]

    @staticmethod
    async def _rows(change: Change, statement: Any, **parameters: Any) -> list[dict[str, Any]]:
        own = {"key": change.key, "log": change.log} | parameters
        return await change.database.rows(statement, own, on=change.connection)

    async def list(
        self, key: UUID, project_id: UUID, state: int, before: UUID | None, limit: int
    ) -> list[TurnRow]:
        """The newest first. state: 0 = any."""
        parameters = {
            "key": key,
            "project_id": project_id,
            "state": state,
            "before": before,
            "limit": limit,
        }
        return [TurnRow(**row) for row in await self._database.rows(_LIST, parameters)]
