import type { Connection } from "./connection.js";
import { DeadlineExceeded, SessiondError } from "./errors/index.js";
import type { SendRequest, SendResponse } from "./gen/sessiond/v1/conversation_service.js";
import { TurnState as State, Turn } from "./gen/sessiond/v1/turn.js";
import { conversationMethods } from "./methods.js";
import { AnswerTexts } from "./protocol/answer-texts.js";
import { TurnRetry } from "./protocol/retry.js";
import { errorOfTurn } from "./protocol/status.js";
import { responses } from "./streams.js";
import { hasEnded } from "./types/turn.js";
import { MAX_SILENCE_MS } from "./watching.js";

/**
 * Yield the steps of a turn until it has ended, reconnecting as often as needed. Each message comes
 * once, and so does each character of the answer while it is written. All connections send the same
 * request_id, and therefore join the same turn.
 */
export async function* sendSteps(
  connection: Connection,
  request: SendRequest,
  timeoutMs: number,
  signals: readonly (AbortSignal | undefined)[],
): AsyncGenerator<SendResponse, void, undefined> {
  const retry = new TurnRetry(timeoutMs, connection.settings.retries);
  let { afterSeq } = request;
  let turn = Turn.create();
  const texts = new AnswerTexts();
  const steps = responses<SendRequest, SendResponse>(
    connection,
    conversationMethods.send,
    () => ({ ...request, afterSeq }),
    {
      retry,
      signals,
      isComplete: (isClean) => isClean && hasEnded(turn),
      maxSilenceMs: MAX_SILENCE_MS,
    },
  );
  try {
    for await (const step of steps) {
      turn = step.turn ?? turn;
      for (const { seq } of step.events) afterSeq = Math.max(afterSeq, seq);
      yield { ...step, events: texts.newOf(step.events) };
    }
  } catch (error) {
    if (error instanceof SessiondError && retry.ranOut(error)) {
      throw overdue(request.sessionId, turn.turnId, error);
    }
    throw error;
  }
  if (turn.state !== State.TURN_STATE_COMPLETED) throw errorOfTurn(turn);
}

/** Return the error of a wait for a turn that exceeded its timeout. */
export function overdue(sessionId: string, turnId: string, error: SessiondError): DeadlineExceeded {
  if (!turnId) {
    return new DeadlineExceeded(`the server has not answered in time: ${error.detail}`, {
      metadata: { session_id: sessionId },
      cause: error,
    });
  }
  return new DeadlineExceeded(`turn ${turnId} has not ended in time: ${error.detail}`, {
    metadata: { session_id: sessionId, turn_id: turnId },
    cause: error,
  });
}
