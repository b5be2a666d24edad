"""What can go wrong, as exceptions.

SessiondError (RuntimeError)
├── NotFound
│   ├── SessionNotFound            SESSION_NOT_FOUND
│   ├── MessageNotFound            MESSAGE_NOT_FOUND
│   ├── TaskNotFound               TASK_NOT_FOUND
│   ├── BookmarkNotFound           BOOKMARK_NOT_FOUND
│   ├── TurnNotFound               TURN_NOT_FOUND
│   ├── QueueNotFound              QUEUE_NOT_FOUND
│   ├── AssetNotFound              ASSET_NOT_FOUND
│   ├── ProjectNotFound            PROJECT_NOT_FOUND
│   └── ApiKeyNotFound             API_KEY_NOT_FOUND
├── AlreadyExists
│   ├── SessionAlreadyExists       SESSION_ALREADY_EXISTS
│   ├── TaskAlreadyExists          TASK_ALREADY_EXISTS
│   ├── BookmarkAlreadyExists      BOOKMARK_ALREADY_EXISTS
│   └── ProjectAlreadyExists       PROJECT_ALREADY_EXISTS
├── Conflict                       somebody else was faster: read again, then decide
│   ├── SequenceConflict           SEQUENCE_CONFLICT
│   ├── ETagMismatch               ETAG_MISMATCH
│   └── LeaseLost                  LEASE_LOST
├── FailedPrecondition             the session is not in the state that the call needs
│   ├── SessionDestroyed           SESSION_DESTROYED
│   ├── SessionTooLarge            SESSION_TOO_LARGE
│   ├── LimitExceeded              LIMIT_EXCEEDED
│   └── ModelNotConfigured         MODEL_NOT_CONFIGURED
├── TurnFailed                     the turn ended without an answer; what was sent is kept
│   ├── ModelAccessDenied          MODEL_ACCESS_DENIED
│   ├── ModelRateLimited           MODEL_RATE_LIMITED
│   ├── ModelRequestRejected       MODEL_REQUEST_REJECTED
│   ├── ModelUnavailable           MODEL_UNAVAILABLE
│   ├── ModelTimedOut              MODEL_TIMED_OUT
│   ├── ModelAnswerInvalid         MODEL_ANSWER_INVALID
│   ├── ContextTooLarge            CONTEXT_TOO_LARGE
│   ├── TurnTimedOut               TURN_TIMED_OUT
│   ├── TurnAborted                TURN_ABORTED
│   └── TurnLost                   TURN_LOST
├── InvalidRequest                 the request itself is at fault; field_violations say where
│   ├── InvalidField               INVALID_FIELD
│   ├── InvalidJson                INVALID_JSON
│   ├── UnknownRole                UNKNOWN_ROLE
│   ├── ParentNotFound             PARENT_NOT_FOUND
│   ├── MessageTooLarge            MESSAGE_TOO_LARGE
│   ├── BatchTooLarge              BATCH_TOO_LARGE
│   ├── AssetTooLarge              ASSET_TOO_LARGE
│   ├── AssetMismatch              ASSET_MISMATCH
│   ├── RequestIdReused            REQUEST_ID_REUSED
│   ├── InvalidPageToken           INVALID_PAGE_TOKEN
│   ├── InvalidResumeToken         INVALID_RESUME_TOKEN
│   └── MalformedRequest           MALFORMED_REQUEST
├── Unauthenticated
│   ├── ApiKeyMissing              API_KEY_MISSING
│   └── ApiKeyInvalid              API_KEY_INVALID
├── PermissionDenied
│   └── AdminKeyRequired           ADMIN_KEY_REQUIRED
├── ResourceExhausted              also: an answer above the client's receive limit
│   └── Overloaded                 OVERLOADED
├── Unavailable                    tried again already, without success
│   ├── ServerUnavailable          no server answers at the target
│   ├── DatabaseUnavailable        DATABASE_UNAVAILABLE
│   ├── AssetStoreUnavailable      ASSET_STORE_UNAVAILABLE
│   ├── ServerDraining             SERVER_DRAINING
│   └── WatcherTooSlow             WATCHER_TOO_SLOW
├── DeadlineExceeded (TimeoutError) DEADLINE_EXCEEDED, by the server's clock or the client's
├── Cancelled                      the call was cancelled on its way, not by this program
├── Unimplemented                  the server does not know the call: it is older than this client, or another program
├── InternalError                  INTERNAL
├── ClientClosed                   the client was closed before the call or during it
├── PoolTimeout (TimeoutError)     no session of a SessionPool became free in time
└── PoolClosed                     the SessionPool was closed before the call or during it

The names at the right are the reasons of `sessiond.v1.ErrorReason`, whose comments say when each comes and which metadata it brings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc

__all__ = [
    "AdminKeyRequired",
    "AlreadyExists",
    "ApiKeyInvalid",
    "ApiKeyMissing",
    "ApiKeyNotFound",
    "AssetMismatch",
    "AssetNotFound",
    "AssetStoreUnavailable",
    "AssetTooLarge",
    "BatchTooLarge",
    "BookmarkAlreadyExists",
    "BookmarkNotFound",
    "Cancelled",
    "ClientClosed",
    "Conflict",
    "ContextTooLarge",
    "DatabaseUnavailable",
    "DeadlineExceeded",
    "ETagMismatch",
    "FailedPrecondition",
    "FieldViolation",
    "InternalError",
    "InvalidField",
    "InvalidJson",
    "InvalidPageToken",
    "InvalidRequest",
    "InvalidResumeToken",
    "LeaseLost",
    "LimitExceeded",
    "MalformedRequest",
    "MessageNotFound",
    "MessageTooLarge",
    "ModelAccessDenied",
    "ModelAnswerInvalid",
    "ModelNotConfigured",
    "ModelRateLimited",
    "ModelRequestRejected",
    "ModelTimedOut",
    "ModelUnavailable",
    "NotFound",
    "Overloaded",
    "ParentNotFound",
    "PermissionDenied",
    "PoolClosed",
    "PoolTimeout",
    "ProjectAlreadyExists",
    "ProjectNotFound",
    "QueueNotFound",
    "RequestIdReused",
    "ResourceExhausted",
    "SequenceConflict",
    "ServerDraining",
    "ServerUnavailable",
    "SessionAlreadyExists",
    "SessionDestroyed",
    "SessionNotFound",
    "SessionTooLarge",
    "SessiondError",
    "TaskAlreadyExists",
    "TaskNotFound",
    "TurnAborted",
    "TurnFailed",
    "TurnLost",
    "TurnNotFound",
    "TurnTimedOut",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "UnknownRole",
    "WatcherTooSlow",
]


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


class InvalidRequest(SessiondError):
    """The request itself is at fault; sent again as it is, it fails again."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_ARGUMENT"


class InvalidField(InvalidRequest):
    """Fields are missing, malformed or out of range. The client raises it too, for what it cannot send."""

    reason = "INVALID_FIELD"


class InvalidJson(InvalidRequest):
    """A message is not a JSON object, or another JSON text is not JSON."""

    reason = "INVALID_JSON"


class UnknownRole(InvalidRequest):
    """The role is missing or not one that the format knows."""

    reason = "UNKNOWN_ROLE"


class ParentNotFound(InvalidRequest):
    """parent_seq names no message."""

    reason = "PARENT_NOT_FOUND"


class MessageTooLarge(InvalidRequest):
    """A message is larger than the server takes."""

    reason = "MESSAGE_TOO_LARGE"


class BatchTooLarge(InvalidRequest):
    """A batch has too many messages or bytes; send several, or use import_messages."""

    reason = "BATCH_TOO_LARGE"


class AssetTooLarge(InvalidRequest):
    """The content is larger than the server takes."""

    reason = "ASSET_TOO_LARGE"


class AssetMismatch(InvalidRequest):
    """The content is not what the upload said that it is."""

    reason = "ASSET_MISMATCH"


class RequestIdReused(InvalidRequest):
    """The request_id was used for other content."""

    reason = "REQUEST_ID_REUSED"


class InvalidPageToken(InvalidRequest):
    """The page_token is not one, or is of a request with other filters."""

    reason = "INVALID_PAGE_TOKEN"


class InvalidResumeToken(InvalidRequest):
    """The resume_token is not one, is of a request with other fields, or its session is gone."""

    reason = "INVALID_RESUME_TOKEN"


class MalformedRequest(InvalidRequest):
    """The bytes sent are not an encoding of the request."""

    reason = "MALFORMED_REQUEST"


class Unauthenticated(SessiondError):
    """The server does not know who calls."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class ApiKeyMissing(Unauthenticated):
    """The server asks for an API key and none was sent."""

    reason = "API_KEY_MISSING"


class ApiKeyInvalid(Unauthenticated):
    """The API key is unknown, malformed or revoked."""

    reason = "API_KEY_INVALID"


class PermissionDenied(SessiondError):
    """The caller may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class AdminKeyRequired(PermissionDenied):
    """The call needs an admin key."""

    reason = "ADMIN_KEY_REQUIRED"


class ResourceExhausted(SessiondError):
    """Something is used up, at the server or on the way: e.g. an answer is above the client's receive limit."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "RESOURCE_EXHAUSTED"


class Overloaded(ResourceExhausted):
    """The server has too much to do."""

    reason = "OVERLOADED"


class Unavailable(SessiondError):
    """No answer for now. A change may or may not have happened; it is safe to repeat with its request_id."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "UNAVAILABLE"


class ServerUnavailable(Unavailable):
    """No server answers at the target, or the connection broke and could not be made again."""


class DatabaseUnavailable(Unavailable):
    """The server's database does not answer."""

    reason = "DATABASE_UNAVAILABLE"


class AssetStoreUnavailable(Unavailable):
    """The store of the assets' content does not answer."""

    reason = "ASSET_STORE_UNAVAILABLE"


class ServerDraining(Unavailable):
    """The server is shutting down."""

    reason = "SERVER_DRAINING"


class WatcherTooSlow(Unavailable):
    """Events were taken more slowly than they came. Watching goes on from the last seq that came; the client does that by itself."""

    reason = "WATCHER_TOO_SLOW"


class DeadlineExceeded(SessiondError, TimeoutError):
    """The call's timeout passed. A change may or may not have happened; it is safe to repeat with its request_id. Of a wait for a turn,
    metadata["turn_id"] names the turn.
    """

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class Cancelled(SessiondError):
    """The call was cancelled on its way, not by this program."""

    code = grpc.StatusCode.CANCELLED
    reason = "CANCELLED"


class Unimplemented(SessiondError):
    """The server does not know the call: it is older than this client, or it is another program."""

    code = grpc.StatusCode.UNIMPLEMENTED
    reason = "UNIMPLEMENTED"


class InternalError(SessiondError):
    """A fault of the server's own. Its log has more under the call_id."""

    code = grpc.StatusCode.INTERNAL
    reason = "INTERNAL"


class ClientClosed(SessiondError):
    """The client was closed before the call or during it; `start()` opens it again."""

    code = grpc.StatusCode.CANCELLED
    reason = "CLIENT_CLOSED"


class PoolTimeout(SessiondError, TimeoutError):
    """All sessions of the pool were on loan for as long as the caller would wait."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "POOL_TIMEOUT"


class PoolClosed(SessiondError):
    """The pool was closed before the call or during it."""

    code = grpc.StatusCode.CANCELLED
    reason = "POOL_CLOSED"


def invalid_field(field: str, description: str) -> InvalidField:
    """The error for a field that the client itself refuses."""
    return InvalidField(
        f"{field} {description}", field_violations=[FieldViolation(field, description)]
    )
