"""Errors about what a call names: it is missing, there already, or in another state."""

import grpc

from sessiond.errors._base import SessiondError


class NotFound(SessiondError):
    """What the call names does not exist, or belongs to another project."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "NOT_FOUND"


class SessionNotFound(NotFound):
    """The project has no such session, or it is deleted or expired."""

    reason = "SESSION_NOT_FOUND"


class MessageNotFound(NotFound):
    """The session has no message of this seq."""

    reason = "MESSAGE_NOT_FOUND"


class TaskNotFound(NotFound):
    """The session has no such task."""

    reason = "TASK_NOT_FOUND"


class BookmarkNotFound(NotFound):
    """The session has no bookmark of this name."""

    reason = "BOOKMARK_NOT_FOUND"


class TurnNotFound(NotFound):
    """The session has no such turn."""

    reason = "TURN_NOT_FOUND"


class QueueNotFound(NotFound):
    """The project has no such queue; the first lease makes it."""

    reason = "QUEUE_NOT_FOUND"


class AssetNotFound(NotFound):
    """The project has no such asset; upload it first."""

    reason = "ASSET_NOT_FOUND"


class ProjectNotFound(NotFound):
    """There is no such project."""

    reason = "PROJECT_NOT_FOUND"


class ApiKeyNotFound(NotFound):
    """There is no such key."""

    reason = "API_KEY_NOT_FOUND"


class AlreadyExists(SessiondError):
    """What the call would create is there already."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason = "ALREADY_EXISTS"


class SessionAlreadyExists(AlreadyExists):
    """The project has a session of this id."""

    reason = "SESSION_ALREADY_EXISTS"


class TaskAlreadyExists(AlreadyExists):
    """The session has a task of this id."""

    reason = "TASK_ALREADY_EXISTS"


class BookmarkAlreadyExists(AlreadyExists):
    """The session has a bookmark of this name."""

    reason = "BOOKMARK_ALREADY_EXISTS"


class ProjectAlreadyExists(AlreadyExists):
    """There is a project of this name."""

    reason = "PROJECT_ALREADY_EXISTS"


class Conflict(SessiondError):
    """Somebody else changed the session first, and nothing was written."""

    code = grpc.StatusCode.ABORTED
    reason = "ABORTED"


class SequenceConflict(Conflict):
    """expected_last_seq is not the session's last_seq."""

    reason = "SEQUENCE_CONFLICT"

    @property
    def last_seq(self) -> int | None:
        """The session's last_seq: read on from there. None where the server did not say."""
        value = self.metadata.get("last_seq", "")
        return int(value) if value.isdecimal() else None


class ETagMismatch(Conflict):
    """The etag is not the session's."""

    reason = "ETAG_MISMATCH"

    @property
    def etag(self) -> str | None:
        """The session's current etag. None where the server did not say."""
        return self.metadata.get("etag")


class LeaseLost(Conflict):
    """The lease ran out and another worker has its messages, or it was acknowledged already, or the session is gone."""

    reason = "LEASE_LOST"


class FailedPrecondition(SessiondError):
    """The session is not in the state that the call needs."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "FAILED_PRECONDITION"


class SessionDestroyed(FailedPrecondition):
    """The session is destroyed; resume it to append."""

    reason = "SESSION_DESTROYED"


class SessionTooLarge(FailedPrecondition):
    """The session is larger than the operator lets it be copied."""

    reason = "SESSION_TOO_LARGE"


class LimitExceeded(FailedPrecondition):
    """There are as many as there may be."""

    reason = "LIMIT_EXCEEDED"


class ModelNotConfigured(FailedPrecondition):
    """No provider in the server's settings serves the model, or the provider has no key, or its package is not installed."""

    reason = "MODEL_NOT_CONFIGURED"
