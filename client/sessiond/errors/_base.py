"""The base of all exceptions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One fault of a request."""

    field: str
    """Path of the field, e.g. "messages[3].json"."""
    description: str
    """What is wrong with it."""


class SessiondError(RuntimeError):
    """The base of everything that this package raises about a call. `str(error)` begins with the reason.

    Attributes:
        message: what happened, in words.
        code: the gRPC status code.
        reason: name of an ErrorReason, e.g. "SESSION_NOT_FOUND"; where the server gave none, the name of the code.
        metadata: the reason's facts, e.g. {"session_id": "..."}; ErrorReason names the keys. Empty where the server gave none.
        field_violations: the faults of the request's fields. Empty for most reasons.
        retry_after: how long the server asks to wait before the next try. Unit: seconds. None = it did not say.
    """

    code: grpc.StatusCode = grpc.StatusCode.UNKNOWN
    reason: str = "UNKNOWN"

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
        """The name of the call in the server's log. Empty where the error is not the server's."""
        return self.metadata.get("call_id", "")

    def __str__(self) -> str:
        text = f"{self.reason}: {self.message}" if self.message else self.reason
        unsaid = [
            f"{v.field}: {v.description}"
            for v in self.field_violations
            if v.description not in self.message
        ]
        return "; ".join([text, *unsaid])
