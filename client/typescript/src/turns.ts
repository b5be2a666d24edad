import { FileExtractor, partsOf } from "./attachments.js";
import type { Connection } from "./connection.js";
import { DeadlineExceeded, MessageNotFound, ServerUnavailable } from "./errors/index.js";
import {
  AbortRequest,
  GetTurnRequest,
  ListTurnsRequest,
} from "./gen/sessiond/v1/conversation_service.js";
import type { Message as MessageProto } from "./gen/sessiond/v1/message.js";
import { TurnState as State, Turn as TurnProto } from "./gen/sessiond/v1/turn.js";
import type { Handlers } from "./handlers.js";
import { LazyList, type PagedList } from "./lazy.js";
import { MessageCalls } from "./messages.js";
import { conversationMethods, sessionMethods } from "./methods.js";
import { CALL_OPTIONS, type CallOptions, type ChangeOptions } from "./options.js";
import {
  checkBoolean,
  checkFunction,
  checkInteger,
  checkKnown,
  checkText,
} from "./protocol/checks.js";
import { invalidField, shown } from "./protocol/invalid.js";
import { TURN_STATES, type TurnState } from "./protocol/names.js";
import { Deadline } from "./protocol/retry.js";
import { answerRemoved, errorOfTurn } from "./protocol/status.js";
import { toDuration } from "./protocol/times.js";
import { requestIdOr } from "./requests/ids.js";
import {
  eventTypes,
  type Prompt,
  SEND_FIELDS,
  type SendFields,
  Sending,
} from "./requests/turns.js";
import { overdue, sendSteps } from "./turn-steps.js";
import { Event } from "./types/event.js";
import { Message } from "./types/message.js";
import { hasEnded, type SentMessage, type Turn, turnOf } from "./types/turn.js";
import { eventBatches, onChanges } from "./watching.js";

/** How long sendAndWait and waitForTurn wait by default. */
export const WAIT_TIMEOUT_MS = 60_000;
// Timeout of the abort that is sent when a wait has exceeded its timeout.
const ABORT_TIMEOUT_MS = 5_000;

/** The content of a Send, and its options. */
export interface SendOptions extends CallOptions, SendFields {}

/** `timeoutMs` covers the whole wait, including the wait for earlier turns. Default: 60,000. */
export interface SendAndWaitOptions extends SendOptions {
  /**
   * What happens to the turn when the timeout passes or the signal is aborted. "leave" (default)
   * lets it continue, and waitForTurn can wait for it. "abort" aborts it; a broken connection may
   * then abort it, too.
   */
  readonly onTimeout?: "leave" | "abort" | undefined;
}

/** `timeoutMs` covers the whole stream. Default: none. */
export interface StreamOptions extends SendOptions {
  /**
   * Abort the turn if the iteration ends before the turn does; a broken connection may then abort
   * it, too. Default: the turn continues.
   */
  readonly abortOnExit?: boolean | undefined;
}

/** Which events to follow. `timeoutMs` covers the whole stream. Default: none. */
export interface EventOptions extends CallOptions {
  /**
   * Skip the messages up to this seq; 0 = skip none. Default: only messages that are stored after
   * the iteration began.
   */
  readonly afterSeq?: number | undefined;
  /** The epoch of afterSeq (`Event.epoch`). Default: the session's, when the iteration begins. */
  readonly afterEpoch?: number | undefined;
  /** Yield only events of these types, e.g. ["assistant.message"]. Default: all. */
  readonly types?: readonly string[] | undefined;
  /**
   * When the session is deleted or expires, wait until another one is created with its id. Then
   * yield "session.recreated" and all of its messages. Default: SessionNotFound.
   */
  readonly followRecreated?: boolean | undefined;
  /**
   * Called with true when a connection to a server has begun to deliver, and with false when it has
   * ended, e.g. to show that events are late. It must not throw. Default: none.
   */
  readonly onConnection?: ((isConnected: boolean) => void) | undefined;
}

/** Which turns to list. `timeoutMs` covers each call. */
export interface ListTurnsOptions extends CallOptions {
  /** Only turns in this state. Default: all. */
  readonly state?: TurnState | undefined;
  /** Turns per call, 1 to 500. Default: 50. */
  readonly pageSize?: number | undefined;
}

/** Which turns to abort. */
export interface AbortOptions extends ChangeOptions {
  /** The turn, running or queued. Default: the running turn. */
  readonly turnId?: string | undefined;
  /** Also abort the queued turns. Only without turnId. */
  readonly includeQueued?: boolean | undefined;
}

const SEND: ReadonlySet<string> = new Set([...CALL_OPTIONS, ...SEND_FIELDS]);
const SEND_AND_WAIT: ReadonlySet<string> = new Set([...SEND, "onTimeout"]);
const STREAM: ReadonlySet<string> = new Set([...SEND, "abortOnExit"]);
const EVENTS: ReadonlySet<string> = new Set([
  ...CALL_OPTIONS,
  "afterSeq",
  "afterEpoch",
  "types",
  "followRecreated",
  "onConnection",
]);

/** The calls about turns and events; `client.sessions` has them. */
export abstract class TurnCalls extends MessageCalls {
  /**
   * Start a turn: the server appends the prompt, calls the model, and appends its answer.
   *
   * The model gets the whole history. Without a prompt, messages or attachments, it continues from
   * the existing history, e.g. after stored tool results or a failed turn. The call resolves when
   * the server has accepted the turn; from then on the turn does not depend on the client.
   *
   * @throws SessionNotFound if there is no such session.
   * @throws SessionDestroyed if the session is destroyed.
   * @throws RequestIdReused if the requestId was used with other content.
   * @throws ModelNotConfigured if the server has no such model.
   * @throws LimitExceeded if too many turns are waiting in the session.
   * @throws SessiondError as storeMessages does for messages, and as assets.upload for attachments.
   */
  async send(sessionId: string, prompt?: Prompt, options: SendOptions = {}): Promise<SentMessage> {
    checkKnown(options, SEND, "send; give an option of the model in options");
    const sending = new Sending(sessionId, prompt, options);
    await prepare(this.connection, sending);
    const timeoutMs = options.timeoutMs ?? this.connection.settings.timeoutMs;
    const steps = sendSteps(this.connection, sending.request, timeoutMs, [options.signal]);
    for await (const { turn, messageId } of steps) {
      if (turn) {
        return { messageId: messageId && `${sessionId}/${messageId}`, turnId: turn.turnId };
      }
    }
    throw new ServerUnavailable("the stream ended without a turn");
  }

  /**
   * Start a turn and wait for its answer, even if connections break or the server restarts.
   *
   * @returns the turn's final answer; with the mode "immediate", that of the turn that was steered.
   * @throws DeadlineExceeded if the timeout passed; its metadata has the turn_id.
   * @throws TurnFailed if the turn ended without an answer: ModelAccessDenied, ModelRateLimited,
   *   ModelRequestRejected, ModelUnavailable, ModelTimedOut, ModelAnswerInvalid, ContextTooLarge,
   *   TurnTimedOut, TurnAborted or TurnLost.
   * @throws SessiondError as send does.
   */
  async sendAndWait(
    sessionId: string,
    prompt?: Prompt,
    options: SendAndWaitOptions = {},
  ): Promise<Message> {
    checkKnown(options, SEND_AND_WAIT, "sendAndWait; give an option of the model in options");
    const { onTimeout = "leave", signal } = options;
    if (onTimeout !== "leave" && onTimeout !== "abort") {
      throw invalidField("onTimeout", `is ${shown(onTimeout)}; it must be one of leave, abort`);
    }
    const isAborting = onTimeout === "abort";
    const deadline = new Deadline(options.timeoutMs ?? WAIT_TIMEOUT_MS);
    const sending = new Sending(sessionId, prompt, options);
    await prepare(this.connection, sending);
    sending.request.abortOnDisconnect = isAborting;
    let turn = TurnProto.create();
    let seen: MessageProto | undefined;
    try {
      const steps = sendSteps(this.connection, sending.request, deadline.remainingMs(), [signal]);
      for await (const step of steps) {
        turn = step.turn ?? turn;
        for (const { type, message } of step.events) {
          if (type === "assistant.message" && message?.turn?.turnId === turn.turnId) seen = message;
        }
      }
      return await this.#answerOf(turn, seen, deadline, signal);
    } catch (error) {
      const turnId = error instanceof DeadlineExceeded ? error.metadata.turn_id : "";
      if (isAborting && turnId) {
        // The server aborts the turn by itself, unless the connection to it is broken.
        await this.abort(sessionId, { turnId, timeoutMs: ABORT_TIMEOUT_MS }).catch(() => {});
      }
      throw error;
    }
  }

  /**
   * Start a turn and stream its events: the prompt, the model's deltas, and its messages.
   *
   * After a broken connection the client reconnects, and continues with the next character. A
   * stream that joins a running turn begins with "assistant.message_partial", the text so far.
   *
   * @returns a lazy list that ends with the turn; nothing is sent until it is iterated over.
   *   Iterating again joins the same turn. If the turn fails, iterating throws as sendAndWait does.
   */
  stream(sessionId: string, prompt?: Prompt, options: StreamOptions = {}): LazyList<Event> {
    return this.streamWith(sessionId, prompt, options, undefined);
  }

  /**
   * @internal The same as stream(), but nothing is sent before the handlers, if any, are ready to
   *   receive the events.
   */
  streamWith(
    sessionId: string,
    prompt: Prompt | undefined,
    options: StreamOptions,
    handlers: Handlers | undefined,
  ): LazyList<Event> {
    checkKnown(options, STREAM, "stream; give an option of the model in options");
    const sending = new Sending(sessionId, prompt, options);
    const { connection } = this;
    let prepared: Promise<void> | undefined;
    return new LazyList(async function* events(stop) {
      const deadline = new Deadline(options.timeoutMs ?? Number.POSITIVE_INFINITY);
      await handlers?.ready();
      prepared ??= prepare(connection, sending);
      await prepared;
      sending.request.abortOnDisconnect = options.abortOnExit ?? false;
      const steps = sendSteps(connection, sending.request, deadline.remainingMs(), [
        options.signal,
        stop,
      ]);
      for await (const step of steps) {
        if (step.events.length > 0) yield step.events.map((event) => new Event(event));
      }
    });
  }

  /**
   * Wait for the answer of a turn that was started earlier, by any client.
   *
   * @param options - timeoutMs covers the whole wait. Default: 60,000.
   * @throws TurnNotFound if there is no such turn.
   * @throws DeadlineExceeded if the timeout passed.
   * @throws TurnFailed if the turn ended without an answer, as sendAndWait does.
   * @throws MessageNotFound if a rewind has removed the answer since.
   */
  async waitForTurn(
    sessionId: string,
    turnId: string,
    options: CallOptions = {},
  ): Promise<Message> {
    checkText(sessionId, "sessionId");
    checkText(turnId, "turnId");
    const deadline = new Deadline(options.timeoutMs ?? WAIT_TIMEOUT_MS);
    let mayHaveMissedIt = true;
    try {
      // Watch before looking the turn up, so that an end in between is not missed.
      const batches = eventBatches(this.connection, {
        sessionId,
        timeoutMs: deadline.remainingMs(),
        signals: [options.signal],
        opened: (isOpen) => {
          mayHaveMissedIt ||= !isOpen;
        },
        heartbeats: true,
      });
      for await (const events of batches) {
        // A batch without events is a heartbeat, at which the turn is looked up again.
        const isEnd = events.some(
          ({ type, data }) => type === "assistant.turn_end" && data.turn_id === turnId,
        );
        if (!mayHaveMissedIt && events.length > 0 && !isEnd) continue;
        mayHaveMissedIt = false;
        const turn = await this.#turn(sessionId, turnId, {
          signal: options.signal,
          timeoutMs: deadline.remainingMs(),
        });
        if (hasEnded(turn)) {
          return await this.#answerOf(turn, undefined, deadline, options.signal);
        }
      }
    } catch (error) {
      throw error instanceof DeadlineExceeded ? overdue(sessionId, turnId, error) : error;
    }
    throw new ServerUnavailable("the stream ended");
  }

  /**
   * Abort turns. Their messages are kept, and so is an unfinished text.
   *
   * @returns the turns that this call aborted; may be empty.
   * @throws SessionNotFound if there is no such session.
   * @throws TurnNotFound if there is no such turn.
   */
  async abort(sessionId: string, options: AbortOptions = {}): Promise<Turn[]> {
    checkText(sessionId, "sessionId");
    if (options.turnId === "") {
      throw invalidField("turnId", "is empty; leave it out to abort the turn that is running");
    }
    const request = AbortRequest.create({
      sessionId,
      turnId: options.turnId ?? "",
      includeQueued: options.includeQueued ?? false,
      requestId: requestIdOr(options.requestId),
    });
    const response = await this.connection.call(conversationMethods.abort, request, options);
    return response.turns.map(turnOf);
  }

  /**
   * Return a turn, with its state and outcome.
   *
   * @param options - waitMs is how long to wait for the turn's end, at most 30,000. Default: do not
   * wait.
   * @throws SessionNotFound if there is no such session.
   * @throws TurnNotFound if there is no such turn.
   */
  async getTurn(
    sessionId: string,
    turnId: string,
    options: CallOptions & { readonly waitMs?: number | undefined } = {},
  ): Promise<Turn> {
    checkText(sessionId, "sessionId");
    checkText(turnId, "turnId");
    return turnOf(await this.#turn(sessionId, turnId, options, options.waitMs));
  }

  /** List the turns of a session, the newest first, fetched page by page. */
  listTurns(sessionId: string, options: ListTurnsOptions = {}): PagedList<Turn> {
    checkText(sessionId, "sessionId");
    checkInteger(options.pageSize, "pageSize");
    const request = ListTurnsRequest.create({
      sessionId,
      state: options.state === undefined ? 0 : TURN_STATES.numberOf(options.state, "state"),
      pageSize: options.pageSize ?? 0,
    });
    return this.paged(conversationMethods.listTurns, request, options, ({ turns }) =>
      turns.map(turnOf),
    );
  }

  /**
   * Follow a session: the messages after afterSeq, then all events as they arrive, for ever.
   *
   * After a broken connection the client reconnects: each message is delivered once, in order.
   * Other events may be missed meanwhile, except "session.rewound", which reports that messages
   * were removed. Later messages reuse their seqs. The session does not expire while it is watched.
   * Events of a session that is created later with the same id are never mixed in.
   *
   * Iterating throws SessionNotFound when the session is deleted or expires, unless followRecreated
   * is set, and Unavailable when the server stays unavailable.
   */
  events(sessionId: string, options: EventOptions = {}): LazyList<Event> {
    checkKnown(options, EVENTS, "events");
    checkText(sessionId, "sessionId");
    checkInteger(options.afterSeq, "afterSeq");
    checkInteger(options.afterEpoch, "afterEpoch");
    checkBoolean(options.followRecreated, "followRecreated");
    const { onConnection } = options;
    if (onConnection !== undefined) checkFunction(onConnection, "onConnection");
    if (options.afterEpoch !== undefined && options.afterSeq === undefined) {
      throw invalidField("afterEpoch", "is only valid with afterSeq");
    }
    const types = eventTypes(options.types);
    return new LazyList((stop) =>
      eventBatches(this.connection, {
        sessionId,
        afterSeq: options.afterSeq,
        afterEpoch: options.afterEpoch,
        followRecreated: options.followRecreated ?? false,
        ...(onConnection && { opened: onChanges(onConnection) }),
        types,
        timeoutMs: options.timeoutMs,
        signals: [options.signal, stop],
      }),
    );
  }

  async #turn(
    sessionId: string,
    turnId: string,
    options: CallOptions,
    waitMs?: number,
  ): Promise<TurnProto> {
    const wait = waitMs === undefined ? undefined : toDuration(waitMs, "waitMs");
    const request = GetTurnRequest.create({ sessionId, turnId, wait });
    return await this.connection.call(conversationMethods.getTurn, request, options);
  }

  /** Return the answer of an ended turn; `seen` is its last message that was received. */
  async #answerOf(
    turn: TurnProto,
    seen: MessageProto | undefined,
    deadline: Deadline,
    signal: AbortSignal | undefined,
  ): Promise<Message> {
    if (turn.state !== State.TURN_STATE_COMPLETED) throw errorOfTurn(turn);
    if (seen?.seq === turn.lastSeq) return new Message(turn.sessionId, seen);
    // The answer came while a connection was down, or before the client joined.
    const message = await this.connection
      .call(
        sessionMethods.getMessage,
        { sessionId: turn.sessionId, seq: turn.lastSeq, messageId: "" },
        { signal, timeoutMs: deadline.remainingMs() },
      )
      .catch((error) => {
        throw error instanceof MessageNotFound ? answerRemoved(turn) : error;
      });
    // After a rewind, the seq may name another message.
    if (message.turn?.turnId !== turn.turnId) throw answerRemoved(turn);
    return new Message(turn.sessionId, message);
  }
}

async function prepare(connection: Connection, sending: Sending): Promise<void> {
  const extractor = new FileExtractor(connection, sending.extractFiles);
  sending.request.messages = await extractor.takeAll(sending.request.messages);
  if (sending.attachments.length > 0) {
    sending.takeParts(await partsOf(connection, sending.attachments));
  }
}
