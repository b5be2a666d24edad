/**
 * The session calls of the GitHub Copilot SDK for Node, on top of sessiond's client. The server
 * keeps the sessions and calls the models.
 *
 * Settings and options are taken in both spellings, `sessionId` and `session_id`. Fields that would
 * change the conversation, such as tools, throw a TypeError unless they are empty; those about the
 * SDK's local process, and its permission handlers, are ignored.
 *
 * @module
 */

import { Client } from "../client.js";
import { DeadlineExceeded, SessionNotFound, TurnFailed, TurnNotFound } from "../errors/index.js";
import { isTransient } from "../handlers.js";
import { warn } from "../log.js";
import { Deadline } from "../protocol/retry.js";
import type { Session } from "../session.js";
import type { ListSessionsOptions, UpdateSessionOptions } from "../sessions.js";
import type { EventHandler, EventType } from "../types/event.js";
import type { Message } from "../types/message.js";
import {
  type CopilotClientOptions,
  clientOptionsOf,
  handlerOf,
  type MessageOptions,
  metadataOf,
  promptOf,
  type SessionConfig,
  type SessionMetadata,
  wantedOf,
} from "./copilot-options.js";

export type {
  CopilotClientOptions,
  MessageOptions,
  SessionConfig,
  SessionMetadata,
} from "./copilot-options.js";

const WAIT_TIMEOUT_MS = 60_000;
const DESTROY_TIMEOUT_MS = 60_000;
const RETRY_DELAY_MS = 4_000;

/** The SDK's client. Sessions are on the server and outlive clients. */
export class CopilotClient {
  readonly #client: Client;
  readonly #lifecycle = new Set<AbortController>();

  /**
   * @throws TypeError if an option is unknown.
   * @throws InvalidField if the target or the API key is malformed.
   */
  constructor(options: CopilotClientOptions = {}) {
    this.#client = new Client(clientOptionsOf(options));
  }

  /** Open the connection, which otherwise the first call opens. */
  async start(): Promise<void> {
    this.#client.start();
  }

  /** Close the connection. Sessions are kept, and running turns continue. */
  async stop(): Promise<Error[]> {
    for (const stop of this.#lifecycle) stop.abort();
    this.#lifecycle.clear();
    await this.#client.close();
    return [];
  }

  /** The same as stop(). */
  async forceStop(): Promise<void> {
    await this.stop();
  }

  /** The same as stop(), for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /**
   * Create a session, or continue the existing session with the same id. An existing session keeps
   * its messages and settings; only `infiniteSessions: true` still takes effect.
   *
   * @throws TypeError if a setting is unknown or not supported.
   */
  async createSession(config: SessionConfig = {}): Promise<CopilotSession> {
    const wanted = wantedOf("createSession", config);
    const { model, config: settings, neverExpires } = wanted;
    const options = { model, config: settings, neverExpires };
    const session =
      wanted.sessionId === undefined
        ? await this.#client.createSession(options)
        : await this.#client.getOrCreateSession(wanted.sessionId, options);
    if (neverExpires && !session.info.neverExpires) await session.update({ neverExpires: true });
    if (model && session.info.model !== model) {
      warn(`session ${session.sessionId} already exists and keeps its model ${session.info.model}`);
    }
    return new CopilotSession(session, wanted.onEvent);
  }

  /**
   * Continue a session, destroyed or not.
   *
   * @param config - settings to change, as in createSession.
   * @throws SessionNotFound if the session does not exist.
   */
  async resumeSession(sessionId: string, config: SessionConfig = {}): Promise<CopilotSession> {
    const wanted = wantedOf("resumeSession", config);
    if (wanted.sessionId !== undefined && wanted.sessionId !== sessionId) {
      throw new TypeError("resumeSession() got two different ids");
    }
    const session = await this.#client.resumeSession(sessionId);
    const changes: UpdateSessionOptions = {
      ...(wanted.model && { model: wanted.model }),
      ...(wanted.config && { configPatch: wanted.config }),
      ...(wanted.neverExpires && { neverExpires: true }),
    };
    if (Object.keys(changes).length > 0) await session.update(changes);
    return new CopilotSession(session, wanted.onEvent);
  }

  /**
   * Delete a session and its messages permanently.
   *
   * @throws SessionNotFound if the session does not exist.
   */
  async deleteSession(sessionId: string): Promise<void> {
    await this.#client.deleteSession(sessionId);
  }

  /** Return all sessions, including destroyed ones, most recently active first. */
  async listSessions(filter: ListSessionsOptions = {}): Promise<SessionMetadata[]> {
    return (await this.#client.listSessions(filter).toArray()).map(metadataOf);
  }

  /** Return a session as listSessions does. `undefined` = it does not exist. */
  async getSessionMetadata(sessionId: string): Promise<SessionMetadata | undefined> {
    try {
      return metadataOf(await this.#client.sessions.get(sessionId));
    } catch (error) {
      if (error instanceof SessionNotFound) return undefined;
      throw error;
    }
  }

  /** Return the id of the project's most recently active session. `undefined` = no session. */
  async getLastSessionId(): Promise<string | undefined> {
    return (await this.#client.listSessions({ pageSize: 1 }).first())?.sessionId;
  }

  /** Call a function with lifecycle events of the project's sessions: `on(handler)`, `on(type, handler)`. */
  on(handler: EventHandler): () => void;
  on(type: EventType, handler: EventHandler): () => void;
  on(typeOrHandler: EventType | EventHandler, handler?: EventHandler): () => void {
    const { type, call } = handlerOf("on", typeOrHandler, handler);
    const stop = new AbortController();
    this.#lifecycle.add(stop);
    void this.#follow(type, call, stop.signal);
    return () => {
      this.#lifecycle.delete(stop);
      stop.abort();
    };
  }

  /** Send a small request to the server. */
  async ping(message?: string): Promise<{ message: string; timestamp: number }> {
    await this.getLastSessionId();
    return { message: `pong: ${message ?? ""}`.trimEnd(), timestamp: Date.now() };
  }

  async #follow(
    type: string | undefined,
    handler: EventHandler,
    signal: AbortSignal,
  ): Promise<void> {
    while (!signal.aborted) {
      try {
        const events = this.#client.events({ signal, ...(type && { types: [type] }) });
        for await (const event of events) {
          try {
            await handler(event);
          } catch (error) {
            warn(`a lifecycle handler failed at ${event.type} of ${event.sessionId}`, error);
          }
        }
      } catch (error) {
        if (signal.aborted || !isTransient(error)) return;
        warn(`watching the sessions again later: ${error}`);
        await new Promise((resolve) => setTimeout(resolve, RETRY_DELAY_MS).unref());
      }
    }
  }
}

/** The SDK's session. Clients create it. */
export class CopilotSession {
  readonly #session: Session;
  /** Ids of turns that no call has waited for. */
  readonly #sent = new Set<string>();
  readonly #subscriptions: (() => void)[] = [];
  #isDestroyed = false;

  /** @internal */
  constructor(session: Session, onEvent?: EventHandler) {
    this.#session = session;
    if (onEvent) this.on(onEvent);
  }

  /** The session's id, unique in its project. */
  get sessionId(): string {
    return this.#session.sessionId;
  }

  /** Always `undefined`: a session has no directory. */
  get workspacePath(): undefined {
    return undefined;
  }

  /**
   * Start a turn, and resolve once the server has accepted it. Turns run one at a time.
   *
   * @returns the message's id, as its `id` in getMessages().
   */
  async send(options: string | MessageOptions): Promise<string> {
    const { messageId, turnId } = await this.#session.send(promptOf(options));
    this.#sent.add(turnId);
    return messageId;
  }

  /**
   * Start a turn, and wait for its answer and for handlers to be called with it.
   *
   * @param timeout - milliseconds for the whole wait. Default: 60,000.
   * @returns the answer: `data.content` or `content` is its text.
   * @throws DeadlineExceeded if the timeout passed; the turn continues.
   * @throws TurnFailed if the turn ended without an answer.
   */
  async sendAndWait(
    options: string | MessageOptions,
    timeout: number = WAIT_TIMEOUT_MS,
  ): Promise<Message> {
    try {
      return await this.#session.sendAndWait(promptOf(options), { timeoutMs: timeout });
    } catch (error) {
      if (error instanceof DeadlineExceeded && error.metadata.turn_id) {
        this.#sent.add(error.metadata.turn_id);
      }
      throw error;
    }
  }

  /** Call a function with the session's events until destroy(): `on(handler)`, `on(type, handler)`. */
  on(handler: EventHandler): () => void;
  on(type: EventType, handler: EventHandler): () => void;
  on(typeOrHandler: EventType | EventHandler, handler?: EventHandler): () => void {
    const { type, call } = handlerOf("on", typeOrHandler, handler);
    const remove = type === undefined ? this.#session.on(call) : this.#session.on(type, call);
    this.#subscriptions.push(remove);
    return remove;
  }

  /** Return all messages, oldest first, with `role`, `content`, `id`, `type` and `data.content`. */
  async getMessages(): Promise<Message[]> {
    return await this.#session.getMessages().toArray();
  }

  /** The same as getMessages(): only messages are stored. */
  async getEvents(): Promise<Message[]> {
    return await this.getMessages();
  }

  /** End the running turn. The session stays usable. */
  async abort(): Promise<void> {
    await this.#session.abort();
  }

  /** Use another model from the next turn on. */
  async setModel(model: string): Promise<void> {
    await this.#session.update({ model });
  }

  /**
   * Close the session for all its users, once the turns started by this object have ended. The
   * session is kept and can be resumed. A second call does nothing.
   *
   * @param timeout - milliseconds to wait for the turns. Turns that still run then are aborted.
   *   Default: 60,000.
   */
  async destroy(timeout: number = DESTROY_TIMEOUT_MS): Promise<void> {
    if (this.#isDestroyed) return;
    await this.#waitForSentTurns(timeout);
    for (const remove of this.#subscriptions.splice(0)) remove();
    await this.#session.destroy();
    this.#isDestroyed = true;
  }

  /** The same as destroy(). */
  async disconnect(): Promise<void> {
    await this.destroy();
  }

  /** The same as destroy(), for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy();
  }

  async #waitForSentTurns(timeout: number): Promise<void> {
    if (this.#sent.size === 0) return;
    const deadline = new Deadline(timeout);
    // Fetch the queued turns first, so that a turn that starts in between is in at least one list.
    const queued = await this.#session.turns({ state: "queued" }).toArray();
    const running = await this.#session.turns({ state: "running" }).toArray();
    // The lists begin with the newest turn.
    const open = new Set([...queued, ...running].reverse().map(({ turnId }) => turnId));
    for (const turnId of open) {
      if (!this.#sent.has(turnId)) continue;
      try {
        await this.#session.waitForTurn(turnId, { timeoutMs: deadline.remainingMs() });
      } catch (error) {
        if (error instanceof TurnFailed || error instanceof TurnNotFound) continue;
        if (!(error instanceof DeadlineExceeded)) throw error;
        warn(
          `destroying session ${this.sessionId}, although a turn is running after ${timeout} ms`,
        );
        break;
      }
    }
    this.#sent.clear();
  }
}
