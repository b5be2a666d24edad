import { FileExtractor } from "./attachments.js";
import {
  CALL_OPTIONS,
  type CallOptions,
  Calls,
  CHANGE_OPTIONS,
  type ChangeOptions,
} from "./connection.js";
import { RewindSessionRequest } from "./gen/sessiond/v1/rewind.js";
import {
  GetMessagesRequest,
  ImportMessagesRequest,
  StoreMessagesRequest,
  type StoreMessagesResponse,
} from "./gen/sessiond/v1/session_service.js";
import { LazyList } from "./lazy.js";
import { sessionMethods } from "./methods.js";
import { checkBoolean, checkInteger, checkKnown, checkText, listed } from "./protocol/checks.js";
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
import type { RewindResult, StoredRange } from "./types/session.js";

/** How messages are appended. */
export interface StoreOptions extends ChangeOptions {
  /**
   * The provider's format of objects and JSON texts. Default: by the shape of each message, or
   * "openai" for plain text.
   */
  readonly format?: Format | undefined;
  /** Store nothing unless the session's lastSeq is this; 0 = the session must be empty. */
  readonly expectedLastSeq?: number | undefined;
  /**
   * Store nothing unless the session's epoch is this: for a caller that goes on from a seq.
   * Default: no check.
   */
  readonly expectedEpoch?: number | undefined;
  /**
   * First upload the files inside the messages (data URLs and base64) as assets, and store
   * references to them. true = files of 256 KiB or more; a number = files of at least so many bytes.
   */
  readonly extractFiles?: boolean | number | undefined;
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
  /** Read nothing unless the session's epoch is this (HistoryRewound). Default: no check. */
  readonly expectedEpoch?: number | undefined;
  /** "full" (default), or "basic": only seq, createdAt, role, format and contentBytes. */
  readonly view?: MessageView | undefined;
}

/** How far a session is rewound. Exactly one of toSeq, dropLast and toBookmark is required. */
export interface RewindOptions extends StoreOptions {
  /** The last seq to keep. 0 removes all messages. */
  readonly toSeq?: number | undefined;
  /** How many messages to remove, at least 1. If the session has fewer, all are removed. */
  readonly dropLast?: number | undefined;
  /** Keep the messages up to this bookmark. */
  readonly toBookmark?: string | undefined;
  /** Messages to append to what is kept, as storeMessages takes them. Default: none. */
  readonly messages?: Iterable<MessageInput> | undefined;
  /** How many removed messages to return, the newest ones; at most 1,000. Default: 0. */
  readonly returnRemoved?: number | undefined;
  /** Abort the running turn, if there is one. Default: TurnRunning. */
  readonly abortTurn?: boolean | undefined;
}

const STORE: ReadonlySet<string> = new Set([
  ...CHANGE_OPTIONS,
  "format",
  "expectedLastSeq",
  "expectedEpoch",
  "extractFiles",
]);
const REWIND: ReadonlySet<string> = new Set([
  ...STORE,
  "toSeq",
  "dropLast",
  "toBookmark",
  "messages",
  "returnRemoved",
  "abortTurn",
]);
const STORE_ONE: ReadonlySet<string> = new Set([...STORE, "metadata", "parentSeq"]);
const READ: ReadonlySet<string> = new Set([
  ...CALL_OPTIONS,
  "afterSeq",
  "afterBookmark",
  "throughSeq",
  "limit",
  "order",
  "roles",
  "expectedEpoch",
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
   * @throws HistoryRewound if the session's epoch is not expectedEpoch.
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
      messages: await new FileExtractor(this.connection, options.extractFiles).takeAll(
        toBatch(messages, options.format),
      ),
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
    const extractor = new FileExtractor(this.connection, options.extractFiles);
    const response = await this.connection.upload(
      sessionMethods.importMessages,
      () => pieces(first, messages, options.format, extractor),
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
   * Remove the newest messages of a session, and optionally append others in their place, in one
   * commit, in constant time. Copies keep the messages.
   *
   * Exactly one of toSeq, dropLast and toBookmark is required. Seqs have no gaps, so the next
   * message gets the seq after the last one that is kept; the session's epoch grows by one.
   *
   * @throws SessionNotFound if there is no such session.
   * @throws SessionDestroyed if the session is destroyed.
   * @throws TurnRunning if a turn is running, unless abortTurn is set.
   * @throws MessageNotFound if no message has the seq toSeq.
   * @throws BookmarkNotFound if the bookmark toBookmark does not exist.
   * @throws SequenceConflict if the session's lastSeq is not expectedLastSeq.
   * @throws HistoryRewound if the session's epoch is not expectedEpoch.
   */
  async rewind(sessionId: string, options: RewindOptions): Promise<RewindResult> {
    checkKnown(options, REWIND, "rewind");
    const request: RewindSessionRequest = {
      ...RewindSessionRequest.create({
        ...appendFields(sessionId, options),
        to: rewindTarget(options),
        returnRemoved: options.returnRemoved ?? 0,
        abortTurn: options.abortTurn ?? false,
      }),
      messages: await new FileExtractor(this.connection, options.extractFiles).takeAll(
        toBatch(options.messages ?? [], options.format),
      ),
    };
    const response = await this.connection.call(sessionMethods.rewindSession, request, options);
    return {
      lastSeq: response.lastSeq,
      epoch: response.epoch,
      firstSeq: response.firstSeq || undefined,
      removedCount: response.removedCount,
      removed: response.removed.map((message) => new Message(sessionId, message)),
    };
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

function rewindTarget(options: RewindOptions): RewindSessionRequest["to"] {
  const { toSeq, dropLast, toBookmark } = options;
  checkInteger(toSeq, "toSeq");
  checkInteger(dropLast, "dropLast");
  checkInteger(options.returnRemoved, "returnRemoved");
  checkBoolean(options.abortTurn, "abortTurn");
  if ([toSeq, dropLast, toBookmark].filter((value) => value !== undefined).length !== 1) {
    throw invalidField("to", "is required: give exactly one of toSeq, dropLast and toBookmark");
  }
  if (toSeq !== undefined) return { $case: "toSeq", value: toSeq };
  if (dropLast !== undefined) return { $case: "dropLast", value: dropLast };
  checkText(toBookmark, "toBookmark");
  return { $case: "toBookmark", value: toBookmark };
}

function appendFields(sessionId: string, options: StoreOptions) {
  checkText(sessionId, "sessionId");
  checkInteger(options.expectedLastSeq, "expectedLastSeq");
  checkInteger(options.expectedEpoch, "expectedEpoch");
  return {
    sessionId,
    expectedLastSeq: options.expectedLastSeq,
    expectedEpoch: options.expectedEpoch,
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
  checkInteger(options.expectedEpoch, "expectedEpoch");
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
    expectedEpoch: options.expectedEpoch,
    view: view === undefined ? 0 : MESSAGE_VIEWS.numberOf(view, "view"),
  });
}

/** Yield the requests of an import. */
async function* pieces(
  first: ImportMessagesRequest,
  messages: Iterable<MessageInput> | AsyncIterable<MessageInput>,
  format: Format | undefined,
  extractor: FileExtractor,
): AsyncGenerator<ImportMessagesRequest, void, undefined> {
  let piece: ImportMessagesRequest = { ...first, messages: [] };
  let size = 0;
  let count = 0;
  let isFirst = true;
  for await (const input of messages) {
    const message = await extractor.take(toProto(input, format, `messages[${count}]`));
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
    epoch: response.epoch,
  };
}
