"""Errors about resources: missing, already existing, or in the wrong state."""

import grpc

from sessiond.errors._base import SessiondError, number_in


class NotFound(SessiondError, code=grpc.StatusCode.NOT_FOUND):
    """The resource does not exist, or belongs to another project."""


class SessionNotFound(NotFound, reason="SESSION_NOT_FOUND"):
    """The project has no such session; it may have been deleted or have expired."""


class MessageNotFound(NotFound, reason="MESSAGE_NOT_FOUND"):
    """The session has no message with this seq or message_id."""


class TaskNotFound(NotFound, reason="TASK_NOT_FOUND"):
    """The session has no such task."""


class BookmarkNotFound(NotFound, reason="BOOKMARK_NOT_FOUND"):
    """The session has no bookmark with this name."""


class TurnNotFound(NotFound, reason="TURN_NOT_FOUND"):
    """The session has no such turn."""


class QueueNotFound(NotFound, reason="QUEUE_NOT_FOUND"):
    """The project has no such queue; the first lease creates it."""


class AssetNotFound(NotFound, reason="ASSET_NOT_FOUND"):
    """The project has no such asset; upload it first."""


class ProjectNotFound(NotFound, reason="PROJECT_NOT_FOUND"):
    """No project has this name."""


class ApiKeyNotFound(NotFound, reason="API_KEY_NOT_FOUND"):
    """No API key has this key_id."""


class AlreadyExists(SessiondError, code=grpc.StatusCode.ALREADY_EXISTS):
    """The resource to create exists already."""


class SessionAlreadyExists(AlreadyExists, reason="SESSION_ALREADY_EXISTS"):
    """The project already has a session with this id."""


class MessageAlreadyExists(AlreadyExists, reason="MESSAGE_ALREADY_EXISTS"):
    """The session already has a message with this message_id, or the request has it twice."""


class TaskAlreadyExists(AlreadyExists, reason="TASK_ALREADY_EXISTS"):
    """The session already has a task with this id."""


class BookmarkAlreadyExists(AlreadyExists, reason="BOOKMARK_ALREADY_EXISTS"):
    """The session already has a bookmark with this name."""


class ProjectAlreadyExists(AlreadyExists, reason="PROJECT_ALREADY_EXISTS"):
    """A project with this name exists already."""


class Conflict(SessiondError, code=grpc.StatusCode.ABORTED):
    """Another caller changed the session first; nothing was written."""


class SequenceConflict(Conflict, reason="SEQUENCE_CONFLICT"):
    """expected_last_seq differs from the session's last_seq."""

    @property
    def last_seq(self) -> int | None:
        """The session's last_seq, to continue reading after. None = not reported."""
        return number_in(self.metadata, "last_seq")


class HistoryRewound(Conflict, reason="HISTORY_REWOUND"):
    """The session was rewound, so its history is not what the caller expects.

    Seqs may name other messages than before, or messages that were to be read are gone.
    """

    @property
    def epoch(self) -> int | None:
        """The session's epoch. None = not reported."""
        return number_in(self.metadata, "epoch")

    @property
    def last_seq(self) -> int | None:
        """The session's last_seq. None = not reported."""
        return number_in(self.metadata, "last_seq")


class ETagMismatch(Conflict, reason="ETAG_MISMATCH"):
    """The etag differs from the current one."""

    @property
    def etag(self) -> str | None:
        """The current etag. None = not reported."""
        return self.metadata.get("etag")


class LeaseLost(Conflict, reason="LEASE_LOST"):
    """The lease is no longer held.

    It expired and another worker leased its messages, it was already acknowledged, or the session
    is gone.
    """


class FailedPrecondition(SessiondError, code=grpc.StatusCode.FAILED_PRECONDITION):
    """The session's state does not allow the call."""


class SessionDestroyed(FailedPrecondition, reason="SESSION_DESTROYED"):
    """The session is destroyed; resume it to append."""


class SessionTooLarge(FailedPrecondition, reason="SESSION_TOO_LARGE"):
    """The session exceeds the size up to which the server copies sessions."""


class TurnRunning(FailedPrecondition, reason="TURN_RUNNING"):
    """The session runs a turn: wait for its end, abort it, or pass abort_turn."""


class LimitExceeded(FailedPrecondition, reason="LIMIT_EXCEEDED"):
    """The maximum number of these resources is reached."""


class ProjectBeingDeleted(FailedPrecondition, reason="PROJECT_BEING_DELETED"):
    """The project of this name was deleted, and its contents are still being removed."""


class ModelNotConfigured(FailedPrecondition, reason="MODEL_NOT_CONFIGURED"):
    """No provider can serve the model.

    The server's settings name none for it, the provider has no key, or its package is not
    installed.
    """
