"""Events of sessions and turns, and the interface for publishing them."""

from collections.abc import Mapping, Sequence
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
REWOUND = "session.rewound"
LIFECYCLE = frozenset({CREATED, UPDATED, RESUMED, DESTROYED, DELETED, EXPIRED})

TURN_START = "assistant.turn_start"
RECREATED = "session.recreated"
MESSAGE_DELTA = "assistant.message_delta"
MESSAGE_PARTIAL = "assistant.message_partial"
REASONING_DELTA = "assistant.reasoning_delta"
TURN_END = "assistant.turn_end"
ERROR = "session.error"
IDLE = "session.idle"
DELTAS = frozenset({MESSAGE_DELTA, REASONING_DELTA})
DELTA_CONTENT = "delta_content"
OFFSET = "offset"
ANSWERED_SEQ = "answered_seq"

# A client may be waiting for these events, so they are the last to be dropped on overload.
ENDINGS = frozenset({TURN_END, ERROR, IDLE, DESTROYED, DELETED, EXPIRED})


@dataclass(frozen=True, slots=True)
class Event:
    """An ephemeral event.

    Attributes:
        type: one of the types above.
        project_id: the session's project.
        session_id: the session.
        log: the session's log, which distinguishes the session from others with its id.
        time_us: time of the event in PostgreSQL's own form: microseconds since 2000-01-01 UTC.
        after_seq: seq of the session's last message when the event happened. If it is None, the
            event follows all messages that are stored when it is published.
        data: the event's payload, a JSON object.
        epoch: the session's epoch, to which after_seq belongs; for REWOUND, the new epoch.
    """

    type: str
    project_id: UUID
    session_id: str
    log: UUID
    time_us: int
    after_seq: int | None = None
    data: Mapping[str, Any] | None = None
    epoch: int = 0

    @property
    def is_delta(self) -> bool:
        """Whether the event holds a piece of a message, which the stored message later replaces."""
        return self.type in DELTAS

    @property
    def is_ending(self) -> bool:
        """Whether the event marks the end of a turn, of a session's work, or of a session."""
        return self.type in ENDINGS


@dataclass(frozen=True, slots=True)
class StoredMessages:
    """Consecutive messages of one commit.

    Attributes:
        message_log: the log that they are stored in.
        epoch: the session's epoch, to which their seqs belong.
        rows: (seq, created_us, body) of each message; see messages.store.history.
    """

    message_log: UUID
    epoch: int
    rows: Sequence[tuple[int, int, bytes]]


class EventPublisher(Protocol):
    """Publishes events about changes that have just been committed.

    Methods return at once and never fail. Correctness does not depend on them, only on the
    database.
    """

    def messages_appended(self, key: UUID) -> None:
        """Publish that the session with this key has new messages."""

    def messages_stored(self, key: UUID, messages: StoredMessages) -> None:
        """Publish new messages. Call this within hold_delivery.

        Unlike after messages_appended(), the watchers of this process usually need not read the
        messages from the database.
        """

    def publish(self, event: Event) -> None:
        """Publish an ephemeral event."""

    def hold_delivery(self, key: UUID) -> AbstractContextManager[None]:
        """Hold back the delivery of a session's messages during the block.

        The block commits a change, and publishes the events of the change. Watchers in this process
        therefore receive the events in the order of the commit.
        """
