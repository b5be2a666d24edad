/**
 * Acontext's API on top of sessiond: a program changes only its import.
 *
 * Results have their fields in both spellings, `newSessionId` and `new_session_id`: Acontext's
 * documentation uses the first, its SDK the second.
 *
 * @module
 */

import { Client } from "../client.js";
import {
  Cancelled,
  ClientClosed,
  DeadlineExceeded,
  InvalidField,
  SessiondError,
  SessionTooLarge,
  type StatusCode,
  Unavailable,
} from "../errors/index.js";
import type { JsonObject } from "../protocol/json.js";
import type { Format } from "../protocol/names.js";
import type { Message } from "../types/message.js";
import type { SessionInfo } from "../types/session.js";

const KEY_PREFIX = "sk-sessiond-";
const DEFAULT_LIMIT = 20;

/** The options of an AcontextClient. */
export interface AcontextClientOptions {
  /**
   * An API key of sessiond ("sk-sessiond-..."). Other keys, such as Acontext's, are not sent; a
   * server that requires keys then answers API_KEY_MISSING. Default: `$SESSIOND_API_KEY`, or none.
   */
  readonly apiKey?: string | null | undefined;
  /**
   * "http://HOST:PORT", "https://HOST:PORT" (TLS) or HOST:PORT of a sessiond server. Default:
   * `$SESSIOND_TARGET`, or localhost:50051.
   */
  readonly baseUrl?: string | null | undefined;
  /** Milliseconds for a call, over all its attempts. Default: 30,000. */
  readonly timeout?: number | null | undefined;
}

/** The base of all errors of the calls. Its `cause` is sessiond's own error. */
export class AcontextError extends Error {
  override readonly name: string = "AcontextError";
}

/** The server refused a call. The message has the reason, e.g. `SESSION_NOT_FOUND`. */
export class APIError extends AcontextError {
  override readonly name = "APIError";

  constructor(
    /** The closest HTTP status, e.g. 404. */
    readonly statusCode: number,
    message: string,
    /** The reason alone, e.g. "SESSION_NOT_FOUND". */
    readonly error: string,
    /** Details of the reason, e.g. `{ session_id: "..." }`. */
    readonly payload: Readonly<Record<string, string>>,
    options?: ErrorOptions,
  ) {
    super(`${statusCode}: ${message}`, options);
  }

  /** The same as statusCode. */
  get code(): number {
    return this.statusCode;
  }
}

/** The server did not answer, even after the client's retries. */
export class TransportError extends AcontextError {
  override readonly name = "TransportError";
}

// The closest HTTP status of each code; the reason in the text is more precise.
const STATUSES: Partial<Record<StatusCode, number>> = {
  INVALID_ARGUMENT: 400,
  UNAUTHENTICATED: 401,
  PERMISSION_DENIED: 403,
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
  ABORTED: 409,
  FAILED_PRECONDITION: 409,
  RESOURCE_EXHAUSTED: 429,
  UNIMPLEMENTED: 501,
};

async function translated<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (
      error instanceof Unavailable ||
      error instanceof DeadlineExceeded ||
      error instanceof Cancelled ||
      error instanceof ClientClosed
    ) {
      throw new TransportError(error.message, { cause: error });
    }
    if (!(error instanceof SessiondError)) throw error;
    const status = error instanceof SessionTooLarge ? 413 : (STATUSES[error.code] ?? 500);
    throw new APIError(status, error.message, error.reason, error.metadata, { cause: error });
  }
}

type Snake<Key> = Key extends `${infer Head}${infer Tail}`
  ? Head extends Lowercase<Head>
    ? `${Head}${Snake<Tail>}`
    : `_${Lowercase<Head>}${Snake<Tail>}`
  : Key;

/** An object that has its keys in both spellings. */
export type BothSpellings<T> = T & { readonly [Key in keyof T as Snake<Key>]: T[Key] };

function both<T extends object>(value: T): BothSpellings<T> {
  const spelt = Object.entries(value).map(([key, item]) => [
    key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    item,
  ]);
  return { ...value, ...Object.fromEntries(spelt) };
}

/** A session. */
export type AcontextSession = BothSpellings<{
  /** The session's id. */
  id: string;
  /** The user's name, since sessiond has no ids for users. `null` = no user. */
  userId: string | null;
  /** The session's settings. */
  configs: JsonObject;
  /** Always true: sessiond creates no tasks by itself. */
  disableTaskTracking: boolean;
  /** Time of creation. ISO 8601, in UTC. */
  createdAt: string;
  /** Time of the last append or change. ISO 8601, in UTC. */
  updatedAt: string;
}>;

/** A stored message. */
export type AcontextMessage = BothSpellings<{
  /** "SESSION_ID/SEQ". */
  id: string;
  sessionId: string;
  /** The id of the previous message. `null` = this is the first one. */
  parentId: string | null;
  /** The role in the blob. */
  role: string;
  /** The caller's labels. */
  meta: JsonObject;
  /** Time of storage. ISO 8601, in UTC. */
  createdAt: string;
  updatedAt: string;
}>;

/** The result of a copy. */
export type AcontextCopyResult = BothSpellings<{ oldSessionId: string; newSessionId: string }>;

/** The number of tokens of a session's messages. */
export type AcontextTokenCounts = BothSpellings<{ totalTokens: number }>;

/** A page of sessions. */
export type AcontextSessions = BothSpellings<{
  items: AcontextSession[];
  nextCursor: string | null;
  hasMore: boolean;
}>;

/** A page of messages in their provider's format, oldest first. */
export type AcontextMessages = BothSpellings<{
  items: JsonObject[];
  ids: string[];
  metas: JsonObject[];
  nextCursor: string | null;
  hasMore: boolean;
  thisTimeTokens: number;
  publicUrls: JsonObject;
}>;

/** Acontext's client. */
export class AcontextClient {
  /** The calls about sessions. */
  readonly sessions: AcontextSessionCalls;
  readonly #client: Client;

  constructor({ apiKey, baseUrl, timeout }: AcontextClientOptions = {}) {
    const isUrl = baseUrl ? /^\w+:\/\//.test(baseUrl) : false;
    const url = isUrl ? new URL(baseUrl as string) : undefined;
    this.#client = new Client({
      target: url ? url.host : baseUrl || undefined,
      // Another service's key must not be disclosed, and even a server without keys would refuse it.
      apiKey: apiKey?.startsWith(KEY_PREFIX) ? apiKey : undefined,
      timeoutMs: timeout ?? undefined,
      tls: url?.protocol === "https:",
    });
    this.sessions = new AcontextSessionCalls(this.#client);
  }

  /** End the running calls and close the connection. */
  async close(): Promise<void> {
    await this.#client.close();
  }

  /** The same as close(), for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** The calls about sessions. All throw AcontextErrors. */
export class AcontextSessionCalls {
  readonly #client: Client;

  /** @internal */
  constructor(client: Client) {
    this.#client = client;
  }

  /**
   * Create a session.
   *
   * @param options - `useUuid` is the session's id, which may be any string; an existing session of
   *   this id is returned unchanged. `disableTaskTracking` is ignored.
   */
  async create(
    options: {
      user?: string | null;
      disableTaskTracking?: boolean | null;
      configs?: JsonObject | null;
      useUuid?: string | null;
    } = {},
  ): Promise<AcontextSession> {
    return await translated(async () =>
      sessionOf(
        await this.#client.sessions.create({
          sessionId: options.useUuid ?? undefined,
          getOrCreate: options.useUuid != null,
          user: options.user ?? undefined,
          config: options.configs ?? undefined,
        }),
      ),
    );
  }

  /** Return a page of the project's sessions, ordered by creation; at most 500, by default 20. */
  async list(
    options: {
      user?: string | null;
      limit?: number | null;
      cursor?: string | null;
      timeDesc?: boolean | null;
      filterByConfigs?: JsonObject | null;
    } = {},
  ): Promise<AcontextSessions> {
    return await translated(async () => {
      const page = await this.#client.sessions
        .list({
          user: options.user ?? undefined,
          configContains: options.filterByConfigs ?? undefined,
          order: options.timeDesc ? "created_desc" : "created_asc",
          pageSize: options.limit || DEFAULT_LIMIT,
        })
        .page(options.cursor ?? "");
      return both({
        items: page.items.map(sessionOf),
        nextCursor: page.nextPageToken ?? null,
        hasMore: page.nextPageToken !== undefined,
      });
    });
  }

  /** Delete a session and its messages permanently. */
  async delete(sessionId: string): Promise<void> {
    await translated(() => this.#client.sessions.delete(sessionId));
  }

  /** Create an independent copy of a session of any size. */
  async copy(sessionId: string): Promise<AcontextCopyResult> {
    return await translated(async () => {
      const { oldSessionId, newSessionId } = await this.#client.sessions.copy(sessionId);
      return both({ oldSessionId, newSessionId });
    });
  }

  /** Return the session, with its configs. */
  async getConfigs(sessionId: string): Promise<AcontextSession> {
    return await translated(async () => sessionOf(await this.#client.sessions.get(sessionId)));
  }

  /** Replace the configs. */
  async updateConfigs(sessionId: string, options: { configs: JsonObject }): Promise<void> {
    await translated(() => this.#client.sessions.update(sessionId, { config: options.configs }));
  }

  /** Change some of the configs (null deletes a key), and return all configs. */
  async patchConfigs(sessionId: string, options: { configs: JsonObject }): Promise<JsonObject> {
    return await translated(
      async () =>
        (await this.#client.sessions.update(sessionId, { configPatch: options.configs })).config,
    );
  }

  /** Append one message. It is committed when this resolves. */
  async storeMessage(
    sessionId: string,
    blob: object,
    options: { format?: Format; meta?: JsonObject | null } = {},
  ): Promise<AcontextMessage> {
    return await translated(async () => {
      const stored = await this.#client.sessions.storeMessage(sessionId, blob, {
        format: options.format,
        metadata: options.meta ?? undefined,
      });
      const seq = stored.lastSeq;
      return both({
        id: `${sessionId}/${seq}`,
        sessionId,
        parentId: seq > 1 ? `${sessionId}/${seq - 1}` : null,
        role: "role" in blob ? String(blob.role) : "",
        meta: options.meta ?? {},
        createdAt: stored.createTimeText ?? "",
        updatedAt: stored.createTimeText ?? "",
      });
    });
  }

  /**
   * Return a page of messages, oldest first; by default all of them.
   *
   * @param options - `format`, by default "openai", must be that of the stored messages.
   */
  async getMessages(
    sessionId: string,
    options: {
      limit?: number | null;
      cursor?: string | null;
      format?: Format;
      timeDesc?: boolean | null;
      withAssetPublicUrl?: boolean | null;
    } = {},
  ): Promise<AcontextMessages> {
    return await translated(async () => {
      const { limit, cursor, format = "openai", timeDesc } = options;
      if (cursor && !/^\d+$/.test(cursor)) {
        throw new InvalidField("cursor is malformed; pass nextCursor of the page before");
      }
      const start = Number(cursor || 0);
      const found = await this.#client.sessions
        .getMessages(sessionId, {
          afterSeq: timeDesc ? undefined : start,
          // A backward page that ends at message 1 has no cursor, so every cursor is above 1.
          throughSeq: timeDesc && start > 1 ? start - 1 : undefined,
          order: timeDesc ? "desc" : "asc",
          limit: limit ? limit + 1 : undefined,
        })
        .toArray();
      return messagesOf(found, limit || found.length, format, Boolean(timeDesc));
    });
  }

  /** Return the number of tokens of the messages. */
  async getTokenCounts(sessionId: string): Promise<AcontextTokenCounts> {
    return await translated(async () => {
      const { totalTokens } = await this.#client.sessions.getTokenCounts(sessionId);
      return both({ totalTokens });
    });
  }
}

function sessionOf(info: SessionInfo): AcontextSession {
  return both({
    id: info.sessionId,
    userId: info.user || null,
    configs: info.config,
    disableTaskTracking: true,
    createdAt: info.createdAtText,
    updatedAt: info.activeAtText,
  });
}

function messagesOf(
  found: readonly Message[],
  limit: number,
  format: Format,
  isNewestFirst: boolean,
): AcontextMessages {
  const page = found.slice(0, limit);
  const hasMore = found.length > page.length;
  const nextCursor = hasMore ? String(page.at(-1)?.seq) : null;
  if (isNewestFirst) page.reverse();
  for (const message of page) {
    if (message.format !== format) {
      const stored = message.format ?? "typed parts";
      throw new InvalidField(
        `format is "${format}", but message ${message.seq} is stored as ${stored}; sessiond does` +
          " not convert messages",
      );
    }
  }
  return both({
    items: page.map((message) => message.blob),
    ids: page.map((message) => message.id),
    metas: page.map((message) => message.metadata),
    nextCursor,
    hasMore,
    thisTimeTokens: page.reduce((sum, message) => sum + message.tokenCount, 0),
    publicUrls: {},
  });
}
