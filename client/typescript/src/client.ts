import { Admin } from "./admin.js";
import { Assets } from "./assets.js";
import { Bookmarks } from "./bookmarks.js";
import { Connection } from "./connection.js";
import type { LazyList, PagedList } from "./lazy.js";
import type { Method } from "./methods.js";
import type { CallOptions, ChangeOptions } from "./options.js";
import { Processing } from "./processing.js";
import { Session, type SessionContext } from "./session.js";
import {
  type CreateSessionOptions,
  type DeleteSessionOptions,
  type ListSessionsOptions,
  Sessions,
} from "./sessions.js";
import { type ClientOptions, settingsOf } from "./settings.js";
import { Tasks } from "./tasks.js";
import type { EventOptions } from "./turns.js";
import type { Event } from "./types/event.js";
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
  /** Calls about sessions, messages and turns, by session id. */
  readonly sessions: Sessions;
  /** Calls about tasks, by session id; `session.tasks` has those of one session. */
  readonly tasks: Tasks;
  /** Calls about bookmarks, by session id; `session.bookmarks` has those of one session. */
  readonly bookmarks: Bookmarks;
  /** Queues of messages for background workers. */
  readonly processing: Processing;
  /** Files that messages refer to. */
  readonly assets: Assets;
  /** Projects and API keys. */
  readonly admin: Admin;
  readonly #connection: Connection;
  readonly #context: SessionContext;

  /**
   * @throws InvalidField if an option is malformed.
   */
  constructor(options: ClientOptions = {}) {
    this.#connection = new Connection(settingsOf(options));
    this.sessions = new Sessions(this.#connection);
    this.tasks = new Tasks(this.#connection);
    this.bookmarks = new Bookmarks(this.#connection);
    this.processing = new Processing(this.#connection);
    this.assets = new Assets(this.#connection);
    this.admin = new Admin(this.#connection);
    this.#context = {
      connection: this.#connection,
      sessions: this.sessions,
      tasks: this.tasks,
      bookmarks: this.bookmarks,
    };
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
    return this.handleOf(await this.sessions.create(options));
  }

  /**
   * Return the handle of an existing session, whatever its status.
   *
   * @throws SessionNotFound if there is no such session.
   */
  async getSession(sessionId: string, options?: CallOptions): Promise<Session> {
    return this.handleOf(await this.sessions.get(sessionId, options));
  }

  /**
   * Make a session active, even if it is destroyed, and return its handle.
   *
   * @throws SessionNotFound if there is no such session.
   */
  async resumeSession(sessionId: string, options?: ChangeOptions): Promise<Session> {
    return this.handleOf(await this.sessions.resume(sessionId, options));
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

  /**
   * Follow the lifecycle of the project's sessions, for ever.
   *
   * Lifecycle events, such as "session.created" and "session.deleted", are not stored: events that
   * are published while the connection is down are missed. To follow the messages of a session, use
   * `client.sessions.events`.
   */
  events(options: Omit<EventOptions, "afterSeq"> = {}): LazyList<Event> {
    return this.sessions.events("", options);
  }

  /**
   * Make a unary call of the protos that this client does not offer, with the API key and typed
   * errors.
   *
   * @example
   * ```ts
   * import { rpc } from "sessiond";
   * import { ListQueuesRequest } from "sessiond/gen/sessiond/v1/processing_service";
   *
   * await client.call(rpc.processing.listQueues, ListQueuesRequest.create());
   * ```
   *
   * @param method - one of `rpc`.
   * @param options - isRepeatable retries the call after transient errors. Default: false. A change
   *   is safe to repeat only if its request has a request_id.
   */
  async call<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    options: CallOptions & { readonly isRepeatable?: boolean | undefined } = {},
  ): Promise<Response> {
    const isRepeatable = options.isRepeatable ?? false;
    return await this.#connection.call(method, request, options, { isRepeatable });
  }

  /** @internal */
  handleOf(info: SessionInfo): Session {
    return new Session(this.#context, info);
  }
}
