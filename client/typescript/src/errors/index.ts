/**
 * The errors of the client: a class for each reason of `sessiond.v1.ErrorReason`, below a class for
 * each status code.
 *
 * @module
 */

export {
  AlreadyExists,
  Cancelled,
  ClientClosed,
  Conflict,
  DeadlineExceeded,
  type ErrorDetails,
  FailedPrecondition,
  type FieldViolation,
  InternalError,
  InvalidRequest,
  NotFound,
  PermissionDenied,
  PoolClosed,
  PoolTimeout,
  ResourceExhausted,
  ServerUnavailable,
  SessiondError,
  type StatusCode,
  TurnFailed,
  Unauthenticated,
  Unavailable,
  Unimplemented,
} from "./base.js";
export * from "./reasons.js";
