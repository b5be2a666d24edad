import { Metadata, type ServiceError, status as statusCodes } from "@grpc/grpc-js";
import { onAbort } from "./abort.js";
import { Status } from "./gen/google/rpc/status.js";
import type {
  BatchStoreMessagesResponse,
  StoreMessagesRequest,
  StoreMessagesResponse,
} from "./gen/sessiond/v1/session_service.js";
import { type Method, sessionMethods } from "./methods.js";
import type { Attempt, Responses, Transport } from "./transport.js";

// A larger request gains nothing from a batch, and would delay the others.
const MAX_SHARED_BYTES = 64 * 1024;

// Limits of a batch. The server has the same limit of requests, and accepts far more bytes.
const MAX_REQUESTS = 256;
const MAX_BATCH_BYTES = 1024 * 1024;

// While this many batches are in flight, further calls wait for one of them to finish, and then
// become a batch. They wait at most MAX_WAIT_MS: if the server is distant, waiting for a response
// would cost more time than batching saves.
const MAX_IN_FLIGHT = 2;
const MAX_WAIT_MS = 5;

// If at least this many calls wait, they are split among the batches that may be started, so that
// client, server and database work at the same time. Splitting fewer calls costs more than it gains.
const MIN_SPLIT = 32;

const MAX_TIMER_MS = 2 ** 31 - 1;

const { storeMessages, batchStoreMessages } = sessionMethods;

// The requests are encoded once, when their size is measured.
const SINGLE: Method<Buffer, StoreMessagesResponse> = { ...storeMessages, encode: (b) => b };
const BATCH: Method<readonly Buffer[], BatchStoreMessagesResponse> = {
  ...batchStoreMessages,
  encode: batchOf,
};

type Outcome = { readonly response: StoreMessagesResponse } | { readonly error: unknown };

/** One caller's StoreMessages call, from its start to its response. */
interface Call {
  readonly sessionId: string;
  readonly bytes: Buffer;
  readonly attempt: Attempt;
  /** When the caller's time is over, by performance.now(). */
  readonly deadline: number;
  readonly settle: (outcome: Outcome) => void;
  isSettled: boolean;
  batch: Batch | undefined;
}

/** Calls that are in flight together, or a single call. */
interface Batch {
  /** The calls without a result, by their index. */
  readonly calls: Map<number, Call>;
  /**
   * Whether this batch counts towards MAX_IN_FLIGHT. False once it has its first results, or has
   * been in flight for MAX_WAIT_MS.
   */
  isAwaited: boolean;
  stream: Responses<BatchStoreMessagesResponse> | undefined;
  /** Sets isAwaited to false after MAX_WAIT_MS. */
  timer: NodeJS.Timeout | undefined;
}

/**
 * Sends concurrent StoreMessages calls together.
 *
 * Calls made in one turn of the event loop, or while others are in flight, become one
 * BatchStoreMessages call. A call without others is sent at once as StoreMessages. Callers see no
 * difference: each call has its own deadline and error, and can be aborted on its own.
 */
export class Coalescer {
  readonly #transport: Transport;
  #waiting: Call[] = [];
  #isScheduled = false;
  /** Number of batches in flight whose isAwaited is true. */
  #inFlight = 0;
  /**
   * Number of calls in flight, by session. While a session has any, its further calls wait here,
   * because they would otherwise wait at the server.
   */
  readonly #busy = new Map<string, number>();
  /** False after a server has answered that it does not know BatchStoreMessages. */
  #isKnown = true;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Make a StoreMessages call, possibly together with others.
   *
   * @throws ServiceError if it failed.
   */
  async store(request: StoreMessagesRequest, attempt: Attempt): Promise<StoreMessagesResponse> {
    const bytes = storeMessages.encode(request);
    if (!this.#isKnown || bytes.length > MAX_SHARED_BYTES) {
      return await this.#transport.unary(SINGLE, bytes, attempt);
    }
    return await new Promise((resolve, reject) => {
      const call: Call = {
        sessionId: request.sessionId,
        bytes,
        attempt,
        deadline: performance.now() + attempt.timeoutMs,
        isSettled: false,
        batch: undefined,
        settle: (outcome) => {
          if (call.isSettled) return;
          call.isSettled = true;
          clearTimeout(timer);
          remove();
          if ("response" in outcome) resolve(outcome.response);
          else reject(outcome.error);
          cancelIfAbandoned(call.batch);
        },
      };
      const timer =
        attempt.timeoutMs <= MAX_TIMER_MS
          ? setTimeout(() => call.settle({ error: expired() }), attempt.timeoutMs)
          : undefined;
      let remove = () => {};
      remove = onAbort(attempt.signals, (error) => call.settle({ error }));
      this.#waiting.push(call);
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#isScheduled || this.#waiting.length === 0 || this.#inFlight >= MAX_IN_FLIGHT) return;
    this.#isScheduled = true;
    setImmediate(() => this.#dispatch());
  }

  #dispatch(): void {
    this.#isScheduled = false;
    while (this.#inFlight < MAX_IN_FLIGHT) {
      const calls = this.#nextCalls();
      const [first] = calls;
      if (!first) return;
      if (calls.length === 1) void this.#sendSingle(first);
      else void this.#send(calls);
    }
  }

  /** Return the calls of the next batch, removed from the waiting calls. */
  #nextCalls(): Call[] {
    const count = this.#waiting.length;
    const share = Math.ceil(count / (MAX_IN_FLIGHT - this.#inFlight));
    const most = Math.min(MAX_REQUESTS, count < MIN_SPLIT ? count : share);
    const chosen: Call[] = [];
    const left: Call[] = [];
    let size = 0;
    for (const call of this.#waiting) {
      if (call.isSettled) continue;
      if (this.#busy.has(call.sessionId)) {
        left.push(call);
        continue;
      }
      size += call.bytes.length;
      // Once a call does not fit, all later calls wait for the next batch, too, so that no call
      // overtakes an earlier one of its session.
      (chosen.length < most && size <= MAX_BATCH_BYTES ? chosen : left).push(call);
    }
    this.#waiting = left;
    return chosen;
  }

  #start(calls: readonly Call[]): Batch {
    const batch: Batch = {
      calls: new Map(calls.entries()),
      isAwaited: true,
      stream: undefined,
      timer: setTimeout(() => this.#stopAwaiting(batch), MAX_WAIT_MS),
    };
    for (const call of calls) {
      call.batch = batch;
      this.#busy.set(call.sessionId, (this.#busy.get(call.sessionId) ?? 0) + 1);
    }
    this.#inFlight += 1;
    return batch;
  }

  /** Let waiting calls be sent, although this batch may still be in flight. */
  #stopAwaiting(batch: Batch): void {
    if (!batch.isAwaited) return;
    batch.isAwaited = false;
    this.#inFlight -= 1;
    this.#schedule();
  }

  /** Remove a finished call from its batch. */
  #remove(batch: Batch, index: number): Call | undefined {
    const call = batch.calls.get(index);
    if (!call) return undefined;
    batch.calls.delete(index);
    const count = (this.#busy.get(call.sessionId) ?? 0) - 1;
    if (count > 0) this.#busy.set(call.sessionId, count);
    else this.#busy.delete(call.sessionId);
    return call;
  }

  async #sendSingle(call: Call): Promise<void> {
    const batch = this.#start([call]);
    try {
      const { signals } = call.attempt;
      const attempt = { timeoutMs: remainingMs(call), signals };
      call.settle({ response: await this.#transport.unary(SINGLE, call.bytes, attempt) });
    } catch (error) {
      call.settle({ error });
    } finally {
      this.#remove(batch, 0);
      this.#finish(batch);
    }
  }

  async #send(calls: readonly Call[]): Promise<void> {
    const batch = this.#start(calls);
    let error: unknown;
    try {
      const requests = calls.map(({ bytes }) => bytes);
      // Each caller keeps its own deadline; the batch has the latest one.
      const timeoutMs = Math.max(...calls.map(remainingMs));
      const stream = this.#transport.responses(BATCH, requests, { timeoutMs, signals: [] });
      batch.stream = stream;
      for await (const { results } of stream) {
        for (const { index, outcome } of results) {
          const call = this.#remove(batch, index);
          if (outcome?.$case === "response") call?.settle({ response: outcome.value });
          else call?.settle({ error: errorIn(outcome?.value) });
        }
        // Calls of the batch that still have no result wait for other calls at the server. The
        // calls that wait here need not wait for them.
        this.#stopAwaiting(batch);
        this.#schedule();
      }
      error = serviceError(
        statusCodes.UNAVAILABLE,
        "the server ended the stream before all results",
      );
    } catch (failed) {
      error = failed;
      if (codeOf(failed) === statusCodes.UNIMPLEMENTED) this.#isKnown = false;
    }
    // Every caller must get a result.
    batch.stream = undefined;
    for (const index of [...batch.calls.keys()]) {
      const call = this.#remove(batch, index);
      if (this.#isKnown) call?.settle({ error });
      else if (call && !call.isSettled) void this.#sendSingle(call);
    }
    this.#finish(batch);
  }

  #finish(batch: Batch): void {
    clearTimeout(batch.timer);
    this.#stopAwaiting(batch);
    // Calls that waited only because their session was busy can be sent now.
    this.#schedule();
  }
}

/** Cancel a batch if no caller waits for it any longer. */
function cancelIfAbandoned(batch: Batch | undefined): void {
  if (!batch?.stream || batch.calls.size === 0) return;
  if ([...batch.calls.values()].every((call) => call.isSettled)) batch.stream.cancel();
}

function remainingMs(call: Call): number {
  return Math.max(0, call.deadline - performance.now());
}

/** Encode a BatchStoreMessagesRequest: each request is its field 1. */
function batchOf(requests: readonly Buffer[]): Buffer {
  const pieces: Uint8Array[] = [];
  for (const bytes of requests) {
    const head = [0x0a];
    let length = bytes.length;
    for (; length > 0x7f; length >>>= 7) head.push((length & 0x7f) | 0x80);
    head.push(length);
    pieces.push(Uint8Array.from(head), bytes);
  }
  return Buffer.concat(pieces);
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

function expired(): ServiceError {
  return serviceError(statusCodes.DEADLINE_EXCEEDED, "Deadline exceeded");
}

function serviceError(code: number, text: string, metadata = new Metadata()): ServiceError {
  return Object.assign(new Error(text), { code, details: text, metadata });
}

/** Return the error of one request, as if it had been a call of its own. */
function errorIn(status: Status = Status.create({ code: statusCodes.UNKNOWN })): ServiceError {
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(Status.encode(status).finish()));
  return serviceError(status.code, status.message, metadata);
}
