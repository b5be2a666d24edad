// Typed parts in the JSON form that protobuf defines, with the field names of the protos.

import type * as proto from "../gen/sessiond/v1/message.js";
import { Format } from "../gen/sessiond/v1/message.js";
import type { JsonObject } from "../protocol/json.js";
import type { Fields } from "./fields.js";

/** Return parts as JSON. Values that are their type's default are left out. */
export function partsToJson(parts: readonly proto.Part[]): JsonObject[] {
  return parts.map(({ kind }): JsonObject => {
    switch (kind?.$case) {
      case "text":
      case "data":
        return { [kind.$case]: kind.value };
      case "image":
      case "audio":
      case "file":
        return { [kind.$case]: blobToJson(kind.value) };
      case "toolCall": {
        const { callId, name, argumentsJson } = kind.value;
        return { tool_call: given({ call_id: callId, name, arguments_json: argumentsJson }) };
      }
      case "toolResult": {
        const { callId, parts: inner, isError } = kind.value;
        return {
          tool_result: given({ call_id: callId, parts: partsToJson(inner), is_error: isError }),
        };
      }
      case "reasoning": {
        const { text, signature, format } = kind.value;
        return {
          reasoning: given({
            text,
            signature: base64(signature),
            format: format ? (Format[format] ?? format) : "",
          }),
        };
      }
      default:
        return {};
    }
  });
}

/** Return a part's content from JSON. The fields know the record's place, for errors. */
export function partFromJson(fields: Fields): proto.Part {
  const names = fields.names();
  const [name] = names;
  if (names.length > 1 || name === undefined) {
    throw fields.fault("parts", `are invalid: a part has ${names.join(" and ") || "no content"}`);
  }
  switch (name) {
    case "text":
    case "data":
      return { kind: { $case: name, value: fields.text(name) } };
    case "image":
    case "audio":
    case "file":
      return { kind: { $case: name, value: blobFromJson(fields.required(name)) } };
    case "tool_call": {
      const call = fields.required(name);
      const value = {
        callId: call.text("call_id"),
        name: call.text("name"),
        argumentsJson: call.text("arguments_json"),
      };
      return { kind: { $case: "toolCall", value } };
    }
    case "tool_result": {
      const result = fields.required(name);
      const value = {
        callId: result.text("call_id"),
        parts: result.list("parts").map(partFromJson),
        isError: result.boolean("is_error"),
      };
      return { kind: { $case: "toolResult", value } };
    }
    case "reasoning": {
      const reasoning = fields.required(name);
      const format = reasoning.text("format");
      if (format && !(format in Format)) throw reasoning.fault("format", `is ${format}`);
      const value = {
        text: reasoning.text("text"),
        signature: reasoning.base64("signature"),
        format: format ? Format[format as keyof typeof Format] : 0,
      };
      return { kind: { $case: "reasoning", value } };
    }
    default:
      throw fields.fault("parts", `are invalid: this client does not know ${name}`);
  }
}

function blobToJson({ mediaType, name, source }: proto.Blob): JsonObject {
  return {
    ...given({ media_type: mediaType, name }),
    ...(source?.$case === "inline" && { inline: base64(source.value) }),
    ...(source?.$case === "uri" && { uri: source.value }),
    ...(source?.$case === "assetId" && { asset_id: source.value }),
  };
}

function blobFromJson(fields: Fields): proto.Blob {
  const names = fields.names();
  const source: proto.Blob["source"] = names.includes("inline")
    ? { $case: "inline", value: fields.base64("inline") }
    : names.includes("uri")
      ? { $case: "uri", value: fields.text("uri") }
      : names.includes("asset_id")
        ? { $case: "assetId", value: fields.text("asset_id") }
        : undefined;
  return { mediaType: fields.text("media_type"), name: fields.text("name"), source };
}

/** Return the fields that have a value other than their type's default. */
function given(fields: JsonObject): JsonObject {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => (Array.isArray(value) ? value.length : value)),
  );
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}
