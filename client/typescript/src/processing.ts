import type { Connection } from "./connection.js";
import { LeaseLost, SessionNotFound } from "./errors/index.js";
import { type FailedMessage, type Lease, LeaseCalls, leaseRequest } from "./leases.js";
import { warn } from "./log.js";
import { checkFunction } from "./protocol/checks.js";
import { invalidField, shown } from "./protocol/invalid.js";
import { Sessions } from "./sessions.js";
import type { Message } from "./types/message.js";

// While a handler runs, its lease is extended this many times per lease duration, so that one
// extension may fail.
const EXTENSIONS = 3;
const MAX_RETRY_DELAY_MS = 3_600_000;
const MAX_ERROR_CHARACTERS = 1024;
// Timeout for giving a lease back when the worker itself is being stopped.
const GIVE_BACK_TIMEOUT_MS = 2_000;

/** A function that processes the messages of a lease. A promise that it returns is awaited. */
export type LeaseHandler = (lease: Lease, messages: readonly Message[]) => unknown;

/** How a queue is worked on. */
export interface WorkOptions {
  /** Ends the loop; the lease is given back, and `signal.reason` is thrown. */
  readonly signal?: AbortSignal | undefined;
  /** The caller's name, for people to read, at most 256 characters. */
  readonly worker?: string | undefined;
  /** Maximum number of messages in one call of the handler. Default: 100. */
  readonly maxMessages?: number | undefined;
  /** How soon another worker gets the messages if this one dies, in ms. Default: 60,000. */
  readonly leaseDurationMs?: number | undefined;
  /**
   * How many times in a row messages are leased, by any worker, before they are marked as failed.
   * Default: 5.
   */
  readonly maxAttempts?: number | undefined;
  /**
   * Milliseconds until failed messages are leased again, doubled at each further attempt, at most
   * an hour. 0 = at once. Default: 1,000.
   */
  readonly retryDelayMs?: number | undefined;
  /** How long each call waits for work, in ms, at most 30,000. Default: 10,000. */
  readonly idleWaitMs?: number | undefined;
  /** End when there is nothing to lease. Default: work for ever. */
  readonly stopWhenEmpty?: boolean | undefined;
}

/**
 * The calls about processing queues, which let background workers process all messages.
 *
 * Each kind of work has a queue, which is created by its first lease, and begins with all stored
 * messages. The messages of a session are leased in order, and to one worker at a time. Each message
 * is processed at least once: it is leased again if its worker dies or its lease expires.
 */
export class Processing extends LeaseCalls {
  readonly #sessions: Sessions;

  /** @internal */
  constructor(connection: Connection) {
    super(connection);
    this.#sessions = new Sessions(connection);
  }

  /**
   * Process a queue in a loop: lease, read, call the handler, acknowledge.
   *
   * If the handler throws, a warning is logged, and the messages are leased again after
   * retryDelayMs. After the last attempt they are marked as failed, with the error's text. While the
   * handler runs, its lease is extended. A handler may be called twice with the same messages, so
   * make it idempotent.
   *
   * The loop ends when the client is closed (ClientClosed), when the signal is aborted, or when a
   * server error persists beyond the retries of a call.
   *
   * @returns the number of processed messages.
   */
  async work(queue: string, handler: LeaseHandler, options: WorkOptions = {}): Promise<number> {
    checkFunction(handler, "handler");
    const { maxAttempts = 5, retryDelayMs = 1_000, leaseDurationMs = 60_000, signal } = options;
    if (!(maxAttempts >= 1)) {
      throw invalidField("maxAttempts", `is ${shown(maxAttempts)}; it must be at least 1`);
    }
    if (!(retryDelayMs >= 0)) {
      throw invalidField("retryDelayMs", `is ${shown(retryDelayMs)}; it must be at least 0`);
    }
    const waitMs = options.stopWhenEmpty ? undefined : (options.idleWaitMs ?? 10_000);
    const request = leaseRequest(queue, { ...options, maxSessions: 1, leaseDurationMs, waitMs });
    let processed = 0;
    for (;;) {
      // Safe to repeat: a lease whose response was lost expires, and is leased again.
      const leases = await this.leaseWith(request, { signal, waitMs }, true);
      if (leases.length === 0 && options.stopWhenEmpty) return processed;
      for (const lease of leases) {
        processed += await this.#process(lease, handler, {
          signal,
          leaseDurationMs,
          maxAttempts,
          retryDelayMs,
        });
      }
    }
  }

  /** Process a lease's messages; return their number. */
  async #process(
    lease: Lease,
    handler: LeaseHandler,
    options: Required<
      Pick<WorkOptions, "leaseDurationMs" | "maxAttempts" | "retryDelayMs" | "signal">
    >,
  ): Promise<number> {
    const { maxAttempts = 5, signal } = options;
    try {
      if (lease.attempt > maxAttempts) {
        // No earlier worker reported an outcome: the messages may have crashed the workers.
        await this.#fail(lease, `leased ${lease.attempt - 1} times without an outcome`);
        return 0;
      }
      const { count, failure } = await this.#handle(lease, handler, options);
      if (failure) await this.#giveUp(lease, failure.error, maxAttempts, options.retryDelayMs ?? 0);
      else await this.acknowledge(lease);
      return failure ? 0 : count;
    } catch (error) {
      if (signal?.aborted) {
        await this.release(lease, { timeoutMs: GIVE_BACK_TIMEOUT_MS }).catch(() => {});
        throw signal.reason;
      }
      // Another worker has the messages, or the session is gone.
      if (error instanceof LeaseLost || error instanceof SessionNotFound) return 0;
      throw error;
    }
  }

  async #handle(
    lease: Lease,
    handler: LeaseHandler,
    { leaseDurationMs = 60_000, signal }: Pick<WorkOptions, "leaseDurationMs" | "signal">,
  ): Promise<{ count: number; failure?: { error: unknown } }> {
    const intervalMs = leaseDurationMs / EXTENSIONS;
    const timer = setInterval(() => {
      // If extending fails, the acknowledgement reports it.
      this.extend(lease, { leaseDurationMs, timeoutMs: intervalMs }).catch(() => {});
    }, intervalMs);
    try {
      const messages = await this.#messages(lease, signal);
      try {
        await handler(lease, messages);
      } catch (error) {
        if (signal?.aborted) throw error;
        warn(`the handler of queue ${lease.queue} failed in session ${lease.sessionId}`, error);
        return { count: 0, failure: { error } };
      }
      signal?.throwIfAborted();
      return { count: messages.length };
    } finally {
      clearInterval(timer);
    }
  }

  /** Let failed messages be leased again later; mark them as failed at the last attempt. */
  async #giveUp(
    lease: Lease,
    error: unknown,
    maxAttempts: number,
    retryDelayMs: number,
  ): Promise<void> {
    if (lease.attempt >= maxAttempts) {
      await this.#fail(lease, String(error));
      return;
    }
    const delay = Math.min(retryDelayMs * 2 ** (lease.attempt - 1), MAX_RETRY_DELAY_MS);
    // The messages are leased again when this lease expires.
    if (delay > 0) await this.extend(lease, { leaseDurationMs: Math.max(delay, 1_000) });
    else await this.release(lease);
  }

  async #fail(lease: Lease, text: string): Promise<void> {
    const error = text.slice(0, MAX_ERROR_CHARACTERS).toWellFormed();
    const failures: FailedMessage[] = lease.ranges.flatMap(({ firstSeq, lastSeq }) =>
      Array.from({ length: lastSeq - firstSeq + 1 }, (_, i) => ({ seq: firstSeq + i, error })),
    );
    await this.acknowledge(lease, { failures });
  }

  async #messages(lease: Lease, signal: AbortSignal | undefined): Promise<Message[]> {
    const messages: Message[] = [];
    for (const { firstSeq, lastSeq } of lease.ranges) {
      const range = { afterSeq: firstSeq - 1, throughSeq: lastSeq, signal };
      for await (const message of this.#sessions.getMessages(lease.sessionId, range)) {
        messages.push(message);
      }
    }
    return messages;
  }
}
