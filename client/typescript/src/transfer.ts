// The streams of exports and imports of whole sessions.

import { createHash } from "node:crypto";
import { Assets, checkContent } from "./assets.js";
import type { FileExtractor } from "./attachments.js";
import type { Connection } from "./connection.js";
import { SessionNotFound } from "./errors/index.js";
import { linesOf, TemporaryFile } from "./exports/files.js";
import {
  Assembler,
  type AssetPiece,
  isLines,
  type PlacedRecord,
  parsed,
  recordOf,
  recordsOf,
} from "./exports/reader.js";
import {
  ASSET_PIECE_BYTES,
  assetIds,
  assetRecord,
  bookmarkRecord,
  ExportCounts,
  type ExportRecord,
  header,
  messageRecord,
  type Progress,
  taskRecord,
} from "./exports/records.js";
import { Message as MessageProto } from "./gen/sessiond/v1/message.js";
import { Session } from "./gen/sessiond/v1/session.js";
import {
  type ExportSessionRequest,
  type ExportSessionResponse,
  GetMessagesRequest,
  ImportSessionRequest,
} from "./gen/sessiond/v1/session_service.js";
import { sessionMethods } from "./methods.js";
import type { CallOptions } from "./options.js";
import { invalidField, typeName } from "./protocol/invalid.js";
import type { JsonObject } from "./protocol/json.js";
import { StreamRetry } from "./protocol/retry.js";
import { messageBatches, responses } from "./streams.js";
import { Message } from "./types/message.js";

/**
 * An export: the object of `export()`, the path of a file from `exportTo()`, or lines of text.
 */
export type ExportSource = JsonObject | string | Iterable<string> | AsyncIterable<string>;

/** Which records to yield. */
export interface Selection {
  readonly assets: boolean;
  /**
   * Yield the contents of assets after all messages. Default: yield the content of each asset
   * before the first message that refers to it.
   */
  readonly assetsLast?: boolean;
  readonly progress?: Progress | undefined;
  /** Called with the session, before any record is yielded. */
  readonly onHeader?: (session: Session) => void;
}

// Every server refuses this piece, so that an import fails even after its first pieces were sent.
export const REFUSED_PIECE = ImportSessionRequest.create({
  session: Session.create({ sessionId: "\0" }),
  messages: [MessageProto.create()],
});

/**
 * Yield the snapshot of a session without its messages, and then its messages in batches,
 * reconnecting as often as needed.
 */
async function* snapshotAndMessages(
  connection: Connection,
  sessionId: string,
  timeoutMs: number | undefined,
  signals: readonly (AbortSignal | undefined)[],
): AsyncGenerator<ExportSessionResponse | Iterable<Message>, void, undefined> {
  const { settings } = connection;
  let snapshot: ExportSessionResponse | undefined;
  let seq = 0;
  const pieces = responses<ExportSessionRequest, ExportSessionResponse>(
    connection,
    sessionMethods.exportSession,
    () => ({ sessionId }),
    {
      retry: new StreamRetry(timeoutMs ?? settings.timeoutMs, settings.retries),
      signals,
      // The stream cannot be resumed. But messages never change. So if the stream breaks or times
      // out after the snapshot, the missing messages can still be read.
      isComplete: () => snapshot !== undefined,
    },
  );
  for await (const piece of pieces) {
    if (snapshot === undefined) {
      snapshot = piece;
      yield piece;
    } else if (piece.messages.length > 0) {
      seq = piece.messages.at(-1)?.seq ?? seq;
      yield piece.messages.map((message) => new Message(sessionId, message));
    }
  }
  const session = snapshot?.session;
  if (!session || seq === session.lastSeq) return;
  const request = GetMessagesRequest.create({
    sessionId,
    start: { $case: "afterSeq", value: seq },
    throughSeq: session.lastSeq,
    expectedEpoch: session.epoch,
    // The incarnation excludes another session that has got the same id since the snapshot.
    incarnation: session.etag,
  });
  yield* messageBatches(connection, request, undefined, signals);
}

/** Yield the records of an export in their order, several at a time. */
export async function* recordBatches(
  connection: Connection,
  sessionId: string,
  { assets, assetsLast = false, progress, onHeader }: Selection,
  options: CallOptions,
  stop?: AbortSignal,
): AsyncGenerator<ExportRecord[], void, undefined> {
  const counts = new ExportCounts();
  const found = new Set<string>();
  let lastSeq = 0;
  const signals = [options.signal, stop];
  for await (const piece of snapshotAndMessages(
    connection,
    sessionId,
    options.timeoutMs,
    signals,
  )) {
    if ("session" in piece) {
      lastSeq = piece.session?.lastSeq ?? 0;
      onHeader?.(piece.session ?? Session.create());
      const belongings = [...piece.tasks.map(taskRecord), ...piece.bookmarks.map(bookmarkRecord)];
      yield [header(piece), ...belongings.map((record) => counts.count(record))];
      continue;
    }
    let batch: ExportRecord[] = [];
    for (const message of piece as Iterable<Message>) {
      const ids = assets ? assetIds(message) : [];
      const fresh = [...new Set(ids)].filter((id) => !found.has(id));
      for (const id of fresh) found.add(id);
      if (fresh.length > 0 && !assetsLast) {
        yield batch;
        batch = [];
        yield* assetRecords(connection, fresh, counts, options);
      }
      batch.push(counts.count(messageRecord(message)));
    }
    yield batch;
    progress?.(counts.messages, lastSeq);
  }
  if (counts.messages !== lastSeq) {
    throw new SessionNotFound(`the session "${sessionId}" was deleted while it was exported`);
  }
  if (assetsLast) yield* assetRecords(connection, found, counts, options);
  yield [counts.end()];
}

/** Yield the contents of assets, in pieces whose size does not depend on the server's pieces. */
async function* assetRecords(
  connection: Connection,
  ids: Iterable<string>,
  counts: ExportCounts,
  options: CallOptions,
): AsyncGenerator<ExportRecord[], void, undefined> {
  const assets = new Assets(connection);
  for (const assetId of ids) {
    const asset = await assets.get(assetId, options);
    const digest = createHash("sha256");
    let offset = 0;
    let waiting = Buffer.alloc(0);
    for await (const data of assets.download(assetId, { signal: options.signal })) {
      digest.update(data);
      waiting = Buffer.concat([waiting, data]);
      while (waiting.length >= ASSET_PIECE_BYTES) {
        const piece = waiting.subarray(0, ASSET_PIECE_BYTES);
        yield [counts.count(assetRecord(asset, offset, piece))];
        offset += ASSET_PIECE_BYTES;
        waiting = waiting.subarray(ASSET_PIECE_BYTES);
      }
    }
    checkContent(assetId, digest.digest("hex"));
    // An empty asset still needs one piece, without data.
    if (waiting.length > 0 || offset === 0) {
      yield [counts.count(assetRecord(asset, offset, waiting))];
    }
  }
}

/** The arguments of an import other than its source. */
export interface Importing {
  readonly sessionId: string | undefined;
  readonly requestId: string;
  readonly progress: Progress | undefined;
  readonly extractor: FileExtractor;
}

/**
 * Yield the requests of an import, and upload the assets meanwhile. The server looks the assets up
 * when the last request has arrived.
 */
export async function* importPieces(
  connection: Connection,
  source: ExportSource,
  { sessionId, requestId, progress, extractor }: Importing,
): AsyncGenerator<ImportSessionRequest, void, undefined> {
  const assembler = new Assembler(sessionId, requestId);
  const uploads = new Uploads(connection);
  try {
    for await (const placed of placedRecords(source)) {
      for (const piece of assembler.take(placed)) {
        if ("assetId" in piece) {
          await uploads.take(piece);
          continue;
        }
        piece.messages = await extractor.takeAll(piece.messages);
        yield piece;
        progress?.(assembler.messages, assembler.total);
      }
    }
  } finally {
    await uploads.close();
  }
  const last = assembler.finish();
  last.messages = await extractor.takeAll(last.messages);
  progress?.(assembler.messages, assembler.total);
  yield last;
}

/**
 * Uploads assets whose content arrives in pieces, one asset after the other.
 *
 * An asset with several pieces is written to a temporary file, so that it is not held in memory, and
 * can be sent again after a broken connection.
 */
class Uploads {
  readonly #assets: Assets;
  #file: TemporaryFile | undefined;

  constructor(connection: Connection) {
    this.#assets = new Assets(connection);
  }

  /** Add a piece. If it is the last one, upload the asset. */
  async take({ assetId, mediaType, size, data, isFirst, isLast }: AssetPiece): Promise<void> {
    if (isFirst && isLast) {
      await this.#assets.upload(data, { mediaType, assetId });
      return;
    }
    this.#file ??= await TemporaryFile.create();
    await this.#file.write(data);
    if (!isLast) return;
    await this.#file.complete();
    await this.#assets.upload(this.#file.path, { mediaType, assetId, size });
    await this.close();
  }

  /** Remove the temporary file, if any. */
  async close(): Promise<void> {
    await this.#file?.discard();
    this.#file = undefined;
  }
}

/** Return whether a source is an object of `export()`, not lines. */
export function isDocument(source: ExportSource): source is JsonObject {
  return (
    typeof source === "object" && !(Symbol.iterator in source || Symbol.asyncIterator in source)
  );
}

/**
 * Yield the records of a source.
 *
 * @throws InvalidField if the source is not an export.
 */
async function* placedRecords(source: ExportSource): AsyncGenerator<PlacedRecord, void, undefined> {
  if (isDocument(source)) {
    yield* recordsOf(source);
    return;
  }
  let number = 0;
  let hasLines = true;
  const document: string[] = [];
  for await (const line of textLines(source as Exclude<ExportSource, JsonObject>)) {
    number += 1;
    if (number === 1) hasLines = isLines(line);
    if (!hasLines) document.push(line);
    else if (line.trim()) {
      yield { place: `line ${number}`, record: recordOf(line, `line ${number}`) };
    }
  }
  if (document.length > 0) yield* recordsOf(parsed(document.join(""), "source"));
}

async function* textLines(
  source: string | Iterable<string> | AsyncIterable<string>,
): AsyncGenerator<string, void, undefined> {
  if (typeof source === "string") {
    try {
      yield* linesOf(source);
    } catch (error) {
      if (error instanceof TypeError) throw invalidField("source", "is not UTF-8");
      throw error;
    }
    return;
  }
  let isFirst = true;
  for await (const line of source) {
    if (typeof line !== "string") {
      throw invalidField("source", `yields ${typeName(line)}; it must yield lines of text`);
    }
    yield isFirst ? line.replace(/^\ufeff/, "") : line;
    isFirst = false;
  }
}
