/**
 * A session of the OpenAI Agents SDK for JavaScript (`@openai/agents`), kept by sessiond.
 *
 * Its items are kept byte for byte, as messages of the format "other".
 *
 * @module
 */

import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import type { Client } from "../client.js";
import {
  HistoryRewound,
  MessageNotFound,
  RequestIdReused,
  SequenceConflict,
  SessionNotFound,
} from "../errors/index.js";
import { isObject, type JsonObject } from "../protocol/json.js";
import type { Role } from "../protocol/names.js";
import { NewMessage } from "../requests/input.js";
import type { SessionSettings } from "../requests/sessions.js";
import type { Message } from "../types/message.js";

const FORMAT_NAME = "openai-agents-js";
const MAX_BATCH = 1_000;
const MAX_ATTEMPTS = 10;
const ROLES: ReadonlySet<unknown> = new Set(["user", "assistant", "system"]);

/** The options of an AgentsSession. */
export interface AgentsSessionOptions
  extends Pick<SessionSettings, "user" | "title" | "metadata" | "idleTtlMs"> {
  /** The session's id. Default: a random UUID. */
  readonly sessionId?: string | undefined;
}

/** A change of a session's history, as the SDK describes it. */
export type HistoryTransaction =
  | { readonly type: "append_items"; readonly items: readonly object[] }
  | {
      readonly type: "replace_suffix";
      readonly expectedSuffix: readonly object[];
      readonly replacement: readonly object[];
    };

/** A transaction could not be applied; the history is unchanged. */
export class HistoryTransactionError extends Error {
  override readonly name = "HistoryTransactionError";
}

/**
 * A `Session` of `@openai/agents`, its history transactions included.
 *
 * The session is created by the first append. Items are removed by a rewind: it takes the same time
 * for any size of the session, and copies of the session keep the items.
 *
 * @example
 * ```ts
 * const session = new AgentsSession(new Client(), { sessionId: "user-42", user: "ada" });
 * const result = await run(agent, "Hello", { session });
 * ```
 */
// biome-ignore lint/suspicious/noExplicitAny: the SDK's AgentInputItem, without depending on the SDK.
export class AgentsSession<Item extends object = any> {
  readonly #client: Client;
  readonly #sessionId: string;
  readonly #settings: SessionSettings;
  /** The transactions that this object has applied. Some leave no trace in the history. */
  readonly #applied = new Map<string, string>();

  constructor(client: Client, options: AgentsSessionOptions = {}) {
    const { sessionId, ...settings } = options;
    this.#client = client;
    this.#sessionId = sessionId ?? crypto.randomUUID();
    this.#settings = settings;
  }

  /** Return the session's id. */
  async getSessionId(): Promise<string> {
    return this.#sessionId;
  }

  /**
   * Return the items in chronological order.
   *
   * @param limit - maximum number of items; the latest are returned. 0 = none. Default: all.
   */
  async getItems(limit?: number): Promise<Item[]> {
    if (limit !== undefined && limit <= 0) return [];
    try {
      const found = await this.#client.sessions
        .getMessages(this.#sessionId, { order: "desc", limit })
        .toArray();
      return found.reverse().map(itemOf<Item>);
    } catch (error) {
      if (error instanceof SessionNotFound) return [];
      throw error;
    }
  }

  /** Append items, all or nothing. */
  async addItems(items: readonly Item[]): Promise<void> {
    if (items.length > 0) await this.#append(items, undefined);
  }

  /** Remove and return the latest item. `undefined` = there is none. */
  async popItem(): Promise<Item | undefined> {
    try {
      const options = { dropLast: 1, returnRemoved: 1 };
      const { removed } = await this.#client.sessions.rewind(this.#sessionId, options);
      const [message] = removed;
      return message && itemOf<Item>(message);
    } catch (error) {
      if (error instanceof SessionNotFound) return undefined;
      throw error;
    }
  }

  /** Remove all items. The session stays, and takes new ones. */
  async clearSession(): Promise<void> {
    try {
      await this.#client.sessions.rewind(this.#sessionId, { toSeq: 0 });
    } catch (error) {
      if (!(error instanceof SessionNotFound)) throw error;
    }
  }

  /**
   * Change the history atomically and once: a repeated call with the same operationId and the same
   * transaction changes nothing.
   *
   * @throws HistoryTransactionError if the operationId was used for another transaction, or if the
   *   history does not end with the expected suffix. The history is unchanged.
   */
  async applyHistoryTransaction(args: {
    readonly operationId: string;
    readonly transaction: HistoryTransaction;
  }): Promise<void> {
    const { operationId, transaction } = args;
    if (!operationId) throw new HistoryTransactionError("the operationId is empty");
    // A request_id has at most 128 characters.
    const requestId = `agents-${sha256(operationId)}`;
    const digest = sha256(JSON.stringify(transaction));
    const applied = this.#applied.get(requestId);
    if (applied !== undefined && applied !== digest) throw reused(operationId);
    try {
      if (transaction.type === "append_items") {
        if (transaction.items.length > 0) await this.#append(transaction.items, requestId);
      } else {
        await this.#replace(transaction, requestId, digest);
      }
    } catch (error) {
      if (!(error instanceof RequestIdReused)) throw error;
      if (applied !== digest) throw reused(operationId, error);
    }
    this.#applied.set(requestId, digest);
  }

  async #append(items: readonly object[], requestId: string | undefined): Promise<void> {
    const { sessions } = this.#client;
    const messages = items.map((item) => messageOf(item));
    const options = { create: this.#settings, requestId };
    if (messages.length <= MAX_BATCH) {
      await sessions.storeMessages(this.#sessionId, messages, options);
    } else {
      await sessions.importMessages(this.#sessionId, messages, options);
    }
  }

  async #replace(
    { expectedSuffix, replacement }: Extract<HistoryTransaction, { type: "replace_suffix" }>,
    requestId: string,
    digest: string,
  ): Promise<void> {
    const { sessions } = this.#client;
    const expected = expectedSuffix.map(asJson);
    const messages = replacement.map((item, i) =>
      i === 0 ? messageOf(item, requestId, digest) : messageOf(item),
    );
    for (let attempt = 1; ; attempt++) {
      if (await this.#wasApplied(requestId, digest)) return;
      const { lastSeq, epoch } = await this.#place();
      const toSeq = lastSeq - expected.length;
      const suffix =
        toSeq < 0 || lastSeq === 0
          ? []
          : await sessions
              .getMessages(this.#sessionId, { afterSeq: toSeq, throughSeq: lastSeq })
              .toArray();
      if (toSeq < 0 || !isDeepStrictEqual(suffix.map(itemOf), expected)) {
        if (this.#applied.get(requestId) === digest) return;
        throw new HistoryTransactionError("the history does not end with the expected suffix");
      }
      try {
        await sessions.rewind(this.#sessionId, {
          toSeq,
          messages,
          requestId,
          expectedLastSeq: lastSeq,
          expectedEpoch: epoch,
        });
        return;
      } catch (error) {
        // Another caller has changed the history meanwhile, so compare again.
        const isConflict = error instanceof SequenceConflict || error instanceof HistoryRewound;
        if (!isConflict || attempt === MAX_ATTEMPTS) throw error;
      }
    }
  }

  /**
   * Return whether a transaction was applied. If so, its first message is stored, which has this
   * messageId.
   */
  async #wasApplied(messageId: string, digest: string): Promise<boolean> {
    try {
      const message = await this.#client.sessions.getMessage(this.#sessionId, { messageId });
      if (message.metadata.transaction === digest) return true;
    } catch (error) {
      if (error instanceof MessageNotFound || error instanceof SessionNotFound) return false;
      throw error;
    }
    throw reused(messageId);
  }

  /** Return where the history ends, after creating the session if there is none. */
  async #place(): Promise<{ lastSeq: number; epoch: number }> {
    return await this.#client.sessions.create({
      ...this.#settings,
      sessionId: this.#sessionId,
      getOrCreate: true,
    });
  }
}

function reused(operationId: string, cause?: unknown): HistoryTransactionError {
  return new HistoryTransactionError(
    `the operationId ${operationId} was used for another transaction`,
    { cause },
  );
}

function messageOf(item: object, messageId?: string, transaction?: string): NewMessage {
  const role: unknown = isObject(item) ? item.role : undefined;
  return new NewMessage({
    blob: item,
    format: "other",
    formatName: FORMAT_NAME,
    role: ROLES.has(role) ? (role as Role) : undefined,
    messageId,
    metadata: transaction === undefined ? undefined : { transaction },
  });
}

function itemOf<Item>(message: Message): Item {
  return message.blob as Item;
}

/** Return an item as it will be read: without values that JSON cannot represent. */
function asJson(item: object): JsonObject {
  return JSON.parse(JSON.stringify(item));
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
