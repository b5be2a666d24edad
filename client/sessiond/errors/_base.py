"""The base class of all exceptions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One invalid field of a request."""

    field: str
    """Path of the field, e.g. "messages[3].json"."""
    description: str
    """What is wrong with it."""


class SessiondError(RuntimeError):
    """The base of all errors that a call raises. `str(error)` begins with the reason.

    Attributes:
        message: what happened, as text.
        code: the gRPC status code.
        reason: name of an ErrorReason, e.g. "SESSION_NOT_FOUND". Default: the name of the code.
        metadata: details of the reason, e.g. {"session_id": "..."}; ErrorReason lists the keys.
            Empty = the server sent none.
        field_violations: the invalid fields of the request. Empty for most reasons.
        retry_after: how long the server asks to wait before a retry, in seconds. None = it does
            not ask.
    """

    code: grpc.StatusCode = grpc.StatusCode.UNKNOWN
    reason: str = "UNKNOWN"

    def __init_subclass__(
        cls, *, code: grpc.StatusCode | None = None, reason: str | None = None
    ) -> None:
        """Set the class's code and reason. Default: those of the base.

        If only a code is given, the name of the code is the reason.
        """
        super().__init_subclass__()
        if code is not None:
            cls.code, cls.reason = code, code.name
        if reason is not None:
            cls.reason = reason

    def __init__(
        self,
        message: str = "",
        *,
        code: grpc.StatusCode | None = None,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        field_violations: Sequence[FieldViolation] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        if reason is not None:
            self.reason = reason
        self.metadata = dict(metadata or {})
        self.field_violations = list(field_violations)
        self.retry_after = retry_after

    @property
    def call_id(self) -> str:
        """The call's id in the server's log. Empty = the server did not raise the error."""
        return self.metadata.get("call_id", "")

    def __str__(self) -> str:
        text = f"{self.reason}: {self.message}" if self.message else self.reason
        unsaid = [
            f"{v.field}: {v.description}"
            for v in self.field_violations
            if v.description not in self.message
        ]
        return "; ".join([text, *unsaid])


def number_in(metadata: Mapping[str, str], name: str) -> int | None:
    """Return a number of an error's metadata; None if there is none."""
    value = metadata.get(name, "")
    return int(value) if value.isdecimal() else None
