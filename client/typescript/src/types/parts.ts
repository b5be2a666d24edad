import type * as proto from "../gen/sessiond/v1/message.js";
import { listed } from "../protocol/checks.js";
import { invalidField, shown, typeName } from "../protocol/invalid.js";
import { FORMATS, type Format } from "../protocol/names.js";

/** Plain text. */
export interface TextPart {
  readonly type: "text";
  readonly text: string;
}

/** Any other content, as JSON text, which is kept byte for byte. */
export interface DataPart {
  readonly type: "data";
  readonly data: string;
}

/** A picture, sound or another file: exactly one of `data`, `uri` and `assetId`. */
export interface FilePart {
  readonly type: "image" | "audio" | "file";
  /** IANA media type, e.g. "image/png". Default: unknown. */
  readonly mediaType?: string | undefined;
  /** Name of the file, for people. */
  readonly name?: string | undefined;
  /** The content itself; it counts towards the message's size. */
  readonly data?: Uint8Array | undefined;
  /** Where the content is. */
  readonly uri?: string | undefined;
  /** An asset of the project (`client.assets`). */
  readonly assetId?: string | undefined;
}

/** The model's request to run a tool. */
export interface ToolCallPart {
  readonly type: "tool_call";
  /** Ties the call to its result. */
  readonly callId: string;
  readonly name: string;
  /** The arguments as JSON text, kept byte for byte. Empty = no arguments. */
  readonly argumentsJson: string;
}

/** The result of a tool. */
export interface ToolResultPart {
  readonly type: "tool_result";
  readonly callId: string;
  readonly parts: readonly Part[];
  /** Whether the tool failed. Default: false. */
  readonly isError?: boolean | undefined;
}

/** The model's thinking. */
export interface ReasoningPart {
  readonly type: "reasoning";
  /** The readable part. Empty if the provider redacts it. */
  readonly text: string;
  /** The provider's signature, or the encrypted reasoning. */
  readonly signature?: Uint8Array | undefined;
  /** The provider that signed the reasoning. A turn sends the reasoning to this provider only. */
  readonly format?: Format | undefined;
}

/** A part of a kind that this version does not know. It cannot be stored. */
export interface UnknownPart {
  readonly type: "unknown";
}

/** One piece of a message in sessiond's own types. */
export type Part =
  | TextPart
  | DataPart
  | FilePart
  | ToolCallPart
  | ToolResultPart
  | ReasoningPart
  | UnknownPart;

/** Return parts of the protos in the client's types. */
export function fromParts(parts: readonly proto.Part[]): Part[] {
  return parts.map(({ kind }): Part => {
    switch (kind?.$case) {
      case "text":
        return { type: "text", text: kind.value };
      case "data":
        return { type: "data", data: kind.value };
      case "image":
      case "audio":
      case "file":
        return { type: kind.$case, ...fromBlob(kind.value) };
      case "toolCall":
        return { type: "tool_call", ...kind.value };
      case "toolResult":
        return {
          type: "tool_result",
          callId: kind.value.callId,
          parts: fromParts(kind.value.parts),
          isError: kind.value.isError,
        };
      case "reasoning": {
        const { text, signature } = kind.value;
        const format = FORMATS.nameOf(kind.value.format);
        return {
          type: "reasoning",
          text,
          ...(signature.length > 0 && { signature: copied(signature) }),
          ...(format && { format }),
        };
      }
      default:
        return { type: "unknown" };
    }
  });
}

function fromBlob({ mediaType, name, source }: proto.Blob): Omit<FilePart, "type"> {
  const base = { ...(mediaType && { mediaType }), ...(name && { name }) };
  switch (source?.$case) {
    case "uri":
      return { ...base, uri: source.value };
    case "assetId":
      return { ...base, assetId: source.value };
    default:
      return { ...base, data: copied(source?.value ?? new Uint8Array()) };
  }
}

/** Copy bytes: a decoded field is a view of the whole response, which it would keep in memory. */
function copied(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}

/**
 * Return parts as the protos have them.
 *
 * @throws InvalidField with the path of a part that cannot be sent.
 */
export function toParts(parts: Iterable<Part>, path: string): proto.Part[] {
  return listed(parts, path).map((part, i) => ({ kind: toKind(part, `${path}[${i}]`) }));
}

function toKind(part: Part, path: string): NonNullable<proto.Part["kind"]> {
  switch (part?.type) {
    case "text":
      return { $case: "text", value: text(part.text, `${path}.text`) };
    case "data":
      return { $case: "data", value: text(part.data, `${path}.data`) };
    case "image":
    case "audio":
    case "file":
      return { $case: part.type, value: toBlob(part, path) };
    case "tool_call":
      return {
        $case: "toolCall",
        value: {
          callId: text(part.callId, `${path}.callId`),
          name: text(part.name, `${path}.name`),
          argumentsJson: text(part.argumentsJson ?? "", `${path}.argumentsJson`),
        },
      };
    case "tool_result":
      return {
        $case: "toolResult",
        value: {
          callId: text(part.callId, `${path}.callId`),
          parts: toParts(part.parts, `${path}.parts`),
          isError: part.isError ?? false,
        },
      };
    case "reasoning":
      return {
        $case: "reasoning",
        value: {
          text: text(part.text, `${path}.text`),
          signature: part.signature ?? new Uint8Array(),
          format: part.format === undefined ? 0 : FORMATS.numberOf(part.format, `${path}.format`),
        },
      };
    default:
      throw invalidField(path, `is of type ${shown(part?.type)}, which cannot be sent`);
  }
}

function toBlob(part: FilePart, path: string): proto.Blob {
  const { mediaType = "", name = "", data, uri, assetId } = part;
  const sources = [data, uri, assetId].filter((source) => source !== undefined);
  if (sources.length !== 1) {
    throw invalidField(path, "needs exactly one of data, uri and assetId");
  }
  if (data !== undefined && !(data instanceof Uint8Array)) {
    throw invalidField(`${path}.data`, `must be a Uint8Array, not ${typeName(data)}`);
  }
  const source: proto.Blob["source"] =
    data !== undefined
      ? { $case: "inline", value: data }
      : uri !== undefined
        ? { $case: "uri", value: text(uri, `${path}.uri`) }
        : { $case: "assetId", value: text(assetId, `${path}.assetId`) };
  return {
    mediaType: text(mediaType, `${path}.mediaType`),
    name: text(name, `${path}.name`),
    source,
  };
}

function text(value: unknown, path: string): string {
  if (typeof value !== "string") {
    throw invalidField(path, `must be a string, not ${typeName(value)}`);
  }
  return value;
}
