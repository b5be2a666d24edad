import { Calls } from "./connection.js";
import { Bookmark as BookmarkProto } from "./gen/sessiond/v1/bookmark.js";
import {
  CreateBookmarkRequest,
  ListBookmarksRequest,
  UpdateBookmarkRequest,
} from "./gen/sessiond/v1/bookmark_service.js";
import { LazyList, type PagedList } from "./lazy.js";
import { type ReadOptions, readRequest } from "./messages.js";
import { bookmarkMethods } from "./methods.js";
import { type CallOptions, CHANGE_OPTIONS, type ChangeOptions } from "./options.js";
import { checkInteger, checkKnown, checkOptionalText, checkText } from "./protocol/checks.js";
import { invalidField } from "./protocol/invalid.js";
import { fromTimestamp } from "./protocol/times.js";
import { requestIdOr } from "./requests/ids.js";
import type { ListOptions } from "./sessions.js";
import { messageBatches } from "./streams.js";
import type { DeleteOptions } from "./tasks.js";
import type { Message } from "./types/message.js";

/** A bookmark as the server returned it; it does not change afterwards. */
export interface Bookmark {
  /** The bookmark's name, unique in its session. */
  readonly name: string;
  /** The seq of the message that the bookmark stands after. 0 = before the first message. */
  readonly seq: number;
  /** A description for people to read. Empty = none. */
  readonly description: string;
  /** Time of creation. */
  readonly createdAt: Date;
  /** Time of the last change. */
  readonly updatedAt: Date;
  /** An opaque version that changes whenever the bookmark does. */
  readonly etag: string;
}

/** How a bookmark is created. */
export interface CreateBookmarkOptions extends ChangeOptions {
  /** Seq of the message that the bookmark follows. 0 = before the first. Default: the newest. */
  readonly seq?: number | undefined;
  /** Text for people to read, at most 1,024 characters. */
  readonly description?: string | undefined;
  /** If a bookmark of this name exists, change it. Default: BookmarkAlreadyExists. */
  readonly replace?: boolean | undefined;
}

/** Changes of a bookmark. Fields that are not given are not changed. */
export interface UpdateBookmarkOptions extends ChangeOptions {
  /** Seq of the message that the bookmark follows. 0 = before the first message. */
  readonly seq?: number | undefined;
  /** Text for people to read, at most 1,024 characters. "" removes it. */
  readonly description?: string | undefined;
  /** The new name. */
  readonly newName?: string | undefined;
  /** The call fails unless this is the bookmark's current etag. Default: no check. */
  readonly etag?: string | undefined;
}

const CREATE: ReadonlySet<string> = new Set([...CHANGE_OPTIONS, "seq", "description", "replace"]);
const UPDATE: ReadonlySet<string> = new Set([
  ...CHANGE_OPTIONS,
  "seq",
  "description",
  "newName",
  "etag",
]);

/**
 * The calls about bookmarks, by session id: names for positions in a session, at most 1,000.
 *
 * A bookmark stands after the message with its seq. Bookmarks can be changed even in a destroyed
 * session. In addition to the errors listed for each call, all calls throw SessionNotFound.
 */
export class Bookmarks extends Calls {
  /**
   * Create a bookmark.
   *
   * @param name - 1 to 128 characters, unique in the session, without white space at either end.
   * @throws BookmarkAlreadyExists if the name is taken, unless replace is set.
   * @throws MessageNotFound if no message has this seq.
   * @throws LimitExceeded if the session has 1,000 bookmarks.
   */
  async create(
    sessionId: string,
    name: string,
    options: CreateBookmarkOptions = {},
  ): Promise<Bookmark> {
    checkKnown(options, CREATE, "bookmarks.create");
    checkText(sessionId, "sessionId");
    const request = CreateBookmarkRequest.create({
      sessionId,
      bookmark: bookmarkFields(name, options),
      replace: options.replace ?? false,
      requestId: requestIdOr(options.requestId),
    });
    return bookmarkOf(await this.connection.call(bookmarkMethods.createBookmark, request, options));
  }

  /**
   * Return one bookmark.
   *
   * @throws BookmarkNotFound if there is no such bookmark.
   */
  async get(sessionId: string, name: string, options: CallOptions = {}): Promise<Bookmark> {
    checkText(sessionId, "sessionId");
    checkText(name, "name");
    const request = { sessionId, name };
    return bookmarkOf(await this.connection.call(bookmarkMethods.getBookmark, request, options));
  }

  /** List the bookmarks by seq, then by name, fetched page by page during the iteration. */
  list(sessionId: string, options: ListOptions = {}): PagedList<Bookmark> {
    checkText(sessionId, "sessionId");
    checkInteger(options.pageSize, "pageSize");
    const request = ListBookmarksRequest.create({ sessionId, pageSize: options.pageSize ?? 0 });
    return this.paged(bookmarkMethods.listBookmarks, request, options, ({ bookmarks }) =>
      bookmarks.map(bookmarkOf),
    );
  }

  /**
   * Move a bookmark.
   *
   * @param seq - the message that the bookmark follows; 0 = before the first. Default: the newest.
   * @throws BookmarkNotFound if there is no such bookmark.
   * @throws MessageNotFound if no message has this seq.
   */
  async move(
    sessionId: string,
    name: string,
    seq?: number,
    options: ChangeOptions = {},
  ): Promise<Bookmark> {
    // The mask names seq even if none is given, because the server then uses the newest message.
    return await this.#update(sessionId, name, { ...options, seq }, ["seq"]);
  }

  /**
   * Move, describe or rename a bookmark, all or nothing.
   *
   * @throws BookmarkNotFound if there is no such bookmark.
   * @throws BookmarkAlreadyExists if the new name is taken.
   * @throws MessageNotFound if no message has this seq.
   */
  async update(sessionId: string, name: string, options: UpdateBookmarkOptions): Promise<Bookmark> {
    checkKnown(options, UPDATE, "bookmarks.update");
    const mask = (["seq", "description"] as const).filter((key) => options[key] !== undefined);
    return await this.#update(sessionId, name, options, mask);
  }

  /**
   * Delete a bookmark. The messages are kept.
   *
   * @throws BookmarkNotFound if there is no such bookmark, unless allowMissing is set.
   */
  async delete(sessionId: string, name: string, options: DeleteOptions = {}): Promise<void> {
    checkText(sessionId, "sessionId");
    checkText(name, "name");
    const { allowMissing = false, etag = "" } = options;
    const requestId = requestIdOr(options.requestId);
    const request = { sessionId, name, allowMissing, etag, requestId };
    await this.connection.call(bookmarkMethods.deleteBookmark, request, options);
  }

  /**
   * Read the messages after a bookmark, streamed during the iteration. Iterating throws
   * BookmarkNotFound if there is no such bookmark.
   */
  messagesSince(
    sessionId: string,
    name: string,
    options: Omit<ReadOptions, "afterSeq" | "afterBookmark"> = {},
  ): LazyList<Message> {
    const request = readRequest(sessionId, { ...options, afterBookmark: name });
    return new LazyList((stop) =>
      messageBatches(this.connection, request, options.timeoutMs, [options.signal, stop]),
    );
  }

  async #update(
    sessionId: string,
    name: string,
    options: UpdateBookmarkOptions,
    mask: string[],
  ): Promise<Bookmark> {
    checkText(sessionId, "sessionId");
    checkOptionalText(options.newName, "newName");
    if (options.newName === "") {
      throw invalidField("newName", "is empty; leave it out to keep the name");
    }
    const request = UpdateBookmarkRequest.create({
      sessionId,
      bookmark: bookmarkFields(name, options),
      updateMask: mask.length > 0 ? mask : undefined,
      newName: options.newName ?? "",
      etag: options.etag ?? "",
      requestId: requestIdOr(options.requestId),
    });
    return bookmarkOf(await this.connection.call(bookmarkMethods.updateBookmark, request, options));
  }
}

/** `session.bookmarks`: the calls of `client.bookmarks` for one session. */
export class SessionBookmarks {
  readonly #bookmarks: Bookmarks;
  readonly #sessionId: string;

  /** @internal */
  constructor(bookmarks: Bookmarks, sessionId: string) {
    this.#bookmarks = bookmarks;
    this.#sessionId = sessionId;
  }

  /** Create a bookmark; see `client.bookmarks.create`. */
  async create(name: string, options?: CreateBookmarkOptions): Promise<Bookmark> {
    return await this.#bookmarks.create(this.#sessionId, name, options);
  }

  /** Return one bookmark; see `client.bookmarks.get`. */
  async get(name: string, options?: CallOptions): Promise<Bookmark> {
    return await this.#bookmarks.get(this.#sessionId, name, options);
  }

  /** List the bookmarks by seq, then by name; see `client.bookmarks.list`. */
  list(options?: ListOptions): PagedList<Bookmark> {
    return this.#bookmarks.list(this.#sessionId, options);
  }

  /** Move a bookmark, by default to the newest message; see `client.bookmarks.move`. */
  async move(name: string, seq?: number, options?: ChangeOptions): Promise<Bookmark> {
    return await this.#bookmarks.move(this.#sessionId, name, seq, options);
  }

  /** Move, describe or rename a bookmark; see `client.bookmarks.update`. */
  async update(name: string, options: UpdateBookmarkOptions): Promise<Bookmark> {
    return await this.#bookmarks.update(this.#sessionId, name, options);
  }

  /** Delete a bookmark; see `client.bookmarks.delete`. */
  async delete(name: string, options?: DeleteOptions): Promise<void> {
    await this.#bookmarks.delete(this.#sessionId, name, options);
  }

  /** Read the messages after a bookmark; see `client.bookmarks.messagesSince`. */
  messagesSince(
    name: string,
    options?: Omit<ReadOptions, "afterSeq" | "afterBookmark">,
  ): LazyList<Message> {
    return this.#bookmarks.messagesSince(this.#sessionId, name, options);
  }
}

function bookmarkFields(
  name: string,
  { seq, description }: Pick<UpdateBookmarkOptions, "seq" | "description">,
): BookmarkProto {
  checkText(name, "name");
  checkInteger(seq, "seq");
  checkOptionalText(description, "description");
  return BookmarkProto.create({ name, seq, description: description ?? "" });
}

function bookmarkOf(bookmark: BookmarkProto): Bookmark {
  return {
    name: bookmark.name,
    seq: bookmark.seq ?? 0,
    description: bookmark.description,
    createdAt: fromTimestamp(bookmark.createTime),
    updatedAt: fromTimestamp(bookmark.updateTime),
    etag: bookmark.etag,
  };
}
