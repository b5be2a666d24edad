import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  ETagMismatch,
  InvalidField,
  MessageNotFound,
  RequestIdReused,
  SessionAlreadyExists,
  SessionDestroyed,
  SessionNotFound,
} from "../src/index.js";
import { uniqueId, useClient } from "./support/fixture.js";

const given = useClient();

describe("sessions", () => {
  test("settings come back, model options in their key order", async () => {
    const sessionId = uniqueId();
    const options = { z: 1, a: { y: [1.5, null], b: true } };
    const session = await given.client.createSession({
      sessionId,
      model: "echo",
      user: "ada",
      title: "A title",
      config: { temperature: 1, model_options: options },
      metadata: { label: "x", nested: { "a.b": [1, "é"] } },
      idleTtlMs: 90_500,
    });
    const info = await given.client.sessions.get(sessionId);
    assert.deepEqual(session.info, info);
    assert.equal(JSON.stringify(info.config.model_options), JSON.stringify(options));
    assert.deepEqual(
      [info.status, info.model, info.user, info.title, info.summary, info.lastSeq],
      ["active", "echo", "ada", "A title", "A title", 0],
    );
    assert.deepEqual(info.metadata, { label: "x", nested: { "a.b": [1, "é"] } });
    assert.deepEqual([info.idleTtlMs, info.neverExpires], [90_500, false]);
    assert.ok(info.expiresAt && info.expiresAt > info.createdAt);
  });

  test("an id that is taken is refused, unless getOrCreate is set", async () => {
    const sessionId = uniqueId();
    await given.client.createSession({ sessionId, user: "first" });
    await assert.rejects(given.client.createSession({ sessionId }), SessionAlreadyExists);
    const again = await given.client.createSession({
      sessionId,
      getOrCreate: true,
      user: "second",
    });
    assert.equal(again.info.user, "first");
  });

  test("getOrCreateSession resumes a destroyed session", async () => {
    const sessionId = uniqueId();
    const session = await given.client.getOrCreateSession(sessionId, { user: "ada" });
    assert.equal((await session.destroy()).status, "destroyed");
    await assert.rejects(session.storeMessage({ role: "user", content: "x" }), SessionDestroyed);
    const again = await given.client.getOrCreateSession(sessionId);
    assert.equal(again.info.status, "active");
    await again.storeMessage({ role: "user", content: "x" });
  });

  test("updates change what is given, and check the etag", async () => {
    const session = await given.client.createSession({ title: "old", metadata: { a: 1, b: 2 } });
    const { etag } = session.info;
    await session.update({ title: "", metadataPatch: { b: null, c: 3 }, etag });
    assert.equal(session.info.title, "");
    assert.deepEqual(session.info.metadata, { a: 1, c: 3 });
    await assert.rejects(session.update({ title: "late", etag }), ETagMismatch);
    await session.update({ neverExpires: true });
    assert.equal(session.info.neverExpires, true);
  });

  test("lists are fetched page by page, lazily", async () => {
    const user = uniqueId("user");
    for (let i = 0; i < 5; i++) await given.client.createSession({ user, metadata: { i } });
    const options = { user, order: "created_asc", pageSize: 2 } as const;
    const listed = await given.client.listSessions(options).toArray();
    assert.deepEqual(
      listed.map((info) => info.metadata.i),
      [0, 1, 2, 3, 4],
    );
    const first = await given.client.listSessions(options).page();
    assert.equal(first.items.length, 2);
    const second = await given.client.listSessions(options).page(first.nextPageToken);
    assert.deepEqual(
      second.items.map((info) => info.metadata.i),
      [2, 3],
    );
    const found = await given.client.listSessions({ user, metadataContains: { i: 3 } }).toArray();
    assert.equal(found.length, 1);
    const none = given.client.listSessions({ user, createdFrom: new Date(Date.now() + 60_000) });
    assert.deepEqual(await none.toArray(), []);
  });

  test("deleteMany needs a condition, counts, and deletes", async () => {
    const user = uniqueId("user");
    for (let i = 0; i < 3; i++) await given.client.createSession({ user });
    await assert.rejects(given.client.sessions.deleteMany({ user: "" }), InvalidField);
    await assert.rejects(given.client.sessions.deleteMany({}), InvalidField);
    assert.equal((await given.client.sessions.deleteMany({ user, dryRun: true })).sessionCount, 3);
    assert.equal((await given.client.sessions.deleteMany({ user })).sessionCount, 3);
    assert.deepEqual(await given.client.listSessions({ user }).toArray(), []);
  });

  test("deleting makes a session not found", async () => {
    const session = await given.client.createSession();
    await session.delete();
    await assert.rejects(session.refresh(), SessionNotFound);
    await assert.rejects(session.delete(), SessionNotFound);
    await session.delete({ allowMissing: true });
  });

  test("the same requestId creates one session; other content is refused", async () => {
    const requestId = uniqueId();
    const first = await given.client.createSession({ requestId });
    const second = await given.client.createSession({ requestId });
    assert.equal(second.sessionId, first.sessionId);
    await assert.rejects(given.client.createSession({ requestId, user: "x" }), RequestIdReused);
  });
});

describe("copies", () => {
  test("a copy begins as its source, and goes on by itself", async () => {
    const source = await given.client.createSession({ user: "ada", config: { a: 1 } });
    await source.storeMessages(["1", "2", "3"].map((content) => ({ role: "user", content })));
    const result = await given.client.sessions.copy(source.sessionId, { upToSeq: 2, title: "new" });
    assert.equal(result.oldSessionId, source.sessionId);
    assert.equal(result.newSessionId, result.session.sessionId);
    assert.deepEqual(result.session.origin, { sessionId: source.sessionId, seq: 2 });
    assert.deepEqual([result.session.user, result.session.title], ["ada", "new"]);
    const copy = await given.client.getSession(result.newSessionId);
    await copy.storeMessage({ role: "user", content: "other" });
    const contents = (await copy.getMessages().toArray()).map((message) => message.content);
    assert.deepEqual(contents, ["1", "2", "other"]);
    assert.equal((await source.refresh()).messageCount, 3);
    const copies = await source.copies().toArray();
    assert.deepEqual(
      copies.map(({ sessionId, seq }) => [sessionId, seq]),
      [[copy.sessionId, 2]],
    );
  });

  test("refusals are typed", async () => {
    const session = await given.client.createSession();
    const { sessionId } = session;
    const { copy } = {
      copy: (options: object) => given.client.sessions.copy(sessionId, options),
    };
    await assert.rejects(copy({ upToSeq: 1 }), MessageNotFound);
    await assert.rejects(copy({ newSessionId: sessionId }), SessionAlreadyExists);
    await assert.rejects(copy({ newSessionId: "" }), InvalidField);
    await assert.rejects(copy({ upToSeq: 0, upToBookmark: "x" }), InvalidField);
    await assert.rejects(given.client.sessions.copy("nowhere"), SessionNotFound);
  });

  test("token counts grow with the messages", async () => {
    const session = await given.client.createSession();
    await session.storeMessage({ role: "user", content: "several words of text" });
    const counts = await session.getTokenCounts();
    assert.ok(counts.totalTokens > 0);
    assert.deepEqual([counts.encoding, counts.messageCount], ["o200k_base", 1]);
  });
});

describe("values that cannot be sent", () => {
  const refused: [string, object, string][] = [
    ["a config with NaN", { config: { a: { b: Number.NaN } } }, "config.a.b"],
    ["an integer beyond 2^53", { metadata: { big: 2 ** 60 } }, "metadata.big"],
    ["a function", { metadata: { f: () => 1 } }, "metadata.f"],
    ["a map", { metadata: { m: new Map() } }, "metadata.m"],
    ["a lone surrogate in a label", { metadata: { s: "\ud800" } }, "metadata.s"],
    ["a lone surrogate in a title", { title: "\udc00" }, "session.title"],
    ["a number as a title", { title: 7 }, "title"],
    ["an empty id", { sessionId: "" }, "sessionId"],
    ["two expiries", { idleTtlMs: 5000, neverExpires: true }, "idleTtlMs"],
    ["an invalid duration", { idleTtlMs: Number.NaN }, "idleTtlMs"],
    ["an unknown option", { modle: "echo" }, "modle"],
    ["a key of prototypes", { metadata: JSON.parse('{"__proto__":1}') }, "metadata.__proto__"],
  ];
  for (const [name, options, field] of refused) {
    test(`${name} is refused with its path`, async () => {
      await assert.rejects(
        given.client.createSession(options),
        (error) =>
          error instanceof InvalidField &&
          error.fieldViolations[0]?.field === field &&
          error.message.startsWith("INVALID_FIELD: "),
      );
    });
  }

  test("deeply nested labels are refused with their path", async () => {
    let value: object = {};
    for (let i = 0; i < 40; i++) value = { x: value };
    await assert.rejects(given.client.createSession({ metadata: value }), /nested deeper than 30/);
  });
});
