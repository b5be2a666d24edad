import { type CallOptions, type ChangeOptions, Connection } from "./connection.js";
import type { PagedList } from "./lazy.js";
import { Session, type SessionContext } from "./session.js";
import {
  type CreateSessionOptions,
  type DeleteSessionOptions,
  type ListSessionsOptions,
  Sessions,
} from "./sessions.js";
import { type ClientOptions, settingsOf } from "./settings.js";
import type { SessionInfo } from "./types/session.js";

/**
 * A connection to a sessiond server, for any number of concurrent calls.
 *
 * The connection is opened by the first call, and closed by close() or at the end of an
 * `await using` block. Creating a client only reads its settings.
 *
 * @example
 * ```ts
 * await using client = new Client();
 * const session = await client.createSession({ user: "ada" });
 * await session.storeMessage({ role: "user", content: "Hello" });
 * for await (const message of session.getMessages()) console.log(message.content);
 * ```
 */
export class Client {
  /** Calls about sessions and messages, by session id. */
  readonly sessions: Sessions;
  readonly #connection: Connection;
  readonly #context: SessionContext;

  /**
   * @throws InvalidField if an option is malformed.
   */
  constructor(options: ClientOptions = {}) {
    this.#connection = new Connection(settingsOf(options));
    this.sessions = new Sessions(this.#connection);
    this.#context = { sessions: this.sessions };
  }

  /** The server's address. */
  get target(): string {
    return this.#connection.settings.target;
  }

  /** Let calls connect again after close(). Nothing is sent. */
  start(): this {
    this.#connection.open();
    return this;
  }

  /** End the running calls and close the connection. Further calls throw ClientClosed. */
  async close(): Promise<void> {
    this.#connection.close();
  }

  /** The same as close(), for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /**
   * Create a session, and return its handle.
   *
   * @throws SessionAlreadyExists if the id is taken, unless getOrCreate is set.
   * @throws InvalidField if a value is malformed.
   * @throws RequestIdReused if the requestId was used with other content.
   */
  async createSession(options?: CreateSessionOptions): Promise<Session> {
    return this.#handle(await this.sessions.create(options));
  }

  /**
   * Return the handle of an existing session, whatever its status.
   *
   * @throws SessionNotFound if there is no such session.
   */
  async getSession(sessionId: string, options?: CallOptions): Promise<Session> {
    return this.#handle(await this.sessions.get(sessionId, options));
  }

  /**
   * Make a session active, even if it is destroyed, and return its handle.
   *
   * @throws SessionNotFound if there is no such session.
   */
  async resumeSession(sessionId: string, options?: ChangeOptions): Promise<Session> {
    return this.#handle(await this.sessions.resume(sessionId, options));
  }

  /**
   * Return a session's handle, after creating or resuming the session if necessary.
   *
   * @param options - the settings of a new session. An existing session keeps its own.
   */
  async getOrCreateSession(
    sessionId: string,
    options: Omit<CreateSessionOptions, "sessionId" | "getOrCreate"> = {},
  ): Promise<Session> {
    const session = await this.createSession({ ...options, sessionId, getOrCreate: true });
    if (session.info.status !== "active") {
      await session.resume({ signal: options.signal, timeoutMs: options.timeoutMs });
    }
    return session;
  }

  /** List the project's sessions, fetched page by page; see `client.sessions.list`. */
  listSessions(options?: ListSessionsOptions): PagedList<SessionInfo> {
    return this.sessions.list(options);
  }

  /**
   * Delete a session and its messages permanently.
   *
   * @throws SessionNotFound if there is no such session, unless allowMissing is set.
   * @throws ETagMismatch if the session's current etag differs.
   */
  async deleteSession(sessionId: string, options?: DeleteSessionOptions): Promise<void> {
    await this.sessions.delete(sessionId, options);
  }

  #handle(info: SessionInfo): Session {
    return new Session(this.#context, info);
  }
}
