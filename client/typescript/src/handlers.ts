import { AsyncLocalStorage } from "node:async_hooks";
import { sleep } from "./abort.js";
import type { Connection } from "./connection.js";
import {
  ClientClosed,
  DeadlineExceeded,
  Overloaded,
  SessionNotFound,
  Unavailable,
} from "./errors/index.js";
import { warn } from "./log.js";
import { AnswerTexts } from "./protocol/answer-texts.js";
import { MAX_STREAM_DELAY_MS } from "./protocol/retry.js";
import type { EventHandler } from "./types/event.js";
import { eventBatches, type Place, placeAfter, placeOf } from "./watching.js";

// A send waits at most READY_TIMEOUT_MS for the watch to open. The answer is returned when the
// handlers have been called with it, or after DELIVERED_TIMEOUT_MS.
const READY_TIMEOUT_MS = 5_000;
const DELIVERED_TIMEOUT_MS = 5_000;

interface Entry {
  readonly type: string | undefined;
  readonly handler: EventHandler;
}

/** The progress of one watch. */
class Progress {
  readonly stop = new AbortController();
  isOpen = false;
  seq = 0;
  hasEnded = false;
  readonly #waiting = new Set<() => void>();

  changed(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** Wait until a condition holds; return false if it does not hold in time. */
  async until(holds: () => boolean, timeoutMs: number): Promise<boolean> {
    if (holds() || this.hasEnded) return true;
    return await new Promise<boolean>((resolve) => {
      const finish = (result: boolean) => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve(result);
      };
      const timer = setTimeout(() => finish(false), timeoutMs);
      const wake = () => {
        if (holds() || this.hasEnded) finish(true);
      };
      this.#waiting.add(wake);
    });
  }
}

/** The `Handlers` object that has called the handler in which the current code runs, if any. */
const within = new AsyncLocalStorage<Handlers>();

/** The handlers of a session's events. They share one watch, which runs while there are any. */
export class Handlers {
  readonly #connection: Connection;
  readonly #sessionId: string;
  #entries: readonly Entry[] = [];
  #progress: Progress | undefined;

  constructor(connection: Connection, sessionId: string) {
    this.#connection = connection;
    this.#sessionId = sessionId;
  }

  /** Call a handler for each event of a type from now on; return a function that removes it. */
  add(type: string | undefined, handler: EventHandler): () => void {
    const entry: Entry = { type, handler };
    this.#entries = [...this.#entries, entry];
    if (!this.#progress) {
      const progress = new Progress();
      this.#progress = progress;
      void this.#run(progress);
    }
    return () => {
      // Compare by identity, because the same handler may have been added twice.
      this.#entries = this.#entries.filter((other) => other !== entry);
      if (this.#entries.length === 0) {
        this.#progress?.stop.abort();
        this.#progress = undefined;
      }
    };
  }

  /** If there are handlers, wait until their watch is open, for at most 5 seconds. */
  async ready(): Promise<void> {
    const progress = this.#progress;
    if (progress && !(await progress.until(() => progress.isOpen, READY_TIMEOUT_MS))) {
      warn(`the handlers of session ${this.#sessionId} may miss events: the watch is not open yet`);
    }
  }

  /**
   * Wait until the handlers have seen a message, for at most 5 seconds. A call from within a
   * handler returns at once, because it would wait for itself.
   */
  async delivered(seq: number): Promise<void> {
    const progress = this.#progress;
    if (!progress || within.getStore() === this) return;
    if (!(await progress.until(() => progress.seq >= seq, DELIVERED_TIMEOUT_MS))) {
      warn(
        `the handlers of session ${this.#sessionId} have not been called with message ${seq} yet`,
      );
    }
  }

  /** Watch until stopped, or until the session is gone or the client is closed. */
  async #run(progress: Progress): Promise<void> {
    const signals = [progress.stop.signal];
    const { signal } = progress.stop;
    let place: (Place & { readonly incarnation: string }) | undefined;
    const texts = new AnswerTexts();
    try {
      while (!signal.aborted) {
        try {
          // Look up the place before the watch starts, so that an outage loses no messages.
          place ??= await placeOf(this.#connection, this.#sessionId, undefined, signals);
          progress.seq = place.afterSeq;
          const batches = eventBatches(this.#connection, {
            sessionId: this.#sessionId,
            ...place,
            signals,
            texts,
            opened: (isOpen) => {
              progress.isOpen = isOpen;
              progress.changed();
            },
          });
          for await (const events of batches) {
            for (const event of events) {
              await this.#deliver(event, signal);
              place = { ...place, ...placeAfter(event.proto, place.afterSeq) };
              progress.seq = place.afterSeq;
              progress.changed();
            }
          }
        } catch (error) {
          // There is no caller to throw to, and the server may come back.
          if (!isTransient(error)) throw error;
          warn(`watching session ${this.#sessionId} again later: ${error}`);
          await sleep(MAX_STREAM_DELAY_MS, signals);
        }
      }
    } catch (error) {
      const isExpected = error instanceof ClientClosed || error instanceof SessionNotFound;
      if (!isExpected && !signal.aborted) {
        warn(
          `watching session ${this.#sessionId} failed: its handlers are no longer called`,
          error,
        );
      }
    } finally {
      if (this.#progress === progress) this.#progress = undefined;
      progress.hasEnded = true;
      progress.changed();
    }
  }

  async #deliver(event: Parameters<EventHandler>[0], signal: AbortSignal): Promise<void> {
    for (const { type, handler } of this.#entries) {
      if (signal.aborted || (type !== undefined && type !== event.type)) continue;
      try {
        await within.run(this, async () => await handler(event));
      } catch (error) {
        warn(`a handler failed at ${event.type} of session ${this.#sessionId}`, error);
      }
    }
  }
}

/** Return whether a watch that failed this way is worth another try later. */
export function isTransient(error: unknown): boolean {
  return (
    error instanceof Unavailable || error instanceof DeadlineExceeded || error instanceof Overloaded
  );
}
