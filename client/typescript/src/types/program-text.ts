import { isObject, type JsonObject } from "../protocol/json.js";
import type { Format } from "../protocol/names.js";

/** Returns the text of a provider's message, which has the given format. */
type TextOf = (blob: JsonObject, format: Format) => string;

/**
 * Return the text of a message that an agents' program or a framework wrote. Empty if the message
 * has no text, or if the format is unknown. A note of the program has a text if people are meant to
 * read it, such as the summary of a session.
 */
export function textOfProgram(blob: JsonObject, formatName: string, textOf: TextOf): string {
  switch (formatName) {
    case "claude-code":
      return claudeCode(blob, textOf);
    case "codex":
      return codex(blob, textOf);
    case "openai-agents":
      return textOf(blob, "openai");
    case "pydantic-ai":
      return pydanticAi(blob);
    case "strands":
      return strands(blob);
    case "langchain":
      return plain((object(blob.data) ?? object(blob.kwargs) ?? blob).content);
    case "openai-export":
      return openaiExport(blob);
    case "sharegpt":
      return string(blob.value ?? blob.text ?? blob.content);
    case "bad-line":
      return string(blob.text);
    default:
      return "";
  }
}

function claudeCode(blob: JsonObject, textOf: TextOf): string {
  const message = object(blob.message);
  if (message) {
    const results = objects(message.content)
      .filter((block) => block.type === "tool_result")
      .map((block) => plain(block.content));
    return textOf(message, "anthropic") || results.join("");
  }
  const attachment = object(blob.attachment);
  if (attachment) return textOf({ content: attachment.prompt }, "anthropic");
  return (
    string(blob.summary) || string(blob.customTitle) || string(blob.aiTitle) || string(blob.content)
  );
}

function codex(blob: JsonObject, textOf: TextOf): string {
  const payload = object(blob.payload);
  if (!payload) return textOf(blob, "openai");
  return blob.type === "response_item" ? textOf(payload, "openai") : string(payload.message);
}

function pydanticAi(blob: JsonObject): string {
  const message = "kind" in blob ? blob : (object(blob.message) ?? {});
  return objects(message.parts)
    .map((part) => {
      if (part.part_kind === "speech") return string(part.transcript);
      return part.part_kind === "thinking" ? "" : plain(part.content);
    })
    .join("");
}

function strands(blob: JsonObject): string {
  const said = object(blob.redact_message) ?? object(blob.message) ?? blob;
  return objects(said.content)
    .map((block) => {
      const result = objects(object(block.toolResult)?.content).map((one) => string(one.text));
      return string(block.text) + result.join("");
    })
    .join("");
}

function openaiExport(blob: JsonObject): string {
  const message = "author" in blob ? blob : (object(blob.message) ?? {});
  const content = object(message.content) ?? {};
  const parts: unknown[] = Array.isArray(content.parts) ? content.parts : [];
  const texts = parts.map((part) => string(isObject(part) ? part.text : part));
  return string(content.text) + texts.join("");
}

/** Return a text, or the texts in a list of parts. */
function plain(content: unknown): string {
  if (!Array.isArray(content)) return string(content);
  return content
    .map((part: unknown) => string(isObject(part) ? (part.text ?? part.content) : part))
    .join("");
}

function object(value: unknown): JsonObject | undefined {
  return isObject(value) && Object.keys(value).length > 0 ? value : undefined;
}

function objects(value: unknown): JsonObject[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}

function string(value: unknown): string {
  return typeof value === "string" ? value : "";
}
