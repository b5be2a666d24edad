import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Event, InvalidField, onWarning, SessionNotFound } from "../src/index.js";
import { uniqueId, useClient } from "./support/fixture.js";

const given = useClient();

async function newSession() {
  return await given.client.createSession({ model: "echo" });
}

describe("events", () => {
  test("replay stored messages, then follow live, each once and in order", async () => {
    const session = await newSession();
    await session.storeMessages(["1", "2"].map((content) => ({ role: "user", content })));
    const seen: string[] = [];
    for await (const event of session.events({ afterSeq: 1 })) {
      seen.push(event.data.content);
      assert.equal(event.type, "user.message");
      assert.equal(event.message?.seq, event.seq);
      if (event.seq === 4) break;
      await session.storeMessage({ role: "user", content: String((event.seq ?? 0) + 1) });
    }
    assert.deepEqual(seen, ["2", "3", "4"]);
  });

  test("return() ends an iteration that waits", async () => {
    const session = await newSession();
    const iterator = session.events()[Symbol.asyncIterator]();
    const next = iterator.next();
    await iterator.return?.();
    assert.deepEqual(await next, { done: true, value: undefined });
  });

  test("an aborted signal ends the iteration with its reason", async () => {
    const session = await newSession();
    const controller = new AbortController();
    const events = session.events({ signal: controller.signal }).toArray();
    controller.abort(new Error("enough"));
    await assert.rejects(events, /^Error: enough$/);
  });

  test("types are filtered", async () => {
    const session = await newSession();
    const events = session.events({ afterSeq: 0, types: ["assistant.message"] });
    const iterator = events[Symbol.asyncIterator]();
    const next = iterator.next();
    await session.sendAndWait("Hello");
    assert.equal((await next).value?.type, "assistant.message");
    await iterator.return?.();
  });

  test("deleting the session ends the iteration after its event", async () => {
    const session = await newSession();
    await session.storeMessage({ role: "user", content: "x" });
    const types: string[] = [];
    await assert.rejects(async () => {
      for await (const event of session.events({ afterSeq: 0 })) {
        types.push(event.type);
        if (event.seq === 1) await session.delete();
      }
    }, SessionNotFound);
    assert.deepEqual(types, ["user.message", "session.deleted"]);
  });

  test("followRecreated goes on with the next session of the id, and says so", async () => {
    const sessionId = uniqueId();
    const session = await given.client.createSession({ sessionId });
    await session.storeMessage({ role: "user", content: "old" });
    const seen: string[] = [];
    for await (const event of session.events({ afterSeq: 0, followRecreated: true })) {
      seen.push(event.message?.content ?? event.type);
      if (event.seq === 1 && seen.length === 1) await session.delete();
      if (event.type === "session.deleted") {
        const next = await given.client.createSession({ sessionId });
        await next.storeMessage({ role: "user", content: "new" });
      }
      if (seen.at(-1) === "new") break;
    }
    assert.deepEqual(seen, ["old", "session.deleted", "session.recreated", "new"]);
  });

  test("afterEpoch alone is refused", () => {
    const session = given.client.sessions;
    assert.throws(() => session.events("s", { afterEpoch: 1 }), InvalidField);
  });

  test("the project's lifecycle can be followed", async () => {
    const iterator = given.client.events()[Symbol.asyncIterator]();
    const sessionId = uniqueId();
    let event = iterator.next();
    // The watch may not be open yet, so sessions are created until the client sees one.
    let isOpen = false;
    const opened = (async () => {
      while ((await event).value?.type !== "session.created") event = iterator.next();
      isOpen = true;
    })();
    while (!isOpen) await given.client.createSession();
    await opened;
    await given.client.createSession({ sessionId });
    let found = (await event).value;
    while (found?.sessionId !== sessionId) found = (await iterator.next()).value;
    assert.equal(found.type, "session.created");
    await iterator.return?.();
  });
});

describe("handlers", () => {
  test("get all events of a send before sendAndWait resolves", async () => {
    const session = await newSession();
    const types: string[] = [];
    const contents: string[] = [];
    session.on((event) => types.push(event.type));
    const remove = session.on("assistant.message", (event) => contents.push(event.data.content));
    const answer = await session.sendAndWait("Hello");
    assert.deepEqual(contents, [answer.content]);
    assert.equal(types[0], "user.message");
    assert.ok(types.includes("assistant.message_delta"));
    remove();
    await session.sendAndWait("Again");
    assert.equal(contents.length, 1);
  });

  test("that throw are reported, and the others are still called", async () => {
    const session = await newSession();
    const warnings: [string, unknown][] = [];
    onWarning((text, error) => warnings.push([text, error]));
    const error = new Error("a handler's own");
    session.on("user.message", () => {
      throw error;
    });
    session.on("user.message", async () => {
      await Promise.reject(error);
    });
    const seen: Event[] = [];
    session.on("user.message", (event) => seen.push(event));
    await session.sendAndWait("Hello");
    assert.equal(seen.length, 1);
    assert.deepEqual(
      warnings.map(([, cause]) => cause),
      [error, error],
    );
  });

  test("may send themselves, without waiting for themselves", async () => {
    const session = await newSession();
    const answers: string[] = [];
    const done = new Promise<void>((resolve) => {
      session.on("user.message", async (event) => {
        if (event.data.content !== "first") return;
        answers.push((await session.sendAndWait("second")).content);
        resolve();
      });
    });
    await session.sendAndWait("first");
    await done;
    assert.equal(answers.length, 1);
  });

  test("are no longer called once the session is gone", async () => {
    const session = await newSession();
    const gone = new Promise<void>((resolve) => session.on("session.deleted", () => resolve()));
    await session.sendAndWait("Hello");
    await session.delete();
    await gone;
  });
});
