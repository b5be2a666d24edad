import { createHash, randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Calls } from "./connection.js";
import { InternalError } from "./errors/index.js";
import {
  type Asset as AssetProto,
  DownloadAssetRequest,
  type DownloadAssetResponse,
  UploadAssetRequest,
} from "./gen/sessiond/v1/asset_service.js";
import { LazyList } from "./lazy.js";
import { assetMethods } from "./methods.js";
import type { CallOptions } from "./options.js";
import { checkInteger, checkOptionalText, checkText } from "./protocol/checks.js";
import { invalidField, typeName } from "./protocol/invalid.js";
import { StreamRetry } from "./protocol/retry.js";
import { fromTimestamp } from "./protocol/times.js";
import { ASSET_PREFIX } from "./requests/attachments.js";
import { mediaTypeOf } from "./requests/media-types.js";
import { responses } from "./streams.js";

// Large enough to keep the stream busy, small enough to use little memory.
const PIECE_BYTES = 256 * 1024;

/** A file that messages may refer to. */
export interface Asset {
  /** The asset's id: the SHA-256 of its content, as 64 lower-case hexadecimal digits. */
  readonly assetId: string;
  /** Size of the content, in bytes. */
  readonly size: number;
  /** The media type of the first upload, e.g. "image/png". Empty = unknown. */
  readonly mediaType: string;
  /** Time of the first upload. */
  readonly createdAt: Date;
  /** The reference to the asset in a provider's JSON: "sessiond-asset:ASSET_ID". */
  readonly uri: string;
}

/**
 * The content of a file: its path, its bytes, or pieces of any size, as an iterable, an async
 * iterable, or a stream.
 */
export type AssetSource = string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** How a file is uploaded. `timeoutMs` covers all attempts; there is no default. */
export interface UploadOptions extends CallOptions {
  /** IANA media type, at most 256 characters. Default: by the name of a path. */
  readonly mediaType?: string | undefined;
  /** The expected SHA-256 in hexadecimal; the server refuses other content. Default: no check. */
  readonly assetId?: string | undefined;
  /** The expected size in bytes. Default: the actual size of a path or bytes. */
  readonly size?: number | undefined;
}

/** What to download. `timeoutMs` covers the whole read; there is no default. */
export interface DownloadOptions extends CallOptions {
  /** Bytes to skip at the beginning. Default: none. */
  readonly offset?: number | undefined;
  /** Maximum number of bytes to read, at least 1. Default: all. */
  readonly length?: number | undefined;
}

/**
 * Files that messages refer to.
 *
 * A message refers to an asset by its `assetId` in a part, or by its `uri` where a provider's JSON
 * has a file. The same bytes are stored only once. An asset is kept as long as a message refers to
 * it; without references it is deleted, but not within an hour of its last upload. So upload the
 * file first, then store the message.
 */
export class Assets extends Calls {
  /**
   * Store a file. It is sent while it is read, in bounded memory.
   *
   * After a broken connection, a path or bytes are sent again; other sources can be read only once,
   * so the error is thrown. A failed upload leaves nothing behind.
   *
   * @returns the asset, even if the project had it already.
   * @throws AssetTooLarge if the content exceeds the server's size limit.
   * @throws AssetMismatch if the content has a different SHA-256 or size.
   * @throws AssetStoreUnavailable if the server cannot reach its store.
   */
  async upload(source: AssetSource, options: UploadOptions = {}): Promise<Asset> {
    checkOptionalText(options.mediaType, "mediaType");
    checkOptionalText(options.assetId, "assetId");
    checkInteger(options.size, "size");
    const isPath = typeof source === "string";
    const isBytes = source instanceof Uint8Array;
    if (isPath && source === "") throw invalidField("source", "is an empty path");
    const isPieces =
      typeof source === "object" &&
      source !== null &&
      (Symbol.asyncIterator in source || Symbol.iterator in source);
    if (!isPath && !isPieces) {
      throw invalidField("source", `must be a path, bytes or pieces, not ${typeName(source)}`);
    }
    const actual = isPath ? (await stat(source)).size : isBytes ? source.byteLength : 0;
    const first = UploadAssetRequest.create({
      mediaType: options.mediaType || (isPath ? mediaTypeOf(source) : ""),
      assetId: options.assetId ?? "",
      size: options.size ?? actual,
    });
    const asset = await this.connection.upload(
      assetMethods.uploadAsset,
      () => uploadRequests(first, source),
      options,
      { isRepeatable: isPath || isBytes },
    );
    return assetOf(asset);
  }

  /**
   * Return an asset's media type, size and times.
   *
   * @throws AssetNotFound if there is no such asset.
   */
  async get(assetId: string, options: CallOptions = {}): Promise<Asset> {
    checkText(assetId, "assetId");
    return assetOf(await this.connection.call(assetMethods.getAsset, { assetId }, options));
  }

  /**
   * Read an asset's content in pieces, streamed during the iteration. A broken stream resumes where
   * it broke off.
   *
   * Iterating throws AssetNotFound if there is no such asset, and AssetStoreUnavailable if the
   * server cannot reach its store.
   */
  download(assetId: string, options: DownloadOptions = {}): LazyList<Uint8Array> {
    checkText(assetId, "assetId");
    checkInteger(options.offset, "offset");
    checkInteger(options.length, "length");
    if (options.length === 0) throw invalidField("length", "is 0; leave it out to read all");
    const { connection } = this;
    return new LazyList(async function* pieces(stop) {
      let { offset = 0 } = options;
      let left: number | undefined;
      const parts = responses<DownloadAssetRequest, DownloadAssetResponse>(
        connection,
        assetMethods.downloadAsset,
        () =>
          DownloadAssetRequest.create({
            assetId,
            offset,
            length: options.length ? (left ?? options.length) : 0,
          }),
        {
          retry: new StreamRetry(
            options.timeoutMs ?? Number.POSITIVE_INFINITY,
            connection.settings.retries,
          ),
          signals: [options.signal, stop],
          // If all bytes have arrived, an error does not matter. A further request would have the
          // length 0, which the server takes for "all bytes from offset on".
          isComplete: (isClean) => isClean || left === 0,
        },
      );
      for await (const { data, asset } of parts) {
        if (left === undefined) {
          left = (asset?.size ?? 0) - offset;
          left = Math.min(left, options.length ?? left);
        }
        if (data.length > 0) {
          left -= data.length;
          offset += data.length;
          yield [data];
        }
      }
    });
  }

  /**
   * Return an asset's whole content, after checking its SHA-256.
   *
   * @throws InternalError if the content has a different SHA-256.
   */
  async read(assetId: string, options: CallOptions = {}): Promise<Uint8Array> {
    const content = Buffer.concat(await this.download(assetId, options).toArray());
    checkContent(assetId, createHash("sha256").update(content).digest("hex"));
    return new Uint8Array(content.buffer, content.byteOffset, content.byteLength);
  }

  /**
   * Write an asset's content to a file, in bounded memory. The file appears at its path only when
   * it is complete and its SHA-256 has been checked.
   */
  async save(assetId: string, path: string, options: CallOptions = {}): Promise<void> {
    checkText(path, "path");
    const unfinished = join(dirname(path), `.${randomUUID()}.part`);
    const digest = createHash("sha256");
    const file = await open(unfinished, "wx");
    try {
      try {
        for await (const piece of this.download(assetId, options)) {
          digest.update(piece);
          await file.writeFile(piece);
        }
      } finally {
        await file.close();
      }
      checkContent(assetId, digest.digest("hex"));
      await rename(unfinished, path);
    } catch (error) {
      await rm(unfinished, { force: true });
      throw error;
    }
  }
}

function assetOf(asset: AssetProto): Asset {
  return {
    assetId: asset.assetId,
    size: asset.size,
    mediaType: asset.mediaType,
    createdAt: fromTimestamp(asset.createTime),
    uri: ASSET_PREFIX + asset.assetId,
  };
}

/** Refuse content that is not the requested asset. */
export function checkContent(assetId: string, digest: string): void {
  if (digest !== assetId) {
    throw new InternalError(
      `the download is not the content of asset ${assetId}: its SHA-256 is ${digest}`,
    );
  }
}

async function* uploadRequests(
  first: UploadAssetRequest,
  source: AssetSource,
): AsyncGenerator<UploadAssetRequest, void, undefined> {
  let request = first;
  for await (const data of pieces(source)) {
    yield { ...request, data };
    request = UploadAssetRequest.create();
  }
  // An empty asset still needs one request, without data.
  if (request === first) yield first;
}

/** Yield the content of a source in pieces of at most PIECE_BYTES; small ones are joined. */
async function* pieces(source: AssetSource): AsyncGenerator<Uint8Array, void, undefined> {
  const given =
    typeof source === "string"
      ? createReadStream(source, { highWaterMark: PIECE_BYTES })
      : source instanceof Uint8Array
        ? [source]
        : source;
  let waiting: Uint8Array[] = [];
  let size = 0;
  for await (const piece of given) {
    if (!(piece instanceof Uint8Array)) {
      throw invalidField("source", `gives ${typeName(piece)}; it must give bytes`);
    }
    waiting.push(piece);
    size += piece.byteLength;
    if (size < PIECE_BYTES) continue;
    const joined = waiting.length === 1 ? piece : Buffer.concat(waiting);
    let start = 0;
    for (; size - start >= PIECE_BYTES; start += PIECE_BYTES) {
      yield joined.subarray(start, start + PIECE_BYTES);
    }
    waiting = [joined.subarray(start)];
    size -= start;
  }
  if (size > 0) yield Buffer.concat(waiting);
}
