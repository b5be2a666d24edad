"""The exceptions of the client.

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
│   ├── MessageAlreadyExists       MESSAGE_ALREADY_EXISTS
│   ├── TaskAlreadyExists          TASK_ALREADY_EXISTS
│   ├── BookmarkAlreadyExists      BOOKMARK_ALREADY_EXISTS
│   └── ProjectAlreadyExists       PROJECT_ALREADY_EXISTS
├── Conflict                       another caller changed it first: read again
│   ├── SequenceConflict           SEQUENCE_CONFLICT
│   ├── HistoryRewound             HISTORY_REWOUND
│   ├── ETagMismatch               ETAG_MISMATCH
│   └── LeaseLost                  LEASE_LOST
├── FailedPrecondition             the session's state does not allow the call
│   ├── SessionDestroyed           SESSION_DESTROYED
│   ├── SessionTooLarge            SESSION_TOO_LARGE
│   ├── LimitExceeded              LIMIT_EXCEEDED
│   ├── ProjectBeingDeleted        PROJECT_BEING_DELETED
│   ├── TurnRunning                TURN_RUNNING
│   └── ModelNotConfigured         MODEL_NOT_CONFIGURED
├── TurnFailed                     the turn ended without an answer
│   ├── ModelAccessDenied          MODEL_ACCESS_DENIED
│   ├── ModelRateLimited           MODEL_RATE_LIMITED
│   ├── ModelRequestRejected       MODEL_REQUEST_REJECTED
│   ├── ModelUnavailable           MODEL_UNAVAILABLE
│   ├── ModelTimedOut              MODEL_TIMED_OUT
│   ├── ModelAnswerInvalid         MODEL_ANSWER_INVALID
│   ├── ContextTooLarge            CONTEXT_TOO_LARGE
│   ├── FormatUnreadable           FORMAT_UNREADABLE
│   ├── TurnTimedOut               TURN_TIMED_OUT
│   ├── TurnAborted                TURN_ABORTED
│   └── TurnLost                   TURN_LOST
├── InvalidRequest                 field_violations name the fields
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
├── ResourceExhausted              also a response above the client's limit
│   ├── ProjectLimitReached        a limit of the project
│   │   ├── RateLimited            RATE_LIMITED
│   │   └── QuotaExceeded          QUOTA_EXCEEDED
│   └── Overloaded                 OVERLOADED
│       └── SessionBusy            SESSION_BUSY
├── Unavailable                    raised after the client's retries
│   ├── ServerUnavailable          the target does not respond
│   ├── DatabaseUnavailable        DATABASE_UNAVAILABLE
│   ├── AssetStoreUnavailable      ASSET_STORE_UNAVAILABLE
│   ├── ServerDraining             SERVER_DRAINING
│   └── WatcherTooSlow             WATCHER_TOO_SLOW
├── DeadlineExceeded (TimeoutError) DEADLINE_EXCEEDED
├── Cancelled                      cancelled by a proxy or the server
├── Unimplemented                  the server does not have the call
├── InternalError                  INTERNAL
├── ClientClosed                   the client was closed before or during the call
├── ClientForked                   the process was forked while an AsyncClient was open
├── PoolTimeout (TimeoutError)     no session of a SessionPool became free in time
└── PoolClosed                     the SessionPool was closed before or during the call

The names in capitals are reasons of `sessiond.v1.ErrorReason`, whose comments say when the server
raises each and which metadata it carries.
"""

from sessiond.errors._base import FieldViolation, SessiondError
from sessiond.errors._requests import (
    AssetMismatch,
    AssetTooLarge,
    BatchTooLarge,
    InvalidField,
    InvalidJson,
    InvalidPageToken,
    InvalidRequest,
    InvalidResumeToken,
    MalformedRequest,
    MessageTooLarge,
    ParentNotFound,
    RequestIdReused,
    UnknownRole,
)
from sessiond.errors._requests import invalid_field as invalid_field
from sessiond.errors._resources import (
    AlreadyExists,
    ApiKeyNotFound,
    AssetNotFound,
    BookmarkAlreadyExists,
    BookmarkNotFound,
    Conflict,
    ETagMismatch,
    FailedPrecondition,
    HistoryRewound,
    LeaseLost,
    LimitExceeded,
    MessageAlreadyExists,
    MessageNotFound,
    ModelNotConfigured,
    NotFound,
    ProjectAlreadyExists,
    ProjectBeingDeleted,
    ProjectNotFound,
    QueueNotFound,
    SequenceConflict,
    SessionAlreadyExists,
    SessionDestroyed,
    SessionNotFound,
    SessionTooLarge,
    TaskAlreadyExists,
    TaskNotFound,
    TurnNotFound,
    TurnRunning,
)
from sessiond.errors._service import (
    AdminKeyRequired,
    ApiKeyInvalid,
    ApiKeyMissing,
    AssetStoreUnavailable,
    Cancelled,
    ClientClosed,
    ClientForked,
    DatabaseUnavailable,
    DeadlineExceeded,
    InternalError,
    Overloaded,
    PermissionDenied,
    PoolClosed,
    PoolTimeout,
    ProjectLimitReached,
    QuotaExceeded,
    RateLimited,
    ResourceExhausted,
    ServerDraining,
    ServerUnavailable,
    SessionBusy,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    WatcherTooSlow,
)
from sessiond.errors._turns import (
    ContextTooLarge,
    FormatUnreadable,
    ModelAccessDenied,
    ModelAnswerInvalid,
    ModelRateLimited,
    ModelRequestRejected,
    ModelTimedOut,
    ModelUnavailable,
    TurnAborted,
    TurnFailed,
    TurnLost,
    TurnTimedOut,
)

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
    "ClientForked",
    "Conflict",
    "ContextTooLarge",
    "DatabaseUnavailable",
    "DeadlineExceeded",
    "ETagMismatch",
    "FailedPrecondition",
    "FieldViolation",
    "FormatUnreadable",
    "HistoryRewound",
    "InternalError",
    "InvalidField",
    "InvalidJson",
    "InvalidPageToken",
    "InvalidRequest",
    "InvalidResumeToken",
    "LeaseLost",
    "LimitExceeded",
    "MalformedRequest",
    "MessageAlreadyExists",
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
    "ProjectBeingDeleted",
    "ProjectLimitReached",
    "ProjectNotFound",
    "QueueNotFound",
    "QuotaExceeded",
    "RateLimited",
    "RequestIdReused",
    "ResourceExhausted",
    "SequenceConflict",
    "ServerDraining",
    "ServerUnavailable",
    "SessionAlreadyExists",
    "SessionBusy",
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
    "TurnRunning",
    "TurnTimedOut",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "UnknownRole",
    "WatcherTooSlow",
]

# Tracebacks and reprs should name the public module.
for _name in __all__:
    globals()[_name].__module__ = __name__
