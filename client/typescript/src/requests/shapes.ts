import { invalidField } from "../protocol/invalid.js";
import { isObject, type JsonObject } from "../protocol/json.js";
import type { Format } from "../protocol/names.js";

const OPENAI_KEYS = [
  "tool_calls",
  "tool_call_id",
  "function_call",
  "refusal",
  "audio",
  "reasoning_content",
];
const OPENAI_ROLES: ReadonlySet<unknown> = new Set(["developer", "tool", "function"]);
const PLAIN_ROLES: ReadonlySet<unknown> = new Set(["user", "assistant", "system"]);
const OPENAI_PARTS: ReadonlySet<string> = new Set([
  "image_url",
  "input_audio",
  "file",
  "refusal",
  "input_text",
  "output_text",
  "input_image",
  "input_file",
  "summary_text",
  "reasoning_text",
  "computer_screenshot",
]);
const ANTHROPIC_BLOCKS: ReadonlySet<string> = new Set([
  "tool_use",
  "tool_result",
  "redacted_thinking",
  "server_tool_use",
  "mcp_tool_use",
  "search_result",
  "container_upload",
  "compaction",
  "tool_addition",
  "tool_removal",
  "mcp_tool_listing",
  "fallback",
]);
// Blocks that callers sometimes pass instead of a message. Responses items never have these types.
const BARE_BLOCKS: ReadonlySet<string> = new Set([
  "text",
  "image",
  "document",
  "tool_use",
  "tool_result",
  "thinking",
]);

/**
 * Return the format of a provider's message, by its shape.
 *
 * @param path - the message's path in the call, for the error.
 * @returns `undefined` if the message is the same in several formats.
 * @throws InvalidField if the message has marks of several formats.
 */
export function formatOf(message: JsonObject, path: string): Format | undefined {
  const { role, content } = message;
  // The case of nearly all messages: one with a usual role and without a list of parts counts as
  // OpenAI's.
  if (
    (content === undefined || content === null || typeof content === "string") &&
    (PLAIN_ROLES.has(role) || OPENAI_ROLES.has(role)) &&
    !("parts" in message) &&
    !("stop_reason" in message)
  ) {
    return "openai";
  }
  const marks = new Map<Format, string>(marksOf(message));
  if (marks.size > 1) {
    const found = [...marks].map(([name, mark]) => `${mark} (${name})`).join(" and ");
    throw invalidField(
      "format",
      `is needed for ${path}, which has ${found}; give "openai", "anthropic" or "gemini"`,
    );
  }
  const [mark] = marks.keys();
  // Requests to other providers have these keys too, so they decide only if nothing else does.
  const isHinted = partsOf(message).some((part) => part.cache_control || part.citations);
  return mark ?? (isHinted ? "anthropic" : undefined);
}

/** Return whether a message is only a text by the user, the assistant or the system. */
export function isPlain(message: JsonObject): boolean {
  return (
    Object.keys(message).sort().join() === "content,role" &&
    typeof message.content === "string" &&
    PLAIN_ROLES.has(message.role)
  );
}

/** Yield the format of each mark that only one format has, with a description of the mark. */
function* marksOf(message: JsonObject): Generator<[Format, string], void, undefined> {
  const { role, type, parts } = message;
  if (typeof parts === "object" && parts !== null) yield ["gemini", "parts"];
  else if (role === "model") yield ["gemini", 'the role "model"'];
  else if (OPENAI_ROLES.has(role)) yield ["openai", `the role "${role}"`];
  else if ((role === undefined || role === null) && typeof type === "string") {
    yield [BARE_BLOCKS.has(type) ? "anthropic" : "openai", `the type "${type}"`];
  }
  for (const key of OPENAI_KEYS) {
    if (message[key] !== undefined && message[key] !== null) yield ["openai", key];
  }
  if (message.stop_reason !== undefined && message.stop_reason !== null) {
    yield ["anthropic", "stop_reason"];
  }
  for (const part of partsOf(message)) {
    const format = formatOfPart(part);
    if (format) yield [format, `a part of type "${part.type}"`];
  }
}

function formatOfPart(part: JsonObject): Format | undefined {
  const type: unknown = part.type;
  if (typeof type !== "string") return undefined;
  if (OPENAI_PARTS.has(type)) return "openai";
  // In Mistral's answers, which have OpenAI's format, "thinking" is a list.
  if (type === "thinking") return typeof part.thinking === "string" ? "anthropic" : "openai";
  const isFile = (type === "image" || type === "document") && isObject(part.source);
  return isFile || ANTHROPIC_BLOCKS.has(type) || type.endsWith("_tool_result")
    ? "anthropic"
    : undefined;
}

function partsOf(message: JsonObject): JsonObject[] {
  return Array.isArray(message.content) ? message.content.filter(isObject) : [];
}
