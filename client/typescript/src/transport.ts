import { Client, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { onAbort } from "./abort.js";
import type { Method } from "./methods.js";
import type { Settings } from "./settings.js";

/** How one attempt of a call is made. */
export interface Attempt {
  /** Milliseconds until the call fails as DEADLINE_EXCEEDED. Infinity = never. */
  readonly timeoutMs: number;
  /** Each ends the call when it is aborted; the call then throws the signal's reason. */
  readonly signals: readonly (AbortSignal | undefined)[];
}

interface Cancellable {
  cancel(): void;
}

/** A stream of responses. The server sends no faster than the stream is read. */
export interface Responses<Response> extends AsyncIterable<Response> {
  /** End the call. */
  cancel(): void;
}

// sessiond's servers allow a connection 1,000 calls at once; many proxies allow 100. Further calls
// wait without an error. Streams may be open for days, so they take at most half of the 100.
const STREAMS_A_CHANNEL = 50;

/** How long the request that refuses an upload may take. */
const REFUSAL_MS = 1000;
/** The longest time that setTimeout() can wait. */
const MAX_TIMER_MS = 2 ** 31 - 1;
const MAX_TIMEOUT_MS = 100 * 365 * 24 * 3_600_000;

/**
 * Makes calls over a client's gRPC channels. A call returns a promise or an async iterable, and is
 * not retried.
 */
export class Transport {
  readonly #settings: Settings;
  readonly #client: Client;
  /** Number of streams of each channel. The first channel also carries all other calls. */
  readonly #streams = new Map<Client, number>();
  readonly #metadata: Metadata;
  readonly #calls = new Set<Cancellable>();

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#client = this.#open();
    this.#metadata = settings.metadata;
  }

  #open(): Client {
    const { target, credentials, channelOptions } = this.#settings;
    const client = new Client(target, credentials, channelOptions);
    this.#streams.set(client, 0);
    return client;
  }

  /** Return a channel with room for a stream. */
  #withRoom(): Client {
    for (const [client, count] of this.#streams) if (count < STREAMS_A_CHANNEL) return client;
    return this.#open();
  }

  #count(client: Client, change: number): void {
    this.#streams.set(client, (this.#streams.get(client) ?? 0) + change);
  }

  /** End the running calls and close the channels. */
  close(): void {
    for (const call of this.#calls) call.cancel();
    for (const client of this.#streams.keys()) client.close();
  }

  /**
   * Make a unary call.
   *
   * @throws ServiceError if it failed.
   */
  async unary<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    attempt: Attempt,
  ): Promise<Response> {
    const bytes = method.encode(request);
    return await new Promise<Response>((resolve, reject) => {
      const call = this.#client.makeUnaryRequest<Buffer, Response>(
        method.path,
        (value) => value,
        method.decode,
        bytes,
        this.#metadata.clone(),
        { deadline: deadlineOf(attempt) },
        (error, response) => {
          remove();
          this.#calls.delete(call);
          if (error) reject(error);
          else resolve(response as Response);
        },
      );
      this.#calls.add(call);
      const remove = onAbort(attempt.signals, (reason) => {
        call.cancel();
        reject(reason);
      });
    });
  }

  /**
   * Make a call whose response is a stream. Iterating throws a ServiceError if it failed.
   */
  responses<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    attempt: Attempt,
  ): Responses<Response> {
    const client = this.#withRoom();
    const call = client.makeServerStreamRequest<Buffer, Response>(
      method.path,
      (value) => value,
      method.decode,
      method.encode(request),
      this.#metadata.clone(),
      { deadline: deadlineOf(attempt) },
    );
    this.#calls.add(call);
    const calls = this.#calls;
    let aborted: { reason: unknown } | undefined;
    const remove = onAbort(attempt.signals, (reason) => {
      aborted = { reason };
      call.cancel();
    });
    // An error that no caller awaits must not end the process.
    call.on("error", () => {});
    this.#count(client, 1);
    let isOpen = true;
    const release = () => {
      if (isOpen) this.#count(client, -1);
      isOpen = false;
    };
    // If nobody iterates over the stream, its place is released when its status arrives.
    call.once("status", release);
    async function* iterate(): AsyncGenerator<Response, void, undefined> {
      try {
        for await (const response of call) {
          if (aborted) break;
          yield response as Response;
        }
      } catch (error) {
        throw aborted ? aborted.reason : error;
      } finally {
        remove();
        calls.delete(call);
        call.cancel();
        release();
      }
      if (aborted) throw aborted.reason;
    }
    return { [Symbol.asyncIterator]: iterate, cancel: () => call.cancel() };
  }

  /**
   * Send a stream of requests, and return the response.
   *
   * @param refusal - a request that makes the server refuse the call. It is sent before the call is
   *   cancelled: Node completes the stream of a call that it cancels, so the server could take the
   *   requests so far for all of them.
   * @throws ServiceError if the call failed; and any error that creating the requests throws.
   */
  async upload<Request, Response>(
    method: Method<Request, Response>,
    requests: AsyncIterable<Request>,
    attempt: Attempt,
    refusal?: Request,
  ): Promise<Response> {
    let settle: (outcome: { error?: unknown; response?: Response }) => void = () => {};
    const outcome = new Promise<{ error?: unknown; response?: Response }>((resolve) => {
      settle = resolve;
    });
    let isEnded = false;
    let isComplete = false;
    let wake: () => void = () => {};
    const end = (ended: { error?: unknown; response?: Response }) => {
      isEnded = true;
      wake();
      settle(ended);
    };
    const call = this.#client.makeClientStreamRequest<Buffer, Response>(
      method.path,
      (value) => value,
      method.decode,
      this.#metadata.clone(),
      // The call's own deadline would cancel it without the refusal.
      { deadline: deadlineOf({ timeoutMs: attempt.timeoutMs + REFUSAL_MS }) },
      (error: ServiceError | null, response) =>
        end(error ? { error } : { response: response as Response }),
    );
    // The callback gets the error as well.
    call.on("error", () => {});
    const abandon = () => {
      if (refusal === undefined || isEnded || isComplete) {
        call.cancel();
        return;
      }
      // If the server reads nothing, it does not read the end of the stream either.
      const timer = setTimeout(() => call.cancel(), REFUSAL_MS);
      call.write(method.encode(refusal), () => {
        clearTimeout(timer);
        call.cancel();
      });
    };
    const running = { cancel: abandon };
    this.#calls.add(running);
    const fail = (error: unknown) => {
      abandon();
      end({ error });
    };
    const timer =
      attempt.timeoutMs <= MAX_TIMER_MS
        ? setTimeout(() => fail(deadlineExceeded()), attempt.timeoutMs)
        : undefined;
    const remove = onAbort(attempt.signals, fail);
    // What is awaited here also ends with the call: the next request or room for it may never come.
    const orEnd = <T>(
      start: (resolve: (value: T) => void, reject: (error: unknown) => void) => void,
    ) =>
      new Promise<T | undefined>((resolve, reject) => {
        wake = () => resolve(undefined);
        start(resolve, reject);
      });
    const source = requests[Symbol.asyncIterator]();
    let next: IteratorResult<Request> | undefined;
    try {
      while (!isEnded) {
        next = undefined;
        next = await orEnd<IteratorResult<Request>>((resolve, reject) => {
          source.next().then(resolve, reject);
        });
        // If the server has ended the call early, its response says why.
        if (isEnded || !next || next.done) break;
        if (!call.write(method.encode(next.value))) {
          await orEnd<void>((resolve) => call.once("drain", resolve));
        }
      }
      if (!isEnded) {
        isComplete = true;
        call.end();
      }
      const { error, response } = await outcome;
      if (error) throw error;
      return response as Response;
    } finally {
      remove();
      clearTimeout(timer);
      this.#calls.delete(running);
      if (!isEnded) abandon();
      // A source that is still making a request ends after it; that is not awaited.
      const returned = source.return?.().catch(() => {});
      if (next) await returned;
    }
  }
}

function deadlineExceeded(): ServiceError {
  const text = "Deadline exceeded";
  return Object.assign(new Error(text), {
    code: status.DEADLINE_EXCEEDED,
    details: text,
    metadata: new Metadata(),
  });
}

function deadlineOf({ timeoutMs }: Pick<Attempt, "timeoutMs">): number {
  // grpc-js refuses later deadlines, in a promise that nobody awaits.
  return timeoutMs > MAX_TIMEOUT_MS ? Number.POSITIVE_INFINITY : Date.now() + timeoutMs;
}
