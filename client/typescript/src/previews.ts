import { conversationMethods } from "./methods.js";
import { CALL_OPTIONS, type CallOptions } from "./options.js";
import { checkKnown } from "./protocol/checks.js";
import { type SendFields, Sending } from "./requests/turns.js";
import { TurnCalls } from "./turns.js";
import { previewOf, type TurnPreview } from "./types/turn.js";

/** What a preview would send, and how. */
export interface PreviewOptions
  extends CallOptions,
    Pick<SendFields, "messages" | "format" | "model" | "options" | "parentSeq"> {}

const PREVIEW: ReadonlySet<string> = new Set([
  ...CALL_OPTIONS,
  "messages",
  "format",
  "model",
  "options",
  "parentSeq",
]);

/** The call of `client.sessions` that shows what a turn would send. */
export abstract class PreviewCalls extends TurnCalls {
  /**
   * Return what a send would give the model now, without a call of the model.
   *
   * Nothing is stored. A window (config.context) that the turn would move is moved only in the
   * preview, and what would be sent does not count for it.
   *
   * @throws SessiondError as send does, and as turns do for a history that no model can be given.
   */
  async previewTurn(
    sessionId: string,
    prompt?: string,
    options: PreviewOptions = {},
  ): Promise<TurnPreview> {
    checkKnown(options, PREVIEW, "previewTurn; give an option of the model in options");
    const { timeoutMs, signal, ...fields } = options;
    const { request } = new Sending(sessionId, prompt, fields);
    const { model, messages, optionsJson, parentSeq } = request;
    const response = await this.connection.call(
      conversationMethods.previewTurn,
      { sessionId, prompt: request.prompt, messages, model, optionsJson, parentSeq },
      { timeoutMs, signal },
    );
    return previewOf(response);
  }
}
