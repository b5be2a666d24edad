import { DeadlineExceeded, type SessiondError } from "../errors/index.js";
import { invalidField, shown } from "./invalid.js";
import { isWorthRetrying } from "./status.js";

const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 2_000;

// A call without a deadline is retried for PATIENCE_MS, in which a server can restart, and at least
// MIN_ATTEMPTS times.
const MIN_ATTEMPTS = 8;
const PATIENCE_MS = 60_000;
const FIRST_STREAM_DELAY_MS = 250;
export const MAX_STREAM_DELAY_MS = 4_000;

/** The deadline of a call, over all its attempts. */
export class Deadline {
  readonly #end: number;

  /**
   * Start the clock.
   *
   * @param timeoutMs - milliseconds from now. Infinity = no deadline.
   * @throws InvalidField if the timeout is not a number.
   */
  constructor(timeoutMs: number) {
    if (typeof timeoutMs !== "number" || Number.isNaN(timeoutMs)) {
      throw invalidField(
        "timeoutMs",
        `is ${shown(timeoutMs)}; it must be a number of milliseconds, or Infinity`,
      );
    }
    this.#end = performance.now() + timeoutMs;
  }

  /** Return the milliseconds left, at least 0. Infinity = no deadline. */
  remainingMs(): number {
    return Math.max(0, this.#end - performance.now());
  }

  /** Return whether time is left after a delay. */
  allows(delayMs: number): boolean {
    return performance.now() + delayMs < this.#end;
  }
}

/** Counts the attempts of one call. */
export class CallRetry {
  readonly deadline: Deadline;
  readonly #retries: number;
  #failures = 0;
  #firstFailureAt = 0;

  constructor(timeoutMs: number, retries: number) {
    this.deadline = new Deadline(timeoutMs);
    this.#retries = retries;
  }

  /** Return the milliseconds to wait before the next attempt. `undefined` = give up. */
  delayAfter(error: SessiondError): number | undefined {
    const now = performance.now();
    if (this.#failures === 0) this.#firstFailureAt = now;
    this.#failures += 1;
    if (this.#failures > this.#retries || !isWorthRetrying(error)) return undefined;
    if (isHopeless(this.deadline, this.#failures, now - this.#firstFailureAt)) return undefined;
    const delay = backoff(error, FIRST_DELAY_MS, MAX_DELAY_MS, this.#failures);
    return this.deadline.allows(delay) ? delay : undefined;
  }
}

/** Counts the failures of one stream since it last delivered something. */
export class StreamRetry {
  readonly deadline: Deadline;
  protected opening: CallRetry | undefined;
  #failures = 0;
  #firstFailureAt = 0;

  constructor(timeoutMs: number, retries: number) {
    this.deadline = new Deadline(timeoutMs);
    this.opening = new CallRetry(timeoutMs, retries);
  }

  /** Record that the stream delivered something. */
  progress(): void {
    this.opening = undefined;
    this.#failures = 0;
  }

  /** Return the milliseconds to wait before reopening the stream. `undefined` = give up. */
  delayAfter(error: SessiondError): number | undefined {
    const delay = this.opening ? this.opening.delayAfter(error) : this.#delayBetween(error);
    return delay !== undefined && this.deadline.allows(delay) ? delay : undefined;
  }

  #delayBetween(error: SessiondError): number | undefined {
    if (!isWorthRetrying(error)) return undefined;
    const now = performance.now();
    if (this.#failures === 0) this.#firstFailureAt = now;
    this.#failures += 1;
    if (this.isHopeless(this.#failures, now - this.#firstFailureAt)) return undefined;
    return backoff(error, FIRST_STREAM_DELAY_MS, MAX_STREAM_DELAY_MS, this.#failures);
  }

  protected isHopeless(failures: number, failingMs: number): boolean {
    return isHopeless(this.deadline, failures, failingMs);
  }
}

/**
 * Counts the failures of one wait for a turn.
 *
 * A turn runs on without its stream. Once the server has accepted it, the wait continues until the
 * deadline, however often the connection breaks.
 */
export class TurnRetry extends StreamRetry {
  #isAccepted = false;

  constructor(timeoutMs: number, retries: number) {
    super(timeoutMs, retries);
    // The request_id makes reopening safe, so even the first connection is retried like a stream
    // that has delivered something.
    this.opening = undefined;
  }

  override progress(): void {
    super.progress();
    this.#isAccepted = true;
  }

  /** Return whether the deadline ended the wait, rather than the last error. */
  ranOut(error: SessiondError): boolean {
    return error instanceof DeadlineExceeded || (this.#isAccepted && isWorthRetrying(error));
  }

  protected override isHopeless(failures: number, failingMs: number): boolean {
    return !this.#isAccepted && super.isHopeless(failures, failingMs);
  }
}

function isHopeless(deadline: Deadline, failures: number, failingMs: number): boolean {
  const hasDeadline = deadline.remainingMs() !== Number.POSITIVE_INFINITY;
  return !hasDeadline && failures >= MIN_ATTEMPTS && failingMs >= PATIENCE_MS;
}

function backoff(error: SessiondError, firstMs: number, maxMs: number, failures: number): number {
  // Full jitter spreads clients that failed together; the server's retry delay is kept in full.
  const longest = Math.min(maxMs, firstMs * 2 ** Math.min(failures - 1, 16));
  return (error.retryAfterMs ?? 0) + Math.random() * longest;
}
