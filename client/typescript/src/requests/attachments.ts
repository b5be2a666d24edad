import { basename } from "node:path";
import { invalidField, typeName } from "../protocol/invalid.js";
import { isObject } from "../protocol/json.js";
import type { FilePart } from "../types/parts.js";
import { mediaTypeOf } from "./media-types.js";

/** This prefix and an asset's id form a reference to the asset in a provider's JSON. */
export const ASSET_PREFIX = "sessiond-asset:";

/** One file: exactly one of path, data, uri and assetId. */
export interface AttachmentFields {
  /** Path of the file. */
  readonly path?: string | undefined;
  /** Content of the file: bytes, or base64. */
  readonly data?: Uint8Array | string | undefined;
  /** Address of the file. */
  readonly uri?: string | undefined;
  /** Id of the asset that holds the file. */
  readonly assetId?: string | undefined;
  /** IANA media type. Default: determined by the name, or that of the asset. */
  readonly mediaType?: string | undefined;
  /** Name of the file, for people to read. Default: the name in the path. */
  readonly name?: string | undefined;
}

/** A file for a prompt: its path, a URL, the URI of an asset, or an object. */
export type AttachmentInput = string | AttachmentFields;

/** A checked attachment. */
export interface Attachment {
  /** The field of the call, for errors. */
  readonly place: string;
  readonly path: string | undefined;
  readonly data: Uint8Array | undefined;
  readonly uri: string | undefined;
  readonly assetId: string | undefined;
  /** "" = unknown. */
  readonly mediaType: string;
  /** "" = none. */
  readonly name: string;
}

const SOURCES = ["path", "data", "uri", "assetId"] as const;
const KEYS: ReadonlySet<string> = new Set([...SOURCES, "mediaType", "name", "type"]);
const SPELLINGS: Readonly<Record<string, string>> = {
  url: "uri",
  asset_id: "assetId",
  media_type: "mediaType",
  mime_type: "mediaType",
  mimeType: "mediaType",
  display_name: "name",
  displayName: "name",
};
// A scheme of one letter is the drive letter of a path, not a URL.
const URL_PATTERN = /^(?:[A-Za-z][A-Za-z0-9+.-]+:\/\/|data:)/;

/**
 * Return the attachments that a caller gave.
 *
 * @throws InvalidField if one is malformed.
 */
export function attachmentsOf(given: readonly AttachmentInput[] | undefined): Attachment[] {
  if (given === undefined) return [];
  if (!Array.isArray(given)) {
    throw invalidField("attachments", `must be a list, not ${typeName(given)}`);
  }
  return given.map((value, i) => attachmentOf(value, `attachments[${i}]`));
}

function attachmentOf(value: unknown, place: string): Attachment {
  if (typeof value === "string") {
    if (value.startsWith(ASSET_PREFIX)) {
      return checked({ assetId: value.slice(ASSET_PREFIX.length) }, place);
    }
    return checked(URL_PATTERN.test(value) ? { uri: value } : { path: value }, place);
  }
  if (isObject(value)) return checked(value, place);
  throw invalidField(place, `is ${typeName(value)}; it must be a path, a URL, or an object`);
}

function checked(given: object, place: string): Attachment {
  const values: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(given)) {
    const name = SPELLINGS[key] ?? key;
    if (!KEYS.has(name)) {
      throw invalidField(`${place}.${key}`, `is not known; known are ${[...KEYS].join(", ")}`);
    }
    if (value !== undefined && value !== null) values[name] = value;
  }
  if (SOURCES.filter((name) => name in values).length !== 1) {
    throw invalidField(place, `needs exactly one of ${SOURCES.join(", ")}`);
  }
  const text = (key: string): string | undefined => {
    const value = values[key];
    if (value !== undefined && typeof value !== "string") {
      throw invalidField(`${place}.${key}`, `must be a string, not ${typeName(value)}`);
    }
    return value;
  };
  const path = text("path");
  const uri = text("uri");
  if (path === "") throw invalidField(`${place}.path`, "is empty");
  const name = text("name") ?? (path === undefined ? "" : basename(path));
  return {
    place,
    path,
    uri,
    data: values.data === undefined ? undefined : contentOf(values.data, `${place}.data`),
    assetId: text("assetId"),
    mediaType: text("mediaType") ?? mediaTypeOf(path ?? uri ?? name),
    name,
  };
}

function contentOf(value: unknown, place: string): Uint8Array {
  if (value instanceof Uint8Array) return value;
  if (typeof value !== "string") {
    throw invalidField(place, `must be bytes, or base64, not ${typeName(value)}`);
  }
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(value) || value.length % 4 !== 0) {
    throw invalidField(place, "is not base64");
  }
  return Buffer.from(value, "base64");
}

/** Return the part of a message that holds a file, or refers to it. */
export function filePart(
  { name }: Attachment,
  mediaType: string,
  source: Pick<FilePart, "data" | "uri" | "assetId">,
): FilePart {
  const [kind] = mediaType.split("/");
  return { type: kind === "image" || kind === "audio" ? kind : "file", mediaType, name, ...source };
}
