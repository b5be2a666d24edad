"""Rows of the turns table, and the values written to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, TypeAlias
from uuid import UUID

import orjson

from sessiond.v1.conversation_service_pb2 import SendRequest
from sessiond.v1.message_pb2 import Message
from sessiond_server.core.states import TurnState
from sessiond_server.db.idempotency import RequestRecord
from sessiond_server.db.prepared import (
    BOOL,
    BYTEA,
    FLOAT8,
    INT8,
    INT8_ARRAY,
    JSONB,
    TEXT,
    TIMESTAMPTZ,
    UUID_KEY,
    UUID_KEY_ARRAY,
    Type,
)
from sessiond_server.formats.parsing import parse
from sessiond_server.formats.report import Report
from sessiond_server.messages.store.append import Append
from sessiond_server.messages.store.rows import Rows
from sessiond_server.turns.errors import storable

MAX_CHANGES = 100
"""Maximum number of changes of a request that are stored with a turn."""

Changes: TypeAlias = list[tuple[int, str, str]]
"""The first changes of a request: the seq, the kind and the details of each."""

TURN_TYPES: dict[str, Type] = {
    **dict.fromkeys(("key", "project_id", "log", "turn", "message_id", "holder", "next"), UUID_KEY),
    **dict.fromkeys(
        ("timeout_ms", "parent_seq", "answered_seq", "end_seq", "later", "change_count"), INT8
    ),
    **dict.fromkeys(("expected_epoch", "revision"), INT8),
    **dict.fromkeys(("model", "stop_reason", "request_id", "result"), TEXT),
    **dict.fromkeys(("options", "changes", "error"), JSONB),
    **dict.fromkeys(("keep_partial", "steers"), BOOL),
    **dict.fromkeys(("prompt", "hash"), BYTEA),
    **dict.fromkeys(("usage", "firsts", "lasts"), INT8_ARRAY),
    "joined": UUID_KEY_ARRAY,
    "lease_s": FLOAT8,
    "seen_at": TIMESTAMPTZ,
}
"""Types of the placeholders of the statements that start and end turns."""


@dataclass(frozen=True, slots=True)
class TurnRow:
    """A row of the turns table, without prompt, options and holder; see db/schema/work.py.

    The log is None in a row that was not read from the table.
    """

    turn_id: UUID
    state: int
    model: str
    message_id: UUID | None
    timeout_ms: int
    created_at: datetime
    steers: UUID | None = None
    joined: UUID | None = None
    held_until: datetime | None = None
    first_seq: int = 0
    end_seq: int = 0
    last_seq: int = 0
    stop_reason: str = ""
    usage: list[int] | None = None
    error: dict[str, Any] | None = None
    changes: Changes | None = None
    change_count: int = 0
    partial_seq: int = 0
    parent_seq: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    log: UUID | None = None


@dataclass(frozen=True, slots=True)
class OwnedTurn:
    """A turn, its options, and the process that runs it (None = no process runs it)."""

    turn: TurnRow
    options: dict[str, Any]
    holder: UUID | None
    keep_partial: bool


@dataclass(frozen=True, slots=True)
class SavedText:
    """The text of an answer that another process's turn was writing.

    Attributes:
        model: the turn's model.
        answered_seq: seq of the message that the model answers.
        parent_seq: see state.RunningTurn.
        text: the text, as far as it was saved.
    """

    model: str
    answered_seq: int
    parent_seq: int
    text: str


@dataclass(frozen=True, slots=True)
class NewTurn:
    """A turn to queue.

    Attributes:
        prompt: a serialized SendRequest with the messages.
        message_id: id of the last of the messages; None if there are none.
        options_json: fields of the provider's request, as a JSON object; "" = none.
        steers: id of the running turn that it should become a part of; None for a turn of its own.
        is_held: whether the turn waits for the results of open calls, for at most timeout_ms.
        keep_partial: whether to keep the text of an answer that is cut off.
        parent_seq: seq of the message that the turn continues; 0 = the newest message.
        append: the append of the messages; the turn starts only if the append's conditions hold.
        rows: the messages; there may be none.
    """

    turn_id: UUID
    model: str
    prompt: bytes
    message_id: UUID | None
    options_json: str
    timeout_ms: int
    append: Append
    rows: Rows
    steers: UUID | None = None
    is_held: bool = False
    keep_partial: bool = True
    parent_seq: int = 0

    @property
    def has_given_ids(self) -> bool:
        """Whether the caller chose the message_id of a message, which the session may have."""
        own_id = str(self.message_id)
        return any(message_id != own_id for _, message_id in self.append.message_ids)

    def row(self, state: TurnState, created_at: datetime, **others: Any) -> TurnRow:
        """Return the turn's row, with the values of other columns, by name."""
        return TurnRow(
            turn_id=self.turn_id,
            state=state,
            model=self.model,
            message_id=self.message_id,
            timeout_ms=self.timeout_ms,
            parent_seq=self.parent_seq,
            created_at=created_at,
            **others,
        )


@dataclass(frozen=True, slots=True)
class QueuedTurn:
    """A queued turn.

    Attributes:
        prompt: a serialized SendRequest with the messages.
        was_held: whether the turn has waited for the results of open calls.
        is_held: whether the turn still waits for results of open calls.
    """

    turn_id: UUID
    prompt: bytes
    was_held: bool
    is_held: bool

    @property
    def messages(self) -> Sequence[Message]:
        """The messages that were sent."""
        return SendRequest.FromString(self.prompt).messages


@dataclass(frozen=True, slots=True)
class OpenTurns:
    """The turns of a session that have not ended.

    Attributes:
        running_turn: id of the running turn; None if there is none.
        last_seq: seq of the session's last message.
        count: number of running and queued turns.
        last_place: the last place in the queue; 0 if there is none.
    """

    running_turn: UUID | None
    last_seq: int
    count: int
    last_place: int


@dataclass(frozen=True, slots=True)
class OrphanedTurn:
    """A session whose turns need a process.

    Attributes:
        running_turn: id of the turn whose process is gone; None if turns are queued but none is
            running.
        is_mine: whether the calling process holds the turn, which it started by a commit that was
            not acknowledged.
        is_left: whether a process that was shut down has left the turn to others.
    """

    key: UUID
    project_id: UUID
    session_id: str
    running_turn: UUID | None
    is_mine: bool
    is_left: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """How a turn ends.

    Attributes:
        end_seq: seq of the last message that the turn appended; None = unchanged.
        last_seq: seq of its final answer; 0 if there is none.
        usage: tokens, in the order of the column; None = not reported.
        error: see errors.error_of; None if the turn is completed.
        report: how the last request differed from the stored messages; None = no request was
            created.
        partial_seq: seq of the message with the beginning of an answer; 0 if there is none.
    """

    state: TurnState
    end_seq: int | None = None
    last_seq: int = 0
    stop_reason: str = ""
    usage: Sequence[int] | None = None
    error: Mapping[str, Any] | None = None
    report: Report | None = None
    partial_seq: int = 0


def turn_parameters(turn: NewTurn, record: RequestRecord | None) -> dict[str, Any]:
    """Return the parameters of a new turn, and of the record of its request."""
    parameters = {
        "turn": turn.turn_id,
        "model": turn.model,
        "message_id": turn.message_id,
        "options": stored_options(turn.options_json),
        "timeout_ms": turn.timeout_ms,
        "keep_partial": turn.keep_partial,
        "parent_seq": turn.parent_seq,
    }
    if record:
        parameters |= {
            "request_id": record.request_id,
            "hash": record.content_hash,
            "result": record.result,
        }
    return parameters


def stored_options(options_json: str) -> str:
    """Return the column `options`: one JSON string, as jsonb does not keep the order of keys."""
    return orjson.dumps(options_json or "{}").decode()


def options_of(stored: Any) -> dict[str, Any]:
    """Return the options of the column `options`. Earlier versions stored them as an object."""
    options: dict[str, Any] = parse(stored) if isinstance(stored, str) else stored
    return options


def changes_of(report: Report | None) -> tuple[Changes | None, int]:
    """Return the changes of a request that are stored with its turn, and the number of all changes.

    None = there are none.
    """
    if not report:
        return None, 0
    first = islice(report, MAX_CHANGES)
    changes = [(change.seq, change.kind.name, storable(change.detail)) for change in first]
    return changes, len(report)
