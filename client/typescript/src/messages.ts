import {
  CALL_OPTIONS,
  type CallOptions,
  Calls,
  CHANGE_OPTIONS,
  type ChangeOptions,
} from "./connection.js";
import {
  GetMessagesRequest,
  ImportMessagesRequest,
  StoreMessagesRequest,
  type StoreMessagesResponse,
} from "./gen/sessiond/v1/session_service.js";
import { LazyList } from "./lazy.js";
import { sessionMethods } from "./methods.js";
import { checkInteger, checkKnown, checkText, listed } from "./protocol/checks.js";
import { invalidField } from "./protocol/invalid.js";
import type { JsonObject } from "./protocol/json.js";
import {
  type Format,
  MESSAGE_ORDERS,
  MESSAGE_VIEWS,
  type MessageOrder,
  type MessageView,
  ROLES,
  type Role,
} from "./protocol/names.js";
import { fromTimestamp, timeText } from "./protocol/times.js";
import { requestIdOr } from "./requests/ids.js";
import { checkList, type MessageInput, NewMessage, toBatch, toProto } from "./requests/input.js";
import { messageBatches } from "./streams.js";
import { Message } from "./types/message.js";
import type { StoredRange } from "./types/session.js";

/** How messages are appended. */
export interface StoreOptions extends ChangeOptions {
  /**
   * The provider's format of objects and JSON texts. Default: by the shape of each message, or
   * "openai" for plain text.
   */
  readonly format?: Format | undefined;
  /** Store nothing unless the session's lastSeq is this; 0 = the session must be empty. */
  readonly expectedLastSeq?: number | undefined;
}

/** How one message is appended. */
export interface StoreMessageOptions extends StoreOptions {
  /** Labels of the message: a JSON object of at most 64 KiB. */
  readonly metadata?: JsonObject | undefined;
  /** Seq of the message that this one follows. Default: the previous message. */
  readonly parentSeq?: number | undefined;
}

/** Which messages to read, and how. */
export interface ReadOptions extends CallOptions {
  /** Skip the messages up to this seq. Default: none. */
  readonly afterSeq?: number | undefined;
  /** Skip the messages up to this bookmark. Not together with afterSeq. */
  readonly afterBookmark?: string | undefined;
  /** Last seq to read. Default: the newest when the iteration begins. */
  readonly throughSeq?: number | undefined;
  /** Maximum number of messages to read. Default: all. */
  readonly limit?: number | undefined;
  /** "asc" (default), or "desc": from throughSeq backwards; a limit keeps the newest. */
  readonly order?: MessageOrder | undefined;
  /** Only these roles. Default: all. */
  readonly roles?: readonly Role[] | undefined;
  /** "full" (default), or "basic": only seq, createdAt, role, format and contentBytes. */
  readonly view?: MessageView | undefined;
}

const STORE: ReadonlySet<string> = new Set([...CHANGE_OPTIONS, "format", "expectedLastSeq"]);
const STORE_ONE: ReadonlySet<string> = new Set([...STORE, "metadata", "parentSeq"]);
const READ: ReadonlySet<string> = new Set([
  ...CALL_OPTIONS,
  "afterSeq",
  "afterBookmark",
  "throughSeq",
  "limit",
  "order",
  "roles",
  "view",
]);

// About the size of the pieces of an import, in UTF-16 units of JSON text.
const PIECE_UNITS = 256 * 1024;

/** The calls about messages; `client.sessions` has them. */
export abstract class MessageCalls extends Calls {
  /**
   * Append one message. It is committed when this resolves.
   *
   * @param sessionId - the session.
   * @param message - the provider's message: an object, or JSON text (a string or bytes), which is
   *   kept byte for byte. Anything else that storeMessages takes is allowed, too.
   * @returns the seqs; `lastSeq` is the message's seq.
   * @throws SessiondError as storeMessages does.
   */
  async storeMessage(
    sessionId: string,
    message: MessageInput,
    options: StoreMessageOptions = {},
  ): Promise<StoredRange> {
    const { metadata, parentSeq, ...rest } = options;
    checkKnown(options, STORE_ONE, "storeMessage");
    if (metadata === undefined && parentSeq === undefined) {
      return await this.storeMessages(sessionId, [message], rest);
    }
    if (message instanceof NewMessage || message instanceof Message) {
      throw invalidField(
        "message",
        "brings its own metadata and parentSeq; give them in a NewMessage",
      );
    }
    return await this.storeMessages(
      sessionId,
      [new NewMessage({ blob: message, metadata, parentSeq })],
      rest,
    );
  }

  /**
   * Append a batch, all or nothing. The messages are committed when this resolves.
   *
   * @param sessionId - the session.
   * @param messages - 1 to 1,000 messages, at most 32 MiB in total.
   * @throws SessionNotFound if there is no such session.
   * @throws SessionDestroyed if the session is destroyed.
   * @throws SequenceConflict if the session's lastSeq is not expectedLastSeq.
   * @throws ParentNotFound if no message has a given parentSeq.
   * @throws InvalidJson if a message is not a JSON object.
   * @throws UnknownRole if a message has no role, or a role that its format does not have.
   * @throws MessageTooLarge if a message exceeds the server's size limit.
   * @throws BatchTooLarge if there are too many messages or bytes.
   * @throws RequestIdReused if the requestId was used with other content.
   */
  async storeMessages(
    sessionId: string,
    messages: Iterable<MessageInput>,
    options: StoreOptions = {},
  ): Promise<StoredRange> {
    checkKnown(options, STORE, "storeMessages");
    const request: StoreMessagesRequest = {
      ...StoreMessagesRequest.create(appendFields(sessionId, options)),
      messages: toBatch(messages, options.format),
    };
    return storedRange(await this.connection.call(sessionMethods.storeMessages, request, options));
  }

  /**
   * Append any number of messages, all or nothing. They are committed when this resolves.
   *
   * They are sent while they are iterated over. After a broken connection, an array is sent again;
   * other iterables can be read only once, so the error is thrown.
   *
   * @param sessionId - the session.
   * @param messages - what storeMessages takes, any number, also as an async iterable.
   * @param options - timeoutMs has no default here.
   * @throws SessiondError as storeMessages does, but for BatchTooLarge; whatever iterating over the
   *   messages throws. Nothing is stored then.
   */
  async importMessages(
    sessionId: string,
    messages: Iterable<MessageInput> | AsyncIterable<MessageInput>,
    options: StoreOptions = {},
  ): Promise<StoredRange> {
    checkKnown(options, STORE, "importMessages");
    checkList(messages, true);
    const first = ImportMessagesRequest.create(appendFields(sessionId, options));
    const response = await this.connection.upload(
      sessionMethods.importMessages,
      () => pieces(first, messages, options.format),
      options,
      {
        isRepeatable: Array.isArray(messages),
        // No session has this id, so the server refuses the import.
        refusal: ImportMessagesRequest.create({ sessionId: "\0" }),
      },
    );
    return storedRange(response);
  }

  /**
   * Read the messages with afterSeq < seq <= throughSeq, streamed during the iteration.
   *
   * A broken stream resumes where it broke off, without gaps or repeats. Messages stored after the
   * iteration began are not included. `timeoutMs` covers the whole read; there is no default.
   *
   * Iterating throws SessionNotFound if there is no such session, and BookmarkNotFound if there is
   * no such bookmark.
   */
  getMessages(sessionId: string, options: ReadOptions = {}): LazyList<Message> {
    const request = readRequest(sessionId, options);
    return new LazyList((signal) =>
      messageBatches(this.connection, request, options.timeoutMs, [options.signal, signal]),
    );
  }

  /**
   * Return one message.
   *
   * @throws SessionNotFound if there is no such session.
   * @throws MessageNotFound if there is no such message.
   */
  async getMessage(sessionId: string, seq: number, options: CallOptions = {}): Promise<Message> {
    checkText(sessionId, "sessionId");
    checkInteger(seq, "seq");
    const message = await this.connection.call(
      sessionMethods.getMessage,
      { sessionId, seq },
      options,
    );
    return new Message(sessionId, message);
  }
}

function appendFields(sessionId: string, options: StoreOptions) {
  checkText(sessionId, "sessionId");
  checkInteger(options.expectedLastSeq, "expectedLastSeq");
  return {
    sessionId,
    expectedLastSeq: options.expectedLastSeq,
    requestId: requestIdOr(options.requestId),
  };
}

/** Return the request of a read; the caller applies the timeout. */
export function readRequest(sessionId: string, options: ReadOptions): GetMessagesRequest {
  checkKnown(options, READ, "getMessages");
  checkText(sessionId, "sessionId");
  const { afterSeq, afterBookmark, throughSeq, limit, order, roles, view } = options;
  if (afterSeq !== undefined && afterBookmark !== undefined) {
    throw invalidField("afterBookmark", "cannot be given together with afterSeq");
  }
  checkInteger(afterSeq, "afterSeq");
  checkInteger(throughSeq, "throughSeq");
  checkInteger(limit, "limit");
  if (afterBookmark !== undefined) checkText(afterBookmark, "afterBookmark");
  const start: GetMessagesRequest["start"] =
    afterSeq !== undefined
      ? { $case: "afterSeq", value: afterSeq }
      : afterBookmark !== undefined
        ? { $case: "afterBookmark", value: afterBookmark }
        : undefined;
  return GetMessagesRequest.create({
    sessionId,
    start,
    throughSeq: throughSeq ?? 0,
    limit: limit ?? 0,
    order: order === undefined ? 0 : MESSAGE_ORDERS.numberOf(order, "order"),
    roles: listed(roles ?? [], "roles").map((role, i) => ROLES.numberOf(role, `roles[${i}]`)),
    view: view === undefined ? 0 : MESSAGE_VIEWS.numberOf(view, "view"),
  });
}

/** Yield the requests of an import. */
async function* pieces(
  first: ImportMessagesRequest,
  messages: Iterable<MessageInput> | AsyncIterable<MessageInput>,
  format: Format | undefined,
): AsyncGenerator<ImportMessagesRequest, void, undefined> {
  let piece: ImportMessagesRequest = { ...first, messages: [] };
  let size = 0;
  let count = 0;
  let isFirst = true;
  for await (const input of messages) {
    const message = toProto(input, format, `messages[${count}]`);
    count += 1;
    piece.messages.push(message);
    size += message.content?.$case === "json" ? message.content.value.length : PIECE_UNITS / 64;
    if (size >= PIECE_UNITS) {
      yield piece;
      piece = ImportMessagesRequest.create();
      size = 0;
      isFirst = false;
    }
  }
  // An import without messages is sent too: the server refuses it.
  if (isFirst || piece.messages.length > 0) yield piece;
}

function storedRange(response: StoreMessagesResponse): StoredRange {
  return {
    firstSeq: response.firstSeq,
    lastSeq: response.lastSeq,
    createTime: fromTimestamp(response.createTime),
    createTimeText: timeText(response.createTime),
  };
}
