"""What a Watch call asks for."""

from dataclasses import dataclass

from sessiond_server.core.errors import invalid
from sessiond_server.core.validation import check_session_id

DEFAULT_HEARTBEAT_MS, MIN_HEARTBEAT_MS, MAX_HEARTBEAT_MS = 15_000, 1_000, 300_000


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """A Watch request.

    Attributes:
        session_id: the session; "" for all sessions of the project.
        after_seq: the message to begin after; None for new messages only. Not allowed for a
            project.
        heartbeat_ms: interval between heartbeats while nothing happens, in milliseconds; None =
            DEFAULT_HEARTBEAT_MS.
        after_epoch: epoch of after_seq; None = the session's current epoch.
    """

    session_id: str
    after_seq: int | None = None
    heartbeat_ms: int | None = None
    after_epoch: int | None = None

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
                raise invalid("after_epoch", "is negative; 0 stands for a session never rewound")
        if self.session_id:
            check_session_id(self.session_id)
            if self.after_seq is not None and self.after_seq < 0:
                raise invalid("after_seq", "is negative; 0 stands for the beginning")
        elif self.after_seq is not None:
            raise invalid("after_seq", "is only valid with session_id")
        return heartbeat_ms / 1000
