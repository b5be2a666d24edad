import type * as proto from "../gen/sessiond/v1/message.js";
import { type JsonObject, parseObject } from "../protocol/json.js";
import { FORMATS, type Format, ROLES, type Role } from "../protocol/names.js";
import { fromTimestamp, timeText } from "../protocol/times.js";
import { fromParts, type Part } from "./parts.js";
import { textOfBlob, textOfParts } from "./text.js";
import type { MessageTurn } from "./turn.js";

/** A message's payload when it is read as an event. */
export interface MessageData {
  /** The message's text. */
  readonly content: string;
  /** The id of the message's turn. `undefined` = no turn. */
  readonly turnId: string | undefined;
  /** The message's id, as `Message.id`. */
  readonly messageId: string;
}

/**
 * A stored message. It never changes.
 *
 * Values are decoded when they are accessed, so that reading 100,000 messages costs only what is
 * accessed.
 */
export class Message {
  /** The id of the session that the message was read from. */
  readonly sessionId: string;
  readonly #proto: proto.Message;
  #blob: JsonObject | undefined;

  /** @internal */
  constructor(sessionId: string, message: proto.Message) {
    this.sessionId = sessionId;
    this.#proto = message;
  }

  /**
   * The message's id: "SESSION_ID/SEQ". For a message sent to a turn: "SESSION_ID/MESSAGE_ID",
   * which is known before the message has a seq.
   */
  get id(): string {
    return `${this.sessionId}/${this.#proto.turn?.messageId || this.#proto.seq}`;
  }

  /** The message's position in the session: 1, 2, 3, ... without gaps. */
  get seq(): number {
    return this.#proto.seq;
  }

  /** The author. "unknown" = a role of a newer server. */
  get role(): Role | "unknown" {
    return ROLES.nameOf(this.#proto.role) ?? "unknown";
  }

  /** The message's type as an event, e.g. "user.message". */
  get type(): string {
    return `${this.role}.message`;
  }

  /**
   * The message's text: its text parts joined; for a tool's message, the result's text. Empty if
   * there is no text, and in the "basic" view.
   */
  get content(): string {
    return this.#proto.content?.$case === "parts"
      ? textOfParts(this.parts, this.role === "tool")
      : textOfBlob(this.blob, this.format, this.formatName);
  }

  /** The message's payload as an event; `data.content` is the text. */
  get data(): MessageData {
    return {
      content: this.content,
      turnId: this.#proto.turn?.turnId || undefined,
      messageId: this.id,
    };
  }

  /**
   * The provider's message, parsed. Empty in the "basic" view. For typed parts: `{ role, parts }`.
   */
  get blob(): JsonObject {
    this.#blob ??=
      this.#proto.content?.$case === "parts"
        ? { role: this.role, parts: this.parts }
        : parseObject(this.json);
    return this.#blob;
  }

  /**
   * The provider's message exactly as it was stored: the same bytes in UTF-8. Empty for typed
   * parts, and in the "basic" view.
   */
  get json(): string {
    return this.#proto.content?.$case === "json" ? this.#proto.content.value : "";
  }

  /** The content in sessiond's own types. Empty for a provider's message. */
  get parts(): Part[] {
    return this.#proto.content?.$case === "parts" ? fromParts(this.#proto.content.value.parts) : [];
  }

  /** The format of `json`. `undefined` = typed parts. */
  get format(): Format | undefined {
    return FORMATS.nameOf(this.#proto.format);
  }

  /** With the format "other", the program that wrote the message. */
  get formatName(): string | undefined {
    return this.#proto.formatName || undefined;
  }

  /** The caller's own name of the message, unique in its session. `undefined` = none. */
  get messageId(): string | undefined {
    return this.#proto.messageId || undefined;
  }

  /** Time of storage by the database's clock, truncated to milliseconds. */
  get createdAt(): Date {
    return fromTimestamp(this.#proto.createTime);
  }

  /** Time of storage with microseconds, as ISO 8601 in UTC. */
  get createdAtText(): string {
    return timeText(this.#proto.createTime);
  }

  /** The caller's labels for this message. */
  get metadata(): JsonObject {
    return this.#proto.metadata ?? {};
  }

  /** The seq of the message that this one follows. `undefined` = the previous message. */
  get parentSeq(): number | undefined {
    return this.#proto.parentSeq || undefined;
  }

  /** Size of `json` in UTF-8, or of the encoded typed parts, in bytes. */
  get contentBytes(): number {
    return this.#proto.contentBytes;
  }

  /** Number of tokens of the text, in the encoding that `getTokenCounts` names. */
  get tokenCount(): number {
    return this.#proto.tokenCount;
  }

  /** Whether tokenCount is an estimate. */
  get tokensEstimated(): boolean {
    return this.#proto.tokensEstimated;
  }

  /** Whether this is the beginning of an answer that was cut off. */
  get incomplete(): boolean {
    return this.#proto.incomplete;
  }

  /** Whether the message was stored as the beginning of a branch, which follows no message. */
  get isRoot(): boolean {
    return this.#proto.isRoot;
  }

  /** The turn that stored the message. `undefined` = the caller stored it. */
  get turn(): MessageTurn | undefined {
    const { turn } = this.#proto;
    return turn && { ...turn, usage: turn.usage };
  }

  /** The message of the protos. Do not change it. */
  get proto(): proto.Message {
    return this.#proto;
  }

  /**
   * Return what JSON.stringify writes. The stored content is in `json`, as the exact text, or in
   * `parts`.
   */
  toJSON(): JsonObject {
    return {
      id: this.id,
      seq: this.seq,
      role: this.role,
      createdAt: this.createdAtText,
      parentSeq: this.parentSeq ?? null,
      metadata: this.metadata,
      content: this.content,
      format: this.format ?? null,
      ...(this.#proto.content?.$case === "parts" ? { parts: this.parts } : { json: this.json }),
      ...(this.formatName && { formatName: this.formatName }),
      ...(this.messageId && { messageId: this.messageId }),
      ...(this.turn && { turn: this.turn }),
      ...(this.incomplete && { incomplete: true }),
      ...(this.isRoot && { isRoot: true }),
    };
  }

  /** @internal What console.log shows. */
  [Symbol.for("nodejs.util.inspect.custom")](): JsonObject {
    return { id: this.id, role: this.role, content: this.content };
  }
}
