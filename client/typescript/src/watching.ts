import type { Connection } from "./connection.js";
import { WatchRequest, type WatchResponse } from "./gen/sessiond/v1/conversation_service.js";
import { conversationMethods, sessionMethods } from "./methods.js";
import { AnswerTexts } from "./protocol/answer-texts.js";
import { StreamRetry } from "./protocol/retry.js";
import { toDuration } from "./protocol/times.js";
import { responses } from "./streams.js";
import { Event } from "./types/event.js";

// The interval at which the server sends something even if nothing happens.
const HEARTBEAT_MS = 8_000;
/** A stream that is silent for longer than this is broken. */
export const MAX_SILENCE_MS = 37_500;

/** Which events to watch. */
export interface Watch {
  /** The session. "" = the lifecycle of all sessions of the project. */
  readonly sessionId: string;
  /** Leave out the messages up to this seq. `undefined` = only new messages. */
  readonly afterSeq?: number | undefined;
  /** The epoch of afterSeq. `undefined` = the session's epoch when the watch begins. */
  readonly afterEpoch?: number | undefined;
  /**
   * The incarnation, or an etag, of the session to which afterSeq belongs. "" = the session that
   * exists when the watch begins.
   */
  readonly incarnation?: string;
  /** After the session was deleted, watch the next session with its id. */
  readonly followRecreated?: boolean;
  /** The types to yield. Default: all. */
  readonly types?: ReadonlySet<string> | undefined;
  /** Timeout of the whole stream. Default: none. */
  readonly timeoutMs?: number | undefined;
  readonly signals: readonly (AbortSignal | undefined)[];
  /** Called with true at each response, and with false when a connection has ended. */
  readonly opened?: (isOpen: boolean) => void;
  /** Yield an empty batch for each response without events, which come a few times a minute. */
  readonly heartbeats?: boolean;
  /** The text of running answers that the caller has received. Default: none. */
  readonly texts?: AnswerTexts;
}

/**
 * Yield events as they arrive, reconnecting as often as needed.
 *
 * Each message is delivered once, in order, and so is each character of a running answer. Other
 * events may be missed between two connections. Events of another session with the same id are
 * never mixed in.
 */
export async function* eventBatches(
  connection: Connection,
  watch: Watch,
): AsyncGenerator<Event[], void, undefined> {
  const { sessionId, types, signals, followRecreated = false, texts = new AnswerTexts() } = watch;
  let { afterSeq, afterEpoch, incarnation = "" } = watch;
  if (sessionId && afterSeq === undefined) {
    // Otherwise a connection that breaks before the first message would lose messages.
    const place = await placeOf(connection, sessionId, watch.timeoutMs, signals);
    ({ afterSeq, afterEpoch, incarnation } = place);
  }
  const heartbeatInterval = toDuration(HEARTBEAT_MS, "heartbeatInterval");
  const batches = responses<WatchRequest, WatchResponse>(
    connection,
    conversationMethods.watch,
    () =>
      WatchRequest.create({
        sessionId,
        afterSeq,
        afterEpoch,
        incarnation,
        followRecreated,
        heartbeatInterval,
      }),
    {
      retry: new StreamRetry(
        watch.timeoutMs ?? Number.POSITIVE_INFINITY,
        connection.settings.retries,
      ),
      signals,
      isComplete: () => false,
      maxSilenceMs: MAX_SILENCE_MS,
      ...(watch.opened && { opened: watch.opened }),
    },
  );
  for await (const response of batches) {
    afterEpoch = response.epoch ?? afterEpoch;
    incarnation = response.incarnation || incarnation;
    for (const event of response.events) {
      const next = placeAfter(event, afterSeq);
      if (next) ({ afterSeq, afterEpoch = afterEpoch } = next);
    }
    const events = texts.newOf(response.events);
    const wanted = events.filter(({ type }) => types?.has(type) ?? true);
    if (wanted.length > 0 || watch.heartbeats) yield wanted.map((event) => new Event(event));
  }
}

/** Return a function that passes a value on to another function if the value has changed. */
export function onChanges(call: (value: boolean) => void): (value: boolean) => void {
  let last: boolean | undefined;
  return (value) => {
    if (value === last) return;
    last = value;
    call(value);
  };
}

/** A place in a session's history. */
export interface Place {
  readonly afterSeq: number;
  /**
   * The epoch to which afterSeq belongs. `undefined` = the epoch of the earlier place, or of the
   * response.
   */
  readonly afterEpoch: number | undefined;
}

type WatchedEvent = Pick<WatchResponse["events"][number], "type" | "seq" | "epoch" | "data">;

/**
 * Return the place after an event. `undefined` = the event does not change the place.
 *
 * @param afterSeq - the place before the event.
 */
export function placeAfter(
  { type, seq, epoch, data }: WatchedEvent,
  afterSeq = Number.POSITIVE_INFINITY,
): Place | undefined {
  if (seq) return { afterSeq: seq, afterEpoch: epoch };
  if (type === "session.rewound") {
    return { afterSeq: Math.min(afterSeq, data?.last_seq ?? 0), afterEpoch: epoch };
  }
  return type === "session.recreated" ? { afterSeq: 0, afterEpoch: undefined } : undefined;
}

/** Return the place after a session's newest message, and its etag as the incarnation. */
export async function placeOf(
  connection: Connection,
  sessionId: string,
  timeoutMs: number | undefined,
  [signal, stop]: readonly (AbortSignal | undefined)[],
): Promise<Place & { readonly incarnation: string }> {
  const session = await connection.call(
    sessionMethods.getSession,
    { sessionId },
    { signal, timeoutMs },
    { ...(stop && { stop }) },
  );
  return {
    afterSeq: session.lastSeq,
    afterEpoch: session.epoch,
    incarnation: session.etag,
  };
}
