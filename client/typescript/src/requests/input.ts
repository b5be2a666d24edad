import * as proto from "../gen/sessiond/v1/message.js";
import { checkBoolean, checkOptionalText, listed } from "../protocol/checks.js";
import { invalidField, typeName } from "../protocol/invalid.js";
import { encodeJson, isObject, type JsonObject, parseObject } from "../protocol/json.js";
import { FORMATS, type Format, ROLES, type Role } from "../protocol/names.js";
import { toStruct } from "../protocol/structs.js";
import { Message } from "../types/message.js";
import { type Part, toParts } from "../types/parts.js";
import { formatOf, isPlain } from "./shapes.js";

/** The fields of a NewMessage. Exactly one of `blob` and `parts` is required. */
export interface NewMessageFields {
  /** The provider's message: an object, or JSON text, which is kept byte for byte. */
  readonly blob?: object | string | Uint8Array | undefined;
  /** Format of `blob`. Default: that of the call, or by the message's shape. */
  readonly format?: Format | undefined;
  /** Labels of this message: a JSON object of at most 64 KiB. */
  readonly metadata?: JsonObject | undefined;
  /**
   * Seq of the message that this one follows. That message must exist, or precede this one in the
   * same batch. Default: the previous message.
   */
  readonly parentSeq?: number | undefined;
  /** The content in sessiond's own types, 1 to 1,000 parts. */
  readonly parts?: readonly Part[] | undefined;
  /** The speaker. Required with `parts`; read from a `blob` otherwise. */
  readonly role?: Role | undefined;
  /** The caller's own name of the message, at most 256 characters, unique in its session. */
  readonly messageId?: string | undefined;
  /** With the format "other", the program whose message this is. Default: that of the call. */
  readonly formatName?: string | undefined;
  /**
   * Whether the message follows no other one and begins a branch of its own, such as an edited first
   * prompt. Not together with parentSeq. Default: false.
   */
  readonly isRoot?: boolean | undefined;
}

/** A message to store, with its labels, its parent and its name. */
export class NewMessage {
  /** The fields. */
  readonly fields: NewMessageFields;

  constructor(fields: NewMessageFields) {
    this.fields = fields;
  }
}

/**
 * A message to store: a provider's message as an object, or as JSON text (a string, or bytes in
 * UTF-8) that is kept byte for byte; a `NewMessage`; or a `Message` that was read.
 */
export type MessageInput = object | string | Uint8Array | NewMessage | Message;

/**
 * Return the message of the protos that stores a caller's message.
 *
 * @param format - the format of objects and JSON texts. Default: by their shape.
 * @param path - the field in the request, e.g. "messages[3]", for errors.
 * @param formatName - the program that wrote an object or JSON text of the format "other".
 * @param isSent - leave the format of plain text to the server, which knows the model's provider.
 * @throws InvalidField if the message cannot be sent.
 */
export function toProto(
  value: MessageInput,
  format: Format | undefined,
  path: string,
  { formatName, isSent = false }: { formatName?: string | undefined; isSent?: boolean } = {},
): proto.Message {
  if (value instanceof Message) return storedAgain(value.proto);
  const shape = { format, formatName, isSent };
  if (value instanceof NewMessage) return newMessage(value.fields, shape, path);
  return providerMessage(value, shape, path);
}

/** Return a batch of messages; refuse a single message in place of a list. */
export function toBatch(
  messages: Iterable<MessageInput>,
  format: Format | undefined,
  options: { formatName?: string | undefined; isSent?: boolean } = {},
): proto.Message[] {
  checkList(messages);
  return [...messages].map((message, i) => toProto(message, format, `messages[${i}]`, options));
}

/** Refuse one message in place of a list: its characters or keys would pass for messages. */
export function checkList(messages: unknown, isStreamed = false): void {
  const isIterable =
    typeof messages === "object" &&
    messages !== null &&
    !ArrayBuffer.isView(messages) &&
    (Symbol.iterator in messages || (isStreamed && Symbol.asyncIterator in messages));
  if (!isIterable) {
    throw invalidField(
      "messages",
      `must be a list of messages, not ${typeName(messages)}; storeMessage takes a single one`,
    );
  }
}

const EMPTY = proto.Message.create();

function storedAgain(read: proto.Message): proto.Message {
  const { role, format, content, metadata, messageId, formatName } = read;
  return { ...EMPTY, role, format, content, metadata, messageId, formatName };
}

/** How the messages of a call are written. */
interface Shape {
  readonly format: Format | undefined;
  readonly formatName: string | undefined;
  readonly isSent: boolean;
}

function newMessage(fields: NewMessageFields, shape: Shape, path: string): proto.Message {
  const { blob, parts, role, metadata, parentSeq } = fields;
  if ((blob === undefined) === (parts === undefined)) {
    throw invalidField(path, "needs either a blob or parts");
  }
  const base: proto.Message =
    blob === undefined
      ? {
          ...EMPTY,
          content: {
            $case: "parts",
            value: { parts: toParts(listed(parts ?? [], `${path}.parts`), `${path}.parts`) },
          },
        }
      : providerMessage(
          blob,
          {
            ...shape,
            format: fields.format ?? shape.format,
            formatName: fields.formatName ?? shape.formatName,
          },
          path,
        );
  checkOptionalText(fields.messageId, `${path}.messageId`);
  checkBoolean(fields.isRoot, `${path}.isRoot`);
  if (parentSeq !== undefined && !Number.isSafeInteger(parentSeq)) {
    throw invalidField(`${path}.parentSeq`, `is ${String(parentSeq)}; it must be a seq`);
  }
  return {
    ...base,
    role: role === undefined ? 0 : ROLES.numberOf(role, `${path}.role`),
    metadata: metadata && toStruct(metadata, `${path}.metadata`),
    parentSeq: parentSeq ?? 0,
    messageId: fields.messageId ?? "",
    isRoot: fields.isRoot ?? false,
  };
}

function providerMessage(
  value: object | string | Uint8Array,
  { format, formatName, isSent }: Shape,
  path: string,
): proto.Message {
  const json = textOf(value, path);
  checkOptionalText(formatName, `${path}.formatName`);
  if (format === "other" || (format === undefined && formatName !== undefined)) {
    const content: proto.Message["content"] = { $case: "json", value: json };
    const number = FORMATS.numberOf("other", "format");
    return { ...EMPTY, content, format: number, formatName: formatName ?? "" };
  }
  const content: proto.Message["content"] = { $case: "json", value: json };
  let known: Format | undefined = format;
  if (known === undefined) {
    const shape = isObject(value) && !("toJSON" in value) ? value : parseObject(json);
    if (isSent && isPlain(shape)) return { ...EMPTY, content };
    known = formatOf(shape, path) ?? "openai";
  }
  // The server reads the role from the JSON.
  return {
    ...EMPTY,
    content,
    format: FORMATS.numberOf(known, "format"),
    formatName: formatName ?? "",
  };
}

function textOf(value: unknown, path: string): string {
  if (typeof value === "string") {
    if (value.isWellFormed()) return value;
    throw invalidField(`${path}.json`, "is not valid Unicode: it holds a lone surrogate");
  }
  if (value instanceof Uint8Array) {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(value);
    } catch {
      throw invalidField(`${path}.json`, "is not UTF-8");
    }
  }
  if (isObject(value)) return encodeJson(value, path);
  throw invalidField(
    path,
    `is ${typeName(value)}; it must be an object, JSON text (a string or bytes), a NewMessage or a` +
      " Message",
  );
}
