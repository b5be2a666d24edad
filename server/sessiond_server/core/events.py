"""What is told of sessions while it happens: that there are new messages, what became of the session itself, what happens in its turns."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

CREATED = "session.created"
UPDATED = "session.updated"
RESUMED = "session.resumed"
DESTROYED = "session.destroyed"
DELETED = "session.deleted"
EXPIRED = "session.expired"
LIFECYCLE = frozenset({CREATED, UPDATED, RESUMED, DESTROYED, DELETED, EXPIRED})

TURN_START = "assistant.turn_start"
MESSAGE_DELTA = "assistant.message_delta"
REASONING_DELTA = "assistant.reasoning_delta"
TURN_END = "assistant.turn_end"
ERROR = "session.error"
IDLE = "session.idle"
DELTAS = frozenset({MESSAGE_DELTA, REASONING_DELTA})
DELTA_CONTENT = "delta_content"


@dataclass(frozen=True, slots=True)
class Event:
    """An ephemeral event.

    Args:
        log: tells the session from others of the same id, before it or after it.
        time_us: microseconds since 2000-01-01 UTC, as PostgreSQL counts.
        after_seq: the last message that was there when it happened. None = not known: it comes behind what is stored by now.
        data: what there is to say, as JSON has it.
    """

    type: str
    project_id: UUID
    session_id: str
    log: UUID
    time_us: int
    after_seq: int | None = None
    data: Mapping[str, Any] | None = None

    @property
    def is_delta(self) -> bool:
        """Whether it adds to what will come as a message: once that is there, it says nothing new."""
        return self.type in DELTAS


class EventPublisher(Protocol):
    """Takes what has just been committed. It answers at once, and nobody's success depends on it: the database is the truth."""

    def messages_appended(self, key: UUID) -> None:
        """The session has new messages."""

    def publish(self, event: Event) -> None:
        """Something became of a session."""

    def hold_delivery(self, key: UUID) -> AbstractContextManager[None]:
        """Around a commit and what is told of it: meanwhile no watcher of this process is handed messages of the session, so that what
        is told takes its place among those that were committed with it.
        """
