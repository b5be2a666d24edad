"""The options of a Watch call."""

from dataclasses import dataclass
from uuid import UUID

from sessiond_server.core.errors import invalid
from sessiond_server.core.ids import is_incarnation
from sessiond_server.core.validation import check_incarnation, check_session_id
from sessiond_server.messages.store.history import LogHead

DEFAULT_HEARTBEAT_MS, MIN_HEARTBEAT_MS, MAX_HEARTBEAT_MS = 15_000, 1_000, 300_000


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """A Watch request.

    Attributes:
        session_id: the session; "" for all sessions of the project.
        after_seq: seq of the message after which the stream begins; None = new messages only. Not
            allowed for a project.
        heartbeat_ms: interval between heartbeats while nothing happens, in milliseconds; None =
            DEFAULT_HEARTBEAT_MS.
        after_epoch: epoch of after_seq; None = the session's current epoch.
        incarnation: an incarnation or an etag of the session to watch; "" = any session with the
            id.
        follow_recreated: after the session was deleted, watch the next session with its id.
    """

    session_id: str
    after_seq: int | None = None
    heartbeat_ms: int | None = None
    after_epoch: int | None = None
    incarnation: str = ""
    follow_recreated: bool = False

    def admits(self, log: UUID) -> bool:
        """Return whether the stream may watch the session that has this log."""
        return is_incarnation(self.incarnation, log)

    def checked_heartbeat_s(self) -> float:
        """Check the request, and return the interval between heartbeats in seconds.

        Raises:
            Fault: INVALID_FIELD if a value is invalid.
        """
        heartbeat_ms = DEFAULT_HEARTBEAT_MS if self.heartbeat_ms is None else self.heartbeat_ms
        if not MIN_HEARTBEAT_MS <= heartbeat_ms <= MAX_HEARTBEAT_MS:
            raise invalid(
                "heartbeat_interval",
                f"is {heartbeat_ms} ms; from 1 second to 5 minutes are allowed",
            )
        if self.after_epoch is not None:
            if self.after_seq is None:
                raise invalid("after_epoch", "is only valid with after_seq")
            if self.after_epoch < 0:
                raise invalid("after_epoch", "is negative; 0 = a session that was never rewound")
        if not self.session_id:
            for name in ("incarnation", "follow_recreated"):
                if getattr(self, name):
                    raise invalid(name, "is only valid with session_id")
        check_incarnation(self.incarnation)
        if self.session_id:
            check_session_id(self.session_id)
            if self.after_seq is not None and self.after_seq < 0:
                raise invalid("after_seq", "is negative; 0 = the beginning")
        elif self.after_seq is not None:
            raise invalid("after_seq", "is only valid with session_id")
        return heartbeat_ms / 1000


def check_place(head: LogHead, after_seq: int | None, epoch: int) -> None:
    """Check the epoch and the seq after which a watcher begins.

    Raises:
        Fault: INVALID_FIELD if the epoch is later than the session's, or if it is the session's
            epoch and the seq is after the last message.
    """
    if epoch > head.epoch:
        raise invalid(
            "after_epoch",
            f"is {epoch}, but the session is in epoch {head.epoch}",
            epoch=head.epoch,
            last_seq=head.last_seq,
        )
    if after_seq is not None and epoch == head.epoch and after_seq > head.last_seq:
        raise invalid(
            "after_seq",
            f"is {after_seq}, but the session is at seq {head.last_seq}",
            epoch=head.epoch,
            last_seq=head.last_seq,
        )
