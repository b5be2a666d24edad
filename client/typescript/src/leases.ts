import { Calls } from "./connection.js";
import {
  AcknowledgeMessagesRequest,
  type ProcessingCounts as CountsProto,
  LeaseMessagesRequest,
  type Lease as LeaseProto,
  ListFailedMessagesRequest,
  type RequeueMessagesRequest,
} from "./gen/sessiond/v1/processing_service.js";
import type { PagedList } from "./lazy.js";
import { processingMethods } from "./methods.js";
import type { CallOptions, ChangeOptions } from "./options.js";
import {
  checkBoolean,
  checkInteger,
  checkOptionalText,
  checkText,
  listed,
} from "./protocol/checks.js";
import { invalidField, typeName } from "./protocol/invalid.js";
import { isObject } from "./protocol/json.js";
import { fromTimestamp, toDuration } from "./protocol/times.js";
import { requestIdOr } from "./requests/ids.js";
import type { ListOptions } from "./sessions.js";

/** The exclusive right to process some messages of one session, until the lease expires. */
export interface Lease {
  /** Identifies the lease. */
  readonly leaseId: string;
  /** Name of the queue. */
  readonly queue: string;
  /** The id of the messages' session. */
  readonly sessionId: string;
  /** The messages' seqs, ascending. One range unless messages were requeued. */
  readonly ranges: readonly { readonly firstSeq: number; readonly lastSeq: number }[];
  /** Time of expiry unless the lease is extended. */
  readonly expiresAt: Date;
  /** How many times these messages were leased, this lease included. 1 = the first time. */
  readonly attempt: number;
}

/** Number of messages in each processing status. */
export interface ProcessingCounts {
  /** Not processed yet, or requeued. */
  readonly pending: number;
  /** Leased. */
  readonly running: number;
  /** Processed. */
  readonly success: number;
  /** Reported as failed by a worker. */
  readonly failed: number;
}

/** A message whose processing failed. */
export interface FailedMessage {
  /** The message's seq. */
  readonly seq: number;
  /** The cause, for people to read. */
  readonly error: string;
}

/** How messages are leased. `timeoutMs`: by default the client's plus `waitMs`. */
export interface LeaseOptions extends CallOptions {
  /** The caller's name, for people to read, at most 256 characters. */
  readonly worker?: string | undefined;
  /** Maximum number of leases, each for a different session, 1 to 100. Default: 1. */
  readonly maxSessions?: number | undefined;
  /** Maximum number of messages in a lease, 1 to 10,000. Default: 100. */
  readonly maxMessages?: number | undefined;
  /** How long a lease lasts, in ms, from 1 second to 1 hour. Default: 60,000. */
  readonly leaseDurationMs?: number | undefined;
  /** How long to wait for work, in ms, at most 30 seconds. Default: not at all. */
  readonly waitMs?: number | undefined;
}

/** The outcome of a lease's messages. */
export interface AcknowledgeOptions extends ChangeOptions {
  /** The last processed seq; later messages become pending again. 0 = none. Default: all. */
  readonly throughSeq?: number | undefined;
  /** Those messages up to throughSeq that the worker gives up on. All others count as processed. */
  readonly failures?: Iterable<FailedMessage> | undefined;
  /** Keep the lease for the messages after throughSeq. Default: false. */
  readonly keepLease?: boolean | undefined;
}

/** Which messages to requeue. Exactly one of failed, fromSeq and seqs is required. */
export interface RequeueOptions extends ChangeOptions {
  /** The messages that workers gave up on. */
  readonly failed?: boolean | undefined;
  /**
   * All messages from this seq on, at least 1. Leases that include any of these messages are lost.
   */
  readonly fromSeq?: number | undefined;
  /** The messages with these seqs: 1 to 10,000 different ones. */
  readonly seqs?: Iterable<number> | undefined;
}

/** The calls about processing queues and their leases. */
export abstract class LeaseCalls extends Calls {
  /**
   * Lease pending messages of sessions that no worker has leased, beginning with those that have
   * been pending longest.
   *
   * The call is not retried: if its response is lost, the messages are leased again when the lease
   * has expired.
   *
   * @param queue - 1 to 64 characters of a-z, 0-9, "-" and "_". A project has at most 16 queues.
   * @returns the leases; empty if there is no work.
   * @throws LimitExceeded if the queue is new, and the project has 16 queues already.
   */
  async lease(queue: string, options: LeaseOptions = {}): Promise<Lease[]> {
    return await this.leaseWith(leaseRequest(queue, options), options, false);
  }

  /**
   * Extend a lease; its new duration is counted from now.
   *
   * @param options - leaseDurationMs from 1 second to 1 hour. Default: 60,000.
   * @throws LeaseLost if the lease has ended, or another worker has the messages.
   */
  async extend(
    lease: Lease,
    options: CallOptions & { readonly leaseDurationMs?: number | undefined } = {},
  ): Promise<Lease> {
    const request = {
      leaseId: leaseIdOf(lease),
      leaseDuration: toDuration(options.leaseDurationMs ?? 60_000, "leaseDurationMs"),
    };
    return leaseOf(await this.connection.call(processingMethods.extendLease, request, options));
  }

  /**
   * Report the outcome of a lease's messages, and end the lease. An expired lease is still accepted
   * as long as no other worker has its messages.
   *
   * @throws LeaseLost if the lease has ended, or another worker has the messages.
   */
  async acknowledge(lease: Lease, options: AcknowledgeOptions = {}): Promise<void> {
    checkInteger(options.throughSeq, "throughSeq");
    checkBoolean(options.keepLease, "keepLease");
    const failures = listed(options.failures ?? [], "failures").map((failure, i) => {
      checkInteger(failure?.seq, `failures[${i}].seq`);
      checkText(failure?.error, `failures[${i}].error`);
      return { seq: failure.seq, error: failure.error };
    });
    const request = AcknowledgeMessagesRequest.create({
      leaseId: leaseIdOf(lease),
      throughSeq: options.throughSeq,
      failures,
      keepLease: options.keepLease ?? false,
      requestId: requestIdOr(options.requestId),
    });
    await this.connection.call(processingMethods.acknowledgeMessages, request, options);
  }

  /**
   * Give a lease back. Its messages become pending again.
   *
   * @throws LeaseLost if the lease has ended, or another worker has the messages.
   */
  async release(lease: Lease, options: CallOptions = {}): Promise<void> {
    await this.acknowledge(lease, { ...options, throughSeq: 0 });
  }

  /**
   * Make processed messages of a session pending again.
   *
   * @returns the number of messages that became pending.
   * @throws SessionNotFound if there is no such session.
   * @throws QueueNotFound if there is no such queue.
   */
  async requeue(queue: string, sessionId: string, options: RequeueOptions): Promise<number> {
    checkText(queue, "queue");
    checkText(sessionId, "sessionId");
    const { failed, fromSeq, seqs } = options;
    checkInteger(fromSeq, "fromSeq");
    if (
      Number(failed ?? false) + Number(fromSeq !== undefined) + Number(seqs !== undefined) !==
      1
    ) {
      throw invalidField("which", "is required: give exactly one of failed, fromSeq and seqs");
    }
    const which: RequeueMessagesRequest["which"] =
      fromSeq !== undefined
        ? { $case: "fromSeq", value: fromSeq }
        : seqs !== undefined
          ? { $case: "seqs", value: { seqs: listed(seqs, "seqs") } }
          : { $case: "failed", value: true };
    const response = await this.connection.call(
      processingMethods.requeueMessages,
      { queue, sessionId, which, requestId: requestIdOr(options.requestId) },
      options,
    );
    return response.messageCount;
  }

  /**
   * Return how many messages are pending, leased, processed and failed.
   *
   * @param options - sessionId counts only this session. Default: all of the project, which takes
   *   longer the more sessions there are.
   * @throws QueueNotFound if there is no such queue.
   */
  async counts(
    queue: string,
    options: CallOptions & { readonly sessionId?: string | undefined } = {},
  ): Promise<ProcessingCounts> {
    checkText(queue, "queue");
    checkOptionalText(options.sessionId, "sessionId");
    const request = { queue, sessionId: options.sessionId ?? "" };
    const { pending, running, success, failed }: CountsProto = await this.connection.call(
      processingMethods.getProcessingCounts,
      request,
      options,
    );
    return { pending, running, success, failed };
  }

  /** List a session's messages that workers gave up on, by seq, fetched page by page. */
  failedMessages(
    queue: string,
    sessionId: string,
    options: ListOptions = {},
  ): PagedList<FailedMessage> {
    checkText(queue, "queue");
    checkText(sessionId, "sessionId");
    checkInteger(options.pageSize, "pageSize");
    const request = ListFailedMessagesRequest.create({
      queue,
      sessionId,
      pageSize: options.pageSize ?? 0,
    });
    return this.paged(processingMethods.listFailedMessages, request, options, ({ failures }) =>
      failures.map(({ seq, error }) => ({ seq, error })),
    );
  }

  /** Return the names of the project's queues, sorted. */
  async queues(options: CallOptions = {}): Promise<string[]> {
    return (await this.connection.call(processingMethods.listQueues, {}, options)).queues;
  }

  /**
   * Delete a queue and its progress in all sessions.
   *
   * @param options - allowMissing does nothing if there is no such queue.
   * @throws QueueNotFound if there is no such queue, unless allowMissing is set.
   */
  async deleteQueue(
    queue: string,
    options: CallOptions & { readonly allowMissing?: boolean | undefined } = {},
  ): Promise<void> {
    checkText(queue, "queue");
    const allowMissing = options.allowMissing ?? false;
    await this.connection.call(processingMethods.deleteQueue, { queue, allowMissing }, options, {
      // A retry might not find the queue that the first attempt deleted.
      isRepeatable: allowMissing,
    });
  }

  /** @internal */
  protected async leaseWith(
    request: LeaseMessagesRequest,
    options: CallOptions & { readonly waitMs?: number | undefined },
    isRepeatable: boolean,
  ): Promise<Lease[]> {
    const timeoutMs =
      options.timeoutMs ?? this.connection.settings.timeoutMs + (options.waitMs ?? 0);
    const { leases } = await this.connection.call(
      processingMethods.leaseMessages,
      request,
      { signal: options.signal, timeoutMs },
      { isRepeatable },
    );
    return leases.map(leaseOf);
  }
}

/** Return the request that leases messages. */
export function leaseRequest(queue: string, options: LeaseOptions): LeaseMessagesRequest {
  checkText(queue, "queue");
  checkOptionalText(options.worker, "worker");
  checkInteger(options.maxSessions, "maxSessions");
  checkInteger(options.maxMessages, "maxMessages");
  return LeaseMessagesRequest.create({
    queue,
    worker: options.worker ?? "",
    maxSessions: options.maxSessions ?? 1,
    maxMessages: options.maxMessages ?? 100,
    leaseDuration: toDuration(options.leaseDurationMs ?? 60_000, "leaseDurationMs"),
    wait: options.waitMs === undefined ? undefined : toDuration(options.waitMs, "waitMs"),
  });
}

function leaseIdOf(lease: Lease): string {
  if (!isObject(lease) || typeof lease.leaseId !== "string") {
    throw invalidField("lease", `must be a lease, not ${typeName(lease)}`);
  }
  return lease.leaseId;
}

function leaseOf(lease: LeaseProto): Lease {
  return {
    leaseId: lease.leaseId,
    queue: lease.queue,
    sessionId: lease.sessionId,
    ranges: lease.ranges.map(({ firstSeq, lastSeq }) => ({ firstSeq, lastSeq })),
    expiresAt: fromTimestamp(lease.expireTime),
    attempt: lease.attempt,
  };
}
