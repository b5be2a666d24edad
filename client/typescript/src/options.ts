/** The options of every call. */
export interface CallOptions {
  /** Ends the call when it is aborted; the call then throws `signal.reason`. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Timeout over all attempts, in milliseconds. Default: the client's. Infinity = none. Each call
   * that returns a list says what the timeout covers.
   */
  readonly timeoutMs?: number | undefined;
}

/** The options of a call that changes something. */
export interface ChangeOptions extends CallOptions {
  /**
   * Makes the change safe to repeat, at most 128 characters: a second call with the same id within
   * 24 hours returns the first call's result, or throws RequestIdReused if its content differs.
   * Default: a random one for each call.
   */
  readonly requestId?: string | undefined;
}

/** The names of the options of every call. */
export const CALL_OPTIONS = ["signal", "timeoutMs"] as const;
/** The names of the options of every call that changes something. */
export const CHANGE_OPTIONS = [...CALL_OPTIONS, "requestId"] as const;
