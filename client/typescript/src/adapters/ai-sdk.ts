/**
 * Chats of the Vercel AI SDK (`ai`), kept by sessiond: load, save by message id, and resume of an
 * answer that is still being written.
 *
 * @module
 */

import { isDeepStrictEqual } from "node:util";
import type { Client } from "../client.js";
import {
  ETagMismatch,
  HistoryRewound,
  SequenceConflict,
  SessionDestroyed,
  SessionNotFound,
} from "../errors/index.js";
import type { PagedList } from "../lazy.js";
import type { Role } from "../protocol/names.js";
import { NewMessage } from "../requests/input.js";
import type { SessionInfo } from "../types/session.js";
import { writtenMessage } from "./ui-message-chunks.js";

const FORMAT_NAME = "ai-sdk";
const CHUNKS_FORMAT_NAME = "ai-sdk-chunks";
const MAX_ATTEMPTS = 10;
// Chunks are needed while the answer is written, and for clients that reload soon after.
const STREAM_TTL_MS = 3_600_000;

/** A message of the AI SDK, with the fields of a `UIMessage` that the adapter needs. */
export interface ChatMessage {
  readonly id: string;
  readonly role: "system" | "user" | "assistant";
  // biome-ignore lint/suspicious/noExplicitAny: parts and metadata are the SDK's and the caller's own.
  readonly [key: string]: any;
}

/** How a ChatStore names its sessions. */
export interface ChatStoreOptions {
  /** Prefix of the sessions' ids. Default: "chat/". */
  readonly prefix?: string | undefined;
}

/**
 * Keeps chats of the AI SDK.
 *
 * @example
 * ```ts
 * const chats = new ChatStore(new Client());
 * // POST /api/chat
 * const messages = [...(await chats.load(id)), message];
 * return streamText({ model, messages: convertToModelMessages(messages) }).toUIMessageStreamResponse({
 *   originalMessages: messages,
 *   onFinish: ({ messages }) => chats.save(id, messages),
 *   consumeSseStream: ({ stream }) => chats.recordStream(id, stream),
 * });
 * // GET /api/chat/:id/stream
 * const stream = await chats.resumeStream(id);
 * return stream ? new Response(stream.pipeThrough(new TextEncoderStream())) : new Response(null, { status: 204 });
 * ```
 */
export class ChatStore<UIMessage extends ChatMessage = ChatMessage> {
  readonly #client: Client;
  readonly #prefix: string;

  constructor(client: Client, { prefix = "chat/" }: ChatStoreOptions = {}) {
    this.#client = client;
    this.#prefix = prefix;
  }

  /** Create a chat, and return its id, which is a random UUID unless it is given. */
  async create(options: { id?: string; user?: string; title?: string } = {}): Promise<string> {
    const { id = crypto.randomUUID(), ...settings } = options;
    await this.#client.sessions.create({
      ...settings,
      sessionId: this.#prefix + id,
      getOrCreate: true,
    });
    return id;
  }

  /** Return a chat's messages, byte for byte as they were saved. Empty = no such chat. */
  async load(id: string): Promise<UIMessage[]> {
    try {
      const messages = await this.#client.sessions.getMessages(this.#prefix + id).toArray();
      return messages.map(({ blob }) => blob as UIMessage);
    } catch (error) {
      if (error instanceof SessionNotFound) return [];
      throw error;
    }
  }

  /**
   * Replace a chat's history with these messages, atomically. Equal messages at the beginning stay
   * stored. The history is rewound to them, and the other messages are appended. So an answer that
   * has grown replaces its shorter version, and a regenerated answer replaces the old one.
   */
  async save(id: string, messages: readonly UIMessage[]): Promise<void> {
    const { sessions } = this.#client;
    const sessionId = this.#prefix + id;
    const wanted = messages.map((message) => JSON.parse(JSON.stringify(message)));
    for (let attempt = 1; ; attempt++) {
      const { lastSeq, epoch } = await sessions.create({ sessionId, getOrCreate: true });
      const stored = await sessions.getMessages(sessionId, { throughSeq: lastSeq }).toArray();
      let same = 0;
      while (
        same < Math.min(stored.length, wanted.length) &&
        isDeepStrictEqual(stored[same]?.blob, wanted[same])
      ) {
        same += 1;
      }
      if (same === stored.length && same === wanted.length) return;
      try {
        await sessions.rewind(sessionId, {
          toSeq: same,
          messages: messages.slice(same).map(storedMessage),
          expectedLastSeq: lastSeq,
          expectedEpoch: epoch,
        });
        return;
      } catch (error) {
        // Another caller has saved messages meanwhile, so compare again.
        const isConflict = error instanceof SequenceConflict || error instanceof HistoryRewound;
        if (!isConflict || attempt === MAX_ATTEMPTS) throw error;
      }
    }
  }

  /** Append messages, each once by its id. */
  async append(id: string, messages: readonly UIMessage[]): Promise<void> {
    if (messages.length === 0) return;
    await this.#client.sessions.storeMessages(this.#prefix + id, messages.map(storedMessage), {
      onDuplicate: "skip",
      create: {},
    });
  }

  /** Remove a message and all later messages, e.g. before an answer is regenerated. */
  async removeFrom(id: string, messageId: string): Promise<void> {
    await this.#client.sessions.rewind(this.#prefix + id, { beforeMessageId: messageId });
  }

  /** Delete a chat. */
  async delete(id: string): Promise<void> {
    await this.#client.sessions.delete(this.#prefix + id, { allowMissing: true });
  }

  /** List chats, the most recently active first. Their ids have the store's prefix. */
  list(options: { user?: string } = {}): PagedList<SessionInfo> {
    return this.#client.listSessions({ ...options, sessionIdPrefix: this.#prefix });
  }

  /**
   * Record the stream of an answer while it is written, so that any server can resume it. The
   * stream is the chat's active stream until it ends or stopStream() is called. stopStream() also
   * cancels the stream here.
   *
   * @returns once the stream has ended.
   */
  async recordStream(id: string, stream: ReadableStream<string>): Promise<void> {
    const streamId = `${this.#prefix}${id}#${crypto.randomUUID()}`;
    const { sessions } = this.#client;
    await sessions.create({ sessionId: streamId, idleTtlMs: STREAM_TTL_MS });
    const reader = stream.getReader();
    const hasEnded = new AbortController();
    // stopStream() has to end this recording even while the stream is silent. So a watch of the
    // recording's session notices its end. No stop can come before the watch, because the chat does
    // not name the recording yet.
    await this.#onDestroyed(streamId, hasEnded.signal, () => reader.cancel().catch(() => {}));
    try {
      await this.#setActiveStream(id, undefined, streamId);
      for (let isDone = false; !isDone; ) {
        const { value, done } = await reader.read();
        isDone = done;
        const blob = done ? { end: true } : { chunk: value };
        await sessions.storeMessage(streamId, blob, { formatName: CHUNKS_FORMAT_NAME });
      }
    } catch (error) {
      await reader.cancel(error).catch(() => {});
      // stopStream() was called.
      if (!(error instanceof SessionDestroyed)) throw error;
    } finally {
      hasEnded.abort();
      await this.#setActiveStream(id, streamId, undefined);
    }
  }

  /**
   * Call a function when a session is destroyed.
   *
   * @returns once the session is watched, or cannot be watched.
   */
  async #onDestroyed(sessionId: string, signal: AbortSignal, call: () => void): Promise<void> {
    await new Promise<void>((resolve) => {
      const types = ["session.destroyed"];
      const events = this.#client.sessions.events(sessionId, {
        types,
        signal,
        onConnection: () => resolve(),
      });
      const watch = async () => {
        for await (const _ of events) return call();
      };
      // Without a watch, a stop is noticed at the next chunk.
      watch().catch(() => resolve());
    });
  }

  /**
   * Return the chat's active stream from its beginning, followed live. `null` = no answer is being
   * written.
   */
  async resumeStream(id: string): Promise<ReadableStream<string> | null> {
    const streamId = await this.#activeStream(id);
    if (streamId === undefined) return null;
    const stop = new AbortController();
    const events = this.#client.sessions.events(streamId, { afterSeq: 0, signal: stop.signal });
    const iterator = events[Symbol.asyncIterator]();
    return new ReadableStream<string>({
      async pull(controller) {
        for (;;) {
          const { value: event, done } = await iterator.next();
          if (done || event.type === "session.destroyed" || event.message?.blob.end) {
            controller.close();
            await iterator.return?.();
            return;
          }
          const chunk: unknown = event.message?.blob.chunk;
          if (typeof chunk === "string") {
            controller.enqueue(chunk);
            return;
          }
        }
      },
      async cancel() {
        await iterator.return?.();
      },
    });
  }

  /**
   * Stop the chat's active stream, whichever server writes it. The part of the answer that the
   * stream has written is appended to the chat. If `onFinish` has already saved a message with the
   * answer's id, nothing is appended. `onFinish` may also replace the appended message later.
   *
   * An answer without an id is appended only if the chat does not end with an answer already.
   *
   * @returns the message that was appended. `undefined` = none.
   */
  async stopStream(id: string): Promise<UIMessage | undefined> {
    const streamId = await this.#activeStream(id);
    if (streamId === undefined) return undefined;
    // The recording is destroyed first, so that nothing more is written to it.
    await this.#client.sessions.destroy(streamId);
    const kept = await this.#keepWritten(id, streamId);
    await this.#setActiveStream(id, streamId, undefined);
    return kept;
  }

  async #keepWritten(id: string, streamId: string): Promise<UIMessage | undefined> {
    const { sessions } = this.#client;
    const recorded = await sessions.getMessages(streamId).toArray();
    if (recorded.at(-1)?.blob.end) return undefined;
    const written = writtenMessage(recorded.map(({ blob }) => blob.chunk).join(""));
    if (written.parts.length === 0) return undefined;
    if (written.id === undefined) {
      const [newest] = await sessions
        .getMessages(this.#prefix + id, { order: "desc", limit: 1 })
        .toArray();
      if (newest?.role === "assistant") return undefined;
    }
    const message: ChatMessage = {
      id: written.id ?? crypto.randomUUID(),
      role: "assistant",
      parts: written.parts,
      ...(written.metadata && { metadata: written.metadata }),
    };
    const { skipped } = await sessions.storeMessages(this.#prefix + id, [storedMessage(message)], {
      onDuplicate: "skip",
    });
    return skipped ? undefined : (message as UIMessage);
  }

  async #activeStream(id: string): Promise<string | undefined> {
    try {
      const { metadata } = await this.#client.sessions.get(this.#prefix + id);
      return metadata.activeStreamId;
    } catch (error) {
      if (error instanceof SessionNotFound) return undefined;
      throw error;
    }
  }

  /** Set the active stream, or clear it if it is still `expected`. */
  async #setActiveStream(
    id: string,
    expected: string | undefined,
    streamId: string | undefined,
  ): Promise<void> {
    const { sessions } = this.#client;
    const sessionId = this.#prefix + id;
    for (let attempt = 1; ; attempt++) {
      const info = await sessions.create({ sessionId, getOrCreate: true });
      if (expected !== undefined && info.metadata.activeStreamId !== expected) return;
      const metadataPatch = { activeStreamId: streamId ?? null };
      try {
        await sessions.update(sessionId, { metadataPatch, etag: info.etag });
        return;
      } catch (error) {
        if (!(error instanceof ETagMismatch) || attempt === MAX_ATTEMPTS) throw error;
      }
    }
  }
}

function storedMessage(message: ChatMessage): NewMessage {
  return new NewMessage({
    blob: message,
    format: "other",
    formatName: FORMAT_NAME,
    messageId: message.id,
    role: message.role satisfies Role,
  });
}
