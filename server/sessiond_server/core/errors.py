"""Faults: what a rule refuses, and why. rpc turns them into statuses; the reasons are those of error_reason.proto."""

from collections.abc import Mapping


class Fault(Exception):
    """A request that is refused.

    Args:
        reason: a name of ErrorReason without its prefix, e.g. "SESSION_NOT_FOUND".
        message: one sentence for a person, which says what to do where there is something to do.
        metadata: every part of the message that varies.
        fields: field path -> what is wrong with it.
        retry_after_s: set where trying again later may help.
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
    """A fault of one field: its path in the request, and what is wrong with it."""
    return Fault(reason, f"{field}: {description}", metadata=metadata, fields={field: description})


def session_not_found(session_id: str) -> Fault:
    return Fault(
        "SESSION_NOT_FOUND",
        f"there is no session {session_id!r}",
        metadata={"session_id": session_id},
    )


def request_id_reused(request_id: str) -> Fault:
    return invalid(
        "request_id",
        "was used before for a request with other content; use a new one for each request",
        reason="REQUEST_ID_REUSED",
        request_id=request_id,
    )
