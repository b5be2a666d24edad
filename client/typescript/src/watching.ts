import type { Connection } from "./connection.js";
import { WatchRequest, type WatchResponse } from "./gen/sessiond/v1/conversation_service.js";
import { conversationMethods, sessionMethods } from "./methods.js";
import { StreamRetry } from "./protocol/retry.js";
import { toDuration } from "./protocol/times.js";
import { responses } from "./streams.js";
import { Event } from "./types/event.js";

// The interval at which the server sends something even if nothing happens.
const HEARTBEAT_MS = 8_000;
/** A stream that is silent for longer is broken. */
export const MAX_SILENCE_MS = 37_500;

/** Which events to watch. */
export interface Watch {
  /** The session. "" = the lifecycle of all sessions of the project. */
  readonly sessionId: string;
  /** Leave out the messages up to this seq. `undefined` = only new messages. */
  readonly afterSeq?: number | undefined;
  /** The epoch of afterSeq. `undefined` = the session's when the watch begins. */
  readonly afterEpoch?: number | undefined;
  /** The types to yield. Default: all. */
  readonly types?: ReadonlySet<string> | undefined;
  /** Timeout of the whole stream. Default: none. */
  readonly timeoutMs?: number | undefined;
  readonly signals: readonly (AbortSignal | undefined)[];
  /** Called with true at each response, and with false when a connection has ended. */
  readonly opened?: (isOpen: boolean) => void;
  /** Yield an empty batch for each response without events, which come a few times a minute. */
  readonly heartbeats?: boolean;
}

/**
 * Yield events as they arrive, reconnecting as often as needed.
 *
 * Each message is delivered once, in order. Other events may be missed between two connections.
 */
export async function* eventBatches(
  connection: Connection,
  watch: Watch,
): AsyncGenerator<Event[], void, undefined> {
  const { sessionId, types, signals } = watch;
  let { afterSeq, afterEpoch } = watch;
  if (sessionId && afterSeq === undefined) {
    // Otherwise a connection that breaks before the first message would lose messages.
    const place = await placeOf(connection, sessionId, watch.timeoutMs, signals);
    ({ afterSeq, afterEpoch } = place);
  }
  const heartbeatInterval = toDuration(HEARTBEAT_MS, "heartbeatInterval");
  const batches = responses<WatchRequest, WatchResponse>(
    connection,
    conversationMethods.watch,
    () => WatchRequest.create({ sessionId, afterSeq, afterEpoch, heartbeatInterval }),
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
    for (const event of response.events) {
      const next = placeAfter(event);
      if (next) ({ afterSeq, afterEpoch } = next);
    }
    const wanted = response.events.filter(({ type }) => types?.has(type) ?? true);
    if (wanted.length > 0 || watch.heartbeats) yield wanted.map((event) => new Event(event));
  }
}

/** A place in a session's history. */
export interface Place {
  readonly afterSeq: number;
  /** The epoch to which the seq belongs. */
  readonly afterEpoch: number;
}

type WatchedEvent = Pick<WatchResponse["events"][number], "type" | "seq" | "epoch" | "data">;

/** Return the place after an event. `undefined` = the event does not change the place. */
export function placeAfter({ type, seq, epoch, data }: WatchedEvent): Place | undefined {
  if (type === "session.rewound") return { afterSeq: data?.last_seq ?? 0, afterEpoch: epoch };
  return seq ? { afterSeq: seq, afterEpoch: epoch } : undefined;
}

/** Return the place after a session's newest message. */
export async function placeOf(
  connection: Connection,
  sessionId: string,
  timeoutMs: number | undefined,
  [signal, stop]: readonly (AbortSignal | undefined)[],
): Promise<Place> {
  const session = await connection.call(
    sessionMethods.getSession,
    { sessionId },
    { signal, timeoutMs },
    { ...(stop && { stop }) },
  );
  return { afterSeq: session.lastSeq, afterEpoch: session.epoch };
}
