import type { Client } from "./client.js";
import {
  ClientClosed,
  PoolClosed,
  PoolTimeout,
  SessiondError,
  SessionNotFound,
} from "./errors/index.js";
import { warn } from "./log.js";
import { invalidField, shown, typeName } from "./protocol/invalid.js";
import type { JsonObject } from "./protocol/json.js";
import { checkList, type MessageInput } from "./requests/input.js";
import { Session } from "./session.js";
import type { SessionInfo } from "./types/session.js";

const ACQUIRE_TIMEOUT_MS = 30_000;
const LEASE_TIMEOUT_MS = 600_000;
// If the program dies, a copy expires after this many lease timeouts without activity.
const IDLE_TTL_FACTOR = 2;
// The pool's own template expires too. It is created again when the pool needs it.
const TEMPLATE_IDLE_TTL_MS = 24 * 3_600_000;

/** How a pool makes its sessions. */
export interface SessionPoolOptions {
  /** Maximum number of sessions on loan, at least 1. Default: 5. */
  readonly size?: number | undefined;
  /**
   * The session to copy, or its id. The pool does not change or delete it. Default: the pool creates
   * a template, and deletes it when the pool is closed.
   */
  readonly template?: Session | string | undefined;
  /** Model of the sessions. Default: the template's, or none. */
  readonly model?: string | undefined;
  /** Config of the sessions. Default: the template's, or none. */
  readonly config?: JsonObject | undefined;
  /** Messages of the pool's own template. Not together with template. */
  readonly messages?: Iterable<MessageInput> | undefined;
  /** Prefix of the sessions' ids. Default: none. */
  readonly sessionIdPrefix?: string | undefined;
  /** Milliseconds after which a session is taken back. Default: 600,000. Infinity = never. */
  readonly leaseTimeoutMs?: number | undefined;
  /** Destroy returned sessions instead of deleting them, so that they stay readable. */
  readonly keep?: boolean | undefined;
}

/** How long to wait for a session. */
export interface AcquireOptions {
  /** In milliseconds. Default: 30,000. Infinity = for ever. */
  readonly timeoutMs?: number | undefined;
  /** Ends the wait. */
  readonly signal?: AbortSignal | undefined;
}

/** A session on loan, for `await using`: it is returned at the end of the block. */
export interface LeasedSession extends AsyncDisposable {
  /** The session's handle. */
  readonly session: Session;
}

interface Waiter {
  readonly give: () => void;
  readonly fail: (error: unknown) => void;
}

/**
 * Lends sessions, at most `size` at a time. Each borrower gets a new copy of the template.
 *
 * No session is lent twice: a returned session is deleted. A session is also taken back
 * `leaseTimeoutMs` after it was lent. Creating a pool makes no call.
 *
 * @example
 * ```ts
 * await using pool = new SessionPool(client, { size: 5, model: "gpt-5" });
 * const answer = await pool.run((session) => session.sendAndWait("Hello"));
 * ```
 */
export class SessionPool {
  /** Maximum number of sessions on loan at a time. */
  readonly size: number;
  readonly #client: Client;
  readonly #options: SessionPoolOptions;
  readonly #templateId: string | undefined;
  readonly #messages: readonly MessageInput[];
  readonly #leaseTimeoutMs: number;
  readonly #leases = new Map<string, NodeJS.Timeout | undefined>();
  readonly #waiters: Waiter[] = [];
  #free: number;
  #template: Promise<SessionInfo> | undefined;
  #isClosed = false;

  /**
   * @throws InvalidField if an option is out of range.
   */
  constructor(client: Client, options: SessionPoolOptions = {}) {
    const { size = 5, template, messages, leaseTimeoutMs = LEASE_TIMEOUT_MS } = options;
    if (!Number.isInteger(size) || size < 1) {
      throw invalidField("size", `is ${shown(size)}; it must be a whole number of at least 1`);
    }
    if (typeof leaseTimeoutMs !== "number" || !(leaseTimeoutMs > 0)) {
      throw invalidField("leaseTimeoutMs", `is ${shown(leaseTimeoutMs)}; it must be above 0`);
    }
    if (messages !== undefined) {
      checkList(messages);
      if (template !== undefined) {
        throw invalidField(
          "messages",
          "belong to the pool's own template; give them without a template",
        );
      }
    }
    this.size = size;
    this.#free = size;
    this.#client = client;
    this.#options = options;
    this.#templateId = template instanceof Session ? template.sessionId : template;
    this.#messages = [...(messages ?? [])];
    this.#leaseTimeoutMs = leaseTimeoutMs;
  }

  /** Number of sessions that can be borrowed without waiting. */
  get available(): number {
    return this.#free;
  }

  /** Number of sessions on loan, or about to be. */
  get leased(): number {
    return this.size - this.#free;
  }

  /** Create or look up the template now, instead of at the first acquire(). */
  async initialize(): Promise<void> {
    await this.#currentTemplate();
  }

  /**
   * Borrow a session. Waiting callers are served in the order of their calls.
   *
   * @throws PoolTimeout if all sessions stayed on loan.
   * @throws PoolClosed if the pool is closed.
   * @throws SessionNotFound if the given template does not exist any longer.
   */
  async acquire(options: AcquireOptions = {}): Promise<Session> {
    await this.#takePlace(options);
    const sessionId = `${this.#options.sessionIdPrefix ?? ""}${crypto.randomUUID()}`;
    try {
      const { session } = await this.#copy(sessionId);
      this.#checkOpen();
      const isTimed = Number.isFinite(this.#leaseTimeoutMs);
      const timer = isTimed
        ? setTimeout(() => void this.#takeBack(sessionId), this.#leaseTimeoutMs)
        : undefined;
      timer?.unref();
      this.#leases.set(sessionId, timer);
      return this.#client.handleOf(session);
    } catch (error) {
      this.#freePlace();
      // The server may have created the copy nevertheless.
      void this.#delete(sessionId, false);
      throw error;
    }
  }

  /**
   * Return a session to the pool, which deletes it, or destroys it if `keep` is set. After close()
   * this does nothing.
   *
   * @throws InvalidField if the session is not, or no longer, on loan from this pool.
   */
  async release(session: Session): Promise<void> {
    if (!(session instanceof Session)) {
      throw invalidField("session", `must be a handle, not ${typeName(session)}`);
    }
    if ((await this.#endLease(session.sessionId)) || this.#isClosed) return;
    throw invalidField(
      "session",
      `${session.sessionId} is not on loan from this pool: it was returned, taken back, or is not` +
        " the pool's",
    );
  }

  /** Borrow a session for a block: `await using lease = await pool.lease()`. */
  async lease(options: AcquireOptions = {}): Promise<LeasedSession> {
    const session = await this.acquire(options);
    return {
      session,
      [Symbol.asyncDispose]: async () => {
        if (!(await this.#endLease(session.sessionId)) && !this.#isClosed) {
          warn(`session ${session.sessionId} was taken back before its block was done`);
        }
      },
    };
  }

  /** Borrow a session for the duration of a function; return what the function returns. */
  async run<T>(
    call: (session: Session) => T | Promise<T>,
    options: AcquireOptions = {},
  ): Promise<T> {
    const lease = await this.lease(options);
    try {
      return await call(lease.session);
    } finally {
      await lease[Symbol.asyncDispose]();
    }
  }

  /**
   * Take all sessions back, and delete the pool's own template. Calls that wait for a session throw
   * PoolClosed.
   */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const waiter of this.#waiters.splice(0)) waiter.fail(new PoolClosed("the pool is closed"));
    await Promise.all([...this.#leases.keys()].map((sessionId) => this.#endLease(sessionId)));
    const template = await this.#template?.catch(() => undefined);
    this.#template = undefined;
    if (template && this.#templateId === undefined) await this.#delete(template.sessionId, false);
  }

  /** The same as close(), for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #checkOpen(): void {
    if (this.#isClosed) throw new PoolClosed("the pool is closed");
  }

  async #takePlace({ timeoutMs = ACQUIRE_TIMEOUT_MS, signal }: AcquireOptions): Promise<void> {
    this.#checkOpen();
    signal?.throwIfAborted();
    // A place that becomes free is given to the next waiter. So if a place is free, nobody waits.
    if (this.#free > 0) {
      this.#free -= 1;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const settle = (call: () => void) => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        const index = this.#waiters.indexOf(waiter);
        if (index >= 0) this.#waiters.splice(index, 1);
        call();
      };
      const waiter: Waiter = {
        give: () => settle(resolve),
        fail: (error) => settle(() => reject(error)),
      };
      const abort = () => waiter.fail(signal?.reason);
      const timer = Number.isFinite(timeoutMs)
        ? setTimeout(() => {
            const text = `all ${this.size} sessions of the pool were on loan for the whole timeout`;
            waiter.fail(new PoolTimeout(text));
          }, timeoutMs)
        : undefined;
      signal?.addEventListener("abort", abort, { once: true });
      this.#waiters.push(waiter);
    });
  }

  #freePlace(): void {
    const [waiter] = this.#waiters;
    if (waiter) waiter.give();
    else this.#free += 1;
  }

  async #copy(sessionId: string): Promise<{ session: SessionInfo }> {
    const { model, config } = this.#options;
    const idleTtlMs = Number.isFinite(this.#leaseTimeoutMs)
      ? Math.max(1_000, IDLE_TTL_FACTOR * this.#leaseTimeoutMs)
      : undefined;
    const options = { newSessionId: sessionId, model, config, idleTtlMs };
    const current = this.#currentTemplate();
    const template = await current;
    try {
      return await this.#client.sessions.copy(template.sessionId, options);
    } catch (error) {
      if (!(error instanceof SessionNotFound) || this.#templateId !== undefined) throw error;
    }
    // The pool's own template has expired. The first call that notices this creates another one.
    if (this.#template === current) this.#template = undefined;
    const next = await this.#currentTemplate();
    return await this.#client.sessions.copy(next.sessionId, options);
  }

  #currentTemplate(): Promise<SessionInfo> {
    this.#checkOpen();
    this.#template ??= this.#newTemplate().catch((error) => {
      this.#template = undefined;
      throw error;
    });
    return this.#template;
  }

  async #newTemplate(): Promise<SessionInfo> {
    const { sessions } = this.#client;
    if (this.#templateId !== undefined) return await sessions.get(this.#templateId);
    const template = await sessions.create({
      sessionId: `${this.#options.sessionIdPrefix ?? ""}template-${crypto.randomUUID()}`,
      model: this.#options.model,
      config: this.#options.config,
      idleTtlMs: TEMPLATE_IDLE_TTL_MS,
    });
    if (this.#messages.length > 0) {
      try {
        await sessions.importMessages(template.sessionId, [...this.#messages]);
      } catch (error) {
        await this.#delete(template.sessionId, false);
        throw error;
      }
    }
    return template;
  }

  async #takeBack(sessionId: string): Promise<void> {
    if (await this.#endLease(sessionId)) {
      warn(`session ${sessionId} was taken back: it was on loan for ${this.#leaseTimeoutMs} ms`);
    }
  }

  /** End the lease of a session, if any; return whether there was one. */
  async #endLease(sessionId: string): Promise<boolean> {
    if (!this.#leases.has(sessionId)) return false;
    clearTimeout(this.#leases.get(sessionId));
    this.#leases.delete(sessionId);
    // Free the place before the deletion: the next waiter need not wait for it.
    this.#freePlace();
    await this.#delete(sessionId, this.#options.keep ?? false);
    return true;
  }

  /** Delete or destroy a session. A failure is logged, and the session expires later. */
  async #delete(sessionId: string, keep: boolean): Promise<void> {
    const { sessions } = this.#client;
    try {
      if (keep) await this.#preserve(sessionId);
      else await sessions.delete(sessionId, { allowMissing: true });
    } catch (error) {
      if (error instanceof SessionNotFound || error instanceof ClientClosed) return;
      if (!(error instanceof SessiondError)) throw error;
      warn(`session ${sessionId} of a pool could not be deleted, and is left to expire`, error);
    }
  }

  /** Destroy a session, but keep it: with the idle TTL of the given template, or for ever. */
  async #preserve(sessionId: string): Promise<void> {
    const { sessions } = this.#client;
    const template = this.#templateId === undefined ? undefined : await this.#template;
    const idleTtlMs = template?.idleTtlMs;
    await sessions.update(sessionId, idleTtlMs ? { idleTtlMs } : { neverExpires: true });
    await sessions.destroy(sessionId);
  }
}
