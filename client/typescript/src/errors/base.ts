/** The name of a gRPC status code. */
export type StatusCode =
  | "CANCELLED"
  | "UNKNOWN"
  | "INVALID_ARGUMENT"
  | "DEADLINE_EXCEEDED"
  | "NOT_FOUND"
  | "ALREADY_EXISTS"
  | "PERMISSION_DENIED"
  | "RESOURCE_EXHAUSTED"
  | "FAILED_PRECONDITION"
  | "ABORTED"
  | "OUT_OF_RANGE"
  | "UNIMPLEMENTED"
  | "INTERNAL"
  | "UNAVAILABLE"
  | "DATA_LOSS"
  | "UNAUTHENTICATED";

/** One invalid field of a request. */
export interface FieldViolation {
  /** Path of the field, e.g. `messages[3].json`. */
  readonly field: string;
  /** What is wrong with it. */
  readonly description: string;
}

/** The properties of an error other than its text. */
export interface ErrorDetails {
  /** The status code. Default: that of the class. */
  readonly code?: StatusCode;
  /** The reason. Default: that of the class. */
  readonly reason?: string;
  /** Details of the reason. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** The invalid fields of the request. */
  readonly fieldViolations?: readonly FieldViolation[];
  /** How long the server asks to wait before a retry, in milliseconds. */
  readonly retryAfterMs?: number | undefined;
  /** The error that caused this one. */
  readonly cause?: unknown;
}

/**
 * The base of all errors that a call throws. `error.message` begins with the reason.
 *
 * There is a class for each reason (`SessionNotFound`), and one for each kind of reasons
 * (`NotFound`), so that `instanceof` tells them apart.
 */
export class SessiondError extends Error {
  /** The status code of the class. */
  static readonly code: StatusCode = "UNKNOWN";
  /** The reason of the class. */
  static readonly reason: string = "UNKNOWN";

  /** The gRPC status code. */
  readonly code: StatusCode;
  /** The name of an `ErrorReason`, e.g. `SESSION_NOT_FOUND`, or of the status code. */
  readonly reason: string;
  /** What happened, without the reason. */
  readonly detail: string;
  /** Details of the reason, e.g. `{ session_id: "..." }`. Empty = the server sent none. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The invalid fields of the request. Empty for most reasons. */
  readonly fieldViolations: readonly FieldViolation[];
  /** How long the server asks to wait before a retry, in ms. `undefined` = it does not ask. */
  readonly retryAfterMs: number | undefined;

  constructor(detail = "", details: ErrorDetails = {}) {
    const reason = details.reason ?? new.target.reason;
    const violations = details.fieldViolations ?? [];
    super(
      textOf(reason, detail, violations),
      details.cause === undefined ? {} : { cause: details.cause },
    );
    this.name = new.target.name;
    this.code = details.code ?? new.target.code;
    this.reason = reason;
    this.detail = detail;
    this.metadata = details.metadata ?? {};
    this.fieldViolations = violations;
    this.retryAfterMs = details.retryAfterMs;
  }

  /** The call's id in the server's log. Empty = the server did not raise the error. */
  get callId(): string {
    return this.metadata.call_id ?? "";
  }
}

function textOf(reason: string, detail: string, violations: readonly FieldViolation[]): string {
  const unsaid = violations
    .filter(({ description }) => !detail.includes(description))
    .map(({ field, description }) => `${field}: ${description}`);
  return [detail ? `${reason}: ${detail}` : reason, ...unsaid].join("; ");
}

/** Something does not exist. */
export class NotFound extends SessiondError {
  static override readonly code: StatusCode = "NOT_FOUND";
  static override readonly reason: string = "NOT_FOUND";
}

/** Something of this name exists already. */
export class AlreadyExists extends SessiondError {
  static override readonly code: StatusCode = "ALREADY_EXISTS";
  static override readonly reason: string = "ALREADY_EXISTS";
}

/** Another caller has changed the object first: read it again. */
export class Conflict extends SessiondError {
  static override readonly code: StatusCode = "ABORTED";
  static override readonly reason: string = "ABORTED";
}

/** The state of the session, or a setting of the server, does not allow the call. */
export class FailedPrecondition extends SessiondError {
  static override readonly code: StatusCode = "FAILED_PRECONDITION";
  static override readonly reason: string = "FAILED_PRECONDITION";
}

/**
 * The turn ended without an answer. The messages that were sent are kept: a send without a message
 * lets the model continue from there, in a new turn.
 */
export class TurnFailed extends SessiondError {
  static override readonly code: StatusCode = "ABORTED";
  static override readonly reason: string = "TURN_FAILED";

  /** The turn's id. `undefined` = not reported. */
  get turnId(): string | undefined {
    return this.metadata.turn_id;
  }
}

/** The request is malformed; `fieldViolations` names the fields. */
export class InvalidRequest extends SessiondError {
  static override readonly code: StatusCode = "INVALID_ARGUMENT";
  static override readonly reason: string = "INVALID_ARGUMENT";
}

/** The caller is not authenticated. */
export class Unauthenticated extends SessiondError {
  static override readonly code: StatusCode = "UNAUTHENTICATED";
  static override readonly reason: string = "UNAUTHENTICATED";
}

/** The caller lacks the permission for the call. */
export class PermissionDenied extends SessiondError {
  static override readonly code: StatusCode = "PERMISSION_DENIED";
  static override readonly reason: string = "PERMISSION_DENIED";
}

/** A limit of the server or of the connection is reached. */
export class ResourceExhausted extends SessiondError {
  static override readonly code: StatusCode = "RESOURCE_EXHAUSTED";
  static override readonly reason: string = "RESOURCE_EXHAUSTED";
}

/**
 * The server, or something it needs, is temporarily unavailable; thrown after the client's retries.
 * A change may or may not have happened; repeating it with the same `requestId` is safe.
 */
export class Unavailable extends SessiondError {
  static override readonly code: StatusCode = "UNAVAILABLE";
  static override readonly reason: string = "UNAVAILABLE";
}

/** The target does not respond, or the connection broke and could not be reopened. */
export class ServerUnavailable extends Unavailable {}

/**
 * The call's timeout passed. A change may or may not have happened; repeating it with the same
 * `requestId` is safe. After a wait for a turn, `metadata.turn_id` names the turn.
 */
export class DeadlineExceeded extends SessiondError {
  static override readonly code: StatusCode = "DEADLINE_EXCEEDED";
  static override readonly reason: string = "DEADLINE_EXCEEDED";
}

/** The call was cancelled by a proxy or the server, not by this program. */
export class Cancelled extends SessiondError {
  static override readonly code: StatusCode = "CANCELLED";
  static override readonly reason: string = "CANCELLED";
}

/** The server does not have the call: it is older than this client, or not sessiond. */
export class Unimplemented extends SessiondError {
  static override readonly code: StatusCode = "UNIMPLEMENTED";
  static override readonly reason: string = "UNIMPLEMENTED";
}

/** An internal error of the server; its log has details under the `callId`. */
export class InternalError extends SessiondError {
  static override readonly code: StatusCode = "INTERNAL";
  static override readonly reason: string = "INTERNAL";
}

/** The client was closed before or during the call; `start()` opens it again. */
export class ClientClosed extends SessiondError {
  static override readonly code: StatusCode = "CANCELLED";
  static override readonly reason: string = "CLIENT_CLOSED";
}

/** No session of a `SessionPool` became free within the caller's timeout. */
export class PoolTimeout extends SessiondError {
  static override readonly code: StatusCode = "RESOURCE_EXHAUSTED";
  static override readonly reason: string = "POOL_TIMEOUT";
}

/** The `SessionPool` was closed before or during the call. */
export class PoolClosed extends SessiondError {
  static override readonly code: StatusCode = "CANCELLED";
  static override readonly reason: string = "POOL_CLOSED";
}

/** The class of each status code, for reasons that this version does not know. */
export const BY_CODE: Readonly<Partial<Record<StatusCode, typeof SessiondError>>> = {
  NOT_FOUND: NotFound,
  ALREADY_EXISTS: AlreadyExists,
  ABORTED: Conflict,
  FAILED_PRECONDITION: FailedPrecondition,
  INVALID_ARGUMENT: InvalidRequest,
  UNAUTHENTICATED: Unauthenticated,
  PERMISSION_DENIED: PermissionDenied,
  RESOURCE_EXHAUSTED: ResourceExhausted,
  UNAVAILABLE: Unavailable,
  DEADLINE_EXCEEDED: DeadlineExceeded,
  CANCELLED: Cancelled,
  UNIMPLEMENTED: Unimplemented,
  INTERNAL: InternalError,
};
