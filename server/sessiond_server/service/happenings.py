"""What is told of sessions while it happens: that there are new messages, and what became of the session itself."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from sessiond_server.store.burial import Buried
from sessiond_server.store.sessions import SessionRow

CREATED = "session.created"
UPDATED = "session.updated"
RESUMED = "session.resumed"
DESTROYED = "session.destroyed"
DELETED = "session.deleted"
EXPIRED = "session.expired"

_EPOCH_2000 = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Happening:
    """A lifecycle event.

    Args:
        log: tells the session from others of the same id, before it or after it.
        time_us: microseconds since 2000-01-01 UTC, as PostgreSQL counts.
    """

    type: str
    project_id: UUID
    session_id: str
    log: UUID
    time_us: int


class Hints(Protocol):
    """Takes what has just been committed. It answers at once, and nobody's success depends on it: the database is the truth."""

    def appended(self, key: UUID) -> None:
        """The session has new messages."""

    def happened(self, happening: Happening) -> None:
        """Something became of a session."""


def happening(type_: str, session: SessionRow | Buried) -> Happening:
    """That something happened to a session, just now."""
    since = datetime.now(UTC) - _EPOCH_2000
    now_us = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return Happening(type_, session.project_id, session.session_id, session.log, now_us)
