import { ExportCalls } from "./exports.js";
import { Session as SessionProto } from "./gen/sessiond/v1/session.js";
import {
  CopySessionRequest,
  CreateSessionRequest,
  DeleteSessionsRequest,
  ListCopiesRequest,
  ListSessionsRequest,
  UpdateSessionRequest,
} from "./gen/sessiond/v1/session_service.js";
import type { PagedList } from "./lazy.js";
import { sessionMethods } from "./methods.js";
import { CALL_OPTIONS, type CallOptions, CHANGE_OPTIONS, type ChangeOptions } from "./options.js";
import {
  checkBoolean,
  checkInteger,
  checkKnown,
  checkOptionalText,
  checkText,
} from "./protocol/checks.js";
import { invalidField } from "./protocol/invalid.js";
import type { JsonObject } from "./protocol/json.js";
import { SESSION_ORDERS, type SessionOrder } from "./protocol/names.js";
import { toConfig, toStruct } from "./protocol/structs.js";
import { fromTimestamp } from "./protocol/times.js";
import { optionalId, requestIdOr } from "./requests/ids.js";
import {
  CONDITIONS,
  filterOf,
  SETTINGS,
  type SessionConditions,
  type SessionSettings,
  settingsFields,
  settingsMask,
} from "./requests/sessions.js";
import { STATE_CHANGE, type StateChange, statePatchOf } from "./requests/state.js";
import {
  type CopyResult,
  type DeletedSessions,
  type SessionCopy,
  type SessionInfo,
  sessionOf,
  type TokenCounts,
} from "./types/session.js";

const DELETE_TIMEOUT_MS = 600_000;

/** How a session is created. */
export interface CreateSessionOptions extends ChangeOptions, SessionSettings {
  /** 1 to 1,024 characters, unique in the project. Default: a UUIDv7. */
  readonly sessionId?: string | undefined;
  /** If the session exists already, return it unchanged. Default: SessionAlreadyExists. */
  readonly getOrCreate?: boolean | undefined;
  /** The state of a new session: a JSON object of at most 1 MiB. Default: empty. */
  readonly state?: JsonObject | undefined;
}

/** Which sessions to list, and how. `timeoutMs` covers each call. */
export interface ListSessionsOptions extends CallOptions, SessionConditions {
  /** "active_desc" (default: the most recently active first), "active_asc", "created_desc", ... */
  readonly order?: SessionOrder | undefined;
  /** Sessions per call, 1 to 500. Default: 50. */
  readonly pageSize?: number | undefined;
  /** Also return the states of the sessions. Default: false. */
  readonly withState?: boolean | undefined;
}

/** How a session is changed. Settings that are not given are not changed. */
export interface UpdateSessionOptions extends ChangeOptions, SessionSettings, StateChange {
  /**
   * A JSON merge patch (RFC 7396) of config: keys with a value are set, and keys with null are
   * deleted; `model_options` is replaced as a whole. Not together with config.
   */
  readonly configPatch?: JsonObject | undefined;
  /** A merge patch of metadata. Not together with metadata. */
  readonly metadataPatch?: JsonObject | undefined;
  /** The call fails unless this is the session's current etag. Default: no check. */
  readonly etag?: string | undefined;
  /** The call fails unless this is the current etag of the session's state. Default: no check. */
  readonly stateEtag?: string | undefined;
}

/** Options of a copy. Settings and keys of the state that are not given are those of the source. */
export interface CopyOptions extends ChangeOptions, SessionSettings, StateChange {
  /** 1 to 1,024 characters, unique in the project. Default: a UUIDv7. */
  readonly newSessionId?: string | undefined;
  /** Seq of the last message to copy; 0 = no messages. Default: the newest. */
  readonly upToSeq?: number | undefined;
  /** Copy the messages up to this bookmark. Not together with upToSeq. */
  readonly upToBookmark?: string | undefined;
  /** Copy the progress of the processing queues. Default: all messages of the copy are pending. */
  readonly keepProcessingStatus?: boolean | undefined;
  /** Copy the tasks' links to messages. Default: the links are not copied. */
  readonly keepTaskLinks?: boolean | undefined;
}

/** How a session is deleted. */
export interface DeleteSessionOptions extends ChangeOptions {
  /** Do nothing if there is no such session. Default: SessionNotFound. */
  readonly allowMissing?: boolean | undefined;
  /** The call fails unless this is the session's current etag. Default: no check. */
  readonly etag?: string | undefined;
}

/** Which sessions to delete. `timeoutMs` covers the whole call. Default: 600,000. */
export interface DeleteSessionsOptions extends ChangeOptions, SessionConditions {
  /** Must be true if no condition is given. */
  readonly all?: boolean | undefined;
  /** Only count the sessions; delete nothing. */
  readonly dryRun?: boolean | undefined;
}

/** How a list is fetched. `timeoutMs` covers each call. */
export interface ListOptions extends CallOptions {
  /** Items per call, 1 to 500. Default: 50. */
  readonly pageSize?: number | undefined;
}

const CREATE: ReadonlySet<string> = new Set([
  ...CHANGE_OPTIONS,
  ...SETTINGS,
  "sessionId",
  "getOrCreate",
  "state",
]);
const LIST: ReadonlySet<string> = new Set([
  ...CALL_OPTIONS,
  ...CONDITIONS,
  "order",
  "pageSize",
  "withState",
]);
const UPDATE: ReadonlySet<string> = new Set([
  ...CHANGE_OPTIONS,
  ...SETTINGS,
  "configPatch",
  "metadataPatch",
  ...STATE_CHANGE,
  "stateEtag",
  "etag",
]);
const COPY: ReadonlySet<string> = new Set([
  ...CHANGE_OPTIONS,
  ...SETTINGS,
  ...STATE_CHANGE,
  "newSessionId",
  "upToSeq",
  "upToBookmark",
  "keepProcessingStatus",
  "keepTaskLinks",
]);
const DELETE_MANY: ReadonlySet<string> = new Set([
  ...CHANGE_OPTIONS,
  ...CONDITIONS,
  "all",
  "dryRun",
]);

/**
 * The calls about sessions, their messages and their turns, by session id.
 *
 * In addition to the errors listed for each call, all calls throw InvalidField, Unauthenticated,
 * Unavailable, Overloaded, DeadlineExceeded, InternalError and ClientClosed.
 */
export class Sessions extends ExportCalls {
  /**
   * Create a session.
   *
   * @throws SessionAlreadyExists if the id is taken, unless getOrCreate is set.
   */
  async create(options: CreateSessionOptions = {}): Promise<SessionInfo> {
    checkKnown(options, CREATE, "create");
    checkBoolean(options.getOrCreate, "getOrCreate");
    const request = CreateSessionRequest.create({
      session: {
        ...settingsFields(options),
        sessionId: optionalId(options.sessionId, "sessionId"),
      },
      getOrCreate: options.getOrCreate ?? false,
      statePatch: statePatchOf(options),
      requestId: requestIdOr(options.requestId),
    });
    return sessionOf(await this.connection.call(sessionMethods.createSession, request, options));
  }

  /**
   * Return a session.
   *
   * @throws SessionNotFound if there is no such session.
   */
  async get(sessionId: string, options: CallOptions = {}): Promise<SessionInfo> {
    checkText(sessionId, "sessionId");
    return sessionOf(await this.connection.call(sessionMethods.getSession, { sessionId }, options));
  }

  /**
   * List the project's sessions, fetched page by page during the iteration.
   *
   * @returns a lazy list; `.page(token)` fetches one page of it.
   */
  list(options: ListSessionsOptions = {}): PagedList<SessionInfo> {
    checkKnown(options, LIST, "list");
    checkInteger(options.pageSize, "pageSize");
    const request = ListSessionsRequest.create({
      filter: filterOf(options),
      order: options.order === undefined ? 0 : SESSION_ORDERS.numberOf(options.order, "order"),
      pageSize: options.pageSize ?? 0,
      withState: options.withState ?? false,
    });
    return this.paged(sessionMethods.listSessions, request, options, ({ sessions }) =>
      sessions.map(sessionOf),
    );
  }

  /**
   * Permanently delete all sessions that meet the conditions, with their messages.
   *
   * `deleteMany({ user: "ada" })` deletes the sessions of a user. The server works in batches: if
   * the call ends early, the deleted sessions stay deleted, and repeating the call deletes the
   * rest. Sessions created during the call are kept. So are sessions that others have locked for
   * about two seconds; the result counts and names them.
   */
  async deleteMany(options: DeleteSessionsOptions): Promise<DeletedSessions> {
    checkKnown(options, DELETE_MANY, "deleteMany");
    // An empty condition is more likely an unset variable than a wish for all sessions.
    for (const field of ["sessionIdPrefix", "user", "model"] as const) {
      if (options[field] === "") {
        throw invalidField(field, "is empty; leave it out to not filter by it");
      }
    }
    const request = DeleteSessionsRequest.create({
      filter: filterOf(options),
      all: options.all ?? false,
      dryRun: options.dryRun ?? false,
      requestId: requestIdOr(options.requestId),
    });
    return await this.connection.call(sessionMethods.deleteSessions, request, {
      signal: options.signal,
      timeoutMs: options.timeoutMs ?? DELETE_TIMEOUT_MS,
    });
  }

  /**
   * Create an independent session that begins like this one, in constant time.
   *
   * The copy has the messages with their seqs, parents and times, the tasks, the bookmarks up to
   * the last copied message, and all settings that are not overridden here. It shares the assets.
   * The copy is active, even if the source is destroyed.
   *
   * @throws SessionNotFound if there is no such session.
   * @throws SessionAlreadyExists if the new id is taken.
   * @throws SessionTooLarge if the source is larger than the operator allows for copies.
   * @throws MessageNotFound if no message has the seq upToSeq.
   * @throws BookmarkNotFound if the bookmark upToBookmark does not exist.
   */
  async copy(sessionId: string, options: CopyOptions = {}): Promise<CopyResult> {
    checkKnown(options, COPY, "copy");
    checkText(sessionId, "sessionId");
    const { upToSeq, upToBookmark } = options;
    checkInteger(upToSeq, "upToSeq");
    checkOptionalText(upToBookmark, "upToBookmark");
    if (upToSeq !== undefined && upToBookmark !== undefined) {
      throw invalidField("upToSeq", "cannot be given together with upToBookmark");
    }
    const cut: CopySessionRequest["cut"] =
      upToSeq !== undefined
        ? { $case: "upToSeq", value: upToSeq }
        : upToBookmark !== undefined
          ? { $case: "upToBookmark", value: upToBookmark }
          : undefined;
    const request = CopySessionRequest.create({
      ...settingsFields(options),
      sessionId,
      newSessionId: optionalId(options.newSessionId, "newSessionId"),
      cut,
      keepProcessingStatus: options.keepProcessingStatus ?? false,
      keepTaskLinks: options.keepTaskLinks ?? false,
      statePatch: statePatchOf(options),
      requestId: requestIdOr(options.requestId),
    });
    const response = await this.connection.call(sessionMethods.copySession, request, options);
    return {
      oldSessionId: response.oldSessionId,
      newSessionId: response.newSessionId,
      session: sessionOf(response.session ?? SessionProto.create()),
    };
  }

  /**
   * List the copies of a session that still exist, the newest first.
   *
   * Iterating throws SessionNotFound if there is no such session.
   */
  copies(sessionId: string, options: ListOptions = {}): PagedList<SessionCopy> {
    checkText(sessionId, "sessionId");
    checkInteger(options.pageSize, "pageSize");
    const request = ListCopiesRequest.create({ sessionId, pageSize: options.pageSize ?? 0 });
    return this.paged(sessionMethods.listCopies, request, options, ({ copies }) =>
      copies.map((copy) => ({
        sessionId: copy.sessionId,
        seq: copy.seq,
        createdAt: fromTimestamp(copy.createTime),
      })),
    );
  }

  /**
   * Return the number of tokens of a session's messages, as counted when they were stored.
   *
   * @throws SessionNotFound if there is no such session.
   */
  async getTokenCounts(sessionId: string, options: CallOptions = {}): Promise<TokenCounts> {
    checkText(sessionId, "sessionId");
    return await this.connection.call(sessionMethods.getTokenCounts, { sessionId }, options);
  }

  /**
   * Change settings of a session, all or nothing. config and metadata are replaced as a whole.
   *
   * @throws SessionNotFound if there is no such session.
   * @throws ETagMismatch if the session's current etag differs.
   */
  async update(sessionId: string, options: UpdateSessionOptions): Promise<SessionInfo> {
    checkKnown(options, UPDATE, "update");
    checkText(sessionId, "sessionId");
    const { configPatch, metadataPatch } = options;
    const request = UpdateSessionRequest.create({
      session: { ...settingsFields(options), sessionId },
      updateMask: settingsMask(options),
      configPatch: configPatch && toConfig(configPatch, "configPatch"),
      metadataPatch: metadataPatch && toStruct(metadataPatch, "metadataPatch"),
      etag: options.etag ?? "",
      statePatch: statePatchOf(options),
      stateEtag: options.stateEtag ?? "",
      requestId: requestIdOr(options.requestId),
    });
    return sessionOf(await this.connection.call(sessionMethods.updateSession, request, options));
  }

  /**
   * Make a destroyed session active again. An active session is not changed.
   *
   * @throws SessionNotFound if there is no such session.
   */
  async resume(sessionId: string, options: ChangeOptions = {}): Promise<SessionInfo> {
    checkText(sessionId, "sessionId");
    const request = { sessionId, requestId: requestIdOr(options.requestId) };
    return sessionOf(await this.connection.call(sessionMethods.resumeSession, request, options));
  }

  /**
   * Close a session to appends. It can still be listed and read.
   *
   * @throws SessionNotFound if there is no such session.
   */
  async destroy(sessionId: string, options: ChangeOptions = {}): Promise<SessionInfo> {
    checkText(sessionId, "sessionId");
    const request = { sessionId, requestId: requestIdOr(options.requestId) };
    return sessionOf(await this.connection.call(sessionMethods.destroySession, request, options));
  }

  /**
   * Delete a session and its messages permanently.
   *
   * @throws SessionNotFound if there is no such session, unless allowMissing is set.
   * @throws ETagMismatch if the session's current etag differs.
   */
  async delete(sessionId: string, options: DeleteSessionOptions = {}): Promise<void> {
    checkText(sessionId, "sessionId");
    const request = {
      sessionId,
      allowMissing: options.allowMissing ?? false,
      etag: options.etag ?? "",
      requestId: requestIdOr(options.requestId),
    };
    await this.connection.call(sessionMethods.deleteSession, request, options);
  }
}
