"""Errors of turns that end without an answer."""

import grpc

from sessiond.errors._base import SessiondError


class TurnFailed(SessiondError):
    """The turn ended without an answer. What was sent is kept: sending nothing more has the model go on from there, in a new turn."""

    code = grpc.StatusCode.ABORTED
    reason = "TURN_FAILED"

    @property
    def turn_id(self) -> str | None:
        """The turn. None where the server did not say."""
        return self.metadata.get("turn_id")


class ModelAccessDenied(TurnFailed):
    """The model's provider refused the server's key."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "MODEL_ACCESS_DENIED"


class ModelRateLimited(TurnFailed):
    """The model's provider limits the rate, or the quota is used up. Sent again, it is a new turn."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "MODEL_RATE_LIMITED"


class ModelRequestRejected(TurnFailed):
    """The model's provider does not take the request: the model is unknown to it, the history is too long, an option is wrong."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "MODEL_REQUEST_REJECTED"


class ModelUnavailable(TurnFailed):
    """The model's provider failed, cannot be reached, or broke off."""

    reason = "MODEL_UNAVAILABLE"


class ModelTimedOut(TurnFailed):
    """The model was silent for too long."""

    reason = "MODEL_TIMED_OUT"


class ModelAnswerInvalid(TurnFailed):
    """The model's answer cannot be stored."""

    reason = "MODEL_ANSWER_INVALID"


class ContextTooLarge(TurnFailed):
    """The history is larger than the server sends to a model."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "CONTEXT_TOO_LARGE"


class TurnTimedOut(TurnFailed):
    """The turn ran for longer than its turn_timeout."""

    reason = "TURN_TIMED_OUT"


class TurnAborted(TurnFailed):
    """The turn was ended by abort, or because its session was destroyed."""

    reason = "TURN_ABORTED"


class TurnLost(TurnFailed):
    """The server that ran the turn died or was shut down."""

    reason = "TURN_LOST"
