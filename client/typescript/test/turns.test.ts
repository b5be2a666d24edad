import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import {
  DeadlineExceeded,
  type Event,
  FormatUnreadable,
  InvalidField,
  ModelNotConfigured,
  type Session,
  SessionNotFound,
  type Turn,
  TurnAborted,
  TurnFailed,
  TurnNotFound,
} from "../src/index.js";
import { useClient } from "./support/fixture.js";
import { LONGER_TIMEOUTS_MS } from "./support/patience.js";

const given = useClient();

async function newSession(): Promise<Session> {
  return await given.client.createSession({ model: "echo" });
}

/** A prompt that the echo model takes minutes to answer. */
const SLOW = { options: { echo_delay_ms: 1000 } };
const LONG = Array.from({ length: 100 }, (_, i) => `word${i}`).join(" ");

describe("turns", () => {
  test("sendAndWait returns the answer", async () => {
    const session = await newSession();
    const answer = await session.sendAndWait("Hello there");
    assert.equal(answer.role, "assistant");
    assert.match(answer.content, /Hello there/);
    assert.equal(answer.seq, 2);
    const turn = await session.getTurn(answer.turn?.turnId ?? "");
    assert.deepEqual([turn.state, turn.lastSeq, turn.model], ["completed", 2, "echo"]);
    assert.ok(turn.endedAt && turn.startedAt);
  });

  test("stream yields the prompt, deltas and the answer, and can join again", async () => {
    const session = await newSession();
    const stream = session.stream("one two three");
    const types: string[] = [];
    let text = "";
    for await (const event of stream) {
      types.push(event.type);
      if (event.type === "assistant.message_delta") text += event.data.delta_content;
    }
    assert.equal(types[0], "user.message");
    assert.ok(types.includes("assistant.turn_end"));
    const answers = await session.getMessages({ roles: ["assistant"] }).toArray();
    assert.equal(answers.length, 1);
    assert.equal(text, answers[0]?.content);
    await stream.toArray();
    assert.equal((await session.refresh()).messageCount, 2);
  });

  test("send returns the ids, and waitForTurn the answer", async () => {
    const session = await newSession();
    const sent = await session.send("Hello");
    const answer = await session.waitForTurn(sent.turnId);
    assert.match(answer.content, /Hello/);
    const [prompt] = await session.getMessages().toArray();
    assert.equal(prompt?.id, sent.messageId);
    const turns = await session.turns().toArray();
    assert.deepEqual(
      turns.map(({ turnId }) => turnId),
      [sent.turnId],
    );
  });

  test("messages and an object as the prompt are sent", async () => {
    const session = await newSession();
    await session.sendAndWait({ messages: [{ role: "user", content: "as a message" }] });
    await session.sendAndWait({ prompt: "as an object", mode: "enqueue" });
    const users = await session.getMessages({ roles: ["user"] }).toArray();
    assert.deepEqual(
      users.map(({ content }) => content),
      ["as a message", "as an object"],
    );
  });

  test("the same requestId joins the turn", async () => {
    const session = await newSession();
    const first = await session.sendAndWait("once", { requestId: "r" });
    const second = await session.sendAndWait("once", { requestId: "r" });
    assert.equal(second.seq, first.seq);
    assert.equal((await session.refresh()).messageCount, 2);
  });

  test("a timeout names the turn, which goes on; abort ends it", async () => {
    const session = await newSession();
    const controller = new AbortController();
    const events: Event[] = [];
    const started = (async () => {
      for await (const event of session.events({ signal: controller.signal })) {
        events.push(event);
        if (event.type === "assistant.message_delta") return;
      }
    })();
    let turnId = "";
    for (const timeoutMs of LONGER_TIMEOUTS_MS) {
      const wait = session.sendAndWait(LONG, { ...SLOW, requestId: "r", timeoutMs });
      const caught = await wait.catch((error: unknown) => error);
      assert.ok(caught instanceof DeadlineExceeded);
      turnId = caught.metadata.turn_id ?? "";
      if (turnId) break;
    }
    assert.equal((await session.getTurn(turnId)).state, "running");
    const aborted = await session.abort();
    assert.deepEqual(
      aborted.map((turn) => turn.turnId),
      [turnId],
    );
    await assert.rejects(
      session.waitForTurn(turnId),
      (error) =>
        error instanceof TurnAborted && error instanceof TurnFailed && error.turnId === turnId,
    );
    controller.abort();
    await started.catch(() => {});
  });

  test("onTimeout abort ends the turn", async () => {
    const session = await newSession();
    let turn: Turn | undefined;
    for (const timeoutMs of LONGER_TIMEOUTS_MS) {
      const options = { ...SLOW, requestId: "r", timeoutMs, onTimeout: "abort" } as const;
      await assert.rejects(session.sendAndWait(LONG, options), DeadlineExceeded);
      [turn] = await session.turns().toArray();
      if (turn) break;
    }
    await assert.rejects(session.waitForTurn(turn?.turnId ?? ""), TurnAborted);
  });

  test("an aborted signal ends the wait with its reason", async () => {
    const session = await newSession();
    const signal = AbortSignal.timeout(300);
    await assert.rejects(
      session.sendAndWait(LONG, { ...SLOW, signal }),
      (error) => error === signal.reason,
    );
    await session.abort({ includeQueued: true });
  });

  test("break ends a stream, and the turn goes on; abortOnExit aborts it", async () => {
    const session = await newSession();
    for await (const event of session.stream(LONG, SLOW)) {
      if (event.type === "assistant.turn_start") break;
    }
    assert.equal((await session.turns({ state: "running" }).toArray()).length, 1);
    await session.abort();
    const options = { ...SLOW, abortOnExit: true };
    for await (const event of session.stream(LONG, options)) {
      if (event.type === "assistant.turn_start") break;
    }
    const [turn] = await session.turns().toArray();
    await assert.rejects(session.waitForTurn(turn?.turnId ?? ""), TurnAborted);
  });

  test("a history that the server cannot read fails the turn", async () => {
    const session = await newSession();
    await session.storeMessage({ say: "hi" }, { format: "other", formatName: "talk" });
    await assert.rejects(
      session.sendAndWait("x"),
      (error) =>
        error instanceof FormatUnreadable &&
        error instanceof TurnFailed &&
        error.metadata.format_name === "talk" &&
        typeof error.turnId === "string",
    );
  });

  test("refusals are typed", async () => {
    const session = await newSession();
    await assert.rejects(session.sendAndWait("x", { model: "no/model" }), ModelNotConfigured);
    await assert.rejects(session.getTurn(crypto.randomUUID()), TurnNotFound);
    await assert.rejects(given.client.sessions.send("nowhere", "x"), SessionNotFound);
  });

  const refused: [string, unknown, object, string][] = [
    ["an empty prompt", "", {}, "prompt"],
    ["a provider's message", { role: "user", content: "x" }, {}, "prompt"],
    ["a prompt and messages", "x", { messages: [] }, "messages"],
    ["no messages", undefined, { messages: [] }, "messages"],
    ["an option of the model", "x", { temperature: 1 }, "temperature"],
    ["an option twice", { prompt: "x", model: "a" }, { model: "b" }, "model"],
    ["an unknown mode", "x", { mode: "later" }, "mode"],
    ["an attachment without a source", "x", { attachments: [{ name: "x" }] }, "attachments[0]"],
    ["bad base64", "x", { attachments: [{ data: "!" }] }, "attachments[0].data"],
  ];
  for (const [name, prompt, options, field] of refused) {
    test(`${name} is refused before it is sent`, async () => {
      await assert.rejects(
        given.client.sessions.send("any", prompt as string, options),
        (error) => error instanceof InvalidField && error.fieldViolations[0]?.field === field,
      );
    });
  }
});

describe("attachments", () => {
  test("small files are inline, large ones become assets", async () => {
    const directory = mkdtempSync(join(tmpdir(), "sessiond-ts-"));
    const small = join(directory, "small.txt");
    const large = join(directory, "large.png");
    writeFileSync(small, "some text");
    writeFileSync(large, Buffer.alloc(300 * 1024, 7));
    const session = await newSession();
    await session.sendAndWait("Look", { attachments: [small, large, "https://example.com/x.jpg"] });
    const [message] = await session.getMessages().toArray();
    const [text, file, image, uri] = message?.parts ?? [];
    assert.deepEqual(text, { type: "text", text: "Look" });
    assert.ok(file?.type === "file" && file.name === "small.txt");
    assert.deepEqual(Buffer.from(file.data ?? []).toString(), "some text");
    assert.ok(image?.type === "image" && image.mediaType === "image/png" && image.assetId);
    assert.equal((await given.client.assets.get(image.assetId)).size, 300 * 1024);
    assert.deepEqual(uri, {
      type: "image",
      mediaType: "image/jpeg",
      uri: "https://example.com/x.jpg",
    });
  });

  test("a file that cannot be read is refused", async () => {
    const session = await newSession();
    await assert.rejects(
      session.send("x", { attachments: ["/nowhere/file.txt"] }),
      /INVALID_FIELD: attachments\[0\]\.path cannot be read/,
    );
  });
});

describe("previews", () => {
  test("show the request of a turn, and send nothing", async () => {
    const session = await newSession();
    await session.storeMessage({ role: "user", content: "a" });
    const preview = await session.previewTurn("b", { model: "echo-2" });
    const { messages } = JSON.parse(preview.requestJson) as { messages: { content: string }[] };
    assert.deepEqual(
      messages.map(({ content }) => content),
      ["a", "b"],
    );
    assert.deepEqual([preview.model, preview.seqs, preview.changes], ["echo-2", [1], []]);
    assert.equal((await session.refresh()).lastSeq, 1);
  });
});
