import { type Bookmarks, SessionBookmarks } from "./bookmarks.js";
import type { Connection } from "./connection.js";
import type { ExportOptions, ExportToOptions } from "./exports.js";
import { Handlers } from "./handlers.js";
import type { LazyList, PagedList } from "./lazy.js";
import type {
  MessageName,
  ReadOptions,
  RemovalOptions,
  RewindOptions,
  StoreMessageOptions,
  StoreOptions,
} from "./messages.js";
import type { CallOptions, ChangeOptions } from "./options.js";
import type { PreviewOptions } from "./previews.js";
import { checkFunction } from "./protocol/checks.js";
import type { JsonObject } from "./protocol/json.js";
import type { RegenerateOptions } from "./regeneration.js";
import type { MessageInput } from "./requests/input.js";
import type { Prompt } from "./requests/turns.js";
import type {
  CopyOptions,
  DeleteSessionOptions,
  ListOptions,
  Sessions,
  UpdateSessionOptions,
} from "./sessions.js";
import { SessionTasks, type Tasks } from "./tasks.js";
import type {
  AbortOptions,
  EventOptions,
  ListTurnsOptions,
  SendAndWaitOptions,
  SendOptions,
  StreamOptions,
} from "./turns.js";
import type { Event, EventHandler, EventType } from "./types/event.js";
import type { Message } from "./types/message.js";
import type {
  RewindResult,
  SessionCopy,
  SessionInfo,
  StoredRange,
  TokenCounts,
} from "./types/session.js";
import type { SentMessage, Turn, TurnPreview } from "./types/turn.js";

/** The parts of a client that its handles use. @internal */
export interface SessionContext {
  readonly connection: Connection;
  readonly sessions: Sessions;
  readonly tasks: Tasks;
  readonly bookmarks: Bookmarks;
}

/**
 * The handle of one session: the calls of `client.sessions`, without the session id. Clients create
 * handles.
 *
 * `send`, `sendAndWait` and `stream` first wait until the handlers added with `on` can receive the
 * new events.
 */
export class Session {
  /** The session's tasks. */
  readonly tasks: SessionTasks;
  /** The session's bookmarks. */
  readonly bookmarks: SessionBookmarks;
  readonly #context: SessionContext;
  readonly #handlers: Handlers;
  #info: SessionInfo;

  /** @internal */
  constructor(context: SessionContext, info: SessionInfo) {
    this.#context = context;
    this.#info = info;
    this.tasks = new SessionTasks(context.tasks, info.sessionId);
    this.bookmarks = new SessionBookmarks(context.bookmarks, info.sessionId);
    this.#handlers = new Handlers(context.connection, info.sessionId);
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

  /** Fetch the session's current state into `info`. See `client.sessions.get`. */
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

  /** Remove the newest messages, and append others; see `client.sessions.rewind`. */
  async rewind(options: RewindOptions): Promise<RewindResult> {
    return await this.#sessions.rewind(this.sessionId, options);
  }

  /** Remove the newest message and return it; see `client.sessions.pop`. */
  async pop(options?: RemovalOptions): Promise<Message | undefined> {
    return await this.#sessions.pop(this.sessionId, options);
  }

  /** Remove all messages; see `client.sessions.clear`. */
  async clear(options?: RemovalOptions): Promise<RewindResult> {
    return await this.#sessions.clear(this.sessionId, options);
  }

  /** Replace the last answer; see `client.sessions.regenerate`. */
  async regenerate(options?: RegenerateOptions): Promise<Message> {
    await this.#handlers.ready();
    const answer = await this.#sessions.regenerate(this.sessionId, options);
    await this.#handlers.delivered(answer.seq);
    return answer;
  }

  /** Return one message; see `client.sessions.getMessage`. */
  async getMessage(message: number | MessageName, options?: CallOptions): Promise<Message> {
    return await this.#sessions.getMessage(this.sessionId, message, options);
  }

  /** Follow the session: stored messages, then live events; see `client.sessions.events`. */
  events(options?: EventOptions): LazyList<Event> {
    return this.#sessions.events(this.sessionId, options);
  }

  /**
   * Call a function with the session's events: `on(handler)` or `on(type, handler)`.
   *
   * Handlers are called in the background, one after the other, in the order in which they were
   * added. If a handler throws, a warning is logged (see `onWarning`), and the other handlers are
   * still called. Handlers get all events caused by later sends of this handle. Events that other
   * clients cause reach the handlers only from a moment after this call. Handlers miss the events
   * that are published during an outage, except messages. To miss no message, iterate over
   * `events({ afterSeq })`. The watch ends when the last handler is removed, the client is closed,
   * or the session is gone.
   *
   * @returns a function that removes the handler.
   */
  on(handler: EventHandler): () => void;
  on(type: EventType, handler: EventHandler): () => void;
  on(typeOrHandler: EventType | EventHandler, handler?: EventHandler): () => void {
    if (typeof typeOrHandler === "string") {
      checkFunction(handler, "handler");
      return this.#handlers.add(typeOrHandler, handler as EventHandler);
    }
    checkFunction(typeOrHandler, "typeOrHandler");
    return this.#handlers.add(undefined, typeOrHandler);
  }

  /** Start a turn; resolve when the server has accepted it. See `client.sessions.send`. */
  async send(prompt?: Prompt, options?: SendOptions): Promise<SentMessage> {
    await this.#handlers.ready();
    return await this.#sessions.send(this.sessionId, prompt, options);
  }

  /**
   * Start a turn and wait for its answer; see `client.sessions.sendAndWait`.
   *
   * When this resolves, the handlers of this handle have been called with the events up to the
   * answer, unless they take longer than 5 seconds, or this is called from within a handler.
   */
  async sendAndWait(prompt?: Prompt, options?: SendAndWaitOptions): Promise<Message> {
    await this.#handlers.ready();
    const answer = await this.#sessions.sendAndWait(this.sessionId, prompt, options);
    await this.#handlers.delivered(answer.seq);
    return answer;
  }

  /** Start a turn and stream its events; see `client.sessions.stream`. */
  stream(prompt?: Prompt, options?: StreamOptions): LazyList<Event> {
    return this.#sessions.streamWith(this.sessionId, prompt, options ?? {}, this.#handlers);
  }

  /** Wait for the answer of an earlier turn; see `client.sessions.waitForTurn`. */
  async waitForTurn(turnId: string, options?: CallOptions): Promise<Message> {
    const answer = await this.#sessions.waitForTurn(this.sessionId, turnId, options);
    await this.#handlers.delivered(answer.seq);
    return answer;
  }

  /** Return the request that a send would make now; see `client.sessions.previewTurn`. */
  async previewTurn(prompt?: string, options?: PreviewOptions): Promise<TurnPreview> {
    return await this.#sessions.previewTurn(this.sessionId, prompt, options);
  }

  /** Abort the running turn, or a given one; see `client.sessions.abort`. */
  async abort(options?: AbortOptions): Promise<Turn[]> {
    return await this.#sessions.abort(this.sessionId, options);
  }

  /** Return a turn, with its state and outcome; see `client.sessions.getTurn`. */
  async getTurn(
    turnId: string,
    options?: CallOptions & { readonly waitMs?: number | undefined },
  ): Promise<Turn> {
    return await this.#sessions.getTurn(this.sessionId, turnId, options);
  }

  /** List the turns, the newest first; see `client.sessions.listTurns`. */
  turns(options?: ListTurnsOptions): PagedList<Turn> {
    return this.#sessions.listTurns(this.sessionId, options);
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

  /** Return the whole session as one object; see `client.sessions.export`. */
  async export(options?: ExportOptions): Promise<JsonObject> {
    return await this.#sessions.export(this.sessionId, options);
  }

  /** Export the session as lines of JSON; see `client.sessions.exportLines`. */
  exportLines(options?: ExportOptions): LazyList<string> {
    return this.#sessions.exportLines(this.sessionId, options);
  }

  /** Export the session to a file; see `client.sessions.exportTo`. */
  async exportTo(path: string, options?: ExportToOptions): Promise<SessionInfo> {
    return await this.#sessions.exportTo(this.sessionId, path, options);
  }
}
