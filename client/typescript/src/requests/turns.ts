import { SendRequest } from "../gen/sessiond/v1/conversation_service.js";
import { Message, Role } from "../gen/sessiond/v1/message.js";
import {
  checkBoolean,
  checkInteger,
  checkKnown,
  checkOptionalText,
  checkText,
  listed,
} from "../protocol/checks.js";
import { invalidField, typeName } from "../protocol/invalid.js";
import { encodeJson, isObject, type JsonObject } from "../protocol/json.js";
import { type Format, SEND_MODES, type SendMode } from "../protocol/names.js";
import { toDuration } from "../protocol/times.js";
import type { Part } from "../types/parts.js";
import { toParts } from "../types/parts.js";
import { type Attachment, type AttachmentInput, attachmentsOf } from "./attachments.js";
import { requestIdOr } from "./ids.js";
import { type MessageInput, toBatch } from "./input.js";

/** What to send, and how. */
export interface SendFields {
  /** The user's text. */
  readonly prompt?: string | undefined;
  /** 1 to 100 messages, as storeMessages takes them, instead of a prompt and attachments. */
  readonly messages?: Iterable<MessageInput> | undefined;
  /**
   * Format of objects and JSON texts in messages. Default: by the shape of each; for plain text,
   * the format of the model's provider.
   */
  readonly format?: Format | undefined;
  /** Upload files inside the messages as assets first, as in storeMessages. */
  readonly extractFiles?: boolean | number | undefined;
  /** Files for the prompt. Files above 256 KiB are uploaded as assets first. */
  readonly attachments?: readonly AttachmentInput[] | undefined;
  /**
   * What happens if a turn is running. "enqueue" (default): the messages wait, and then start a
   * turn of their own. "immediate": they steer the running turn. If tool calls of the last answer
   * have no results yet, "immediate" messages wait for the results.
   */
  readonly mode?: SendMode | undefined;
  /** Model to ask. Default: the session's, or the server's default. */
  readonly model?: string | undefined;
  /**
   * Fields of the request to the model, such as temperature, max_tokens and tools, which are passed
   * on unchanged and in the same order. A JSON object of at most 1 MiB and 200 levels.
   */
  readonly options?: JsonObject | undefined;
  /** Maximum running time of the turn, in milliseconds, from 1 second. Default: the server's. */
  readonly turnTimeoutMs?: number | undefined;
  /**
   * Whether the text that the model has written is kept if the turn fails or is aborted, as a
   * message that is marked `incomplete`. Default: the server's setting, normally true.
   */
  readonly keepPartial?: boolean | undefined;
  /** Start no turn unless the session's epoch is this (HistoryRewound). Default: no check. */
  readonly expectedEpoch?: number | undefined;
  /**
   * Seq of the message that the turn continues. The turn becomes a branch of its own if other
   * messages continue that message. Default: the newest message.
   */
  readonly parentSeq?: number | undefined;
  /** Makes the call safe to repeat: a call with the same id joins the turn. Default: random. */
  readonly requestId?: string | undefined;
}

/** The user's text, or an object with it and the other fields to send. */
export type Prompt = string | SendFields;

/** The names of the fields of a send. */
export const SEND_FIELDS = [
  "prompt",
  "messages",
  "format",
  "extractFiles",
  "attachments",
  "mode",
  "model",
  "options",
  "turnTimeoutMs",
  "keepPartial",
  "expectedEpoch",
  "parentSeq",
  "requestId",
] as const satisfies readonly (keyof SendFields)[];

/** A request, and the attachments to read or upload before it can be sent. */
export class Sending {
  readonly request: SendRequest;
  readonly attachments: readonly Attachment[];
  readonly extractFiles: boolean | number | undefined;
  readonly #text: string;

  /**
   * @throws InvalidField for a value that cannot be sent.
   */
  constructor(sessionId: string, prompt: Prompt | undefined, options: SendFields) {
    checkText(sessionId, "sessionId");
    const fields = merged(prompt, options);
    const { messages } = fields;
    checkOptionalText(fields.prompt, "prompt");
    checkOptionalText(fields.model, "model");
    checkBoolean(fields.keepPartial, "keepPartial");
    checkInteger(fields.expectedEpoch, "expectedEpoch");
    checkInteger(fields.parentSeq, "parentSeq");
    this.attachments = attachmentsOf(fields.attachments);
    this.extractFiles = fields.extractFiles;
    this.#text = fields.prompt ?? "";
    if (fields.prompt === "" && this.attachments.length === 0) {
      // This is more likely an unset variable than a wish to let the model continue.
      throw invalidField(
        "prompt",
        "is empty; leave it out to let the model continue from the history as it is",
      );
    }
    if (messages !== undefined && (fields.prompt !== undefined || this.attachments.length > 0)) {
      const other = fields.prompt === undefined ? "attachments" : "prompt";
      throw invalidField("messages", `cannot be combined with ${other}`);
    }
    const batch = messages === undefined ? [] : toBatch(messages, fields.format, { isSent: true });
    if (messages !== undefined && batch.length === 0) {
      throw invalidField(
        "messages",
        "is empty; leave it out to let the model continue from the history as it is",
      );
    }
    this.request = {
      ...SendRequest.create({
        sessionId,
        prompt: this.attachments.length > 0 ? "" : this.#text,
        model: fields.model ?? "",
        mode: fields.mode === undefined ? 0 : SEND_MODES.numberOf(fields.mode, "mode"),
        optionsJson: optionsText(fields.options),
        turnTimeout:
          fields.turnTimeoutMs === undefined
            ? undefined
            : toDuration(fields.turnTimeoutMs, "turnTimeoutMs"),
        keepPartial: fields.keepPartial,
        expectedEpoch: fields.expectedEpoch,
        parentSeq: fields.parentSeq ?? 0,
        requestId: requestIdOr(fields.requestId),
      }),
      messages: batch,
    };
  }

  /** Send the prompt and the parts of the attachments, as one message. */
  takeParts(parts: readonly Part[]): void {
    const text: Part[] = this.#text ? [{ type: "text", text: this.#text }] : [];
    const value = { parts: toParts([...text, ...parts], "attachments") };
    this.request.messages = [
      { ...Message.create(), role: Role.ROLE_USER, content: { $case: "parts", value } },
    ];
  }
}

function optionsText(options: unknown): string {
  if (options === undefined) return "";
  if (!isObject(options))
    throw invalidField("options", `must be an object, not ${typeName(options)}`);
  return encodeJson(options, "options");
}

function merged(prompt: Prompt | undefined, options: SendFields): SendFields {
  if (prompt === undefined || typeof prompt === "string") {
    if (prompt === undefined) return options;
    if (options.prompt !== undefined) throw invalidField("prompt", "is given twice");
    return { ...options, prompt };
  }
  if (!isObject(prompt)) {
    throw invalidField("prompt", `is ${typeName(prompt)}; it must be a string or an object`);
  }
  if ("role" in prompt || "content" in prompt) {
    throw invalidField("prompt", "is a provider's message; send it as { messages: [...] }");
  }
  checkKnown(prompt, new Set(SEND_FIELDS), "send; give an option of the model in options");
  for (const key of SEND_FIELDS) {
    if (prompt[key] !== undefined && options[key] !== undefined) {
      throw invalidField(key, "is given twice");
    }
  }
  return { ...options, ...prompt };
}

/** Return the event types to deliver. `undefined` = all. */
export function eventTypes(types: readonly string[] | undefined): ReadonlySet<string> | undefined {
  if (types === undefined) return undefined;
  const wanted = listed(types, "types");
  wanted.forEach((type, i) => {
    checkText(type, `types[${i}]`);
  });
  return new Set(wanted);
}
