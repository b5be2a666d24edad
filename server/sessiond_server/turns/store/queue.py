"""Queues turns, and ends turns while others wait in the queue, with one statement each.

As in starts.py, each statement stores either everything or nothing, and never waits for the
session's row. If a statement stores nothing, a transaction of transitions.py makes the change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

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
    INT8_ARRAY,
    JSONB,
    TEXT,
    TIMESTAMPTZ,
    UUID_KEY,
    UUID_KEY_ARRAY,
    PreparedStatement,
)
from sessiond_server.formats.parsing import parse
from sessiond_server.messages.store import message_ids
from sessiond_server.messages.store.append import Append, Appended, parameters_of
from sessiond_server.messages.store.append_statements import MANY, NAME, bump, types
from sessiond_server.messages.store.rows import Rows
from sessiond_server.turns.store.attempts import run_end, run_start
from sessiond_server.turns.store.rows import NewTurn
from sessiond_server.turns.store.starts import (
    ENDED,
    IS_ANSWERED,
    TURN_TYPES,
    Ended,
)

# Every change of a session's turns also sets active_at. If active_at of the locked row still has
# the value that it has in the statement's snapshot, the snapshot also shows the current open turns.
_IS_FREE = "key = (SELECT key FROM sessions WHERE key = %(key)s FOR NO KEY UPDATE SKIP LOCKED)"
_OPEN = "turns.key = %(key)s AND turns.log = %(log)s AND turns.state <= 2"


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
        AND last_seq >= %(parent_seq)s AND {_IS_FREE}
        AND active_at = (SELECT active_at FROM sessions WHERE key = %(key)s)
        AND (SELECT count(*) FROM turns WHERE {_OPEN}) < {MAX_OPEN_TURNS}
    RETURNING log, running_turn, last_seq, epoch, active_at
),{record if is_recorded else ""}
queued AS (
    INSERT INTO turns (key, log, turn_id, place, state, model, prompt, message_id, options,
        timeout_ms, steers, keep_partial, parent_seq, created_at)
    SELECT %(key)s, log, %(turn)s, (SELECT max(place) + 1 FROM turns WHERE {_OPEN}),
        {TurnState.QUEUED}, %(model)s, %(prompt)s, %(message_id)s::uuid, %(options)s,
        %(timeout_ms)s, CASE WHEN %(steers)s THEN running_turn END, %(keep_partial)s,
        %(parent_seq)s, active_at
    FROM locked
)
SELECT running_turn, last_seq, epoch, active_at FROM locked""",
        TURN_TYPES
        | {
            **dict.fromkeys(("key", "project_id"), UUID_KEY),
            "expected_epoch": INT8,
            "prompt": BYTEA,
            "steers": BOOL,
            "request_id": TEXT,
            "hash": BYTEA,
            "result": TEXT,
        },
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
WHERE {_OPEN} AND turns.state = {TurnState.QUEUED} AND sessions.project_id = %(project_id)s
    AND (steers IS NOT NULL OR held_until IS NOT NULL
        OR place = (
            SELECT min(place) FROM turns WHERE {_OPEN} AND state = {TurnState.QUEUED}
                AND steers IS NULL AND held_until IS NULL))
ORDER BY place""",
    dict.fromkeys(("key", "log", "project_id"), UUID_KEY),
    (
        *(TIMESTAMPTZ, UUID_KEY, TEXT, BYTEA, UUID_KEY, JSONB, INT8, UUID_KEY),
        *(BOOL, BOOL, INT8, TIMESTAMPTZ),
    ),
)

_FENCE = f"{IS_ANSWERED} AND {_IS_FREE} AND active_at = %(seen_at)s {message_ids.IS_NEW}"
_FOLLOW = PreparedStatement(
    "turns.queue.follow",
    f"""
WITH {bump(_FENCE, sets=", running_turn = %(next)s")},
following AS (
    UPDATE turns SET state = {TurnState.RUNNING}, steers = NULL, prompt = NULL,
        holder = %(holder)s::uuid, first_seq = bump.last_seq - %(later)s + 1,
        lease_until = clock_timestamp() + %(lease_s)s::float8 * interval '1 second',
        end_seq = bump.last_seq, started_at = active_at
    FROM bump WHERE turns.key = %(key)s AND turns.log = %(log)s AND turns.turn_id = %(next)s
),
{NAME}, {MANY}, {ENDED}
SELECT last_seq, active_at, message_log, epoch, first_seq, ended_at FROM bump, ended""",
    TURN_TYPES | types(single=False) | {"next": UUID_KEY, "seen_at": TIMESTAMPTZ},
    (INT8, TIMESTAMPTZ, UUID_KEY, INT8, INT8, TIMESTAMPTZ),
)
_JOIN = PreparedStatement(
    "turns.queue.join",
    f"""
WITH {bump(_FENCE)},
joined AS (
    UPDATE turns SET state = {TurnState.JOINED}, joined = %(turn)s, prompt = NULL,
        first_seq = bump.last_seq - j.first, end_seq = bump.last_seq - j.last,
        ended_at = clock_timestamp()
    FROM bump, unnest(%(joined)b::uuid[], %(firsts)b::bigint[], %(lasts)b::bigint[])
        AS j (turn_id, first, last)
    WHERE turns.key = %(key)s AND turns.log = %(log)s AND turns.turn_id = j.turn_id
),
continued AS (
    UPDATE turns SET end_seq = bump.last_seq, prompt = NULL,
        first_seq = CASE first_seq WHEN 0 THEN bump.last_seq - %(count)s + 1 ELSE first_seq END
    FROM bump WHERE turns.key = %(key)s AND turns.log = %(log)s AND turns.turn_id = %(turn)s
),
{NAME}, {MANY}
SELECT last_seq, active_at, message_log, epoch FROM bump""",
    TURN_TYPES
    | types(single=False)
    | {
        "seen_at": TIMESTAMPTZ,
        "joined": UUID_KEY_ARRAY,
        **dict.fromkeys(("firsts", "lasts"), INT8_ARRAY),
    },
    (INT8, TIMESTAMPTZ, UUID_KEY, INT8),
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
        options_json: the stored options.
        steers: the turn that it was sent to steer; None = none.
        is_held: whether the turn waits, or has waited, for the results of tool calls.
    """

    seen_at: int
    turn_id: UUID
    model: str
    prompt: bytes
    message_id: UUID | None
    options_json: Any
    timeout_ms: int
    steers: UUID | None
    is_held: bool
    keep_partial: bool
    parent_seq: int
    created_at: datetime

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
        # Earlier versions stored the options as an object.
        stored = self.options_json
        options: dict[str, Any] = parse(stored) if isinstance(stored, str) else stored
        return options


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
        parameters: dict[str, Any] = {
            "key": append.key,
            "project_id": append.project_id,
            "log": log,
            "expected_epoch": append.expected_epoch,
            "turn": turn.turn_id,
            "model": turn.model,
            "prompt": turn.prompt,
            "message_id": turn.message_id,
            # The options are stored as one JSON string; see db/schema/work.py.
            "options": orjson.dumps(turn.options_json or "{}").decode(),
            "timeout_ms": turn.timeout_ms,
            "steers": steers,
            "keep_partial": turn.keep_partial,
            "parent_seq": turn.parent_seq,
        }
        if record:
            parameters |= {
                "request_id": record.request_id,
                "hash": record.content_hash,
                "result": record.result,
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
        turns = []
        for *front, options, timeout_ms, steers, is_held, keep_partial, parent_seq, us in rows:
            seen_at, turn_id, model, prompt, message_id = front
            turns.append(
                WaitingTurn(
                    seen_at,
                    turn_id,
                    model,
                    prompt,
                    message_id,
                    options,
                    timeout_ms,
                    steers,
                    is_held,
                    keep_partial,
                    parent_seq,
                    from_pg_us(us),
                )
            )
        return turns

    async def follow(
        self, append: Append, rows: Rows, columns: Mapping[str, Any], *, drops_text: bool
    ) -> Ended | None:
        """Store the answer of a turn, complete the turn, and start the next one.

        Args:
            append: the append of the answer and of the next turn's messages, which must be plain.
            rows: the messages of the append.
            columns: turn, log, answered_seq and end_seq as in DirectStore.end; the columns of the
                ended turn; next: the next turn; later: number of its messages; seen_at: see
                WaitingTurn; holder and lease_s of the next turn.
            drops_text: whether to delete the saved text of the turn that has ended.

        Returns:
            The turn that has ended; None if nothing was stored.
        """
        row = await self._run(_FOLLOW, append, rows, columns, drops_text=drops_text)
        if row is None:
            return None
        last_seq, created_us, message_log, epoch, first_seq, ended_us = row
        appended = Appended(last_seq - append.totals.count + 1, last_seq, created_us, epoch)
        return Ended(appended, message_log, first_seq, from_pg_us(ended_us))

    async def join(
        self, append: Append, rows: Rows, columns: Mapping[str, Any]
    ) -> tuple[Appended, UUID] | None:
        """Store the answer of a turn, and the messages that were sent to steer it.

        Args:
            append: the append of the answer and of the messages, which must be plain.
            rows: the messages of the append.
            columns: turn, log, answered_seq and end_seq as in DirectStore.end; seen_at: see
                WaitingTurn; joined: the turns that become a part of the running one; firsts and
                lasts: for each of these turns, the distances of its first and of its last message
                from the last message of the append.

        Returns:
            The append, and its log; None if nothing was stored.
        """
        row = await self._run(_JOIN, append, rows, columns, drops_text=False)
        if row is None:
            return None
        last_seq, created_us, message_log, epoch = row
        first_seq = last_seq - append.totals.count + 1
        return Appended(first_seq, last_seq, created_us, epoch), message_log

    async def _run(
        self,
        statement: PreparedStatement,
        append: Append,
        rows: Rows,
        columns: Mapping[str, Any],
        *,
        drops_text: bool,
    ) -> Sequence[Any] | None:
        parameters = {
            **parameters_of(append, rows),
            **message_ids.columns(append.message_ids),
            **columns,
        }
        async with self._database.connection() as connection:
            found = await run_end(
                connection,
                statement,
                parameters,
                prepare=self._database.prepare,
                drops_text=drops_text,
            )
        return found[0] if found else None
