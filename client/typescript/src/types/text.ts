import { isObject, type JsonObject } from "../protocol/json.js";
import type { Format } from "../protocol/names.js";
import type { Part } from "./parts.js";
import { textOfProgram } from "./program-text.js";

// Types of text parts in Chat Completions and Anthropic, and in Responses (input and output).
const TEXT_TYPES: ReadonlySet<unknown> = new Set(["text", "input_text", "output_text"]);

/**
 * Return the text of a message: its text parts joined. Reasoning and tool calls are no text. The
 * text of a tool's message is that of the tool's result.
 */
export function textOfBlob(
  blob: JsonObject,
  format: Format | undefined,
  formatName?: string,
): string {
  if (format === "other") return textOfProgram(blob, formatName ?? "", textOfBlob);
  if (format === "gemini") return geminiText(blob);
  if (format === "openai" && blob.role === undefined && "type" in blob) return textOfItem(blob);
  return textOf(blob.content) || string(blob.refusal);
}

/** Return the joined text parts; for a tool's message, the text of its results. */
export function textOfParts(parts: readonly Part[], isResult = false): string {
  return parts
    .map((part) => {
      if (part.type === "text") return part.text;
      return isResult && part.type === "tool_result" ? textOfParts(part.parts) : "";
    })
    .join("");
}

/** Return the text of an item of the Responses API that has no role. */
function textOfItem(item: JsonObject): string {
  const kind: unknown = item.type;
  if (kind === "program_output") return textOf(item.result);
  if (kind === "code_interpreter_call") return textOf(item.outputs);
  const isResult = typeof kind === "string" && kind.endsWith("_output");
  return isResult || kind === "mcp_call" ? textOf(item.output) : "";
}

function textOf(content: unknown): string {
  if (typeof content === "string") return content;
  return Array.isArray(content) ? content.map(textOfPart).join("") : textOfPart(content);
}

function textOfPart(part: unknown): string {
  if (!isObject(part)) return "";
  if (TEXT_TYPES.has(part.type)) return string(part.text);
  if (part.type === "refusal") return string(part.refusal);
  // The output of a shell or a code interpreter.
  return string(part.stdout) + string(part.stderr) + string(part.logs);
}

function geminiText(blob: JsonObject): string {
  const isResult = blob.role === "tool" || blob.role === "function";
  const parts: unknown[] = Array.isArray(blob.parts) ? blob.parts : [blob.parts];
  return parts
    .map((part) => {
      if (!isObject(part) || part.thought) return "";
      const result: unknown = part.functionResponse ?? part.function_response;
      const value = isResult && isObject(result) ? result.response : undefined;
      return string(part.text) + (value === undefined || value === null ? "" : resultText(value));
    })
    .join("");
}

function resultText(value: unknown): string {
  const output: unknown = isObject(value) ? (value.output ?? value.result) : value;
  return typeof output === "string" ? output : JSON.stringify(value);
}

function string(value: unknown): string {
  return typeof value === "string" ? value : "";
}
