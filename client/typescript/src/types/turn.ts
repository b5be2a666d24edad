import type { PreviewTurnResponse } from "../gen/sessiond/v1/conversation_service.js";
import * as proto from "../gen/sessiond/v1/turn.js";
import {
  FIT_CHANGE_KINDS,
  type FitChangeKind,
  TURN_STATES,
  type TurnState,
} from "../protocol/names.js";
import { fromOptionalTimestamp, fromTimestamp } from "../protocol/times.js";

/** The tokens that a model used, as its provider reports them. */
export interface Usage {
  /** Tokens that the model read, cached or not. */
  readonly inputTokens: number;
  /** Tokens that the model wrote, reasoning included. */
  readonly outputTokens: number;
  /** The part of inputTokens read from the provider's prompt cache. 0 = none or unknown. */
  readonly cachedInputTokens: number;
  /** The part of outputTokens that is reasoning. 0 = none or unknown. */
  readonly reasoningTokens: number;
}

/** The reason that a turn ended without an answer. */
export interface TurnError {
  /** Name of an ErrorReason, e.g. "MODEL_RATE_LIMITED", as `SessiondError.reason`. */
  readonly reason: string;
  /** What happened, as text. */
  readonly message: string;
  /** Details of the reason. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** One change that made a history fit a provider's API. Stored messages do not change. */
export interface FitChange {
  /** The seq of the message. `undefined` = the change concerns the request. */
  readonly seq: number | undefined;
  /** What happened. A newer server may report kinds that this version does not know. */
  readonly kind: FitChangeKind | "unknown";
  /** The field, type or id that the change concerns. Empty = the whole message. */
  readonly detail: string;
}

/** A turn as the server returned it; it does not change afterwards. */
export interface Turn {
  /** The turn's id, unique in its session. */
  readonly turnId: string;
  /** The session's id. */
  readonly sessionId: string;
  /** The state of the turn. */
  readonly state: TurnState | "unknown";
  /** Name of the requested model. */
  readonly model: string;
  /** The seq of the first message that the turn appended. `undefined` = no message yet. */
  readonly firstSeq: number | undefined;
  /** The seq of the turn's final answer. `undefined` = no answer, or not yet. */
  readonly lastSeq: number | undefined;
  /** The seq of the message with the text of an answer that was cut off. `undefined` = no text. */
  readonly partialSeq: number | undefined;
  /** The seq of the message that the turn was to continue. `undefined` = the newest one. */
  readonly parentSeq: number | undefined;
  /** The provider's stop reason for the final answer, e.g. "stop". Empty = unknown. */
  readonly stopReason: string;
  /** The sum over all calls of the model in the turn. `undefined` = unknown. */
  readonly usage: Usage | undefined;
  /** The reason that the turn failed or was aborted. */
  readonly error: TurnError | undefined;
  /** How the last request to the model differs from the stored messages; at most 100. */
  readonly changes: readonly FitChange[];
  /** The number of all changes, including those beyond 100. */
  readonly changeCount: number;
  /** Time of the send. */
  readonly createdAt: Date;
  /** Time at which the turn started to run. `undefined` = not started. */
  readonly startedAt: Date | undefined;
  /** Time at which the turn ended. `undefined` = not ended. */
  readonly endedAt: Date | undefined;
}

/** The turn that a message belongs to; for answers, also the model that wrote them. */
export interface MessageTurn {
  /** The turn's id. */
  readonly turnId: string;
  /** The message_id of the last sent message, unique in its session. Empty for other messages. */
  readonly messageId: string;
  /** The provider's name for the model. Empty for messages that were sent. */
  readonly model: string;
  /** The provider's name in the server's settings. Empty for messages that were sent. */
  readonly provider: string;
  /** The provider's stop reason for this message. */
  readonly stopReason: string;
  /** Usage of the call that produced this message. `undefined` = not reported. */
  readonly usage: Usage | undefined;
}

/** The result of a send. */
export interface SentMessage {
  /** The id of the sent message, as `Message.id`. Empty = no message was sent. */
  readonly messageId: string;
  /** The id of the turn that the message started or joined. */
  readonly turnId: string;
}

const ENDED: ReadonlySet<proto.TurnState> = new Set([
  proto.TurnState.TURN_STATE_COMPLETED,
  proto.TurnState.TURN_STATE_FAILED,
  proto.TurnState.TURN_STATE_ABORTED,
]);

/** Return whether a turn has ended. */
export function hasEnded(turn: proto.Turn): boolean {
  return ENDED.has(turn.state);
}

export function turnOf(turn: proto.Turn): Turn {
  return {
    turnId: turn.turnId,
    sessionId: turn.sessionId,
    state: TURN_STATES.nameOf(turn.state) ?? "unknown",
    model: turn.model,
    firstSeq: turn.firstSeq || undefined,
    lastSeq: turn.lastSeq || undefined,
    partialSeq: turn.partialSeq || undefined,
    parentSeq: turn.parentSeq || undefined,
    stopReason: turn.stopReason,
    usage: turn.usage && { ...turn.usage },
    error: turn.error && { ...turn.error },
    changes: turn.changes.map(changeOf),
    changeCount: turn.changeCount,
    createdAt: fromTimestamp(turn.createTime),
    startedAt: fromOptionalTimestamp(turn.startTime),
    endedAt: fromOptionalTimestamp(turn.endTime),
  };
}

/** The request that a send would make, as previewTurn returned it. */
export interface TurnPreview {
  /** The name of the model as its provider knows it. */
  readonly model: string;
  /** The name of the provider in the server's settings. */
  readonly provider: string;
  /**
   * The body of the request as JSON text, with notes in the places of assets' contents. Empty = it
   * has more than 2 MiB of text.
   */
  readonly requestJson: string;
  /** The size of the body with the contents of its assets, in bytes. */
  readonly requestBytes: number;
  /** The seqs of the stored messages that the request is made of. */
  readonly seqs: readonly number[];
  /** How the request differs from the stored messages; at most 100. */
  readonly changes: readonly FitChange[];
  /** The number of all changes, including those beyond 100. */
  readonly changeCount: number;
}

/** Return a preview of the protos in the client's types. */
export function previewOf(preview: PreviewTurnResponse): TurnPreview {
  return {
    model: preview.model,
    provider: preview.provider,
    requestJson: preview.requestJson,
    requestBytes: preview.requestBytes,
    seqs: preview.seqs,
    changes: preview.changes.map(changeOf),
    changeCount: preview.changeCount,
  };
}

function changeOf({ seq, kind, detail }: proto.FitChange): FitChange {
  return { seq: seq || undefined, kind: FIT_CHANGE_KINDS.nameOf(kind) ?? "unknown", detail };
}
