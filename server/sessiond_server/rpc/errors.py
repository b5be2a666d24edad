"""Converts errors to gRPC statuses with a code, a text and details."""

from collections.abc import Sequence

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from sessiond_server.assets.store.objects import ObjectStoreUnavailable
from sessiond_server.core.errors import Fault
from sessiond_server.db.pool import (
    Contention,
    DatabaseFull,
    DatabaseReadOnly,
    DatabaseUnavailable,
    LockTimeout,
    PoolExhausted,
    StatementCanceled,
)

DOMAIN = "sessiond.v1"
DETAILS_KEY = "grpc-status-details-bin"
MAX_LOGGED_CHARACTERS = 500
MAX_VIOLATIONS = 20
# A text may quote a session_id of 2,048 bytes, and gRPC may encode each byte as three (%XX).
MAX_TEXT_BYTES = 1000

# Status code for each reason. error_reason.proto documents the codes; a test compares the two.
CODES: dict[str, grpc.StatusCode] = {
    "SESSION_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "SESSION_ALREADY_EXISTS": grpc.StatusCode.ALREADY_EXISTS,
    "SESSION_DESTROYED": grpc.StatusCode.FAILED_PRECONDITION,
    "SESSION_TOO_LARGE": grpc.StatusCode.FAILED_PRECONDITION,
    "MESSAGE_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "MESSAGE_ALREADY_EXISTS": grpc.StatusCode.ALREADY_EXISTS,
    "FORMAT_UNREADABLE": grpc.StatusCode.FAILED_PRECONDITION,
    "SEQUENCE_CONFLICT": grpc.StatusCode.ABORTED,
    "ETAG_MISMATCH": grpc.StatusCode.ABORTED,
    "PARENT_NOT_FOUND": grpc.StatusCode.INVALID_ARGUMENT,
    "REQUEST_ID_REUSED": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_FIELD": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_JSON": grpc.StatusCode.INVALID_ARGUMENT,
    "UNKNOWN_ROLE": grpc.StatusCode.INVALID_ARGUMENT,
    "MESSAGE_TOO_LARGE": grpc.StatusCode.INVALID_ARGUMENT,
    "BATCH_TOO_LARGE": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_PAGE_TOKEN": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_RESUME_TOKEN": grpc.StatusCode.INVALID_ARGUMENT,
    "MALFORMED_REQUEST": grpc.StatusCode.INVALID_ARGUMENT,
    "API_KEY_MISSING": grpc.StatusCode.UNAUTHENTICATED,
    "API_KEY_INVALID": grpc.StatusCode.UNAUTHENTICATED,
    "ADMIN_KEY_REQUIRED": grpc.StatusCode.PERMISSION_DENIED,
    "PROJECT_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "PROJECT_BEING_DELETED": grpc.StatusCode.FAILED_PRECONDITION,
    "PROJECT_ALREADY_EXISTS": grpc.StatusCode.ALREADY_EXISTS,
    "API_KEY_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "OVERLOADED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "DATABASE_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "SERVER_DRAINING": grpc.StatusCode.UNAVAILABLE,
    "DEADLINE_EXCEEDED": grpc.StatusCode.DEADLINE_EXCEEDED,
    "INTERNAL": grpc.StatusCode.INTERNAL,
    "LIMIT_EXCEEDED": grpc.StatusCode.FAILED_PRECONDITION,
    "TASK_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "TASK_ALREADY_EXISTS": grpc.StatusCode.ALREADY_EXISTS,
    "BOOKMARK_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "BOOKMARK_ALREADY_EXISTS": grpc.StatusCode.ALREADY_EXISTS,
    "QUEUE_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "LEASE_LOST": grpc.StatusCode.ABORTED,
    "ASSET_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "ASSET_TOO_LARGE": grpc.StatusCode.INVALID_ARGUMENT,
    "ASSET_MISMATCH": grpc.StatusCode.INVALID_ARGUMENT,
    "ASSET_STORE_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "WATCHER_TOO_SLOW": grpc.StatusCode.UNAVAILABLE,
    "MODEL_NOT_CONFIGURED": grpc.StatusCode.FAILED_PRECONDITION,
    "MODEL_ACCESS_DENIED": grpc.StatusCode.FAILED_PRECONDITION,
    "MODEL_RATE_LIMITED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "MODEL_REQUEST_REJECTED": grpc.StatusCode.FAILED_PRECONDITION,
    "MODEL_UNAVAILABLE": grpc.StatusCode.ABORTED,
    "MODEL_TIMED_OUT": grpc.StatusCode.ABORTED,
    "MODEL_ANSWER_INVALID": grpc.StatusCode.ABORTED,
    "CONTEXT_TOO_LARGE": grpc.StatusCode.FAILED_PRECONDITION,
    "TURN_TIMED_OUT": grpc.StatusCode.ABORTED,
    "TURN_ABORTED": grpc.StatusCode.ABORTED,
    "TURN_LOST": grpc.StatusCode.ABORTED,
    "TURN_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "HISTORY_REWOUND": grpc.StatusCode.ABORTED,
    "TURN_RUNNING": grpc.StatusCode.FAILED_PRECONDITION,
    "SESSION_BUSY": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "RATE_LIMITED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "QUOTA_EXCEEDED": grpc.StatusCode.RESOURCE_EXHAUSTED,
}


# For each type of error: the reason, the text, and the seconds after which to try again. The first
# type that fits applies.
_FAULTS: Sequence[tuple[type[BaseException], str, str, float | None]] = (
    (
        DatabaseReadOnly,
        "DATABASE_UNAVAILABLE",
        "the database is read-only, as during a failover; nothing was changed: try again",
        1.0,
    ),
    (
        DatabaseFull,
        "DATABASE_UNAVAILABLE",
        "the disk of the database is full; nothing was changed: make room on it and try again",
        1.0,
    ),
    (
        DatabaseUnavailable,
        "DATABASE_UNAVAILABLE",
        "the database does not respond; a change may or may not have happened: repeat it with the "
        "same request_id",
        1.0,
    ),
    (
        PoolExhausted,
        "OVERLOADED",
        "every database connection of this server is busy; try again",
        0.5,
    ),
    (
        StatementCanceled,
        "OVERLOADED",
        "the database canceled a statement, such as after its statement_timeout; nothing was "
        "changed: try again later, or raise the timeout",
        1.0,
    ),
    (
        LockTimeout,
        "OVERLOADED",
        "another program holds a lock that this call needs, such as one on a whole table; nothing "
        "was changed, try again",
        1.0,
    ),
    (
        Contention,
        "OVERLOADED",
        "other calls hold locks that this call needs; nothing happened, try again",
        0.1,
    ),
    (
        ObjectStoreUnavailable,
        "ASSET_STORE_UNAVAILABLE",
        "the store of the assets' content does not respond; nothing of an upload is kept, try "
        "again",
        1.0,
    ),
    (
        TimeoutError,
        "DEADLINE_EXCEEDED",
        "the call took longer than its deadline; a change may or may not have happened: repeat it "
        "with the same request_id",
        None,
    ),
)


def as_fault(error: BaseException) -> Fault | None:
    """Return the fault that the caller receives for an error; None for an unexpected error."""
    if isinstance(error, Fault):
        return error
    for kind, reason, text, retry_after_s in _FAULTS:
        if isinstance(error, kind):
            return Fault(reason, text, retry_after_s=retry_after_s)
    return None


def status_of(
    fault: Fault, call_id: str
) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """Return the arguments of context.abort for a fault: code, text and trailing metadata."""
    return (
        CODES[fault.reason],
        text_of(fault),
        ((DETAILS_KEY, whole_status_of(fault, call_id).SerializeToString()),),
    )


def text_of(fault: Fault) -> str:
    """Return the status message of a fault, which begins with the reason.

    Many programs read only this text. A longer text is cut: it travels in headers, which have at
    most 8 KiB in all.
    """
    text = f"{fault.reason}: {fault.message}"
    if len(text.encode()) > MAX_TEXT_BYTES:
        text = text.encode()[: MAX_TEXT_BYTES - 3].decode(errors="ignore") + "…"
    return text


def log_text(fault: Fault) -> str:
    """Return the text of a fault for the log, which must not contain the content of messages.

    Faults about fields quote the values, and providers quote the content that they reject. For
    these faults, the text consists of the paths of the fields. For others, it is the message of the
    fault.
    """
    is_quoting = CODES[fault.reason] is grpc.StatusCode.INVALID_ARGUMENT
    if is_quoting or fault.reason.startswith("MODEL_"):
        return ", ".join(fault.fields)[:MAX_LOGGED_CHARACTERS]
    return fault.message[:MAX_LOGGED_CHARACTERS]


def whole_status_of(fault: Fault, call_id: str) -> Status:
    """Return the Status of a fault, with its details."""
    code = CODES[fault.reason]
    info = ErrorInfo(
        reason=fault.reason, domain=DOMAIN, metadata={**fault.metadata, "call_id": call_id}
    )
    status = Status(code=code.value[0], message=text_of(fault))
    _add(status, info)
    if fault.fields:
        violations = [
            BadRequest.FieldViolation(field=field, description=description)
            for field, description in list(fault.fields.items())[:MAX_VIOLATIONS]
        ]
        _add(status, BadRequest(field_violations=violations))
    if fault.retry_after_s is not None:
        delay = Duration()
        delay.FromMilliseconds(int(fault.retry_after_s * 1000))
        _add(status, RetryInfo(retry_delay=delay))
    return status


def _add(status: Status, detail: ErrorInfo | BadRequest | RetryInfo) -> None:
    packed = Any()
    packed.Pack(detail)
    status.details.append(packed)
