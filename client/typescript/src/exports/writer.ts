// Writes exports: as JSON Lines, one JSON document, or an object.

import type { JsonObject } from "../protocol/json.js";
import { type ExportRecord, LISTS } from "./records.js";

const NAMES = Object.values(LISTS);

function encode(value: object): string {
  // Escape characters that some programs take for line ends. JSON.stringify has already escaped
  // lone surrogates.
  return JSON.stringify(value).replace(
    /[\u2028\u2029\x85]/g,
    (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Return a record as a line of JSON, with its line end. */
export function line({ kind, value }: ExportRecord): string {
  return `${encode({ kind, ...value })}\n`;
}

function listOf(kind: string): string {
  return (LISTS as Record<string, string>)[kind] ?? "";
}

/** Builds the object of `export()` record by record. */
export class Collection {
  #head: JsonObject = {};
  readonly #lists: Record<string, JsonObject[]> = Object.fromEntries(NAMES.map((n) => [n, []]));
  /** The base64 of each asset, in pieces. */
  readonly #data: string[][] = [];

  take({ kind, value }: ExportRecord): void {
    if (kind === "export") {
      this.#head = value;
    } else if (kind === "asset") {
      const { asset_id, media_type, size } = value;
      if (!value.offset) {
        this.#lists[LISTS.asset]?.push({ asset_id, media_type, size });
        this.#data.push([]);
      }
      this.#data.at(-1)?.push(value.data);
    } else if (kind !== "end") {
      this.#lists[listOf(kind)]?.push(value);
    }
  }

  result(): JsonObject {
    const assets = this.#lists[LISTS.asset]?.map((asset, i) => ({
      ...asset,
      data: this.#data[i]?.join(""),
    }));
    return { ...this.#head, ...this.#lists, assets };
  }
}

/** Writes one JSON document in the form of `export()`. Asset records must come after all others. */
export class Document {
  #open = -1;
  #count = 0;
  /** Number of base64 characters of the current asset that are still missing. */
  #dataLeft = 0;

  /** Return the text that a record adds. */
  text({ kind, value }: ExportRecord): string {
    if (kind === "export") return encode(value).slice(0, -1);
    if (kind === "end") return `${this.#begin(NAMES.length - 1)}]}\n`;
    if (kind === "asset" && value.offset) return this.#data(value.data);
    const before = this.#begin(NAMES.indexOf(listOf(kind) as never));
    const comma = this.#count ? "," : "";
    this.#count += 1;
    if (kind !== "asset") return `${before}${comma}\n${encode(value)}`;
    const { asset_id, media_type, size } = value;
    const head = encode({ asset_id, media_type, size });
    this.#dataLeft = Math.ceil(size / 3) * 4;
    return `${before}${comma}\n${head.slice(0, -1)},"data":"${this.#data(value.data)}`;
  }

  #data(data: string): string {
    this.#dataLeft -= data.length;
    return this.#dataLeft > 0 ? data : `${data}"}`;
  }

  /** Return the text that ends the current list, and begins the following ones up to an index. */
  #begin(until: number): string {
    let text = "";
    while (this.#open < until) {
      text += `${this.#open >= 0 ? "]" : ""},\n"${NAMES[this.#open + 1]}":[`;
      this.#open += 1;
      this.#count = 0;
    }
    return text;
  }
}
