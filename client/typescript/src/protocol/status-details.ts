import { BinaryReader } from "@bufbuild/protobuf/wire";
import type { FieldViolation } from "../errors/index.js";

/** The details of a failed call: google.rpc.ErrorInfo, BadRequest and RetryInfo. */
export interface StatusDetails {
  /** ErrorInfo.reason. Empty = there is none. */
  reason: string;
  /** ErrorInfo.metadata. */
  metadata: Record<string, string>;
  /** BadRequest.field_violations. */
  fieldViolations: FieldViolation[];
  /** RetryInfo.retry_delay, in milliseconds. `undefined` = there is none. */
  retryAfterMs: number | undefined;
}

type Readers = Readonly<Record<number, (reader: BinaryReader) => void>>;

/** Call a reader for each field of a message; pass over the others. */
function read(bytes: Uint8Array, readers: Readers): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    const known = readers[field];
    if (known) known(reader);
    else reader.skip(type);
  }
}

/**
 * Return the details in an encoded google.rpc.Status.
 *
 * Bytes that do not parse come from a proxy, not from the server; they count as none.
 */
export function detailsOf(status: Uint8Array | undefined): StatusDetails {
  const none = (): StatusDetails => ({
    reason: "",
    metadata: {},
    fieldViolations: [],
    retryAfterMs: undefined,
  });
  const details = none();
  try {
    if (status) read(status, { 3: (reader) => readAny(reader.bytes(), details) });
  } catch {
    return none();
  }
  return details;
}

/** Read a detail in a google.protobuf.Any. */
export function readAny(bytes: Uint8Array, details: StatusDetails): void {
  let url = "";
  let value: Uint8Array = new Uint8Array();
  read(bytes, {
    1: (reader) => {
      url = reader.string();
    },
    2: (reader) => {
      value = reader.bytes();
    },
  });
  readDetail(url.slice(url.lastIndexOf("/") + 1), value, details);
}

/** Read a detail of a known type; pass over others. */
export function readDetail(type: string, value: Uint8Array, details: StatusDetails): void {
  switch (type) {
    case "google.rpc.ErrorInfo":
      read(value, {
        1: (reader) => {
          details.reason = reader.string();
        },
        3: (reader) => {
          const [key, text] = readPair(reader.bytes());
          details.metadata[key] = text;
        },
      });
      break;
    case "google.rpc.BadRequest":
      read(value, {
        1: (reader) => {
          const [field, description] = readPair(reader.bytes());
          details.fieldViolations.push({ field, description });
        },
      });
      break;
    case "google.rpc.RetryInfo":
      read(value, {
        1: (reader) => {
          details.retryAfterMs = readDuration(reader.bytes());
        },
      });
      break;
  }
}

function readPair(bytes: Uint8Array): [string, string] {
  const pair: [string, string] = ["", ""];
  read(bytes, {
    1: (reader) => {
      pair[0] = reader.string();
    },
    2: (reader) => {
      pair[1] = reader.string();
    },
  });
  return pair;
}

function readDuration(bytes: Uint8Array): number {
  let millis = 0;
  read(bytes, {
    1: (reader) => {
      millis += Number(reader.int64()) * 1000;
    },
    2: (reader) => {
      millis += reader.int32() / 1e6;
    },
  });
  return millis;
}
