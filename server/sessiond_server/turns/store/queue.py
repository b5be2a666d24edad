"""Queues a turn with one statement, and reads the queue for the statements of ends.py.

See conditions.py for when nothing is stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sessiond.v1.conversation_service_pb2 import SendRequest
from sessiond.v1.message_pb2 import Message
from sessiond_server.core.limits import MAX_OPEN_TURNS
from sessiond_server.core.pg_time import from_pg_us
from sessiond_server.core.states import SessionStatus, TurnState
from sessiond_server.db.expiry import ALIVE
from sessiond_server.db.idempotency import RequestRecord
from sessiond_server.db.pool import Database
from sessiond_server.db.prepared import (
    BOOL,
    BYTEA,
    INT8,
    JSONB,
    TEXT,
    TIMESTAMPTZ,
    UUID_KEY,
    PreparedStatement,
)
from sessiond_server.turns.store.attempts import run_start
from sessiond_server.turns.store.conditions import IS_CURRENT, IS_FREE, OPEN
from sessiond_server.turns.store.rows import TURN_TYPES, NewTurn, options_of, turn_parameters


def _add(*, is_recorded: bool) -> PreparedStatement:
    record = """
recorded AS (
    INSERT INTO requests (key, log, request_id, content_hash, session_id, created_at)
    SELECT %(key)s, log, %(request_id)s, %(hash)s, %(result)s, active_at FROM locked
),"""
    return PreparedStatement(
        "turns.queue.add",
        f"""
WITH locked AS (
    UPDATE sessions SET active_at = clock_timestamp(), used_at = clock_timestamp()
    WHERE key = %(key)s AND project_id = %(project_id)s AND log = %(log)s AND {ALIVE}
        AND state = {SessionStatus.ACTIVE} AND running_turn IS NOT NULL
        AND (%(expected_epoch)s::bigint IS NULL OR epoch = %(expected_epoch)s::bigint)
        AND last_seq >= %(parent_seq)s AND {IS_FREE} AND {IS_CURRENT}
        AND (SELECT count(*) FROM turns WHERE {OPEN}) < {MAX_OPEN_TURNS}
    RETURNING log, running_turn, last_seq, epoch, active_at
),{record if is_recorded else ""}
queued AS (
    INSERT INTO turns (key, log, turn_id, place, state, model, prompt, message_id, options,
        timeout_ms, steers, keep_partial, parent_seq, created_at)
    SELECT %(key)s, log, %(turn)s, (SELECT max(place) + 1 FROM turns WHERE {OPEN}),
        {TurnState.QUEUED}, %(model)s, %(prompt)s, %(message_id)s::uuid, %(options)s,
        %(timeout_ms)s, CASE WHEN %(steers)s THEN running_turn END, %(keep_partial)s,
        %(parent_seq)s, active_at
    FROM locked
)
SELECT running_turn, last_seq, epoch, active_at FROM locked""",
        TURN_TYPES,
        (UUID_KEY, INT8, INT8, TIMESTAMPTZ),
    )


_ADD = {is_recorded: _add(is_recorded=is_recorded) for is_recorded in (True, False)}

# All queued turns that were sent to steer a turn or that were held, and the first of the others.
_NEXT = PreparedStatement(
    "turns.queue.next",
    f"""
SELECT active_at, turn_id, turns.model, prompt, message_id, options, timeout_ms, steers,
    held_until IS NOT NULL, keep_partial, parent_seq, turns.created_at
FROM turns JOIN sessions USING (key, log)
WHERE {OPEN} AND turns.state = {TurnState.QUEUED} AND sessions.project_id = %(project_id)s
    AND (steers IS NOT NULL OR held_until IS NOT NULL
        OR place = (
            SELECT min(place) FROM turns WHERE {OPEN} AND state = {TurnState.QUEUED}
                AND steers IS NULL AND held_until IS NULL))
ORDER BY place""",
    TURN_TYPES,
    (
        *(TIMESTAMPTZ, UUID_KEY, TEXT, BYTEA, UUID_KEY, JSONB, INT8, UUID_KEY),
        *(BOOL, BOOL, INT8, TIMESTAMPTZ),
    ),
)


@dataclass(frozen=True, slots=True)
class Queued:
    """A turn that was queued.

    Attributes:
        running_turn: the turn that is running.
        last_seq: seq of the session's last message.
        epoch: epoch of the session.
        created_at: time of the queueing.
    """

    running_turn: UUID
    last_seq: int
    epoch: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class WaitingTurn:
    """A turn that waits in the queue of a session.

    Attributes:
        seen_at: active_at of the session when the turn was read, in microseconds since 2000-01-01.
        prompt: a serialized SendRequest with its messages.
        stored_options: see rows.options_of.
        steers: the turn that it was sent to steer; None = none.
        is_held: whether the turn waits, or has waited, for the results of tool calls.
        created_us: time of the queueing, in microseconds since 2000-01-01.
    """

    seen_at: int
    turn_id: UUID
    model: str
    prompt: bytes
    message_id: UUID | None
    stored_options: Any
    timeout_ms: int
    steers: UUID | None
    is_held: bool
    keep_partial: bool
    parent_seq: int
    created_us: int

    @property
    def messages(self) -> Sequence[Message]:
        """The messages that were sent.

        Raises:
            DecodeError: if the stored prompt is damaged.
        """
        return SendRequest.FromString(self.prompt).messages

    @property
    def options(self) -> dict[str, Any]:
        """Options of the provider's request."""
        return options_of(self.stored_options)


class TurnQueueStore:
    """Runs the statements."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, turn: NewTurn, record: RequestRecord | None, log: UUID, *, steers: bool
    ) -> Queued | None:
        """Queue a turn in a session that runs another one.

        Args:
            turn: the turn.
            record: record of the request; None for a request without a request_id.
            log: the session's log.
            steers: whether the turn is sent to steer the running one.

        Returns:
            The turn; None if nothing was stored.

        Raises:
            DuplicateRequest: the request_id was already recorded.
        """
        append = turn.append
        parameters = turn_parameters(turn, record) | {
            "key": append.key,
            "project_id": append.project_id,
            "log": log,
            "expected_epoch": append.expected_epoch,
            "prompt": turn.prompt,
            "steers": steers,
        }
        async with self._database.connection() as connection:
            found = await run_start(connection, _ADD[record is not None], parameters)
        if not found:
            return None
        running_turn, last_seq, epoch, created_us = found[0]
        return Queued(running_turn, last_seq, epoch, from_pg_us(created_us))

    async def next(self, key: UUID, project_id: UUID, log: UUID) -> list[WaitingTurn]:
        """Return the queued turns that steer or that were held, and the first one of the others.

        They are in the order in which they were sent.
        """
        parameters = {"key": key, "project_id": project_id, "log": log}
        async with self._database.connection() as connection:
            rows = await _NEXT.run(connection, parameters)
        return [WaitingTurn(*row) for row in rows]
