import { FileExtractor } from "./attachments.js";
import { Calls } from "./connection.js";
import { RewindSessionRequest } from "./gen/sessiond/v1/rewind.js";
import { ImportMessagesRequest, StoreMessagesRequest } from "./gen/sessiond/v1/session_service.js";
import { LazyList } from "./lazy.js";
import { sessionMethods } from "./methods.js";
import type { CallOptions } from "./options.js";
import { checkInteger, checkKnown, checkText } from "./protocol/checks.js";
import { invalidField } from "./protocol/invalid.js";
import { checkList, type MessageInput, NewMessage, toBatch, toProto } from "./requests/input.js";
import {
  appendFields,
  checkRemoval,
  conditionFields,
  REWIND,
  type ReadOptions,
  type RemovalOptions,
  type RewindOptions,
  readRequest,
  rewindTarget,
  STORE,
  STORE_ONE,
  type StoreMessageOptions,
  type StoreOptions,
  storedRange,
} from "./requests/messages.js";
import { messageBatches } from "./streams.js";
import { Message } from "./types/message.js";
import type { RewindResult, StoredRange } from "./types/session.js";

// About the size of the pieces of an import, in UTF-16 units of JSON text.
const PIECE_UNITS = 256 * 1024;

/** Names a message in the place of its seq. */
export interface MessageName {
  /** The caller's own name of the message. */
  readonly messageId: string;
}

/** The calls about messages; `client.sessions` has them. */
export abstract class MessageCalls extends Calls {
  /**
   * Append one message. It is committed when this resolves.
   *
   * @param sessionId - the session.
   * @param message - the provider's message: an object, or JSON text (a string or bytes), which is
   *   kept byte for byte. Any other value that storeMessages accepts is also allowed.
   * @returns the seqs; `lastSeq` is the message's seq.
   * @throws SessiondError as storeMessages does.
   */
  async storeMessage(
    sessionId: string,
    message: MessageInput,
    options: StoreMessageOptions = {},
  ): Promise<StoredRange> {
    const { metadata, parentSeq, messageId, ...rest } = options;
    checkKnown(options, STORE_ONE, "storeMessage");
    if (metadata === undefined && parentSeq === undefined && messageId === undefined) {
      return await this.storeMessages(sessionId, [message], rest);
    }
    if (message instanceof NewMessage || message instanceof Message) {
      throw invalidField(
        "message",
        "brings its own metadata, parentSeq and messageId; give them in a NewMessage",
      );
    }
    return await this.storeMessages(
      sessionId,
      [new NewMessage({ blob: message, metadata, parentSeq, messageId })],
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
   * @throws MessageAlreadyExists if the session has one of the messageIds, unless onDuplicate is
   *   "skip".
   */
  async storeMessages(
    sessionId: string,
    messages: Iterable<MessageInput>,
    options: StoreOptions = {},
  ): Promise<StoredRange> {
    checkKnown(options, STORE, "storeMessages");
    const request: StoreMessagesRequest = {
      ...StoreMessagesRequest.create({
        ...appendFields(sessionId, options),
        ...conditionFields(options),
      }),
      messages: await new FileExtractor(this.connection, options.extractFiles).takeAll(
        toBatch(messages, options.format, { formatName: options.formatName }),
      ),
    };
    return storedRange(await this.connection.store(request, options));
  }

  /**
   * Append any number of messages, all or nothing. They are committed when this resolves.
   *
   * They are sent while they are iterated over. After a broken connection, an array is sent again;
   * other iterables can be read only once, so the error is thrown.
   *
   * @param sessionId - the session.
   * @param messages - any number of values that storeMessages accepts, also as an async iterable.
   * @param options - timeoutMs has no default here.
   * @throws SessiondError as storeMessages does, except BatchTooLarge; and any error that iterating
   * over the messages throws. Nothing is stored then.
   */
  async importMessages(
    sessionId: string,
    messages: Iterable<MessageInput> | AsyncIterable<MessageInput>,
    options: StoreOptions = {},
  ): Promise<StoredRange> {
    checkKnown(options, STORE, "importMessages");
    checkList(messages, true);
    const first = ImportMessagesRequest.create({
      ...appendFields(sessionId, options),
      ...conditionFields(options),
    });
    const extractor = new FileExtractor(this.connection, options.extractFiles);
    const response = await this.connection.upload(
      sessionMethods.importMessages,
      () => pieces(first, messages, options, extractor),
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
   * Exactly one of toSeq, dropLast, toBookmark and beforeMessageId is required. Seqs have no gaps,
   * so the next message gets the seq after the last one that is kept; the session's epoch grows by
   * one.
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
        toBatch(options.messages ?? [], options.format, { formatName: options.formatName }),
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
   * Remove the newest message and return it. Concurrent calls each get a different message.
   *
   * @returns the removed message; `undefined` if the session had none.
   * @throws SessiondError as rewind does.
   */
  async pop(sessionId: string, options: RemovalOptions = {}): Promise<Message | undefined> {
    checkRemoval(options, "pop");
    const { removed } = await this.rewind(sessionId, { ...options, dropLast: 1, returnRemoved: 1 });
    return removed[0];
  }

  /**
   * Remove all messages. Settings, tasks and the session's id stay.
   *
   * @throws SessiondError as rewind does.
   */
  async clear(sessionId: string, options: RemovalOptions = {}): Promise<RewindResult> {
    checkRemoval(options, "clear");
    return await this.rewind(sessionId, { ...options, toSeq: 0 });
  }

  /**
   * Return one message.
   *
   * @param message - its seq, or `{ messageId }`.
   * @throws SessionNotFound if there is no such session.
   * @throws MessageNotFound if there is no such message.
   */
  async getMessage(
    sessionId: string,
    message: number | MessageName,
    options: CallOptions = {},
  ): Promise<Message> {
    checkText(sessionId, "sessionId");
    const seq = typeof message === "object" ? 0 : message;
    const messageId = typeof message === "object" ? message.messageId : "";
    checkInteger(seq, "seq");
    checkText(messageId, "messageId");
    const found = await this.connection.call(
      sessionMethods.getMessage,
      { sessionId, seq, messageId },
      options,
    );
    return new Message(sessionId, found);
  }
}

/** Yield the requests of an import. */
async function* pieces(
  first: ImportMessagesRequest,
  messages: Iterable<MessageInput> | AsyncIterable<MessageInput>,
  { format, formatName }: StoreOptions,
  extractor: FileExtractor,
): AsyncGenerator<ImportMessagesRequest, void, undefined> {
  let piece: ImportMessagesRequest = { ...first, messages: [] };
  let size = 0;
  let count = 0;
  let isFirst = true;
  for await (const input of messages) {
    const message = await extractor.take(
      toProto(input, format, `messages[${count}]`, { formatName }),
    );
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

export {
  type ReadOptions,
  type RemovalOptions,
  type RewindOptions,
  readRequest,
  type StoreMessageOptions,
  type StoreOptions,
};
