"""Rows of the turns table, and what is written to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sessiond.v1.conversation_service_pb2 import SendRequest
from sessiond.v1.message_pb2 import Message
from sessiond_server.core.states import TurnState
from sessiond_server.formats.report import Report


@dataclass(frozen=True, slots=True)
class TurnRow:
    """A row of the turns table, without prompt, options and holder; see db/schema.py."""

    turn_id: UUID
    state: int
    model: str
    message_id: UUID | None
    timeout_ms: int
    steers: UUID | None
    joined: UUID | None
    held_until: datetime | None
    first_seq: int
    end_seq: int
    last_seq: int
    stop_reason: str
    usage: list[int] | None
    error: dict[str, Any] | None
    changes: list[tuple[int, str, str]] | None
    change_count: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class OwnedTurn:
    """A turn, its options, and the process that runs it (None = it is queued)."""

    turn: TurnRow
    options: dict[str, Any]
    holder: UUID | None


@dataclass(frozen=True, slots=True)
class NewTurn:
    """A turn to be queued.

    Attributes:
        prompt: a serialized SendRequest with the messages.
        message_id: of the last of the messages; None if there is none.
        options_json: fields of the provider's request, as a JSON object; "" = none.
        steers: the running turn that it is to become a part of; None for a turn of its own.
        is_held: whether it waits for the results of open calls, for at most timeout_ms.
    """

    turn_id: UUID
    model: str
    prompt: bytes
    message_id: UUID | None
    options_json: str
    timeout_ms: int
    steers: UUID | None = None
    is_held: bool = False


@dataclass(frozen=True, slots=True)
class QueuedTurn:
    """A queued turn.

    Attributes:
        prompt: a serialized SendRequest with the messages.
        was_held: whether it has waited for the results of open calls.
        is_held: whether it still does.
    """

    turn_id: UUID
    prompt: bytes
    was_held: bool
    is_held: bool

    @property
    def messages(self) -> Sequence[Message]:
        """What was sent."""
        return SendRequest.FromString(self.prompt).messages


@dataclass(frozen=True, slots=True)
class OpenTurns:
    """The turns of a session that are not over.

    Attributes:
        running_turn: the running one; None if there is none.
        last_seq: the session's last message.
        count: how many are running or queued.
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
        running_turn: the turn whose process is gone; None if turns are queued and none is running.
        is_mine: whether the asking process holds the turn, and has not learned that it started it.
    """

    key: UUID
    project_id: UUID
    session_id: str
    running_turn: UUID | None
    is_mine: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """How a turn ends.

    Attributes:
        end_seq: the last message that it appended; None = unchanged.
        last_seq: its final answer; 0 if there is none.
        usage: tokens, in the order of the column; None = not reported.
        error: see errors.error_of; None if it is completed.
        report: what the last request did not contain as it is stored; None = it was not made.
    """

    state: TurnState
    end_seq: int | None = None
    last_seq: int = 0
    stop_reason: str = ""
    usage: Sequence[int] | None = None
    error: Mapping[str, Any] | None = None
    report: Report | None = None
