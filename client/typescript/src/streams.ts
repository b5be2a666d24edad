import { sleep, throwIfAborted } from "./abort.js";
import type { Connection } from "./connection.js";
import { ServerUnavailable, SessiondError } from "./errors/index.js";
import type { GetMessagesRequest, GetMessagesResponse } from "./gen/sessiond/v1/session_service.js";
import { type Method, sessionMethods } from "./methods.js";
import { StreamRetry } from "./protocol/retry.js";
import { Message } from "./types/message.js";

/** The options of a stream that is resumed. */
export interface StreamOptions {
  /** Counts the failures, and holds the deadline. */
  readonly retry: StreamRetry;
  /** Each ends the stream when it is aborted; the stream then throws the signal's reason. */
  readonly signals: readonly (AbortSignal | undefined)[];
  /**
   * Whether everything has arrived. Called with true when the server has ended the stream without
   * an error, and with false when the stream has failed. Default: everything has arrived if the
   * stream ended without an error.
   */
  readonly isComplete?: (isClean: boolean) => boolean;
  /** How long a connection may be silent, in milliseconds. Default: for ever. */
  readonly maxSilenceMs?: number;
  /** Called with true at each response, and with false when a connection has ended. */
  readonly opened?: (isOpen: boolean) => void;
}

/**
 * Yield the responses of a stream, reconnecting as often as needed.
 *
 * @param request - returns the request of each connection, which continues where the last one broke
 * off.
 * @throws SessiondError if the stream failed.
 */
export async function* responses<Request, Response>(
  connection: Connection,
  method: Method<Request, Response>,
  request: () => Request,
  options: StreamOptions,
): AsyncGenerator<Response, void, undefined> {
  const { retry, isComplete = (isClean) => isClean, opened } = options;
  const signals = [...options.signals, connection.closing];
  for (;;) {
    throwIfAborted(signals);
    const silence = new Silence(options.maxSilenceMs);
    const call = connection.transport.responses(method, request(), {
      timeoutMs: retry.deadline.remainingMs(),
      signals: [...signals, silence.signal],
    });
    let error: unknown = new ServerUnavailable("the stream ended before everything had arrived");
    try {
      silence.start();
      for await (const response of call) {
        silence.pause();
        retry.progress();
        opened?.(true);
        yield response;
        silence.start();
      }
      if (isComplete(true)) return;
    } catch (failed) {
      throwIfAborted(signals);
      error = silence.signal.aborted ? silence.signal.reason : connection.errorOf(failed);
      if (error instanceof SessiondError && isComplete(false)) return;
    } finally {
      silence.pause();
      call.cancel();
      opened?.(false);
    }
    const delay = error instanceof SessiondError ? retry.delayAfter(error) : undefined;
    if (delay === undefined) throw error;
    await sleep(delay, signals);
  }
}

/** Ends a connection that is silent for too long while a response is awaited. */
class Silence {
  readonly #maxMs: number | undefined;
  readonly #controller = new AbortController();
  #timer: NodeJS.Timeout | undefined;

  constructor(maxMs: number | undefined) {
    this.#maxMs = maxMs;
  }

  /** Aborted after too much silence. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  start(): void {
    if (this.#maxMs === undefined) return;
    this.#timer = setTimeout(() => {
      this.#controller.abort(new ServerUnavailable("the stream was silent for too long"));
    }, this.#maxMs);
  }

  pause(): void {
    clearTimeout(this.#timer);
  }
}

/** Yield a session's messages, each once and in order, reconnecting as often as needed. */
export async function* messageBatches(
  connection: Connection,
  request: GetMessagesRequest,
  timeoutMs: number | undefined,
  signals: readonly (AbortSignal | undefined)[],
): AsyncGenerator<Iterable<Message>, void, undefined> {
  let { start } = request;
  const batches = responses<GetMessagesRequest, GetMessagesResponse>(
    connection,
    sessionMethods.getMessages,
    () => ({ ...request, start }),
    {
      retry: new StreamRetry(timeoutMs ?? Number.POSITIVE_INFINITY, connection.settings.retries),
      signals,
    },
  );
  for await (const { messages, resumeToken } of batches) {
    // The token replaces after_seq; the other fields must stay the same.
    if (resumeToken) start = { $case: "resumeToken", value: resumeToken };
    if (messages.length > 0)
      yield messages.map((message) => new Message(request.sessionId, message));
  }
}
