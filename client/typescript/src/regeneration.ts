import { ParentNotFound } from "./errors/index.js";
import { CopySessionRequest, DeleteSessionRequest } from "./gen/sessiond/v1/session_service.js";
import { sessionMethods } from "./methods.js";
import { CALL_OPTIONS, type CallOptions } from "./options.js";
import { PreviewCalls, type PreviewOptions } from "./previews.js";
import { checkBoolean, checkKnown, checkOptionalText, checkText } from "./protocol/checks.js";
import { invalidField } from "./protocol/invalid.js";
import { Deadline } from "./protocol/retry.js";
import { requestIdOr } from "./requests/ids.js";
import { Sending } from "./requests/turns.js";
import { type SendAndWaitOptions, WAIT_TIMEOUT_MS } from "./turns.js";
import type { Message } from "./types/message.js";

/** How an answer is replaced. `timeoutMs` covers the whole wait. Default: 60,000. */
export interface RegenerateOptions
  extends CallOptions,
    Pick<SendAndWaitOptions, "model" | "options" | "turnTimeoutMs" | "onTimeout"> {
  /**
   * Keep the old answer in the session, and make the new one a branch beside it. Later messages
   * continue the new answer; `getMessages({ branchOf })` reads either.
   */
  readonly branch?: boolean | undefined;
  /**
   * First copy the session, with the old answer, to this id. Default: the old answer is lost, even
   * if the new turn fails. But nothing is removed if the server cannot call `model` with these
   * `options`. Not together with branch.
   */
  readonly copyTo?: string | undefined;
  /**
   * Abort a running turn first. Default: TurnRunning; with branch, the new answer waits for that
   * turn's end.
   */
  readonly abortTurn?: boolean | undefined;
}

const REGENERATE: ReadonlySet<string> = new Set([
  ...CALL_OPTIONS,
  "model",
  "options",
  "turnTimeoutMs",
  "onTimeout",
  "branch",
  "copyTo",
  "abortTurn",
]);

/** The call of `client.sessions` that has a model answer again. */
export abstract class RegenerationCalls extends PreviewCalls {
  /**
   * Replace the last answer: let the model answer again, and wait for the new answer.
   *
   * The last answer consists of the assistant's messages since the newest message of another role:
   * the user's prompt, or the result of a tool. If there is no answer yet, the model just answers.
   * Messages of other branches stay. If some of them are newer than the message that is answered,
   * the new answer becomes a branch beside them.
   *
   * @returns the new answer.
   * @throws SequenceConflict and HistoryRewound if another caller changed the history meanwhile;
   *   nothing was changed by this call then.
   * @throws SessionAlreadyExists if there is a session with the id copyTo.
   * @throws InvalidField if the session has no message that a model could answer.
   * @throws SessiondError as rewind and sendAndWait do.
   */
  async regenerate(sessionId: string, options: RegenerateOptions = {}): Promise<Message> {
    checkKnown(options, REGENERATE, "regenerate");
    const { branch = false, copyTo, abortTurn = false, signal, ...sent } = options;
    checkText(sessionId, "sessionId");
    checkBoolean(branch, "branch");
    checkBoolean(abortTurn, "abortTurn");
    checkOptionalText(copyTo, "copyTo");
    if (branch && copyTo !== undefined) {
      throw invalidField("copyTo", "cannot be combined with branch: both keep the answer");
    }
    // Refuse wrong values before anything is removed.
    const { model, options: modelOptions, turnTimeoutMs } = sent;
    new Sending(sessionId, undefined, { model, options: modelOptions, turnTimeoutMs });
    const deadline = new Deadline(options.timeoutMs ?? WAIT_TIMEOUT_MS);
    const left = () => ({ timeoutMs: deadline.remainingMs(), signal });
    const { lastSeq, epoch } = await this.connection.call(
      sessionMethods.getSession,
      { sessionId },
      left(),
    );
    const { answered, kept } = await this.#lastAnswered(sessionId, lastSeq, epoch, left());
    if (!answered) throw invalidField("sessionId", "has no message that a model could answer");
    let expectedEpoch = epoch;
    if (branch) {
      if (abortTurn) await this.abort(sessionId, left());
    } else {
      if (sent.model !== undefined || sent.options !== undefined) {
        await this.#check(sessionId, { ...sent, parentSeq: answered, ...left() });
      }
      const isCopied = copyTo !== undefined && lastSeq > answered;
      if (isCopied) await this.#keep(sessionId, copyTo, lastSeq, left());
      // If there is nothing to remove, the rewind still aborts a running turn, or throws
      // TurnRunning.
      try {
        const place = { expectedLastSeq: lastSeq, expectedEpoch: epoch, abortTurn };
        ({ epoch: expectedEpoch } = await this.rewind(sessionId, {
          toSeq: kept,
          ...place,
          ...left(),
        }));
      } catch (error) {
        if (isCopied) await this.#discard(copyTo);
        throw error;
      }
    }
    return await this.sendAndWait(sessionId, undefined, {
      ...sent,
      ...left(),
      expectedEpoch,
      parentSeq: branch || kept > answered ? answered : undefined,
    });
  }

  /**
   * Find the last answer of the newest branch.
   *
   * @returns `answered` is the seq of the message to which the answer replies: the newest message
   *   of the branch whose role is not "assistant". 0 = there is none. `kept` is the last seq to keep
   *   when the answer is removed. It is greater than `answered` if messages of other branches have
   *   to be kept.
   */
  async #lastAnswered(
    sessionId: string,
    lastSeq: number,
    expectedEpoch: number,
    options: CallOptions,
  ): Promise<{ answered: number; kept: number }> {
    if (!lastSeq) return { answered: 0, kept: 0 };
    const messages = this.getMessages(sessionId, {
      branchOf: lastSeq,
      order: "desc",
      view: "basic",
      expectedEpoch,
      ...options,
    });
    let kept = lastSeq;
    for await (const { role, seq } of messages) {
      if (role !== "assistant") return { answered: seq, kept };
      if (seq === kept) kept -= 1;
    }
    return { answered: 0, kept: 0 };
  }

  /** Check that the server can call the model. If not, no answer must be removed. */
  async #check(
    sessionId: string,
    { model, options, parentSeq, timeoutMs, signal }: PreviewOptions,
  ): Promise<void> {
    const preview = { model, options, parentSeq, timeoutMs, signal };
    await this.previewTurn(sessionId, undefined, preview).catch((error) => {
      // If another caller has just removed the message, the rewind throws the error.
      if (!(error instanceof ParentNotFound)) throw error;
    });
  }

  async #keep(id: string, copyId: string, upToSeq: number, options: CallOptions): Promise<void> {
    const request = CopySessionRequest.create({
      sessionId: id,
      newSessionId: copyId,
      cut: { $case: "upToSeq", value: upToSeq },
      requestId: requestIdOr(undefined),
    });
    await this.connection.call(sessionMethods.copySession, request, options);
  }

  async #discard(copyId: string): Promise<void> {
    const request = DeleteSessionRequest.create({
      sessionId: copyId,
      allowMissing: true,
      requestId: requestIdOr(undefined),
    });
    await this.connection.call(sessionMethods.deleteSession, request, {}).catch(() => {});
  }
}
