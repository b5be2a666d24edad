// Reads the records of an export, and converts them to the requests of an import.

import { createHash } from "node:crypto";
import { Message } from "../gen/sessiond/v1/message.js";
import { ImportSessionRequest } from "../gen/sessiond/v1/session_service.js";
import { invalidField, shown } from "../protocol/invalid.js";
import { isObject, type JsonObject } from "../protocol/json.js";
import { bookmarkFrom, messageFrom, sessionFrom, statePatchFrom, taskFrom } from "./entities.js";
import { Fields } from "./fields.js";
import { ExportCounts, type ExportRecord, LISTS, PIECE_BYTES, VERSION } from "./records.js";

/** A record, with its place for errors, e.g. "line 7" or "messages[3]". */
export interface PlacedRecord {
  readonly place: string;
  readonly record: ExportRecord;
}

/** A piece of an asset's content, to upload before the import ends. */
export interface AssetPiece {
  readonly assetId: string;
  readonly mediaType: string;
  readonly size: number;
  readonly data: Uint8Array;
  readonly isFirst: boolean;
  readonly isLast: boolean;
}

/**
 * Yield the records of the object of `export()`.
 *
 * @throws InvalidField if it is not an export.
 */
export function* recordsOf(document: unknown): Generator<PlacedRecord, void, undefined> {
  if (!isObject(document) || !("session" in document)) {
    throw invalidField("source", "is not an exported session");
  }
  const { version, session } = document;
  yield { place: "export", record: { kind: "export", value: { version, session } } };
  const counts = new ExportCounts();
  // Assets must precede the messages that refer to them.
  for (const kind of ["task", "bookmark", "asset", "message"] as const) {
    const name = LISTS[kind];
    const items: unknown = document[name] ?? [];
    if (!Array.isArray(items)) throw invalidField(name, "is not a list");
    for (const [i, item] of items.entries()) {
      if (!isObject(item)) throw invalidField(`${name}[${i}]`, "is not a JSON object");
      const values = kind === "asset" ? assetPieces(item) : [item];
      for (const value of values) {
        yield { place: `${name}[${i}]`, record: counts.count({ kind, value }) };
      }
    }
  }
  yield { place: "end", record: counts.end() };
}

/** Split an asset into records of one piece each. */
function* assetPieces(item: JsonObject): Generator<JsonObject, void, undefined> {
  const { data } = item;
  // The Assembler refuses data that is not a string.
  const length = typeof data === "string" ? data.length : 0;
  for (let start = 0; start < (length || 1); start += PIECE_BYTES) {
    const piece = typeof data === "string" ? data.slice(start, start + PIECE_BYTES) : data;
    yield { ...item, offset: (start / 4) * 3, data: piece };
  }
}

/**
 * Parse JSON.
 *
 * @throws InvalidField if it is not JSON.
 */
export function parsed(text: string, place: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw invalidField(place, `is not JSON: ${(error as Error).message}`);
  }
}

/** Return the record of a line of an export. */
export function recordOf(text: string, place: string): ExportRecord {
  const value = parsed(text, place);
  if (!isObject(value) || typeof value.kind !== "string") {
    throw invalidField(place, "is not a record of an export: it has no kind");
  }
  const { kind, ...rest } = value;
  return { kind, value: rest };
}

/** Return whether an export is JSON Lines rather than one document, judging by its first line. */
export function isLines(first: string): boolean {
  const text = first.replace(/^[\ufeff \t]+/, "");
  if (text.startsWith('{"kind"')) return true;
  try {
    return "kind" in JSON.parse(text);
  } catch {
    return false;
  }
}

/** An asset of which pieces are still missing; `offset` bytes have arrived. */
interface PartialAsset {
  readonly assetId: string;
  readonly mediaType: string;
  readonly size: number;
  readonly hash: ReturnType<typeof createHash>;
  offset: number;
}

/** Converts an export's records, in order, to pieces of ImportSession and of assets. */
export class Assembler {
  /** Number of messages in the whole export. `undefined` = the export does not say. */
  total: number | undefined;
  readonly #sessionId: string | undefined;
  #piece: ImportSessionRequest;
  #pieceBytes = 0;
  #isHeadSent = false;
  #asset: PartialAsset | undefined;
  readonly #assetIds = new Set<string>();
  readonly #counts = new ExportCounts();
  #lastKind = "";
  #lastPlace = "";

  /** @param sessionId - id of the new session. `undefined` = the exported id. */
  constructor(sessionId: string | undefined, requestId: string) {
    this.#sessionId = sessionId;
    this.#piece = ImportSessionRequest.create({ requestId });
  }

  /** Number of messages so far. */
  get messages(): number {
    return this.#counts.messages;
  }

  /** Add a record, and return the pieces to send now, in order.
   *
   * @throws InvalidField if the record is invalid, or out of order.
   */
  take({ place, record }: PlacedRecord): (ImportSessionRequest | AssetPiece)[] {
    const { kind, value } = record;
    const ready: (ImportSessionRequest | AssetPiece)[] = [];
    if ((kind === "export") !== (this.#lastKind === "")) {
      const what = this.#lastKind ? "is a second export" : "is not the beginning of an export";
      throw invalidField(place, what);
    }
    if (this.#lastKind === "end") throw invalidField(place, "comes after the end of the export");
    if (this.#asset && kind !== "asset") throw interruption(place, this.#asset);
    if ((kind === "message" || kind === "asset") && !this.#isHeadSent) {
      // This piece is sent at once, so that the server can refuse the session before it receives
      // the rest.
      this.#isHeadSent = true;
      ready.push(this.#takePiece());
    }
    const fields = new Fields(place, value);
    const isLate = this.#lastKind === "message" || this.#lastKind === "asset";
    if (isLate && (kind === "task" || kind === "bookmark")) {
      throw invalidField(place, `is a ${kind} after the messages; it must come before them`);
    }
    switch (kind) {
      case "export":
        this.#takeSession(fields);
        break;
      case "task":
        this.#piece.tasks.push(taskFrom(fields));
        break;
      case "bookmark":
        this.#piece.bookmarks.push(bookmarkFrom(fields));
        break;
      case "message":
        this.#takeMessage(fields);
        break;
      case "asset":
        ready.push(this.#takeAsset(fields));
        break;
      case "end":
        this.#checkEnd(place, value);
        break;
      default:
        throw invalidField(place, `has the unknown kind ${shown(kind)}`);
    }
    this.#counts.count(record);
    this.#lastKind = kind;
    this.#lastPlace = place;
    if (this.#pieceBytes >= PIECE_BYTES) ready.push(this.#takePiece());
    return ready;
  }

  /**
   * Return the last piece.
   *
   * @throws InvalidField if the export is truncated.
   */
  finish(): ImportSessionRequest {
    if (!this.#lastKind) throw invalidField("source", "is empty");
    if (this.#lastKind !== "end") {
      throw invalidField("source", `has no end: it was cut off after ${this.#lastPlace}`);
    }
    return this.#piece;
  }

  #takePiece(): ImportSessionRequest {
    const piece = this.#piece;
    this.#piece = ImportSessionRequest.create();
    this.#pieceBytes = 0;
    return piece;
  }

  #takeSession(fields: Fields): void {
    const version = fields.get("version");
    if (version !== VERSION) {
      throw invalidField(
        fields.place,
        `has format version ${shown(version)}; this client reads version ${VERSION}`,
      );
    }
    const session = fields.nested("session");
    if (!session) throw invalidField(fields.place, "has no session");
    this.total = session.integer("last_seq");
    const result = sessionFrom(session);
    if (this.#sessionId !== undefined) result.sessionId = this.#sessionId;
    this.#piece.session = result;
    this.#piece.statePatch = statePatchFrom(session);
  }

  #takeMessage(fields: Fields): void {
    const expected = this.#counts.messages + 1;
    const seq = fields.integer("seq");
    if (seq !== undefined && seq !== expected) {
      throw invalidField(
        fields.place,
        `has seq ${seq} instead of ${expected}: messages are missing`,
      );
    }
    const message = messageFrom(fields);
    this.#piece.messages.push(message);
    const { content } = message;
    this.#pieceBytes +=
      content?.$case === "json"
        ? Buffer.byteLength(content.value)
        : Message.encode(message).finish().length;
  }

  #takeAsset(fields: Fields): AssetPiece {
    const assetId = fields.text("asset_id");
    const mediaType = fields.text("media_type");
    const size = fields.integer("size") ?? -1;
    let asset = this.#asset;
    const isFirst = asset === undefined;
    if (asset === undefined) {
      if (!/^[0-9a-f]{64}$/.test(assetId)) {
        throw fields.fault("asset_id", "must be 64 lower-case hexadecimal digits");
      }
      if (size < 0) throw fields.fault("size", "must be a number of bytes");
      if (this.#assetIds.has(assetId)) throw invalidField(fields.place, `repeats asset ${assetId}`);
      this.#assetIds.add(assetId);
      asset = { assetId, mediaType, size, hash: createHash("sha256"), offset: 0 };
      this.#asset = asset;
    } else if (asset.assetId !== assetId || asset.mediaType !== mediaType || asset.size !== size) {
      throw interruption(fields.place, asset);
    }
    const offset = fields.integer("offset");
    if (offset !== asset.offset) {
      throw fields.fault(
        "offset",
        `is ${offset} instead of ${asset.offset}: pieces of asset ${assetId} are missing`,
      );
    }
    if (fields.get("data") === undefined) throw fields.fault("data", "is not a string");
    const data = fields.base64("data");
    asset.offset += data.length;
    asset.hash.update(data);
    if (asset.offset > size || (size > 0 && data.length === 0)) {
      throw fields.fault(
        "data",
        `has ${data.length} bytes at offset ${offset} of asset ${assetId}, which has ${size} in all`,
      );
    }
    const isLast = asset.offset === size;
    if (isLast) {
      const digest = asset.hash.digest("hex");
      if (digest !== assetId) {
        throw fields.fault(
          "data",
          `is not the content of asset ${assetId}: its SHA-256 is ${digest}`,
        );
      }
      this.#asset = undefined;
    }
    return { assetId, mediaType, size, data, isFirst, isLast };
  }

  #checkEnd(place: string, value: JsonObject): void {
    for (const [name, count] of Object.entries(this.#counts.end().value)) {
      if (value[name] !== count) {
        throw invalidField(place, `counts ${value[name]} ${name}, but the export has ${count}`);
      }
    }
    if (this.total !== undefined && this.total !== this.messages) {
      throw invalidField(
        place,
        `comes after ${this.messages} messages, but the session has ${this.total}`,
      );
    }
  }
}

function interruption(place: string, { assetId, offset }: PartialAsset) {
  return invalidField(place, `interrupts asset ${assetId}, which continues at offset ${offset}`);
}
