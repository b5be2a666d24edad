import { readFile, stat } from "node:fs/promises";
import { Assets } from "./assets.js";
import type { Connection } from "./connection.js";
import { SessiondError } from "./errors/index.js";
import type { Message as MessageProto } from "./gen/sessiond/v1/message.js";
import { invalidField } from "./protocol/invalid.js";
import { type Attachment, filePart } from "./requests/attachments.js";
import { extracted, leastBytes } from "./requests/inline-files.js";
import type { Part } from "./types/parts.js";

const MAX_INLINE_BYTES = 256 * 1024;
// Limit for all inline attachments together: the message has to fit into one request.
const MAX_ALL_INLINE_BYTES = 1024 * 1024;

/**
 * Return the parts of a message that hold the attachments, or refer to them.
 *
 * @throws InvalidField if a file cannot be read.
 * @throws SessiondError as assets.upload does.
 */
export async function partsOf(
  connection: Connection,
  attachments: readonly Attachment[],
): Promise<Part[]> {
  const assets = new Assets(connection);
  let left = MAX_ALL_INLINE_BYTES;
  const parts: Part[] = [];
  for (const attachment of attachments) {
    const { assetId, uri, path, data, place } = attachment;
    let { mediaType } = attachment;
    if (assetId !== undefined) {
      // The media type determines the kind of the part.
      mediaType ||= (await assets.get(assetId)).mediaType;
      parts.push(filePart(attachment, mediaType, { assetId }));
      continue;
    }
    if (uri !== undefined) {
      parts.push(filePart(attachment, mediaType, { uri }));
      continue;
    }
    try {
      const source = data ?? path ?? "";
      const size = typeof source === "string" ? (await stat(source)).size : source.byteLength;
      if (size <= Math.min(left, MAX_INLINE_BYTES)) {
        const content = typeof source === "string" ? await readFile(source) : source;
        left -= content.byteLength;
        parts.push(filePart(attachment, mediaType, { data: content }));
      } else {
        const asset = await assets.upload(source, { mediaType });
        parts.push(filePart(attachment, mediaType, { assetId: asset.assetId }));
      }
    } catch (error) {
      if (error instanceof SessiondError) throw error;
      throw invalidField(`${place}.path`, `cannot be read: ${error}`);
    }
  }
  return parts;
}

/**
 * Uploads files inside messages, and replaces them with references to the assets. A file that
 * occurs in several messages is uploaded once.
 */
export class FileExtractor {
  readonly #least: number | undefined;
  readonly #assets: Assets;
  readonly #uploaded = new Set<string>();

  /**
   * @throws InvalidField if extractFiles is malformed.
   */
  constructor(connection: Connection, extractFiles: boolean | number | undefined) {
    this.#least = leastBytes(extractFiles);
    this.#assets = new Assets(connection);
  }

  /** Whether files are extracted. */
  get isActive(): boolean {
    return this.#least !== undefined;
  }

  /** Upload the files of a message, and return the message to store. */
  async take(message: MessageProto): Promise<MessageProto> {
    if (this.#least === undefined) return message;
    const { message: result, files } = extracted(message, this.#least);
    for (const { assetId, content, mediaType } of files) {
      if (this.#uploaded.has(assetId)) continue;
      await this.#assets.upload(content, { mediaType, assetId });
      this.#uploaded.add(assetId);
    }
    return result;
  }

  /** Upload the files of messages, and return the messages to store. */
  async takeAll(messages: MessageProto[]): Promise<MessageProto[]> {
    if (this.#least === undefined) return messages;
    const taken: MessageProto[] = [];
    for (const message of messages) taken.push(await this.take(message));
    return taken;
  }
}
