import type * as proto from "../gen/sessiond/v1/session.js";
import { type JsonObject, parseObject } from "../protocol/json.js";
import { SESSION_STATUSES, type SessionStatus } from "../protocol/names.js";
import { fromConfig } from "../protocol/structs.js";
import { fromDuration, fromOptionalTimestamp, fromTimestamp, timeText } from "../protocol/times.js";
import type { Message } from "./message.js";

/** A session as the server returned it; it does not change afterwards. */
export interface SessionInfo {
  /** The session's id, unique in its project. */
  readonly sessionId: string;
  /** Whether the session accepts appends: "active", or "destroyed" until it is resumed. */
  readonly status: SessionStatus | "unknown";
  /** Name of the model that answers in the session. Empty = none chosen. */
  readonly model: string;
  /** The user that the session belongs to. Empty = none. */
  readonly user: string;
  /** A title for people to read. Empty = none. */
  readonly title: string;
  /** The title, or else the first words of the first user message. Empty = neither exists. */
  readonly summary: string;
  /** The session's settings; `model_options` keeps the order of its keys. */
  readonly config: JsonObject;
  /** The caller's labels. */
  readonly metadata: JsonObject;
  /** The seq of the newest message. 0 = no message yet. */
  readonly lastSeq: number;
  /**
   * Number of rewinds that have removed messages of the session. Within an epoch, a seq always
   * names the same message.
   */
  readonly epoch: number;
  /** Number of messages in the session. */
  readonly messageCount: number;
  /** Size of the messages' contents, in bytes. */
  readonly contentBytes: number;
  /** Number of tokens of the messages, in the encoding that `getTokenCounts` names. */
  readonly tokenCount: number;
  /** The part of tokenCount that is an estimate. */
  readonly estimatedTokenCount: number;
  /** The session that this one was copied from. `undefined` = it is no copy. */
  readonly origin: SessionOrigin | undefined;
  /** Time of creation, truncated to milliseconds. */
  readonly createdAt: Date;
  /** Time of creation with microseconds, as ISO 8601 in UTC. */
  readonly createdAtText: string;
  /** Time of the last append or change, truncated to milliseconds. */
  readonly activeAt: Date;
  /** Time of the last append or change with microseconds, as ISO 8601 in UTC. */
  readonly activeAtText: string;
  /** How long the session lives unused, in milliseconds. `undefined` = it never expires. */
  readonly idleTtlMs: number | undefined;
  /** Whether the session is kept until it is deleted. */
  readonly neverExpires: boolean;
  /** Time of expiry without further activity. `undefined` = never. */
  readonly expiresAt: Date | undefined;
  /**
   * The state, which programs store with the session. `undefined` = the call does not return it:
   * get, create and update do, and list with `withState`.
   */
  readonly state: JsonObject | undefined;
  /** The state as JSON text; its values are byte for byte as they were stored. */
  readonly stateJson: string | undefined;
  /** An opaque version of the state. Empty = the call did not return the state. */
  readonly stateEtag: string;
  /** An opaque version that changes with everything but the messages, the state and the times. */
  readonly etag: string;
}

/** The source of a copy. It stays the same even if the source changes or is deleted. */
export interface SessionOrigin {
  /** The source's id at the time of the copy. */
  readonly sessionId: string;
  /** The last seq that was copied. 0 = no message. */
  readonly seq: number;
}

/** The seqs of stored messages: firstSeq to lastSeq, without gaps. */
export interface StoredRange {
  /** The seq of the first message. 0 = all messages were skipped. */
  readonly firstSeq: number;
  /** The seq of the last message; if all messages were skipped, the session's lastSeq. */
  readonly lastSeq: number;
  /** Time of storage, truncated to milliseconds. `undefined` = all messages were skipped. */
  readonly createTime: Date | undefined;
  /** Time of storage with microseconds, as ISO 8601 in UTC. */
  readonly createTimeText: string | undefined;
  /** Number of messages that were left out because the session had their messageIds. */
  readonly skipped: number;
  /** The session's epoch, to which the seqs belong. See `SessionInfo.epoch`. */
  readonly epoch: number;
}

/** The result of a rewind. */
export interface RewindResult {
  /** The session's lastSeq, including the appended messages. */
  readonly lastSeq: number;
  /** The session's epoch. A rewind that removed no message has not changed it. */
  readonly epoch: number;
  /** The seq of the first appended message. `undefined` = none was appended. */
  readonly firstSeq: number | undefined;
  /** Number of removed messages. */
  readonly removedCount: number;
  /** The newest removed messages, at most returnRemoved, in the order of their seqs. */
  readonly removed: readonly Message[];
}

/** The result of a copy. */
export interface CopyResult {
  /** The source's id. */
  readonly oldSessionId: string;
  /** The copy's id. */
  readonly newSessionId: string;
  /** The copy. */
  readonly session: SessionInfo;
}

/** A copy of a session. */
export interface SessionCopy {
  /** The copy's id. */
  readonly sessionId: string;
  /** The last seq that was copied. */
  readonly seq: number;
  /** Time of the copy. */
  readonly createdAt: Date;
}

/**
 * Number of tokens of a session's messages: text, reasoning, tool calls and tool results; not
 * roles, images, audio or files.
 */
export interface TokenCounts {
  /** The number of tokens, counted and estimated. */
  readonly totalTokens: number;
  /** The part that is estimated, at 4 bytes of UTF-8 per token. 0 = all was counted. */
  readonly estimatedTokens: number;
  /** The vocabulary: "o200k_base", for every model. */
  readonly encoding: string;
  /** Number of messages in the session. */
  readonly messageCount: number;
}

/** The result of a deletion by filter. With dryRun, it describes what a deletion would delete. */
export interface DeletedSessions {
  /** Number of deleted sessions. */
  readonly sessionCount: number;
  /**
   * Number of messages in the deleted sessions. A message that copies share counts once for each
   * copy.
   */
  readonly messageCount: number;
  /**
   * Number of matching sessions that were kept, because others had locked them for about two
   * seconds. A repeated call deletes them.
   */
  readonly lockedCount: number;
  /** The ids of the sessions that lockedCount counts, at most 100. */
  readonly lockedSessionIds: readonly string[];
}

export function sessionOf(session: proto.Session): SessionInfo {
  const idleTtl = session.expiry?.$case === "idleTtl" ? session.expiry.value : undefined;
  return {
    sessionId: session.sessionId,
    status: SESSION_STATUSES.nameOf(session.status) ?? "unknown",
    model: session.model,
    user: session.user,
    title: session.title,
    summary: session.summary,
    config: fromConfig(session.config),
    metadata: session.metadata ?? {},
    lastSeq: session.lastSeq,
    epoch: session.epoch,
    messageCount: session.messageCount,
    contentBytes: session.contentBytes,
    tokenCount: session.tokenCount,
    estimatedTokenCount: session.estimatedTokenCount,
    origin: session.origin && { ...session.origin },
    createdAt: fromTimestamp(session.createTime),
    createdAtText: timeText(session.createTime),
    activeAt: fromTimestamp(session.activeTime),
    activeAtText: timeText(session.activeTime),
    idleTtlMs: idleTtl && fromDuration(idleTtl),
    neverExpires: idleTtl === undefined,
    expiresAt: fromOptionalTimestamp(session.expireTime),
    state: session.stateJson === undefined ? undefined : parseObject(session.stateJson),
    stateJson: session.stateJson,
    stateEtag: session.stateEtag,
    etag: session.etag,
  };
}
