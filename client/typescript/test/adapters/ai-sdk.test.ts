import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ChatStore } from "../../src/adapters/ai-sdk.js";
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
});
