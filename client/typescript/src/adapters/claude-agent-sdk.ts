/**
 * A `SessionStore` of the Claude Agent SDK for TypeScript (`@anthropic-ai/claude-agent-sdk`), kept
 * by sessiond.
 *
 * Entries are kept byte for byte, as messages of the format "other", each uuid once.
 *
 * @module
 */

import type { Client } from "../client.js";
import { SessionNotFound } from "../errors/index.js";
import type { JsonObject } from "../protocol/json.js";
import { NewMessage } from "../requests/input.js";
import type { SessionInfo } from "../types/session.js";

const FORMAT_NAME = "claude-code";
const MAX_BATCH = 1_000;

/** The key of a transcript: of a session or, with a subpath, of one of its subagents. */
export interface SessionKey {
  readonly projectKey: string;
  readonly sessionId: string;
  readonly subpath?: string | undefined;
}

/** One line of a transcript. */
export interface SessionStoreEntry {
  readonly type: string;
  // Without `| undefined`, as in the SDK's own type.
  readonly uuid?: string;
  readonly timestamp?: string;
  readonly [key: string]: unknown;
}

/** How a ClaudeSessionStore names its sessions. */
export interface ClaudeSessionStoreOptions {
  /** Prefix of the sessions' ids. Default: "claude". */
  readonly prefix?: string | undefined;
  /** User whom new sessions belong to. Default: none. */
  readonly user?: string | undefined;
}

/**
 * A `SessionStore` of the Claude Agent SDK.
 *
 * A transcript is a session "PREFIX/PROJECT_KEY/SESSION_ID[/SUBPATH]"; its parts are
 * percent-encoded in the id, and unchanged in its metadata.
 *
 * @example
 * ```ts
 * const sessionStore = new ClaudeSessionStore(new Client());
 * for await (const message of query({ prompt: "Hello", options: { sessionStore } })) { ... }
 * ```
 */
export class ClaudeSessionStore {
  readonly #client: Client;
  readonly #prefix: string;
  readonly #user: string | undefined;

  constructor(client: Client, { prefix = "claude", user }: ClaudeSessionStoreOptions = {}) {
    this.#client = client;
    this.#prefix = prefix;
    this.#user = user;
  }

  /** Append entries, all or nothing. Those whose uuid the transcript has already are left out. */
  async append(key: SessionKey, entries: readonly SessionStoreEntry[]): Promise<void> {
    if (entries.length === 0) return;
    const messages = entries.map(
      (entry) =>
        new NewMessage({
          blob: entry,
          format: "other",
          formatName: FORMAT_NAME,
          messageId: entry.uuid || undefined,
        }),
    );
    const { projectKey, sessionId, subpath } = key;
    const options = {
      onDuplicate: "skip",
      create: {
        user: this.#user,
        metadata: { claude: { projectKey, sessionId, subpath: subpath || undefined } },
      },
    } as const;
    const { sessions } = this.#client;
    const id = this.#idOf(key);
    if (messages.length <= MAX_BATCH) await sessions.storeMessages(id, messages, options);
    else await sessions.importMessages(id, messages, options);
  }

  /** Return the entries of a transcript. `null` = it was never written. */
  async load(key: SessionKey): Promise<SessionStoreEntry[] | null> {
    try {
      const messages = await this.#client.sessions.getMessages(this.#idOf(key)).toArray();
      return messages.map(({ blob }) => blob as SessionStoreEntry);
    } catch (error) {
      if (error instanceof SessionNotFound) return null;
      throw error;
    }
  }

  /** List a project's sessions, without the transcripts of subagents. */
  async listSessions(projectKey: string): Promise<{ sessionId: string; mtime: number }[]> {
    const found: { sessionId: string; mtime: number }[] = [];
    for await (const info of this.#below(`${this.#prefix}/${part(projectKey)}/`)) {
      const { sessionId, subpath } = partsOf(info);
      if (subpath === undefined) found.push({ sessionId, mtime: info.activeAt.getTime() });
    }
    return found;
  }

  /** Delete a transcript. Deleting a session's transcript also deletes those of its subagents. */
  async delete(key: SessionKey): Promise<void> {
    const { sessions } = this.#client;
    const id = this.#idOf(key);
    await sessions.delete(id, { allowMissing: true });
    if (!key.subpath) await sessions.deleteMany({ sessionIdPrefix: `${id}/` });
  }

  /** List the subpaths of a session's subagents. */
  async listSubkeys(key: { projectKey: string; sessionId: string }): Promise<string[]> {
    const found: string[] = [];
    for await (const info of this.#below(`${this.#idOf(key)}/`)) {
      const { subpath } = partsOf(info);
      if (subpath !== undefined) found.push(subpath);
    }
    return found;
  }

  #idOf({ projectKey, sessionId, subpath }: SessionKey): string {
    const id = `${this.#prefix}/${part(projectKey)}/${part(sessionId)}`;
    return subpath ? `${id}/${part(subpath)}` : id;
  }

  #below(sessionIdPrefix: string) {
    return this.#client.listSessions({ sessionIdPrefix, order: "id_asc", pageSize: 500 });
  }
}

function part(text: string): string {
  return encodeURIComponent(text);
}

function partsOf({ metadata }: SessionInfo): { sessionId: string; subpath: string | undefined } {
  const parts: JsonObject = metadata.claude ?? {};
  return { sessionId: parts.sessionId ?? "", subpath: parts.subpath };
}
