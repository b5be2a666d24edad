"""Faults: errors that a rule raises and a caller receives."""

from collections.abc import Mapping


class Fault(Exception):
    """A request is refused; rpc/errors.py turns it into a gRPC status.

    Attributes:
        reason: a value of ErrorReason without its prefix, e.g. "SESSION_NOT_FOUND".
        message: one sentence for a person, which says what to do if anything can be done.
        metadata: every part of the message that varies.
        fields: what is wrong with fields of the request, by field path.
        retry_after_s: when to try again, if that may help. Unit: seconds.
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
    """Returns a fault of one field.

    Args:
        field: its path in the request.
        description: what is wrong with it, continuing "FIELD ...".
        reason: see Fault.
        metadata: see Fault.
    """
    return Fault(reason, f"{field}: {description}", metadata=metadata, fields={field: description})


def session_not_found(session_id: str) -> Fault:
    """Returns the fault of a session_id that the caller's project does not have."""
    return Fault(
        "SESSION_NOT_FOUND",
        f"there is no session {session_id!r}",
        metadata={"session_id": session_id},
    )


def session_destroyed(session_id: str, purpose: str) -> Fault:
    """Returns the fault of a change that a destroyed session refuses.

    Args:
        session_id: the session.
        purpose: what the caller wants to do, continuing "resume it to ...".
    """
    return Fault(
        "SESSION_DESTROYED",
        f"session {session_id!r} is destroyed: resume it (ResumeSession) to {purpose}",
        metadata={"session_id": session_id},
    )


def etag_mismatch(what: str, session_id: str, current: str) -> Fault:
    """Returns the fault of a change that expected another etag.

    Args:
        what: what the change is of, e.g. "session 'a'" or "task 'b'".
        session_id: that session, or the session that it belongs to.
        current: its present etag.
    """
    return Fault(
        "ETAG_MISMATCH",
        f"{what} was changed by somebody else; read it again, then decide",
        metadata={"session_id": session_id, "etag": current},
        fields={"etag": f"is not the current one, {current}"},
    )


def request_id_reused(request_id: str) -> Fault:
    """Returns the fault of a request_id that is recorded with other content."""
    return invalid(
        "request_id",
        "was used before for a request with other content; use a new one for each request",
        reason="REQUEST_ID_REUSED",
        request_id=request_id,
    )
