import type { Event } from "../gen/sessiond/v1/event.js";
import type { JsonObject } from "./json.js";

const PARTIAL = "assistant.message_partial";
const DELTA = "assistant.message_delta";

interface Seen {
  /** Seq of the message that the model answers. */
  readonly answered: number;
  /** Number of characters (code points) that have been passed on. */
  readonly count: number;
}

/**
 * Passes on each character of a running answer once, over any number of connections.
 *
 * A connection to a running turn begins with the text so far. After a reconnect, only its new part
 * is passed on, as a delta.
 */
export class AnswerTexts {
  /** What has been passed on, by turn. */
  readonly #seen = new Map<string, Seen>();

  /** Return the events without the text that has been passed on. */
  newOf(events: readonly Event[]): Event[] {
    return events.flatMap((event) => this.#new(event) ?? []);
  }

  #new(event: Event): Event | undefined {
    if (event.type === DELTA || event.type === PARTIAL) return this.#newText(event);
    if (event.type === "assistant.message") this.#seen.delete(event.message?.turn?.turnId ?? "");
    else if (event.type === "assistant.turn_end") this.#seen.delete(event.data?.turn_id);
    return event;
  }

  #newText(event: Event): Event | undefined {
    const data: JsonObject = event.data ?? {};
    const { turn_id: turnId, answered_seq: answered } = data;
    // An older server does not send the place of the text in the answer.
    if (answered === undefined) return event;
    const seen = this.#seen.get(turnId);
    if (seen && answered < seen.answered) return undefined;
    const count = seen && answered === seen.answered ? seen.count : 0;
    const isPartial = event.type === PARTIAL;
    // Offsets count characters, not the UTF-16 units of JavaScript.
    const characters = Array.from<string>((isPartial ? data.content : data.delta_content) ?? "");
    const offset: number = isPartial ? 0 : (data.offset ?? 0);
    const end = offset + characters.length;
    if (end <= count) return undefined;
    this.#seen.set(turnId, { answered, count: end });
    if (offset >= count) return event;
    const { content: _, ...rest } = data;
    const delta_content = characters.slice(count - offset).join("");
    return { ...event, type: DELTA, data: { ...rest, delta_content, offset: count } };
  }
}
