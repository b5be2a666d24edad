import { conversationMethods } from "./methods.js";
import { CALL_OPTIONS, type CallOptions } from "./options.js";
import { checkKnown } from "./protocol/checks.js";
import { type SendFields, Sending } from "./requests/turns.js";
import { TurnCalls } from "./turns.js";
import { previewOf, type TurnPreview } from "./types/turn.js";

/** The content of a preview, and its options. */
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

/** The call of `client.sessions` that shows the request of a turn. */
export abstract class PreviewCalls extends TurnCalls {
  /**
   * Return the request that a send would make now, without calling the model.
   *
   * Nothing is stored. If a turn would move the window of the history (config.context), the preview
   * shows the moved window, but does not store it. The prompt and the messages do not count towards
   * the window, so a real turn may move it further.
   *
   * @throws SessiondError as send does, and as turns do if the history cannot be given to a model.
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
