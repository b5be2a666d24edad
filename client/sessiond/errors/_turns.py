"""Errors of turns that end without an answer."""

import grpc

from sessiond.errors._base import SessiondError


class TurnFailed(SessiondError, code=grpc.StatusCode.ABORTED, reason="TURN_FAILED"):
    """The turn ended without an answer.

    The messages that were sent are kept. A send without a message lets the model continue from
    there, in a new turn.
    """

    @property
    def turn_id(self) -> str | None:
        """The turn's id. None = not reported."""
        return self.metadata.get("turn_id")


class ModelAccessDenied(
    TurnFailed, code=grpc.StatusCode.FAILED_PRECONDITION, reason="MODEL_ACCESS_DENIED"
):
    """The model's provider refused the server's key."""


class ModelRateLimited(
    TurnFailed, code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="MODEL_RATE_LIMITED"
):
    """The model's provider limits the rate, or its quota is used up.

    Another send starts a new turn.
    """


class ModelRequestRejected(
    TurnFailed, code=grpc.StatusCode.FAILED_PRECONDITION, reason="MODEL_REQUEST_REJECTED"
):
    """The model's provider rejected the request.

    For example, it does not know the model, the history is too long, or an option is invalid.
    """


class ModelUnavailable(TurnFailed, reason="MODEL_UNAVAILABLE"):
    """The model's provider failed, is unreachable, or broke off its answer."""


class ModelTimedOut(TurnFailed, reason="MODEL_TIMED_OUT"):
    """The model sent nothing for too long."""


class ModelAnswerInvalid(TurnFailed, reason="MODEL_ANSWER_INVALID"):
    """The model's answer cannot be stored."""


class ContextTooLarge(
    TurnFailed, code=grpc.StatusCode.FAILED_PRECONDITION, reason="CONTEXT_TOO_LARGE"
):
    """The history exceeds the size that the server sends to a model."""


class FormatUnreadable(
    TurnFailed, code=grpc.StatusCode.FAILED_PRECONDITION, reason="FORMAT_UNREADABLE"
):
    """The history has a message of the format "other" that the server cannot give to a model."""


class TurnTimedOut(TurnFailed, reason="TURN_TIMED_OUT"):
    """The turn ran longer than its turn_timeout."""


class TurnAborted(TurnFailed, reason="TURN_ABORTED"):
    """The turn was aborted, or its session was destroyed."""


class TurnLost(TurnFailed, reason="TURN_LOST"):
    """The server that ran the turn crashed or was shut down."""
