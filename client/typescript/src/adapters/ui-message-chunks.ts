// The message that a recorded stream of the AI SDK has written so far.

// biome-ignore lint/suspicious/noExplicitAny: chunks and parts are the SDK's own.
type Chunk = Record<string, any>;
// biome-ignore lint/suspicious/noExplicitAny: as above.
type Part = Record<string, any>;

/** A message, as far as it was written. */
export interface WrittenMessage {
  /** The id that the stream gave the message. `undefined` = none. */
  readonly id: string | undefined;
  /** Its parts. Empty = nothing was written. */
  readonly parts: readonly Part[];
  /** Its metadata. `undefined` = none. */
  readonly metadata: Record<string, unknown> | undefined;
}

const RESULTS: Record<string, string> = {
  "tool-output-available": "output-available",
  "tool-output-error": "output-error",
  "tool-output-denied": "output-denied",
};

/**
 * Put a message together from the server-sent events of its stream, which may end anywhere.
 *
 * Calls of tools without a result are left out: a model refuses a history that contains them.
 */
export function writtenMessage(text: string): WrittenMessage {
  const written = new Written();
  for (const chunk of chunksOf(text)) written.add(chunk);
  const parts = written.parts.filter(isWhole);
  const hasContent = parts.some((part) => part.type !== "step-start");
  return { id: written.id, parts: hasContent ? parts : [], metadata: written.metadata };
}

function* chunksOf(text: string): Generator<Chunk> {
  for (const line of text.split("\n")) {
    if (!line.startsWith("data:")) continue;
    try {
      const chunk: unknown = JSON.parse(line.slice(5));
      if (typeof chunk === "object" && chunk !== null) yield chunk;
    } catch {
      // "[DONE]", or an event that was cut off.
    }
  }
}

function isWhole(part: Part): boolean {
  if (part.type === "text" || part.type === "reasoning") return part.text !== "";
  return part.toolCallId === undefined || Object.values(RESULTS).includes(part.state);
}

class Written {
  id: string | undefined;
  metadata: Record<string, unknown> | undefined;
  readonly parts: Part[] = [];
  /** The texts that are being written, by kind and id. */
  readonly #texts = new Map<string, Part>();

  add(chunk: Chunk): void {
    const { type, ...fields } = chunk;
    if (chunk.messageMetadata) this.metadata = { ...this.metadata, ...chunk.messageMetadata };
    const [, kind, step] = /^(text|reasoning)-(start|delta|end)$/.exec(type) ?? [];
    if (kind) this.#addText(kind, step, chunk);
    else if (type === "start") this.id = chunk.messageId ?? this.id;
    else if (type === "start-step") this.parts.push({ type: "step-start" });
    else if (type === "tool-input-available" || type === "tool-input-error") this.#addCall(chunk);
    else if (type in RESULTS) this.#addResult(chunk);
    else if (type === "file" || type?.startsWith("source-")) this.parts.push({ type, ...fields });
    else if (type?.startsWith("data-") && !chunk.transient) this.#addData(chunk);
  }

  #addText(kind: string, step: string | undefined, chunk: Chunk): void {
    const key = `${kind} ${chunk.id}`;
    let part = this.#texts.get(key);
    if (step === "start" || !part) {
      // Nothing more will be written, so no part stays "streaming".
      part = { type: kind, text: "", state: "done" };
      this.parts.push(part);
      this.#texts.set(key, part);
    }
    if (step === "delta") part.text += chunk.delta;
    if (chunk.providerMetadata) part.providerMetadata = chunk.providerMetadata;
    if (step === "end") this.#texts.delete(key);
  }

  #addCall(chunk: Chunk): void {
    const { type, toolName, dynamic, ...fields } = chunk;
    const named = dynamic ? { type: "dynamic-tool", toolName } : { type: `tool-${toolName}` };
    const state = type === "tool-input-error" ? "output-error" : "input-available";
    this.parts.push({ ...named, ...fields, state });
  }

  #addResult(chunk: Chunk): void {
    const part = this.parts.find(({ toolCallId }) => toolCallId === chunk.toolCallId);
    if (!part || chunk.preliminary) return;
    part.state = RESULTS[chunk.type];
    if ("output" in chunk) part.output = chunk.output;
    if ("errorText" in chunk) part.errorText = chunk.errorText;
  }

  #addData(chunk: Chunk): void {
    const { type, id, data } = chunk;
    const former =
      id === undefined ? undefined : this.parts.find((p) => p.type === type && p.id === id);
    if (former) former.data = data;
    else this.parts.push(id === undefined ? { type, data } : { type, id, data });
  }
}
