import { Client, type Metadata, type ServiceError } from "@grpc/grpc-js";
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
   * @throws ServiceError if the call failed; and any error that creating the requests throws.
   */
  async upload<Request, Response>(
    method: Method<Request, Response>,
    requests: AsyncIterable<Request>,
    attempt: Attempt,
  ): Promise<Response> {
    let settle: (outcome: { error?: unknown; response?: Response }) => void = () => {};
    const outcome = new Promise<{ error?: unknown; response?: Response }>((resolve) => {
      settle = resolve;
    });
    let isEnded = false;
    const call = this.#client.makeClientStreamRequest<Buffer, Response>(
      method.path,
      (value) => value,
      method.decode,
      this.#metadata.clone(),
      { deadline: deadlineOf(attempt) },
      (error: ServiceError | null, response) => {
        isEnded = true;
        call.emit("drain"); // the writer may wait for a call that has ended
        settle(error ? { error } : { response: response as Response });
      },
    );
    // The callback gets the error as well.
    call.on("error", () => {});
    this.#calls.add(call);
    const remove = onAbort(attempt.signals, (reason) => {
      isEnded = true;
      call.cancel();
      call.emit("drain");
      settle({ error: reason });
    });
    try {
      for await (const request of requests) {
        // The server has ended the call early; its response says why.
        if (isEnded) break;
        if (!call.write(method.encode(request))) {
          await new Promise<void>((resolve) => call.once("drain", resolve));
        }
      }
      if (!isEnded) call.end();
      const { error, response } = await outcome;
      if (error) throw error;
      return response as Response;
    } finally {
      remove();
      this.#calls.delete(call);
      call.cancel();
    }
  }
}

function deadlineOf({ timeoutMs }: Attempt): number {
  return Date.now() + timeoutMs;
}
