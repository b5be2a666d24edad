import type { CallOptions, ChangeOptions } from "./connection.js";
import type { LazyList, PagedList } from "./lazy.js";
import type { ReadOptions, StoreMessageOptions, StoreOptions } from "./messages.js";
import type { MessageInput } from "./requests/input.js";
import type {
  CopyOptions,
  DeleteSessionOptions,
  ListOptions,
  Sessions,
  UpdateSessionOptions,
} from "./sessions.js";
import type { Message } from "./types/message.js";
import type { SessionCopy, SessionInfo, StoredRange, TokenCounts } from "./types/session.js";

/** What a handle needs of its client. @internal */
export interface SessionContext {
  readonly sessions: Sessions;
}

/** One session: the calls of `client.sessions` without the id. Clients create it. */
export class Session {
  readonly #context: SessionContext;
  #info: SessionInfo;

  /** @internal */
  constructor(context: SessionContext, info: SessionInfo) {
    this.#context = context;
    this.#info = info;
  }

  /** The session's id, unique in its project. */
  get sessionId(): string {
    return this.#info.sessionId;
  }

  /** The session as the last call about it returned it; refresh() fetches it again. */
  get info(): SessionInfo {
    return this.#info;
  }

  get #sessions(): Sessions {
    return this.#context.sessions;
  }

  /** Fetch the session's present state into `info`. See `client.sessions.get`. */
  async refresh(options?: CallOptions): Promise<SessionInfo> {
    this.#info = await this.#sessions.get(this.sessionId, options);
    return this.#info;
  }

  /** Append one message; see `client.sessions.storeMessage`. */
  async storeMessage(message: MessageInput, options?: StoreMessageOptions): Promise<StoredRange> {
    return await this.#sessions.storeMessage(this.sessionId, message, options);
  }

  /** Append a batch, all or nothing; see `client.sessions.storeMessages`. */
  async storeMessages(
    messages: Iterable<MessageInput>,
    options?: StoreOptions,
  ): Promise<StoredRange> {
    return await this.#sessions.storeMessages(this.sessionId, messages, options);
  }

  /** Append any number of messages, all or nothing; see `client.sessions.importMessages`. */
  async importMessages(
    messages: Iterable<MessageInput> | AsyncIterable<MessageInput>,
    options?: StoreOptions,
  ): Promise<StoredRange> {
    return await this.#sessions.importMessages(this.sessionId, messages, options);
  }

  /** Read messages, streamed during the iteration; see `client.sessions.getMessages`. */
  getMessages(options?: ReadOptions): LazyList<Message> {
    return this.#sessions.getMessages(this.sessionId, options);
  }

  /** Return one message; see `client.sessions.getMessage`. */
  async getMessage(seq: number, options?: CallOptions): Promise<Message> {
    return await this.#sessions.getMessage(this.sessionId, seq, options);
  }

  /** Change settings; the result is also the new `info`. See `client.sessions.update`. */
  async update(options: UpdateSessionOptions): Promise<SessionInfo> {
    this.#info = await this.#sessions.update(this.sessionId, options);
    return this.#info;
  }

  /** Create a copy of the session; return its handle. See `client.sessions.copy`. */
  async copy(options?: CopyOptions): Promise<Session> {
    const { session } = await this.#sessions.copy(this.sessionId, options);
    return new Session(this.#context, session);
  }

  /** List the copies that still exist, the newest first; see `client.sessions.copies`. */
  copies(options?: ListOptions): PagedList<SessionCopy> {
    return this.#sessions.copies(this.sessionId, options);
  }

  /** Return the number of tokens of the messages; see `client.sessions.getTokenCounts`. */
  async getTokenCounts(options?: CallOptions): Promise<TokenCounts> {
    return await this.#sessions.getTokenCounts(this.sessionId, options);
  }

  /** Close the session to appends; see `client.sessions.destroy`. */
  async destroy(options?: ChangeOptions): Promise<SessionInfo> {
    this.#info = await this.#sessions.destroy(this.sessionId, options);
    return this.#info;
  }

  /** Make the session active again; see `client.sessions.resume`. */
  async resume(options?: ChangeOptions): Promise<SessionInfo> {
    this.#info = await this.#sessions.resume(this.sessionId, options);
    return this.#info;
  }

  /** Delete the session and its messages permanently; see `client.sessions.delete`. */
  async delete(options?: DeleteSessionOptions): Promise<void> {
    await this.#sessions.delete(this.sessionId, options);
  }
}
