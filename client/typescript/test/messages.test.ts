import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  InvalidField,
  InvalidJson,
  MessageNotFound,
  NewMessage,
  SequenceConflict,
  SessionNotFound,
  UnknownRole,
} from "../src/index.js";
import { uniqueId, useClient } from "./support/fixture.js";

const given = useClient();

async function newSession() {
  return await given.client.createSession({ sessionId: uniqueId() });
}

describe("storing", () => {
  const texts = {
    spacing: '{ "role" : "user",\n\t"content" : "spaced" }',
    "key order": '{"content":"b","role":"user","a":1}',
    numbers: '{"role":"user","content":"n","x":1.0,"big":12345678901234567890,"e":1e2}',
    escapes: '{"role":"user","content":"\\u00e9\\/ \\ud83d\\ude00"}',
    "a lone surrogate as an escape": '{"role":"user","content":"\\ud800"}',
    unicode: '{"role":"user","content":"é 😀 \u2028 \ufeff"}',
  };
  for (const [name, text] of Object.entries(texts)) {
    test(`JSON text comes back byte for byte: ${name}`, async () => {
      const session = await newSession();
      const { lastSeq } = await session.storeMessage(text);
      assert.equal((await session.getMessage(lastSeq)).json, text);
      const bytes = new TextEncoder().encode(text);
      await session.storeMessage(bytes);
      const [, again] = await session.getMessages().toArray();
      assert.deepEqual(new TextEncoder().encode(again?.json), bytes);
      assert.equal(again?.contentBytes, bytes.length);
    });
  }

  test("an object is stored as compact JSON, in its key order", async () => {
    const session = await newSession();
    await session.storeMessage({ role: "user", content: "hi", name: undefined });
    const [message] = await session.getMessages().toArray();
    assert.equal(message?.json, '{"role":"user","content":"hi"}');
    assert.deepEqual(message?.blob, { role: "user", content: "hi" });
    assert.deepEqual(
      [message?.role, message?.content, message?.format, message?.seq, message?.type],
      ["user", "hi", "openai", 1, "user.message"],
    );
    assert.equal(message?.id, `${session.sessionId}/1`);
  });

  test("the format is determined by the shape", async () => {
    const session = await newSession();
    await session.storeMessages([
      { role: "assistant", content: [{ type: "tool_use", id: "1", name: "f", input: {} }] },
      { role: "model", parts: [{ text: "hello" }] },
      { role: "tool", tool_call_id: "1", content: "done" },
    ]);
    const formats = (await session.getMessages().toArray()).map((message) => message.format);
    assert.deepEqual(formats, ["anthropic", "gemini", "openai"]);
  });

  test("typed parts, labels and parents come back", async () => {
    const session = await newSession();
    const parts = [
      { type: "text", text: "look" },
      { type: "image", mediaType: "image/png", data: Uint8Array.of(1, 2) },
      { type: "tool_call", callId: "c", name: "f", argumentsJson: '{"a": 1}' },
      { type: "tool_result", callId: "c", parts: [{ type: "text", text: "r" }], isError: true },
      { type: "reasoning", text: "hm", signature: Uint8Array.of(3), format: "anthropic" },
      { type: "data", data: '{ "x":1 }' },
    ] as const;
    await session.storeMessage({ role: "user", content: "first" });
    await session.storeMessages([
      new NewMessage({ role: "assistant", parts: [...parts], metadata: { a: [1, null] } }),
    ]);
    await session.storeMessage({ role: "user", content: "third" }, { parentSeq: 1 });
    const [, second, third] = await session.getMessages().toArray();
    assert.deepEqual(second?.parts, parts);
    assert.deepEqual(second?.metadata, { a: [1, null] });
    assert.equal(second?.content, "look");
    assert.equal(third?.parentSeq, 1);
  });

  test("a message can begin a branch of its own", async () => {
    const session = await newSession();
    await session.storeMessage({ role: "user", content: "first" });
    const edited = { role: "user", content: "edited" };
    await session.storeMessages([new NewMessage({ blob: edited, isRoot: true })]);
    const branch = await session.getMessages({ branchOf: 2 }).toArray();
    assert.deepEqual(
      branch.map(({ seq, isRoot }) => [seq, isRoot]),
      [[2, true]],
    );
    assert.equal(branch[0]?.toJSON().isRoot, true);
    await assert.rejects(
      session.storeMessages([new NewMessage({ blob: edited, isRoot: true, parentSeq: 1 })]),
      InvalidField,
    );
  });

  test("a message that was read is stored again with its exact content", async () => {
    const session = await newSession();
    await session.storeMessage('{"role":"user",  "content":"x"}', { metadata: { label: "y" } });
    const [message] = await session.getMessages().toArray();
    const other = await newSession();
    assert.ok(message);
    await other.storeMessage(message);
    const [copy] = await other.getMessages().toArray();
    assert.equal(copy?.json, message.json);
    assert.deepEqual(copy?.metadata, { label: "y" });
  });

  test("expectedLastSeq is checked", async () => {
    const session = await newSession();
    await session.storeMessage({ role: "user", content: "1" }, { expectedLastSeq: 0 });
    await assert.rejects(
      session.storeMessage({ role: "user", content: "2" }, { expectedLastSeq: 0 }),
      (error) => error instanceof SequenceConflict && error.metadata.last_seq === "1",
    );
  });

  test("the same requestId stores once", async () => {
    const session = await newSession();
    const message = { role: "user", content: "once" };
    const first = await session.storeMessage(message, { requestId: "r" });
    const second = await session.storeMessage(message, { requestId: "r" });
    assert.deepEqual(second, first);
    assert.equal((await session.refresh()).messageCount, 1);
  });

  test("the server's refusals are typed", async () => {
    const session = await newSession();
    await assert.rejects(session.storeMessage("[]"), InvalidJson);
    await assert.rejects(session.storeMessage({ role: "nobody", content: "" }), UnknownRole);
    await assert.rejects(
      given.client.sessions.storeMessage("no such session", { role: "user", content: "" }),
      (error) =>
        error instanceof SessionNotFound &&
        error.message.startsWith("SESSION_NOT_FOUND: ") &&
        error.code === "NOT_FOUND" &&
        error.metadata.session_id === "no such session" &&
        error.callId !== "",
    );
  });

  const refused: [string, unknown, string][] = [
    ["a lone surrogate", '{"role":"user","content":"\ud800"}', "messages[0].json"],
    ["bytes that are not UTF-8", Uint8Array.of(0xff), "messages[0].json"],
    ["NaN", { role: "user", content: [{ x: Number.NaN }] }, "messages[0].content[0].x"],
    ["a BigInt", { role: "user", content: 1n }, "messages[0].content"],
    ["bytes in an object", { role: "user", content: Uint8Array.of(1) }, "messages[0].content"],
    ["a number", 7, "messages[0]"],
    ["marks of two formats", { role: "model", parts: [], tool_calls: [] }, "format"],
  ];
  for (const [name, message, field] of refused) {
    test(`${name} is refused before it is sent`, async () => {
      await assert.rejects(
        given.client.sessions.storeMessage("any", message as object),
        (error) => error instanceof InvalidField && error.fieldViolations[0]?.field === field,
      );
    });
  }

  test("a single message in place of a list is refused", async () => {
    for (const value of ["{}", { role: "user", content: "x" }, Uint8Array.of(1)]) {
      await assert.rejects(
        given.client.sessions.storeMessages("any", value as never),
        /INVALID_FIELD: messages must be a list/,
      );
    }
  });

  test("an unknown option is refused", async () => {
    const options = { fromat: "openai" } as object;
    await assert.rejects(
      given.client.sessions.storeMessage("any", {}, options),
      /INVALID_FIELD: fromat is not an option of storeMessage/,
    );
  });
});

describe("importing", () => {
  test("any number of messages, from an async generator", async () => {
    const session = await newSession();
    async function* messages() {
      for (let i = 1; i <= 5_000; i++) yield { role: "user", content: `${i} ${"x".repeat(200)}` };
    }
    const { firstSeq, lastSeq } = await session.importMessages(messages());
    assert.deepEqual([firstSeq, lastSeq], [1, 5_000]);
    const last = await session.getMessages({ order: "desc", limit: 1 }).first();
    assert.ok(last?.content.startsWith("5000 "));
  });

  test("an error of the generator is thrown, and nothing is stored", async () => {
    const session = await newSession();
    async function* messages() {
      for (let i = 0; i < 3_000; i++) yield { role: "user", content: "x".repeat(500) };
      throw new RangeError("out of messages");
    }
    await assert.rejects(session.importMessages(messages()), RangeError);
    assert.equal((await session.refresh()).messageCount, 0);
  });

  test("a refused import says why", async () => {
    await assert.rejects(
      given.client.sessions.importMessages("no such session", [{ role: "user", content: "" }]),
      SessionNotFound,
    );
    const session = await newSession();
    await assert.rejects(session.importMessages([]), InvalidField);
  });
});

describe("reading", () => {
  test("ranges, order, roles and views", async () => {
    const session = await newSession();
    await session.storeMessages(
      Array.from({ length: 10 }, (_, i) => ({
        role: i % 2 ? "assistant" : "user",
        content: String(i + 1),
      })),
    );
    const contents = async (options: object) =>
      (await session.getMessages(options).toArray()).map((message) => message.content).join();
    assert.equal(await contents({ afterSeq: 7 }), "8,9,10");
    assert.equal(await contents({ afterSeq: 2, throughSeq: 4 }), "3,4");
    assert.equal(await contents({ order: "desc", limit: 2 }), "10,9");
    assert.equal(await contents({ roles: ["assistant"], limit: 2 }), "2,4");
    const [typed] = await session.getMessages({ view: "parts" }).toArray();
    assert.equal(typed?.parts[0]?.type, "text");
    const [basic] = await session.getMessages({ view: "basic" }).toArray();
    assert.deepEqual([basic?.json, basic?.content, basic?.contentBytes], ["", "", 29]);
  });

  test("is lazy, and can be repeated", async () => {
    const lazy = given.client.sessions.getMessages("no such session");
    await assert.rejects(lazy.toArray(), SessionNotFound);
    await assert.rejects(lazy.first(), SessionNotFound);
  });

  test("break ends the iteration", async () => {
    const session = await newSession();
    await session.importMessages(
      Array.from({ length: 3_000 }, (_, i) => ({ role: "user", content: String(i) })),
    );
    const seen: number[] = [];
    for await (const message of session.getMessages()) {
      seen.push(message.seq);
      if (seen.length === 3) break;
    }
    assert.deepEqual(seen, [1, 2, 3]);
  });

  test("batches arrive as lists", async () => {
    const session = await newSession();
    await session.importMessages(
      Array.from({ length: 3_000 }, () => ({ role: "user", content: "x" })),
    );
    let count = 0;
    let batches = 0;
    for await (const batch of session.getMessages().batches()) {
      count += batch.length;
      batches += 1;
    }
    assert.equal(count, 3_000);
    assert.ok(batches > 1);
  });

  test("an aborted signal ends a read with its reason", async () => {
    const session = await newSession();
    await session.storeMessage({ role: "user", content: "x" });
    const controller = new AbortController();
    controller.abort(new Error("enough"));
    await assert.rejects(session.getMessages({ signal: controller.signal }).toArray(), /enough/);
    await assert.rejects(session.getMessage(1, { signal: controller.signal }), /enough/);
  });

  test("a missing message is a typed error", async () => {
    const session = await newSession();
    await assert.rejects(session.getMessage(1), MessageNotFound);
  });

  test("times have microseconds as text", async () => {
    const session = await newSession();
    const stored = await session.storeMessage({ role: "user", content: "x" });
    const message = await session.getMessage(1);
    assert.match(message.createdAtText, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    assert.equal(message.createdAtText, stored.createTimeText);
    assert.equal(message.createdAt.getTime(), Math.floor(Date.parse(message.createdAtText)));
  });
});
