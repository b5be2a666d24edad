import type { Connection } from "./connection.js";
import { WatchRequest, type WatchResponse } from "./gen/sessiond/v1/conversation_service.js";
import { conversationMethods, sessionMethods } from "./methods.js";
import { StreamRetry } from "./protocol/retry.js";
import { toDuration } from "./protocol/times.js";
import { responses } from "./streams.js";
import { Event } from "./types/event.js";

// The interval at which the server sends something even if nothing happens.
const HEARTBEAT_MS = 15_000;
/** A stream that is silent for longer is broken. */
export const MAX_SILENCE_MS = 2.5 * HEARTBEAT_MS;

/** Which events to watch. */
export interface Watch {
  /** The session. "" = the lifecycle of all sessions of the project. */
  readonly sessionId: string;
  /** Leave out the messages up to this seq. `undefined` = only what comes. */
  readonly afterSeq?: number | undefined;
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
  let { afterSeq } = watch;
  if (sessionId && afterSeq === undefined) {
    // Otherwise a connection that breaks before the first message would lose messages.
    afterSeq = await lastSeqOf(connection, sessionId, watch.timeoutMs, signals);
  }
  const heartbeatInterval = toDuration(HEARTBEAT_MS, "heartbeatInterval");
  const batches = responses<WatchRequest, WatchResponse>(
    connection,
    conversationMethods.watch,
    () => WatchRequest.create({ sessionId, afterSeq, heartbeatInterval }),
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
    for (const { seq } of response.events) afterSeq = seq || afterSeq;
    const wanted = response.events.filter(({ type }) => types?.has(type) ?? true);
    if (wanted.length > 0 || watch.heartbeats) yield wanted.map((event) => new Event(event));
  }
}

/** Return a session's lastSeq. */
export async function lastSeqOf(
  connection: Connection,
  sessionId: string,
  timeoutMs: number | undefined,
  [signal, stop]: readonly (AbortSignal | undefined)[],
): Promise<number> {
  const session = await connection.call(
    sessionMethods.getSession,
    { sessionId },
    { signal, timeoutMs },
    { ...(stop && { stop }) },
  );
  return session.lastSeq;
}
