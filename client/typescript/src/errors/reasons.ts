// Generated from protos/sessiond/v1/error_reason.proto by `make ts-protos`. Do not edit.

import {
  AlreadyExists,
  Conflict,
  DeadlineExceeded,
  FailedPrecondition,
  InternalError,
  InvalidRequest,
  NotFound,
  PermissionDenied,
  ResourceExhausted,
  type StatusCode,
  TurnFailed,
  Unauthenticated,
  Unavailable,
} from "./base.js";

/**
 * The project has no such session, or it is deleted or expired. Metadata: session_id.
 *
 * Reason: `SESSION_NOT_FOUND`. Status code: `NOT_FOUND`.
 */
export class SessionNotFound extends NotFound {
  static override readonly code: StatusCode = "NOT_FOUND";
  static override readonly reason: string = "SESSION_NOT_FOUND";
}

/**
 * The project already has a session with this id. Metadata: session_id.
 *
 * Reason: `SESSION_ALREADY_EXISTS`. Status code: `ALREADY_EXISTS`.
 */
export class SessionAlreadyExists extends AlreadyExists {
  static override readonly code: StatusCode = "ALREADY_EXISTS";
  static override readonly reason: string = "SESSION_ALREADY_EXISTS";
}

/**
 * The session is destroyed; resume it to append. Metadata: session_id.
 *
 * Reason: `SESSION_DESTROYED`. Status code: `FAILED_PRECONDITION`.
 */
export class SessionDestroyed extends FailedPrecondition {
  static override readonly code: StatusCode = "FAILED_PRECONDITION";
  static override readonly reason: string = "SESSION_DESTROYED";
}

/**
 * The session is larger than the operator allows for copies. Metadata: session_id, message_count,
 * max_messages.
 *
 * Reason: `SESSION_TOO_LARGE`. Status code: `FAILED_PRECONDITION`.
 */
export class SessionTooLarge extends FailedPrecondition {
  static override readonly code: StatusCode = "FAILED_PRECONDITION";
  static override readonly reason: string = "SESSION_TOO_LARGE";
}

/**
 * The session has no message with this seq or message_id. Metadata: session_id, seq or message_id,
 * last_seq.
 *
 * Reason: `MESSAGE_NOT_FOUND`. Status code: `NOT_FOUND`.
 */
export class MessageNotFound extends NotFound {
  static override readonly code: StatusCode = "NOT_FOUND";
  static override readonly reason: string = "MESSAGE_NOT_FOUND";
}

/**
 * Expected_last_seq is not the session's last_seq. Read the messages after it, and try again.
 * Metadata: session_id, expected_last_seq, last_seq.
 *
 * Reason: `SEQUENCE_CONFLICT`. Status code: `ABORTED`.
 */
export class SequenceConflict extends Conflict {
  static override readonly code: StatusCode = "ABORTED";
  static override readonly reason: string = "SEQUENCE_CONFLICT";
}

/**
 * The etag is not the current one of the session, its state, the task, the bookmark or the
 * project's limits. Metadata: session_id or project, etag (the current one).
 *
 * Reason: `ETAG_MISMATCH`. Status code: `ABORTED`.
 */
export class ETagMismatch extends Conflict {
  static override readonly code: StatusCode = "ABORTED";
  static override readonly reason: string = "ETAG_MISMATCH";
}

/**
 * Parent_seq names no message. Metadata: session_id, last_seq. Details: BadRequest.
 *
 * Reason: `PARENT_NOT_FOUND`. Status code: `INVALID_ARGUMENT`.
 */
export class ParentNotFound extends InvalidRequest {
  static override readonly code: StatusCode = "INVALID_ARGUMENT";
  static override readonly reason: string = "PARENT_NOT_FOUND";
}

/**
 * The request_id was used for other content. Metadata: request_id. Details: BadRequest.
 *
 * Reason: `REQUEST_ID_REUSED`. Status code: `INVALID_ARGUMENT`.
 */
export class RequestIdReused extends InvalidRequest {
  static override readonly code: StatusCode = "INVALID_ARGUMENT";
  static override readonly reason: string = "REQUEST_ID_REUSED";
}

/**
 * Fields are missing, malformed or out of range. Details: BadRequest, which lists every field.
 *
 * Reason: `INVALID_FIELD`. Status code: `INVALID_ARGUMENT`.
 */
export class InvalidField extends InvalidRequest {
  static override readonly code: StatusCode = "INVALID_ARGUMENT";
  static override readonly reason: string = "INVALID_FIELD";
}

/**
 * The json of a message is not a JSON object, or another JSON text is invalid. Details:
 * BadRequest.
 *
 * Reason: `INVALID_JSON`. Status code: `INVALID_ARGUMENT`.
 */
export class InvalidJson extends InvalidRequest {
  static override readonly code: StatusCode = "INVALID_ARGUMENT";
  static override readonly reason: string = "INVALID_JSON";
}

/**
 * The role is missing, or the format has no such role. Details: BadRequest.
 *
 * Reason: `UNKNOWN_ROLE`. Status code: `INVALID_ARGUMENT`.
 */
export class UnknownRole extends InvalidRequest {
  static override readonly code: StatusCode = "INVALID_ARGUMENT";
  static override readonly reason: string = "UNKNOWN_ROLE";
}

/**
 * A message is larger than the server accepts. Metadata: content_bytes, max_bytes. Details:
 * BadRequest.
 *
 * Reason: `MESSAGE_TOO_LARGE`. Status code: `INVALID_ARGUMENT`.
 */
export class MessageTooLarge extends InvalidRequest {
  static override readonly code: StatusCode = "INVALID_ARGUMENT";
  static override readonly reason: string = "MESSAGE_TOO_LARGE";
}

/**
 * A batch has too many messages or bytes (send several batches, or use ImportMessages), or an
 * import has too many bytes (send several imports). Metadata: message_count, max_messages (of a
 * batch), content_bytes (for an import, metadata included), max_bytes. Details: BadRequest.
 *
 * Reason: `BATCH_TOO_LARGE`. Status code: `INVALID_ARGUMENT`.
 */
export class BatchTooLarge extends InvalidRequest {
  static override readonly code: StatusCode = "INVALID_ARGUMENT";
  static override readonly reason: string = "BATCH_TOO_LARGE";
}

/**
 * The page_token is malformed, or belongs to a request with other filters. Details: BadRequest.
 *
 * Reason: `INVALID_PAGE_TOKEN`. Status code: `INVALID_ARGUMENT`.
 */
export class InvalidPageToken extends InvalidRequest {
  static override readonly code: StatusCode = "INVALID_ARGUMENT";
  static override readonly reason: string = "INVALID_PAGE_TOKEN";
}

/**
 * The resume_token is malformed, belongs to a request with other fields, or its session is gone.
 * Details: BadRequest.
 *
 * Reason: `INVALID_RESUME_TOKEN`. Status code: `INVALID_ARGUMENT`.
 */
export class InvalidResumeToken extends InvalidRequest {
  static override readonly code: StatusCode = "INVALID_ARGUMENT";
  static override readonly reason: string = "INVALID_RESUME_TOKEN";
}

/**
 * The bytes sent are not an encoding of the request.
 *
 * Reason: `MALFORMED_REQUEST`. Status code: `INVALID_ARGUMENT`.
 */
export class MalformedRequest extends InvalidRequest {
  static override readonly code: StatusCode = "INVALID_ARGUMENT";
  static override readonly reason: string = "MALFORMED_REQUEST";
}

/**
 * The server requires a key, and none was sent.
 *
 * Reason: `API_KEY_MISSING`. Status code: `UNAUTHENTICATED`.
 */
export class ApiKeyMissing extends Unauthenticated {
  static override readonly code: StatusCode = "UNAUTHENTICATED";
  static override readonly reason: string = "API_KEY_MISSING";
}

/**
 * The key is unknown, malformed or revoked.
 *
 * Reason: `API_KEY_INVALID`. Status code: `UNAUTHENTICATED`.
 */
export class ApiKeyInvalid extends Unauthenticated {
  static override readonly code: StatusCode = "UNAUTHENTICATED";
  static override readonly reason: string = "API_KEY_INVALID";
}

/**
 * The call needs an admin key.
 *
 * Reason: `ADMIN_KEY_REQUIRED`. Status code: `PERMISSION_DENIED`.
 */
export class AdminKeyRequired extends PermissionDenied {
  static override readonly code: StatusCode = "PERMISSION_DENIED";
  static override readonly reason: string = "ADMIN_KEY_REQUIRED";
}

/**
 * There is no such project. Metadata: project.
 *
 * Reason: `PROJECT_NOT_FOUND`. Status code: `NOT_FOUND`.
 */
export class ProjectNotFound extends NotFound {
  static override readonly code: StatusCode = "NOT_FOUND";
  static override readonly reason: string = "PROJECT_NOT_FOUND";
}

/**
 * There is already a project with this name. Metadata: project.
 *
 * Reason: `PROJECT_ALREADY_EXISTS`. Status code: `ALREADY_EXISTS`.
 */
export class ProjectAlreadyExists extends AlreadyExists {
  static override readonly code: StatusCode = "ALREADY_EXISTS";
  static override readonly reason: string = "PROJECT_ALREADY_EXISTS";
}

/**
 * There is no such key. Metadata: key_id.
 *
 * Reason: `API_KEY_NOT_FOUND`. Status code: `NOT_FOUND`.
 */
export class ApiKeyNotFound extends NotFound {
  static override readonly code: StatusCode = "NOT_FOUND";
  static override readonly reason: string = "API_KEY_NOT_FOUND";
}

/**
 * The server is overloaded. Details: RetryInfo.
 *
 * Reason: `OVERLOADED`. Status code: `RESOURCE_EXHAUSTED`.
 */
export class Overloaded extends ResourceExhausted {
  static override readonly code: StatusCode = "RESOURCE_EXHAUSTED";
  static override readonly reason: string = "OVERLOADED";
}

/**
 * The database does not answer. A change may or may not have happened; repeat it with its
 * request_id. Details: RetryInfo.
 *
 * Reason: `DATABASE_UNAVAILABLE`. Status code: `UNAVAILABLE`.
 */
export class DatabaseUnavailable extends Unavailable {
  static override readonly code: StatusCode = "UNAVAILABLE";
  static override readonly reason: string = "DATABASE_UNAVAILABLE";
}

/**
 * This server is shutting down; continue on another one, or on this one after its restart.
 * Details: RetryInfo.
 *
 * Reason: `SERVER_DRAINING`. Status code: `UNAVAILABLE`.
 */
export class ServerDraining extends Unavailable {
  static override readonly code: StatusCode = "UNAVAILABLE";
  static override readonly reason: string = "SERVER_DRAINING";
}

/**
 * The maximum number of tasks, bookmarks, queues or queued turns is reached. Metadata: what
 * (tasks, bookmarks, queues, turns), limit.
 *
 * Reason: `LIMIT_EXCEEDED`. Status code: `FAILED_PRECONDITION`.
 */
export class LimitExceeded extends FailedPrecondition {
  static override readonly code: StatusCode = "FAILED_PRECONDITION";
  static override readonly reason: string = "LIMIT_EXCEEDED";
}

/**
 * The session has no such task. Metadata: session_id, task_id.
 *
 * Reason: `TASK_NOT_FOUND`. Status code: `NOT_FOUND`.
 */
export class TaskNotFound extends NotFound {
  static override readonly code: StatusCode = "NOT_FOUND";
  static override readonly reason: string = "TASK_NOT_FOUND";
}

/**
 * The session already has a task with this id. Metadata: session_id, task_id.
 *
 * Reason: `TASK_ALREADY_EXISTS`. Status code: `ALREADY_EXISTS`.
 */
export class TaskAlreadyExists extends AlreadyExists {
  static override readonly code: StatusCode = "ALREADY_EXISTS";
  static override readonly reason: string = "TASK_ALREADY_EXISTS";
}

/**
 * The session has no bookmark with this name. Metadata: session_id, name.
 *
 * Reason: `BOOKMARK_NOT_FOUND`. Status code: `NOT_FOUND`.
 */
export class BookmarkNotFound extends NotFound {
  static override readonly code: StatusCode = "NOT_FOUND";
  static override readonly reason: string = "BOOKMARK_NOT_FOUND";
}

/**
 * The session already has a bookmark with this name. Metadata: session_id, name.
 *
 * Reason: `BOOKMARK_ALREADY_EXISTS`. Status code: `ALREADY_EXISTS`.
 */
export class BookmarkAlreadyExists extends AlreadyExists {
  static override readonly code: StatusCode = "ALREADY_EXISTS";
  static override readonly reason: string = "BOOKMARK_ALREADY_EXISTS";
}

/**
 * The project has no such queue; the first lease creates it. Metadata: queue.
 *
 * Reason: `QUEUE_NOT_FOUND`. Status code: `NOT_FOUND`.
 */
export class QueueNotFound extends NotFound {
  static override readonly code: StatusCode = "NOT_FOUND";
  static override readonly reason: string = "QUEUE_NOT_FOUND";
}

/**
 * The lease has expired and another worker has its messages, or it was already acknowledged, or
 * the session is gone. Metadata: lease_id.
 *
 * Reason: `LEASE_LOST`. Status code: `ABORTED`.
 */
export class LeaseLost extends Conflict {
  static override readonly code: StatusCode = "ABORTED";
  static override readonly reason: string = "LEASE_LOST";
}

/**
 * The project has no such asset; upload it first. Metadata: asset_id.
 *
 * Reason: `ASSET_NOT_FOUND`. Status code: `NOT_FOUND`.
 */
export class AssetNotFound extends NotFound {
  static override readonly code: StatusCode = "NOT_FOUND";
  static override readonly reason: string = "ASSET_NOT_FOUND";
}

/**
 * The content is larger than the server accepts. Metadata: max_bytes. Details: BadRequest.
 *
 * Reason: `ASSET_TOO_LARGE`. Status code: `INVALID_ARGUMENT`.
 */
export class AssetTooLarge extends InvalidRequest {
  static override readonly code: StatusCode = "INVALID_ARGUMENT";
  static override readonly reason: string = "ASSET_TOO_LARGE";
}

/**
 * The content differs from the asset_id or size that the upload declared. Metadata: asset_id, size
 * (of the content). Details: BadRequest.
 *
 * Reason: `ASSET_MISMATCH`. Status code: `INVALID_ARGUMENT`.
 */
export class AssetMismatch extends InvalidRequest {
  static override readonly code: StatusCode = "INVALID_ARGUMENT";
  static override readonly reason: string = "ASSET_MISMATCH";
}

/**
 * The store of the assets' content does not answer. Details: RetryInfo.
 *
 * Reason: `ASSET_STORE_UNAVAILABLE`. Status code: `UNAVAILABLE`.
 */
export class AssetStoreUnavailable extends Unavailable {
  static override readonly code: StatusCode = "UNAVAILABLE";
  static override readonly reason: string = "ASSET_STORE_UNAVAILABLE";
}

/**
 * The watcher received its events more slowly than they arrived; continue from the last received
 * seq. Metadata: session_id. Details: RetryInfo.
 *
 * Reason: `WATCHER_TOO_SLOW`. Status code: `UNAVAILABLE`.
 */
export class WatcherTooSlow extends Unavailable {
  static override readonly code: StatusCode = "UNAVAILABLE";
  static override readonly reason: string = "WATCHER_TOO_SLOW";
}

/**
 * No provider in the server's settings serves the model, or the provider has no key, or its
 * package is not installed. Metadata: model, setting (what has to be set), and provider if it is
 * known.
 *
 * Reason: `MODEL_NOT_CONFIGURED`. Status code: `FAILED_PRECONDITION`.
 */
export class ModelNotConfigured extends FailedPrecondition {
  static override readonly code: StatusCode = "FAILED_PRECONDITION";
  static override readonly reason: string = "MODEL_NOT_CONFIGURED";
}

/**
 * The model's provider refused the server's key (HTTP 401, 403). Metadata: session_id, turn_id,
 * model, provider, http_status.
 *
 * Reason: `MODEL_ACCESS_DENIED`. Status code: `FAILED_PRECONDITION`.
 */
export class ModelAccessDenied extends TurnFailed {
  static override readonly code: StatusCode = "FAILED_PRECONDITION";
  static override readonly reason: string = "MODEL_ACCESS_DENIED";
}

/**
 * The model's provider limits the rate, or the quota is used up (HTTP 429), after retries.
 * Metadata: session_id, turn_id, model, provider, http_status, and retry_after_s if the provider
 * gave it. Details: RetryInfo, if the provider gave a time. Another Send starts a new turn.
 *
 * Reason: `MODEL_RATE_LIMITED`. Status code: `RESOURCE_EXHAUSTED`.
 */
export class ModelRateLimited extends TurnFailed {
  static override readonly code: StatusCode = "RESOURCE_EXHAUSTED";
  static override readonly reason: string = "MODEL_RATE_LIMITED";
}

/**
 * The model's provider rejects the request (other HTTP 4xx): the provider does not know the model,
 * the history is too long or violates the provider's rules, or an option is wrong. The server
 * itself rejects a turn with this reason if nothing of the history can be sent. Metadata:
 * session_id, turn_id, model, provider, http_status if there was one, and seqs: the seqs of the
 * stored messages that the rejection is about, separated by commas, if they are known.
 *
 * Reason: `MODEL_REQUEST_REJECTED`. Status code: `FAILED_PRECONDITION`.
 */
export class ModelRequestRejected extends TurnFailed {
  static override readonly code: StatusCode = "FAILED_PRECONDITION";
  static override readonly reason: string = "MODEL_REQUEST_REJECTED";
}

/**
 * The model's provider failed (HTTP 5xx), cannot be reached, or broke off its answer. The server
 * has retried unless text was already streamed. Metadata: session_id, turn_id, model, provider,
 * and http_status where there was one.
 *
 * Reason: `MODEL_UNAVAILABLE`. Status code: `ABORTED`.
 */
export class ModelUnavailable extends TurnFailed {
  static override readonly code: StatusCode = "ABORTED";
  static override readonly reason: string = "MODEL_UNAVAILABLE";
}

/**
 * The model was silent for too long. Metadata: session_id, turn_id, model, provider, timeout_s.
 *
 * Reason: `MODEL_TIMED_OUT`. Status code: `ABORTED`.
 */
export class ModelTimedOut extends TurnFailed {
  static override readonly code: StatusCode = "ABORTED";
  static override readonly reason: string = "MODEL_TIMED_OUT";
}

/**
 * The model's answer cannot be stored: it is empty, too large for a message, or does not follow
 * its provider's protocol. Metadata: session_id, turn_id, model, provider.
 *
 * Reason: `MODEL_ANSWER_INVALID`. Status code: `ABORTED`.
 */
export class ModelAnswerInvalid extends TurnFailed {
  static override readonly code: StatusCode = "ABORTED";
  static override readonly reason: string = "MODEL_ANSWER_INVALID";
}

/**
 * The history, or the request with its assets, is too large to be sent to a model. Metadata:
 * session_id, turn_id, context_bytes (the size, or a lower bound of it), max_bytes; for a request
 * that is too large also model, provider.
 *
 * Reason: `CONTEXT_TOO_LARGE`. Status code: `FAILED_PRECONDITION`.
 */
export class ContextTooLarge extends TurnFailed {
  static override readonly code: StatusCode = "FAILED_PRECONDITION";
  static override readonly reason: string = "CONTEXT_TOO_LARGE";
}

/**
 * The turn ran for longer than its turn_timeout. Metadata: session_id, turn_id, timeout_s.
 *
 * Reason: `TURN_TIMED_OUT`. Status code: `ABORTED`.
 */
export class TurnTimedOut extends TurnFailed {
  static override readonly code: StatusCode = "ABORTED";
  static override readonly reason: string = "TURN_TIMED_OUT";
}

/**
 * The turn was ended by Abort, or its session was destroyed. Metadata: session_id, turn_id.
 *
 * Reason: `TURN_ABORTED`. Status code: `ABORTED`.
 */
export class TurnAborted extends TurnFailed {
  static override readonly code: StatusCode = "ABORTED";
  static override readonly reason: string = "TURN_ABORTED";
}

/**
 * The server that ran the turn died. Metadata: session_id, turn_id.
 *
 * Reason: `TURN_LOST`. Status code: `ABORTED`.
 */
export class TurnLost extends TurnFailed {
  static override readonly code: StatusCode = "ABORTED";
  static override readonly reason: string = "TURN_LOST";
}

/**
 * The session has no such turn. Metadata: session_id, turn_id.
 *
 * Reason: `TURN_NOT_FOUND`. Status code: `NOT_FOUND`.
 */
export class TurnNotFound extends NotFound {
  static override readonly code: StatusCode = "NOT_FOUND";
  static override readonly reason: string = "TURN_NOT_FOUND";
}

/**
 * The session was rewound. Seqs may name other messages than the caller expects, or messages to be
 * read were removed. Nothing was changed. Metadata: session_id, epoch, last_seq.
 *
 * Reason: `HISTORY_REWOUND`. Status code: `ABORTED`.
 */
export class HistoryRewound extends Conflict {
  static override readonly code: StatusCode = "ABORTED";
  static override readonly reason: string = "HISTORY_REWOUND";
}

/**
 * The session runs a turn; wait for its end, abort it, or set abort_turn. Metadata: session_id,
 * turn_id.
 *
 * Reason: `TURN_RUNNING`. Status code: `FAILED_PRECONDITION`.
 */
export class TurnRunning extends FailedPrecondition {
  static override readonly code: StatusCode = "FAILED_PRECONDITION";
  static override readonly reason: string = "TURN_RUNNING";
}

/**
 * The session already has a message with this message_id, or the request has it twice. Nothing was
 * stored; on_duplicate SKIP stores the others. Metadata: session_id, message_id, and seq of the
 * stored message if there is one. Details: BadRequest.
 *
 * Reason: `MESSAGE_ALREADY_EXISTS`. Status code: `ALREADY_EXISTS`.
 */
export class MessageAlreadyExists extends AlreadyExists {
  static override readonly code: StatusCode = "ALREADY_EXISTS";
  static override readonly reason: string = "MESSAGE_ALREADY_EXISTS";
}

/**
 * The history for the model has a message of FORMAT_OTHER that the server cannot read. Metadata:
 * session_id, turn_id, format_name, seq.
 *
 * Reason: `FORMAT_UNREADABLE`. Status code: `FAILED_PRECONDITION`.
 */
export class FormatUnreadable extends TurnFailed {
  static override readonly code: StatusCode = "FAILED_PRECONDITION";
  static override readonly reason: string = "FORMAT_UNREADABLE";
}

/**
 * The project with this name was deleted, and is still being removed; try again in some minutes.
 * Metadata: project. Details: RetryInfo.
 *
 * Reason: `PROJECT_BEING_DELETED`. Status code: `FAILED_PRECONDITION`.
 */
export class ProjectBeingDeleted extends FailedPrecondition {
  static override readonly code: StatusCode = "FAILED_PRECONDITION";
  static override readonly reason: string = "PROJECT_BEING_DELETED";
}

/**
 * Another change has locked the session. The call has waited for the lock as long as its deadline
 * allows, or too many other calls already wait. Nothing was changed. Metadata: session_id.
 * Details: RetryInfo.
 *
 * Reason: `SESSION_BUSY`. Status code: `RESOURCE_EXHAUSTED`.
 */
export class SessionBusy extends ResourceExhausted {
  static override readonly code: StatusCode = "RESOURCE_EXHAUSTED";
  static override readonly reason: string = "SESSION_BUSY";
}

/**
 * The project has reached a rate of its ProjectLimits at this server. Nothing was changed; try
 * again after the time in RetryInfo. Metadata: what (calls_per_second, messages_per_second),
 * limit, used. Details: RetryInfo.
 *
 * Reason: `RATE_LIMITED`. Status code: `RESOURCE_EXHAUSTED`.
 */
export class RateLimited extends ResourceExhausted {
  static override readonly code: StatusCode = "RESOURCE_EXHAUSTED";
  static override readonly reason: string = "RATE_LIMITED";
}

/**
 * The call would exceed a limit of the project's ProjectLimits. Nothing was changed. Metadata:
 * what (max_sessions, max_bytes, max_running_turns, model_tokens_per_day), limit, used (without
 * the call). Details: RetryInfo, for turns and tokens only.
 *
 * Reason: `QUOTA_EXCEEDED`. Status code: `RESOURCE_EXHAUSTED`.
 */
export class QuotaExceeded extends ResourceExhausted {
  static override readonly code: StatusCode = "RESOURCE_EXHAUSTED";
  static override readonly reason: string = "QUOTA_EXCEEDED";
}

/** The class of each reason. */
export const BY_REASON = {
  SESSION_NOT_FOUND: SessionNotFound,
  SESSION_ALREADY_EXISTS: SessionAlreadyExists,
  SESSION_DESTROYED: SessionDestroyed,
  SESSION_TOO_LARGE: SessionTooLarge,
  MESSAGE_NOT_FOUND: MessageNotFound,
  SEQUENCE_CONFLICT: SequenceConflict,
  ETAG_MISMATCH: ETagMismatch,
  PARENT_NOT_FOUND: ParentNotFound,
  REQUEST_ID_REUSED: RequestIdReused,
  INVALID_FIELD: InvalidField,
  INVALID_JSON: InvalidJson,
  UNKNOWN_ROLE: UnknownRole,
  MESSAGE_TOO_LARGE: MessageTooLarge,
  BATCH_TOO_LARGE: BatchTooLarge,
  INVALID_PAGE_TOKEN: InvalidPageToken,
  INVALID_RESUME_TOKEN: InvalidResumeToken,
  MALFORMED_REQUEST: MalformedRequest,
  API_KEY_MISSING: ApiKeyMissing,
  API_KEY_INVALID: ApiKeyInvalid,
  ADMIN_KEY_REQUIRED: AdminKeyRequired,
  PROJECT_NOT_FOUND: ProjectNotFound,
  PROJECT_ALREADY_EXISTS: ProjectAlreadyExists,
  API_KEY_NOT_FOUND: ApiKeyNotFound,
  OVERLOADED: Overloaded,
  DATABASE_UNAVAILABLE: DatabaseUnavailable,
  SERVER_DRAINING: ServerDraining,
  DEADLINE_EXCEEDED: DeadlineExceeded,
  INTERNAL: InternalError,
  LIMIT_EXCEEDED: LimitExceeded,
  TASK_NOT_FOUND: TaskNotFound,
  TASK_ALREADY_EXISTS: TaskAlreadyExists,
  BOOKMARK_NOT_FOUND: BookmarkNotFound,
  BOOKMARK_ALREADY_EXISTS: BookmarkAlreadyExists,
  QUEUE_NOT_FOUND: QueueNotFound,
  LEASE_LOST: LeaseLost,
  ASSET_NOT_FOUND: AssetNotFound,
  ASSET_TOO_LARGE: AssetTooLarge,
  ASSET_MISMATCH: AssetMismatch,
  ASSET_STORE_UNAVAILABLE: AssetStoreUnavailable,
  WATCHER_TOO_SLOW: WatcherTooSlow,
  MODEL_NOT_CONFIGURED: ModelNotConfigured,
  MODEL_ACCESS_DENIED: ModelAccessDenied,
  MODEL_RATE_LIMITED: ModelRateLimited,
  MODEL_REQUEST_REJECTED: ModelRequestRejected,
  MODEL_UNAVAILABLE: ModelUnavailable,
  MODEL_TIMED_OUT: ModelTimedOut,
  MODEL_ANSWER_INVALID: ModelAnswerInvalid,
  CONTEXT_TOO_LARGE: ContextTooLarge,
  TURN_TIMED_OUT: TurnTimedOut,
  TURN_ABORTED: TurnAborted,
  TURN_LOST: TurnLost,
  TURN_NOT_FOUND: TurnNotFound,
  HISTORY_REWOUND: HistoryRewound,
  TURN_RUNNING: TurnRunning,
  MESSAGE_ALREADY_EXISTS: MessageAlreadyExists,
  FORMAT_UNREADABLE: FormatUnreadable,
  PROJECT_BEING_DELETED: ProjectBeingDeleted,
  SESSION_BUSY: SessionBusy,
  RATE_LIMITED: RateLimited,
  QUOTA_EXCEEDED: QuotaExceeded,
} as const;

/** The name of an `ErrorReason` of the protos, without its prefix. */
export type ErrorReason = keyof typeof BY_REASON;
