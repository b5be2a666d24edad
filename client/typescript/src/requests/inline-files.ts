import { createHash } from "node:crypto";
import type * as proto from "../gen/sessiond/v1/message.js";
import { invalidField, shown } from "../protocol/invalid.js";
import { isObject, type JsonObject } from "../protocol/json.js";
import { FORMATS, type Format } from "../protocol/names.js";
import { ASSET_PREFIX } from "./attachments.js";
import { mediaTypeOf } from "./media-types.js";

const MIN_BYTES = 256 * 1024;

/** A file inside a message. */
export interface InlineFile {
  readonly content: Uint8Array;
  /** "" = unknown. */
  readonly mediaType: string;
  /** SHA-256 of the content in hexadecimal. */
  readonly assetId: string;
}

/** A message that refers to assets, and the files to upload before it is stored. */
export interface Extracted {
  readonly message: proto.Message;
  readonly files: readonly InlineFile[];
}

/** A file, and the object and key that hold it. */
interface Place extends InlineFile {
  readonly holder: JsonObject;
  readonly key: string;
}

// Where a part may hold a file, by the part's type: a key of the part, or a key of an object in the
// part. The server has the same rules. A string in any other place is text, whatever it looks like.
const OPENAI_FILES: Readonly<Record<string, readonly string[]>> = {
  image_url: ["image_url", "image_url.url"],
  input_image: ["image_url", "image_url.url"],
  computer_screenshot: ["image_url", "image_url.url"],
  input_audio: ["input_audio.data"],
  file: ["file.file_data", "file.file_url"],
  input_file: ["file_data", "file_url"],
};
const GEMINI_FILES = [
  "inlineData.data",
  "inline_data.data",
  "fileData.fileUri",
  "fileData.file_uri",
  "file_data.file_uri",
  "file_data.fileUri",
];

/**
 * Return the minimum size of the files to extract, in bytes. `undefined` = extract none.
 *
 * @throws InvalidField if the caller's value is neither a boolean nor a size.
 */
export function leastBytes(extractFiles: unknown): number | undefined {
  if (extractFiles === undefined || extractFiles === false) return undefined;
  if (extractFiles === true) return MIN_BYTES;
  if (typeof extractFiles !== "number" || !Number.isInteger(extractFiles) || extractFiles < 1) {
    throw invalidField(
      "extractFiles",
      `is ${shown(extractFiles)}; it must be true, false or a number of bytes`,
    );
  }
  return extractFiles;
}

/** Replace the files in a message with references to assets. The message is not modified. */
export function extracted(message: proto.Message, least: number): Extracted {
  const { content } = message;
  if (content?.$case === "parts") {
    const files: InlineFile[] = [];
    const parts = extractedParts(content.value.parts, least, files);
    if (files.length === 0) return { message, files };
    return { message: { ...message, content: { $case: "parts", value: { parts } } }, files };
  }
  const text = content?.$case === "json" ? content.value : "";
  const value = text.length > least ? parsed(text) : undefined;
  const places = [...filesOf(value, FORMATS.nameOf(message.format), least)];
  if (places.length === 0) return { message, files: [] };
  const json = replaced(text, value, places);
  return { message: { ...message, content: { $case: "json", value: json } }, files: places };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // The server refuses it.
  }
}

/** Return JSON text with files replaced by references, and otherwise byte for byte the same. */
function replaced(text: string, value: unknown, places: readonly Place[]): string {
  let result = text;
  for (const { holder, key, assetId } of places) {
    const file = `"${holder[key]}"`;
    const same = places.filter((place) => place.holder[place.key] === holder[key]).length;
    const occurrences = text.split(file).length - 1;
    if (occurrences !== same) {
      // The file's text also occurs in other places, or is written with escapes, so it cannot be
      // replaced in the JSON text.
      for (const place of places) place.holder[place.key] = ASSET_PREFIX + place.assetId;
      return JSON.stringify(value);
    }
    result = result.split(file).join(`"${ASSET_PREFIX}${assetId}"`);
  }
  return result;
}

function extractedParts(
  parts: readonly proto.Part[],
  least: number,
  files: InlineFile[],
): proto.Part[] {
  return parts.map((part) => {
    const { kind } = part;
    switch (kind?.$case) {
      case "image":
      case "audio":
      case "file": {
        const { source, mediaType } = kind.value;
        if (source?.$case !== "inline" || source.value.length < least) return part;
        const file = fileOf(source.value, mediaType);
        files.push(file);
        return {
          kind: {
            $case: kind.$case,
            value: { ...kind.value, source: { $case: "assetId", value: file.assetId } },
          },
        };
      }
      case "toolResult": {
        const inner = extractedParts(kind.value.parts, least, files);
        return { kind: { $case: "toolResult", value: { ...kind.value, parts: inner } } };
      }
      default:
        return part;
    }
  });
}

function* filesOf(
  value: unknown,
  format: Format | undefined,
  least: number,
): Generator<Place, void, undefined> {
  if (!isObject(value)) return;
  for (const [holder, key] of placesOf(value, format)) {
    const text: unknown = holder[key];
    // Encoded content is longer than the content itself, so a text shorter than `least` holds a
    // file that is too small. A source of the type "text" is plain text.
    if (typeof text !== "string" || text.length < least || holder.type === "text") continue;
    const isUrl = /ur[il]$/i.test(key);
    const { content, mediaType } = decoded(text, isUrl);
    if (content.length >= least) {
      yield { ...fileOf(content, mediaType || mediaTypeBeside(holder)), holder, key };
    }
  }
}

/** Return the strings in the places of a message that may hold a file. */
export function stringsAtFiles(message: JsonObject, format: Format | undefined): string[] {
  const strings = [...placesOf(message, format)].map(([holder, key]): unknown => holder[key]);
  return strings.filter((value) => typeof value === "string");
}

function* placesOf(
  message: JsonObject,
  format: Format | undefined,
): Generator<[JsonObject, string], void, undefined> {
  switch (format) {
    case "openai":
      for (const name of ["content", "output", "images"]) {
        for (const part of objects(message[name])) {
          const paths = Object.hasOwn(OPENAI_FILES, part.type) ? OPENAI_FILES[part.type] : [];
          yield* at(part, paths ?? []);
        }
      }
      if (message.type === "image_generation_call") yield [message, "result"];
      break;
    case "anthropic":
      for (const block of objects(message.content)) {
        yield* at(block, ["source.data", "source.url"]);
        for (const inner of [block.source, block]) {
          if (isObject(inner)) yield* placesOf(inner, format);
        }
      }
      break;
    case "gemini":
      for (const part of objects(message.parts)) {
        yield* at(part, GEMINI_FILES);
        for (const name of ["functionResponse", "function_response"]) {
          for (const response of objects(part[name])) yield* placesOf(response, format);
        }
      }
      break;
  }
}

function objects(value: unknown): JsonObject[] {
  return (Array.isArray(value) ? value : [value]).filter(isObject);
}

function* at(
  part: JsonObject,
  paths: readonly string[],
): Generator<[JsonObject, string], void, undefined> {
  for (const path of paths) {
    const [name = "", key] = path.split(".");
    const holder: unknown = key ? part[name] : part;
    if (isObject(holder)) yield [holder, key ?? name];
  }
}

/** Return the content and media type of a data URL or of base64. Empty = the text is neither. */
function decoded(text: string, isUrl: boolean): { content: Uint8Array; mediaType: string } {
  const none = { content: new Uint8Array(), mediaType: "" };
  let data = text;
  let mediaType = "";
  if (/^data:/i.test(text)) {
    const comma = text.indexOf(",");
    if (comma < 0) return none;
    const head = text.slice("data:".length, comma);
    data = text.slice(comma + 1);
    mediaType = head.split(";")[0] ?? "";
    if (!/;base64$/i.test(head)) {
      return { content: percentDecoded(data), mediaType };
    }
  } else if (isUrl) {
    return none;
  }
  // Gemini's SDK writes URL-safe base64; some programs wrap lines.
  const standard = data.replace(/\s+/g, "").replaceAll("-", "+").replaceAll("_", "/");
  if (standard.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(standard)) return none;
  return { content: Buffer.from(standard, "base64"), mediaType };
}

function percentDecoded(text: string): Uint8Array {
  const bytes = Buffer.from(text);
  const result: number[] = [];
  for (let i = 0; i < bytes.length; i++) {
    const hex = bytes[i] === 0x25 ? bytes.toString("latin1", i + 1, i + 3) : "";
    if (/^[0-9a-f]{2}$/i.test(hex)) {
      result.push(Number.parseInt(hex, 16));
      i += 2;
    } else {
      result.push(bytes[i] ?? 0);
    }
  }
  return Uint8Array.from(result);
}

/** Return the media type given by an object that holds a file. "" = none. */
function mediaTypeBeside(holder: JsonObject): string {
  for (const name of ["media_type", "mimeType", "mime_type"]) {
    if (typeof holder[name] === "string") return holder[name];
  }
  if (holder.type === "image_generation_call") return "image/png";
  if (typeof holder.filename === "string") return mediaTypeOf(holder.filename);
  return typeof holder.format === "string" ? `audio/${holder.format}` : "";
}

function fileOf(content: Uint8Array, mediaType: string): InlineFile {
  return { content, mediaType, assetId: createHash("sha256").update(content).digest("hex") };
}
