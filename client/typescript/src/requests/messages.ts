// Requests about messages. No I/O.

import type { RewindSessionRequest } from "../gen/sessiond/v1/rewind.js";
import { Session } from "../gen/sessiond/v1/session.js";
import {
  GetMessagesRequest,
  type StoreMessagesResponse,
} from "../gen/sessiond/v1/session_service.js";
import { CALL_OPTIONS, type CallOptions, CHANGE_OPTIONS, type ChangeOptions } from "../options.js";
import {
  checkBoolean,
  checkInteger,
  checkKnown,
  checkOptionalText,
  checkText,
  listed,
} from "../protocol/checks.js";
import { invalidField } from "../protocol/invalid.js";
import type { JsonObject } from "../protocol/json.js";
import {
  type Format,
  MESSAGE_ORDERS,
  MESSAGE_VIEWS,
  type MessageOrder,
  type MessageView,
  ON_DUPLICATE,
  type OnDuplicate,
  ROLES,
  type Role,
} from "../protocol/names.js";
import { fromOptionalTimestamp, timeText } from "../protocol/times.js";
import type { StoredRange } from "../types/session.js";
import { requestIdOr } from "./ids.js";
import type { MessageInput } from "./input.js";
import { type SessionSettings, settingsFields } from "./sessions.js";
import { STATE_CHANGE, type StateChange, statePatchOf } from "./state.js";

/** How messages are appended. */
export interface StoreOptions extends ChangeOptions, StateChange {
  /**
   * The provider's format of objects and JSON texts, or "other". Default: by the shape of each
   * message, or "openai" for plain text.
   */
  readonly format?: Format | undefined;
  /** With the format "other", the program whose messages these are, at most 64 characters. */
  readonly formatName?: string | undefined;
  /**
   * What happens to messages whose messageId the session has already: "refuse" (default: nothing is
   * stored) or "skip" (they are left out and counted, and the others are stored).
   */
  readonly onDuplicate?: OnDuplicate | undefined;
  /**
   * Settings with which a missing session is created, in the same commit. An existing session is
   * not changed. Default: SessionNotFound.
   */
  readonly create?: SessionSettings | undefined;
  /** Store nothing unless the session's lastSeq is this; 0 = the session must be empty. */
  readonly expectedLastSeq?: number | undefined;
  /**
   * Store nothing unless the session's epoch is this, for callers that continue after a seq.
   * Default: no check.
   */
  readonly expectedEpoch?: number | undefined;
  /** Store nothing unless this is the current etag of the session's state. Default: no check. */
  readonly stateEtag?: string | undefined;
  /**
   * First upload the files inside the messages (data URLs and base64) as assets, and store
   * references to them. true = files of 256 KiB or more; a number = files of at least so many bytes.
   */
  readonly extractFiles?: boolean | number | undefined;
}

/** How one message is appended. */
export interface StoreMessageOptions extends StoreOptions {
  /** Labels of the message: a JSON object of at most 64 KiB. */
  readonly metadata?: JsonObject | undefined;
  /** Seq of the message that this one follows. Default: the previous message. */
  readonly parentSeq?: number | undefined;
  /** The caller's own name of the message, at most 256 characters, unique in its session. */
  readonly messageId?: string | undefined;
}

/** Which messages to read, and how. */
export interface ReadOptions extends CallOptions {
  /** Skip the messages up to this seq. Default: none. */
  readonly afterSeq?: number | undefined;
  /** Skip the messages up to this bookmark. Not together with afterSeq. */
  readonly afterBookmark?: string | undefined;
  /** Skip the messages up to the one with this messageId. Not together with afterSeq. */
  readonly afterMessageId?: string | undefined;
  /**
   * Only the branch that ends with the message of this seq: this message, its parent, and so on to
   * the first message. Default: the messages of all branches.
   */
  readonly branchOf?: number | undefined;
  /** Last seq to read. Default: the newest when the iteration begins. */
  readonly throughSeq?: number | undefined;
  /** Maximum number of messages to read. Default: all. */
  readonly limit?: number | undefined;
  /** "asc" (default), or "desc": from throughSeq backwards; a limit keeps the newest. */
  readonly order?: MessageOrder | undefined;
  /** Only these roles. Default: all. */
  readonly roles?: readonly Role[] | undefined;
  /** Read nothing unless the session's epoch is this (HistoryRewound). Default: no check. */
  readonly expectedEpoch?: number | undefined;
  /**
   * "full" (default), "basic" (only seq, createdAt, role, format and contentBytes) or "parts" (the
   * content of every format as typed parts).
   */
  readonly view?: MessageView | undefined;
}

/** How far a session is rewound. Exactly one of the first four options is required. */
export interface RewindOptions extends Omit<StoreOptions, "create" | "onDuplicate"> {
  /** The last seq to keep. 0 removes all messages. */
  readonly toSeq?: number | undefined;
  /** How many messages to remove, at least 1. If the session has fewer, all are removed. */
  readonly dropLast?: number | undefined;
  /** Keep the messages up to this bookmark. */
  readonly toBookmark?: string | undefined;
  /** Remove the message with this messageId, and all later messages. */
  readonly beforeMessageId?: string | undefined;
  /** Messages to append to the kept history, as storeMessages accepts them. Default: none. */
  readonly messages?: Iterable<MessageInput> | undefined;
  /** How many removed messages to return, the newest ones; at most 1,000. Default: 0. */
  readonly returnRemoved?: number | undefined;
  /** Abort the running turn, if there is one. Default: TurnRunning. */
  readonly abortTurn?: boolean | undefined;
}

export const STORE: ReadonlySet<string> = new Set([
  ...CHANGE_OPTIONS,
  ...STATE_CHANGE,
  "format",
  "formatName",
  "onDuplicate",
  "create",
  "expectedLastSeq",
  "expectedEpoch",
  "stateEtag",
  "extractFiles",
]);
export const REWIND: ReadonlySet<string> = new Set([
  ...CHANGE_OPTIONS,
  ...STATE_CHANGE,
  "format",
  "formatName",
  "expectedLastSeq",
  "expectedEpoch",
  "stateEtag",
  "extractFiles",
  "toSeq",
  "dropLast",
  "toBookmark",
  "beforeMessageId",
  "messages",
  "returnRemoved",
  "abortTurn",
]);
export const STORE_ONE: ReadonlySet<string> = new Set([
  ...STORE,
  "metadata",
  "parentSeq",
  "messageId",
]);
const READ: ReadonlySet<string> = new Set([
  ...CALL_OPTIONS,
  "afterSeq",
  "afterBookmark",
  "afterMessageId",
  "branchOf",
  "throughSeq",
  "limit",
  "order",
  "roles",
  "expectedEpoch",
  "view",
]);

const PLACES = ["toSeq", "dropLast", "toBookmark", "beforeMessageId"] as const;

/** The options of a rewind to a place that the call itself determines. */
export interface RemovalOptions
  extends Omit<RewindOptions, (typeof PLACES)[number] | "messages" | "returnRemoved"> {}

/** Refuse the options that name a place. */
export function checkRemoval(options: RemovalOptions, call: string): void {
  const given: RewindOptions = options;
  for (const place of [...PLACES, "messages", "returnRemoved"] as const) {
    if (given[place] !== undefined) throw invalidField(place, `is not an option of ${call}`);
  }
}

/** Return the fields for a missing session, and for messages that the session already has. */
export function conditionFields({ create, onDuplicate }: StoreOptions) {
  return {
    create: create && Session.create(settingsFields(create)),
    onDuplicate: onDuplicate === undefined ? 0 : ON_DUPLICATE.numberOf(onDuplicate, "onDuplicate"),
  };
}

/** Return the place to which a session is rewound. */
export function rewindTarget(options: RewindOptions): RewindSessionRequest["to"] {
  const { toSeq, dropLast, toBookmark, beforeMessageId } = options;
  checkInteger(toSeq, "toSeq");
  checkInteger(dropLast, "dropLast");
  checkInteger(options.returnRemoved, "returnRemoved");
  checkBoolean(options.abortTurn, "abortTurn");
  const given = [toSeq, dropLast, toBookmark, beforeMessageId];
  if (given.filter((value) => value !== undefined).length !== 1) {
    throw invalidField(
      "to",
      "is required: give exactly one of toSeq, dropLast, toBookmark and beforeMessageId",
    );
  }
  if (toSeq !== undefined) return { $case: "toSeq", value: toSeq };
  if (dropLast !== undefined) return { $case: "dropLast", value: dropLast };
  if (beforeMessageId !== undefined) {
    checkText(beforeMessageId, "beforeMessageId");
    return { $case: "beforeMessageId", value: beforeMessageId };
  }
  checkText(toBookmark, "toBookmark");
  return { $case: "toBookmark", value: toBookmark };
}

/** Return the fields that appends have in common. */
export function appendFields(
  sessionId: string,
  options: Pick<StoreOptions, "expectedLastSeq" | "expectedEpoch" | "stateEtag" | "requestId"> &
    StateChange,
) {
  checkText(sessionId, "sessionId");
  checkInteger(options.expectedLastSeq, "expectedLastSeq");
  checkInteger(options.expectedEpoch, "expectedEpoch");
  checkOptionalText(options.stateEtag, "stateEtag");
  return {
    sessionId,
    expectedLastSeq: options.expectedLastSeq,
    expectedEpoch: options.expectedEpoch,
    statePatch: statePatchOf(options),
    stateEtag: options.stateEtag ?? "",
    requestId: requestIdOr(options.requestId),
  };
}

/** Return the request of a read; the caller applies the timeout. */
export function readRequest(sessionId: string, options: ReadOptions): GetMessagesRequest {
  checkKnown(options, READ, "getMessages");
  checkText(sessionId, "sessionId");
  const { afterSeq, afterBookmark, afterMessageId, throughSeq, limit, order, roles, view } =
    options;
  const places = { afterSeq, afterBookmark, afterMessageId };
  const given = Object.entries(places).filter(([, value]) => value !== undefined);
  if (given.length > 1) {
    const [[first = ""] = [], [second = ""] = []] = given;
    throw invalidField(second, `cannot be combined with ${first}`);
  }
  checkInteger(afterSeq, "afterSeq");
  checkInteger(options.branchOf, "branchOf");
  checkInteger(throughSeq, "throughSeq");
  checkInteger(limit, "limit");
  checkInteger(options.expectedEpoch, "expectedEpoch");
  checkOptionalText(afterBookmark, "afterBookmark");
  checkOptionalText(afterMessageId, "afterMessageId");
  const start: GetMessagesRequest["start"] =
    afterSeq !== undefined
      ? { $case: "afterSeq", value: afterSeq }
      : afterBookmark !== undefined
        ? { $case: "afterBookmark", value: afterBookmark }
        : afterMessageId !== undefined
          ? { $case: "afterMessageId", value: afterMessageId }
          : undefined;
  return GetMessagesRequest.create({
    sessionId,
    start,
    branchOf: options.branchOf ?? 0,
    throughSeq: throughSeq ?? 0,
    limit: limit ?? 0,
    order: order === undefined ? 0 : MESSAGE_ORDERS.numberOf(order, "order"),
    roles: listed(roles ?? [], "roles").map((role, i) => ROLES.numberOf(role, `roles[${i}]`)),
    expectedEpoch: options.expectedEpoch,
    view: view === undefined ? 0 : MESSAGE_VIEWS.numberOf(view, "view"),
  });
}

/** Return the seqs of stored messages. */
export function storedRange(response: StoreMessagesResponse): StoredRange {
  return {
    firstSeq: response.firstSeq,
    lastSeq: response.lastSeq,
    createTime: fromOptionalTimestamp(response.createTime),
    createTimeText: response.createTime && timeText(response.createTime),
    skipped: response.skippedCount,
    epoch: response.epoch,
  };
}
