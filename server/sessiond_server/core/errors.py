"""Faults: errors that a rule raises and a caller receives."""

from collections.abc import Mapping


class Fault(Exception):
    """A refusal of a request; rpc/errors.py turns it into a gRPC status.

    Attributes:
        reason: a value of ErrorReason without its prefix, e.g. "SESSION_NOT_FOUND".
        message: one sentence for a person, which says what to do about the problem if possible.
        metadata: all variable parts of the message.
        fields: descriptions of invalid request fields, by field path.
        retry_after_s: delay after which a retry may succeed, in seconds; None if no delay is known.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, object] | None = None,
        fields: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = {key: str(value) for key, value in (metadata or {}).items()}
        self.fields = dict(fields or {})
        self.retry_after_s = retry_after_s


def invalid(
    field: str, description: str, *, reason: str = "INVALID_FIELD", **metadata: object
) -> Fault:
    """Return a fault about one field.

    Args:
        field: path of the field in the request.
        description: the problem, worded to follow the field's path, e.g. "is negative".
        reason: see Fault.
        metadata: see Fault.
    """
    return Fault(reason, f"{field}: {description}", metadata=metadata, fields={field: description})


def session_not_found(session_id: str) -> Fault:
    """Return the fault for a session that does not exist in the caller's project."""
    return Fault(
        "SESSION_NOT_FOUND",
        f"there is no session {session_id!r}",
        metadata={"session_id": session_id},
    )


def session_destroyed(session_id: str, purpose: str) -> Fault:
    """Return the fault for a change to a destroyed session.

    Args:
        session_id: id of the session.
        purpose: the intended action, worded to follow "resume it to".
    """
    return Fault(
        "SESSION_DESTROYED",
        f"session {session_id!r} is destroyed: resume it (ResumeSession) to {purpose}",
        metadata={"session_id": session_id},
    )


def history_rewound(session_id: str, epoch: int, last_seq: int, problem: str) -> Fault:
    """Return the fault for a call that is about messages of an earlier epoch.

    Args:
        session_id: id of the session.
        epoch: the session's current epoch.
        last_seq: seq of the session's newest message.
        problem: the consequence for the call, worded to follow "was rewound: ".
    """
    return Fault(
        "HISTORY_REWOUND",
        f"session {session_id!r} was rewound: {problem}; the session is in epoch {epoch}, "
        f"at seq {last_seq}: read it again",
        metadata={"session_id": session_id, "epoch": epoch, "last_seq": last_seq},
    )


def etag_mismatch(what: str, session_id: str, current: str) -> Fault:
    """Return the fault for a change whose expected etag is not the current one.

    Args:
        what: the object to be changed, e.g. "session 'a'" or "task 'b'".
        session_id: id of the session that is changed, or that contains the object.
        current: current etag of the object.
    """
    return Fault(
        "ETAG_MISMATCH",
        f"{what} was changed by another caller; read it again, then decide",
        metadata={"session_id": session_id, "etag": current},
        fields={"etag": f"is not the current one, {current}"},
    )


def request_id_reused(request_id: str) -> Fault:
    """Return the fault for a request_id that was recorded with other content."""
    return invalid(
        "request_id",
        "was used before for a request with other content; use a new request_id for each request",
        reason="REQUEST_ID_REUSED",
        request_id=request_id,
    )
