import { type ServiceError, status as statusCodes } from "@grpc/grpc-js";
import { BY_CODE, TurnFailed } from "../errors/base.js";
import { ServerUnavailable, SessiondError, type StatusCode } from "../errors/index.js";
import { BY_REASON, MessageNotFound, QuotaExceeded } from "../errors/reasons.js";
import type { Turn } from "../gen/sessiond/v1/turn.js";
import { detailsOf, type StatusDetails } from "./status-details.js";

// Texts with which grpc-js reports a broken connection under codes that also have other causes.
const TRANSPORT_FAULTS =
  /RST_STREAM|Connection dropped|ECONN|EPIPE|socket hang up|GOAWAY|Premature close/i;
const TRANSPORT_CODES: ReadonlySet<number> = new Set([statusCodes.INTERNAL, statusCodes.UNKNOWN]);

// The text of the client's own cancellations.
const OWN_CANCELLATION = /^Cancelled on client/;

// How grpc-js reports a stream that was reset with ENHANCE_YOUR_CALM. A message that is too large has
// the same code.
const CALMED = /RST_STREAM|Bandwidth exhausted/i;

// The server's texts use the RPC names of the protos, e.g. ImportMessages.
const RPC_NAMES =
  /\b(?:Abort|Batch|Copy|Create|Delete|Destroy|Download|Export|Get|Import|Lease|List|Reorder|Resume|Rewind|Store|Update|Upload)(?:[A-Z][a-z]+)+\b/g;

/**
 * Return the typed error of a failed call.
 *
 * @param failed - the error of grpc-js.
 * @param target - the server's address, for errors that no server sent.
 */
export function errorOf(failed: ServiceError, target: string): SessiondError {
  const text = failed.details ?? failed.message;
  const [encoded] = failed.metadata?.get("grpc-status-details-bin") ?? [];
  const details = detailsOf(encoded instanceof Uint8Array ? encoded : undefined);
  if (!details.reason && isTransportFault(failed.code, text)) {
    const hint = `no answer from ${target} (is \`sessiond serve\` running at ${target}?)`;
    return new ServerUnavailable(text ? `${hint}: ${text}` : hint, {
      retryAfterMs: details.retryAfterMs,
      cause: failed,
    });
  }
  return errorFrom(failed.code, text, details, failed);
}

/** Return the typed error of a status. */
export function errorFrom(
  number: number,
  text: string,
  details: StatusDetails,
  cause?: unknown,
): SessiondError {
  const code = (statusCodes[number] ?? "UNKNOWN") as StatusCode;
  // A newer server may send reasons that this client does not know; the code still has a class.
  const byCode = isOutcome(details.metadata) ? TurnFailed : (BY_CODE[code] ?? SessiondError);
  const Class = classOf(details.reason) ?? byCode;
  return new Class(details.reason ? withCalls(withoutReason(text, details.reason)) : text, {
    code,
    reason: details.reason || code,
    metadata: details.metadata,
    fieldViolations: details.fieldViolations.map(({ field, description }) => ({
      field,
      description: withCalls(description),
    })),
    retryAfterMs: details.retryAfterMs,
    cause,
  });
}

/** Return the typed error of a turn that ended without an answer, as its Send throws it. */
export function errorOfTurn(turn: Turn): SessiondError {
  const reason = turn.error?.reason ?? "";
  const Class = classOf(reason) ?? TurnFailed;
  const metadata = {
    ...turn.error?.metadata,
    session_id: turn.sessionId,
    turn_id: turn.turnId,
  };
  return new Class(turn.error?.message ?? "", { ...(reason && { reason }), metadata });
}

/** Return the error for an ended turn whose answer is no longer in the session. */
export function answerRemoved(turn: Turn): MessageNotFound {
  const { sessionId, turnId, lastSeq } = turn;
  return new MessageNotFound(
    `a rewind has removed the answer of turn ${turnId}, message ${lastSeq}`,
    { metadata: { session_id: sessionId, turn_id: turnId, seq: String(lastSeq) } },
  );
}

/** Return whether an error with this metadata is the outcome of a turn, not of the call. */
export function isOutcome(metadata: Readonly<Record<string, string>>): boolean {
  return "turn_id" in metadata;
}

/** Return whether the same request may succeed a little later. */
export function isWorthRetrying(error: SessiondError): boolean {
  // The server would replay a turn's outcome for the same request_id.
  if (isOutcome(error.metadata)) return false;
  // A used-up quota may last for hours, so the caller must learn of it at once.
  if (error instanceof QuotaExceeded) return false;
  if (error.code === "RESOURCE_EXHAUSTED") return error.retryAfterMs !== undefined;
  return error.code === "UNAVAILABLE";
}

function isTransportFault(code: number, text: string): boolean {
  if (code === statusCodes.UNAVAILABLE) return true;
  // If this process has not cancelled the call, a server was shut down, or a proxy reset the
  // stream.
  if (code === statusCodes.CANCELLED) return !OWN_CANCELLATION.test(text);
  if (code === statusCodes.RESOURCE_EXHAUSTED) return CALMED.test(text);
  return TRANSPORT_CODES.has(code) && TRANSPORT_FAULTS.test(text);
}

function classOf(reason: string): typeof SessiondError | undefined {
  return Object.hasOwn(BY_REASON, reason) ? BY_REASON[reason as keyof typeof BY_REASON] : undefined;
}

/** Return a text without the reason in front, which the error adds by itself. */
function withoutReason(text: string, reason: string): string {
  return text.startsWith(`${reason}: `) ? text.slice(reason.length + 2) : text;
}

/** Return a server's text with its RPC names replaced by the client's, e.g. importMessages. */
function withCalls(text: string): string {
  return text.replace(RPC_NAMES, (name) => name.charAt(0).toLowerCase() + name.slice(1));
}
