import type * as proto from "../gen/sessiond/v1/event.js";
import type { JsonObject } from "../protocol/json.js";
import { fromTimestamp } from "../protocol/times.js";
import { Message, type MessageData } from "./message.js";

/**
 * The type of an event. A newer server may publish further types.
 *
 * The type of a stored message names its role: "user.message", "assistant.message", ...
 *
 * The session: "session.created", "session.updated", ... For "session.rewound", `data.last_seq` is
 * the last message that is kept; later messages reuse the seqs after it.
 *
 * The session's turns, with `data.turn_id`: "assistant.turn_start", "session.error",
 * "assistant.turn_end" and "session.idle". For "assistant.message_partial", `data.content` is the
 * text so far, for a reader that joins a running turn. For "assistant.message_delta" and
 * "assistant.reasoning_delta", `data.delta_content` is the text that the model added.
 */
export type EventType =
  | "user.message"
  | "assistant.message"
  | "system.message"
  | "developer.message"
  | "tool.message"
  | "session.created"
  | "session.updated"
  | "session.resumed"
  | "session.destroyed"
  | "session.deleted"
  | "session.expired"
  | "session.recreated"
  | "session.rewound"
  | "assistant.turn_start"
  | "assistant.message_partial"
  | "assistant.message_delta"
  | "assistant.reasoning_delta"
  | "session.error"
  | "assistant.turn_end"
  | "session.idle"
  | (string & {});

/** An event of a session. It never changes. */
export class Event {
  readonly #proto: proto.Event;

  /** @internal */
  constructor(event: proto.Event) {
    this.#proto = event;
  }

  /** The type of event. */
  get type(): EventType {
    return this.#proto.type;
  }

  /** The message's seq. `undefined` = no message: the event is published once, and not replayed. */
  get seq(): number | undefined {
    return this.#proto.seq || undefined;
  }

  /** The session's epoch, to which the seq belongs. See `SessionInfo.epoch`. */
  get epoch(): number {
    return this.#proto.epoch;
  }

  /** The session's id. */
  get sessionId(): string {
    return this.#proto.sessionId;
  }

  /** Time of the event. For a message, its createdAt. */
  get time(): Date {
    return fromTimestamp(this.#proto.time);
  }

  /** The stored message. `undefined` = the event is not about a message. */
  get message(): Message | undefined {
    return this.#proto.message && new Message(this.#proto.sessionId, this.#proto.message);
  }

  /**
   * Further fields of the event; often empty. For a message, `data.content` is the text. Keys of
   * other events have the server's names, e.g. `data.delta_content`.
   */
  get data(): MessageData & JsonObject {
    return (this.message?.data ?? this.#proto.data ?? {}) as MessageData & JsonObject;
  }

  /** The event of the protos. Do not change it. */
  get proto(): proto.Event {
    return this.#proto;
  }

  /** Return what JSON.stringify writes. */
  toJSON(): JsonObject {
    const { type, seq, sessionId, time, message } = this;
    return { type, seq: seq ?? null, sessionId, time, ...(message ? { message } : this.data) };
  }

  /** @internal What console.log shows. */
  [Symbol.for("nodejs.util.inspect.custom")](): JsonObject {
    return { type: this.type, sessionId: this.sessionId, data: this.data };
  }
}

/** A function that `session.on` calls with each event. A promise that it returns is awaited. */
export type EventHandler = (event: Event) => unknown;
