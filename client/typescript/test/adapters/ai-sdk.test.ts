import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ChatStore } from "../../src/adapters/ai-sdk.js";
import { writtenMessage } from "../../src/adapters/ui-message-chunks.js";
import { uniqueId, useClient } from "../support/fixture.js";

const given = useClient();

function newStore(): ChatStore {
  return new ChatStore(given.client, { prefix: `${uniqueId("chats")}/` });
}

function message(id: string, text: string, role: "user" | "assistant" = "user") {
  return { id, role, parts: [{ type: "text", text }], metadata: { model: "x" } };
}

async function collected(stream: ReadableStream<string> | null): Promise<string> {
  let text = "";
  for await (const chunk of stream ?? []) text += chunk;
  return text;
}

describe("ChatStore", () => {
  test("keeps a chat through growing answers, regeneration and edits", async () => {
    const chats = newStore();
    const id = await chats.create({ user: "ada", title: "A chat" });
    assert.deepEqual(await chats.load(id), []);
    assert.deepEqual(await chats.load("nowhere"), []);
    const question = message("q", "Why?");
    await chats.append(id, [question]);
    await chats.append(id, [question]);
    // An answer grows over several requests, under one id.
    await chats.save(id, [question, message("a", "Beca", "assistant")]);
    const whole = [question, message("a", "Because.", "assistant")];
    await chats.save(id, whole);
    assert.deepEqual(await chats.load(id), whole);
    // Saving what is there changes nothing.
    const sessionId = (await chats.list({ user: "ada" }).first())?.sessionId ?? "";
    const { epoch, lastSeq } = await given.client.sessions.get(sessionId);
    await chats.save(id, whole);
    const again = await given.client.sessions.get(sessionId);
    assert.deepEqual([again.epoch, again.lastSeq], [epoch, lastSeq]);
    // The answer is regenerated, and the question is edited.
    await chats.removeFrom(id, "a");
    assert.deepEqual(await chats.load(id), [question]);
    const edited = [message("q", "How?"), message("a2", "So.", "assistant")];
    await chats.save(id, edited);
    assert.deepEqual(await chats.load(id), edited);
    await chats.delete(id);
    assert.deepEqual(await chats.load(id), []);
  });

  test("two saves at once leave one of them, whole", async () => {
    const chats = newStore();
    const one = [message("q", "1"), message("a", "1", "assistant")];
    const other = [message("q", "2"), message("a", "2", "assistant")];
    await Promise.all([chats.save("c", one), chats.save("c", other)]);
    const stored = await chats.load("c");
    assert.ok([JSON.stringify(one), JSON.stringify(other)].includes(JSON.stringify(stored)));
  });

  test("a reload in mid-answer gets the stream from its beginning, then live", async () => {
    const chats = newStore();
    assert.equal(await chats.resumeStream("c"), null);
    let controller: ReadableStreamDefaultController<string> | undefined;
    const source = new ReadableStream<string>({
      start(given) {
        controller = given;
      },
    });
    const recorded = chats.recordStream("c", source);
    controller?.enqueue("data: 1\n\n");
    let resumed = await chats.resumeStream("c");
    while (!resumed) resumed = await chats.resumeStream("c");
    const reader = resumed.getReader();
    assert.deepEqual(await reader.read(), { value: "data: 1\n\n", done: false });
    reader.releaseLock();
    const second = collected(await chats.resumeStream("c"));
    controller?.enqueue("data: 2\n\n");
    controller?.close();
    assert.equal(await collected(resumed), "data: 2\n\n");
    assert.equal(await second, "data: 1\n\ndata: 2\n\n");
    await recorded;
    assert.equal(await chats.resumeStream("c"), null);
  });

  test("stop cancels the stream where it is written, and ends it for those who follow", async () => {
    const chats = newStore();
    let isCancelled = false;
    const source = new ReadableStream<string>({
      async pull(controller) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        controller.enqueue("data: x\n\n");
      },
      cancel() {
        isCancelled = true;
      },
    });
    const recorded = chats.recordStream("c", source);
    let resumed = await chats.resumeStream("c");
    while (!resumed) resumed = await chats.resumeStream("c");
    const reader = resumed.getReader();
    await reader.read();
    reader.releaseLock();
    await chats.stopStream("c");
    await recorded;
    await collected(resumed);
    assert.ok(isCancelled);
    assert.equal(await chats.resumeStream("c"), null);
    await chats.stopStream("c");
  });

  /** Record a stream that begins to write an answer and is then silent, and stop it. */
  async function stopped(chats: ChatStore, ...chunks: object[]) {
    // The stream has no end, so only the stop can end the recording.
    const source = new ReadableStream<string>({
      start: (controller) => controller.enqueue(events(chunks)),
    });
    const recorded = chats.recordStream("c", source);
    let resumed = await chats.resumeStream("c");
    while (!resumed) resumed = await chats.resumeStream("c");
    const reader = resumed.getReader();
    await reader.read();
    await reader.cancel();
    const kept = await chats.stopStream("c");
    await recorded;
    return kept;
  }

  test("a stopped stream keeps what it has written", async () => {
    const chats = newStore();
    const question = message("q", "Why?");
    await chats.append("c", [question]);
    const kept = await stopped(
      chats,
      { type: "start", messageId: "a", messageMetadata: { model: "x" } },
      { type: "text-start", id: "1" },
      { type: "text-delta", id: "1", delta: "Because " },
      { type: "text-delta", id: "1", delta: "of" },
    );
    const parts = [{ type: "text", text: "Because of", state: "done" }];
    const answer = { id: "a", role: "assistant", parts, metadata: { model: "x" } };
    assert.deepEqual(kept, answer);
    assert.deepEqual(await chats.load("c"), [question, answer]);
    // The application's own version of the answer replaces it.
    const saved = [question, message("a", "Because of", "assistant")];
    await chats.save("c", saved);
    assert.deepEqual(await chats.load("c"), saved);
  });

  test("a stopped stream adds nothing to an answer that is saved already", async () => {
    const chats = newStore();
    const saved = [message("q", "Why?"), message("a", "Because", "assistant")];
    await chats.save("c", saved);
    const text = [
      { type: "text-start", id: "1" },
      { type: "text-delta", id: "1", delta: "Because of" },
    ];
    for (const start of [{ type: "start", messageId: "a" }, { type: "start" }]) {
      assert.equal(await stopped(chats, start, ...text), undefined);
      assert.deepEqual(await chats.load("c"), saved);
    }
    assert.equal(await stopped(chats, { type: "start", messageId: "b" }), undefined);
    assert.deepEqual(await chats.load("c"), saved);
  });

  test("the beginning of an answer without an id is kept, too", async () => {
    const chats = newStore();
    await chats.append("c", [message("q", "Why?")]);
    const kept = await stopped(
      chats,
      { type: "text-start", id: "1" },
      { type: "text-delta", id: "1", delta: "Because" },
    );
    assert.ok(kept?.id);
    assert.deepEqual((await chats.load("c"))[1], kept);
  });
});

function events(chunks: object[]): string {
  return chunks.map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`).join("");
}

describe("writtenMessage", () => {
  test("keeps texts, reasoning, files, data, and calls that have a result", () => {
    const call = { toolCallId: "1", toolName: "look", input: { at: "it" } };
    const { parts } = writtenMessage(
      events([
        { type: "start" },
        { type: "start-step" },
        { type: "reasoning-start", id: "r" },
        { type: "reasoning-delta", id: "r", delta: "Hm." },
        { type: "reasoning-end", id: "r", providerMetadata: { p: { signature: "s" } } },
        { type: "tool-input-start", toolCallId: "1", toolName: "look" },
        { type: "tool-input-available", ...call },
        { type: "tool-output-available", toolCallId: "1", output: "early", preliminary: true },
        { type: "tool-output-available", toolCallId: "1", output: "seen" },
        { type: "tool-input-available", ...call, toolCallId: "2", dynamic: true },
        { type: "tool-output-error", toolCallId: "2", errorText: "no" },
        { type: "tool-input-available", ...call, toolCallId: "3" },
        { type: "data-weather", id: "w", data: 1 },
        { type: "data-weather", id: "w", data: 2 },
        { type: "data-notice", data: "gone", transient: true },
        { type: "file", url: "data:,x", mediaType: "text/plain" },
        { type: "source-url", sourceId: "s", url: "https://example.org" },
        { type: "finish-step" },
        { type: "start-step" },
        { type: "text-start", id: "t" },
        { type: "text-delta", id: "t", delta: "It is" },
      ]),
    );
    assert.deepEqual(parts, [
      { type: "step-start" },
      {
        type: "reasoning",
        text: "Hm.",
        state: "done",
        providerMetadata: { p: { signature: "s" } },
      },
      {
        type: "tool-look",
        toolCallId: "1",
        input: call.input,
        state: "output-available",
        output: "seen",
      },
      {
        type: "dynamic-tool",
        toolName: "look",
        toolCallId: "2",
        input: call.input,
        state: "output-error",
        errorText: "no",
      },
      { type: "data-weather", id: "w", data: 2 },
      { type: "file", url: "data:,x", mediaType: "text/plain" },
      { type: "source-url", sourceId: "s", url: "https://example.org" },
      { type: "step-start" },
      { type: "text", text: "It is", state: "done" },
    ]);
  });

  test("ends where the stream was cut off", () => {
    const whole = events([
      { type: "start", messageId: "a" },
      { type: "text-start", id: "1" },
      { type: "text-delta", id: "1", delta: "äx" },
    ]);
    for (let size = 0; size < whole.length - 2; size++) {
      assert.deepEqual(writtenMessage(whole.slice(0, size)).parts, []);
    }
    assert.equal(writtenMessage(`${whole}data: [DONE]\n\n`).parts[0]?.text, "äx");
    assert.deepEqual(writtenMessage("").parts, []);
  });
});
