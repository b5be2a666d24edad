import type { ServiceError } from "@grpc/grpc-js";
import { sleep, throwIfAborted } from "./abort.js";
import { Coalescer } from "./coalescing.js";
import { ClientClosed, SessiondError } from "./errors/index.js";
import type {
  StoreMessagesRequest,
  StoreMessagesResponse,
} from "./gen/sessiond/v1/session_service.js";
import { PagedList } from "./lazy.js";
import type { Method } from "./methods.js";
import type { CallOptions } from "./options.js";
import { checkOptions } from "./protocol/checks.js";
import { CallRetry } from "./protocol/retry.js";
import { errorOf } from "./protocol/status.js";
import type { Settings } from "./settings.js";
import { Transport } from "./transport.js";

/** Holds the channel, and makes calls over it, with deadlines, retries and typed errors. */
export class Connection {
  readonly settings: Settings;
  #transport: Transport | undefined;
  #coalescer: Coalescer | undefined;
  #closing = new AbortController();

  constructor(settings: Settings) {
    this.settings = settings;
  }

  /**
   * The channel, which is opened if necessary.
   *
   * @throws ClientClosed after close().
   */
  get transport(): Transport {
    this.#closing.signal.throwIfAborted();
    this.#transport ??= new Transport(this.settings);
    return this.#transport;
  }

  /** Aborted by close(). */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /** Let calls open the channel again after close(). */
  open(): void {
    if (this.#closing.signal.aborted) this.#closing = new AbortController();
  }

  /** End the running calls and close the channel. */
  close(): void {
    this.#closing.abort(new ClientClosed("the client is closed; start() opens it again"));
    this.#transport?.close();
    this.#transport = undefined;
    this.#coalescer = undefined;
  }

  /**
   * Make a unary call, and retry it after transient errors.
   *
   * @param request - the request; a change must carry a request_id, unless it is not repeatable.
   * @param stop - a signal that ends the call, in addition to the caller's signal.
   * @throws SessiondError if the call failed.
   */
  async call<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    options: CallOptions = {},
    { isRepeatable = true, stop }: { isRepeatable?: boolean; stop?: AbortSignal } = {},
  ): Promise<Response> {
    checkOptions(options);
    return await this.#retried(
      (remainingMs, signals) =>
        this.transport.unary(method, request, { timeoutMs: remainingMs, signals }),
      options.timeoutMs ?? this.settings.timeoutMs,
      [options.signal, stop],
      isRepeatable,
    );
  }

  /**
   * Make a StoreMessages call, and retry it after transient errors. Concurrent calls are sent
   * together.
   *
   * @param request - the request, with a request_id.
   * @throws SessiondError if the call failed.
   */
  async store(request: StoreMessagesRequest, options: CallOptions): Promise<StoreMessagesResponse> {
    return await this.#retried(
      (timeoutMs, signals) => {
        this.#coalescer ??= new Coalescer(this.transport);
        return this.#coalescer.store(request, { timeoutMs, signals });
      },
      options.timeoutMs ?? this.settings.timeoutMs,
      [options.signal],
      true,
    );
  }

  /**
   * Make a client-streaming call, and retry it after transient errors.
   *
   * @param requests - creates the requests of an attempt.
   * @param refusal - a request that makes the server refuse the whole call. It is sent if creating
   *   the requests throws, because the server could take a stream that breaks off for a complete
   *   one.
   * @throws SessiondError if the call failed; and any error that creating the requests throws.
   */
  async upload<Request, Response>(
    method: Method<Request, Response>,
    requests: () => AsyncIterable<Request>,
    options: CallOptions,
    { isRepeatable, refusal }: { isRepeatable: boolean; refusal?: Request },
  ): Promise<Response> {
    checkOptions(options);
    let raised: { error: unknown } | undefined;
    async function* guarded(): AsyncGenerator<Request, void, undefined> {
      try {
        yield* requests();
      } catch (error) {
        raised = { error };
        if (refusal === undefined) throw error;
        yield refusal;
      }
    }
    try {
      return await this.#retried(
        (remainingMs, signals) => {
          raised = undefined;
          const attempt = { timeoutMs: remainingMs, signals };
          return this.transport.upload(method, guarded(), attempt, refusal);
        },
        options.timeoutMs ?? Number.POSITIVE_INFINITY,
        [options.signal],
        isRepeatable,
      );
    } catch (error) {
      throw raised ? raised.error : error;
    }
  }

  /** Return the typed error of a failed attempt; other errors are returned as they are. */
  errorOf(failed: unknown): unknown {
    if (this.#closing.signal.aborted && isServiceError(failed)) return this.#closing.signal.reason;
    return isServiceError(failed) ? errorOf(failed, this.settings.target) : failed;
  }

  async #retried<Response>(
    attempt: (
      remainingMs: number,
      signals: readonly (AbortSignal | undefined)[],
    ) => Promise<Response>,
    timeoutMs: number,
    given: readonly (AbortSignal | undefined)[],
    isRepeatable: boolean,
  ): Promise<Response> {
    const retry = new CallRetry(timeoutMs, this.settings.retries);
    const signals = [...given, this.closing];
    for (;;) {
      throwIfAborted(signals);
      let error: unknown;
      try {
        return await attempt(retry.deadline.remainingMs(), signals);
      } catch (failed) {
        error = this.errorOf(failed);
      }
      const delay =
        isRepeatable && error instanceof SessiondError ? retry.delayAfter(error) : undefined;
      if (delay === undefined) throw error;
      await sleep(delay, signals);
    }
  }
}

function isServiceError(error: unknown): error is ServiceError {
  return (
    error instanceof Error &&
    !(error instanceof SessiondError) &&
    "code" in error &&
    typeof error.code === "number" &&
    "details" in error
  );
}

/** The base of the classes that make a service's calls. */
export abstract class Calls {
  protected readonly connection: Connection;

  /** @internal */
  constructor(connection: Connection) {
    this.connection = connection;
  }

  /** Return a list that is fetched page by page; the options hold for each page. */
  protected paged<Request extends { pageToken: string }, Response extends Paged, T>(
    method: Method<Request, Response>,
    request: Request,
    options: CallOptions,
    itemsOf: (response: Response) => T[],
  ): PagedList<T> {
    return new PagedList(async (pageToken, stop) => {
      const response = await this.connection.call(method, { ...request, pageToken }, options, {
        ...(stop && { stop }),
      });
      return { items: itemsOf(response), nextPageToken: response.nextPageToken || undefined };
    });
  }
}

interface Paged {
  readonly nextPageToken: string;
}
