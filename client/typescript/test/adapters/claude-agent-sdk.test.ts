import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ClaudeSessionStore } from "../../src/adapters/claude-agent-sdk.js";
import { uniqueId, useClient } from "../support/fixture.js";

const given = useClient();

function newStore(): ClaudeSessionStore {
  return new ClaudeSessionStore(given.client, { prefix: uniqueId("claude") });
}

const KEY = { projectKey: "-home-ada/pro ject", sessionId: "sess" };
const SUB = { ...KEY, subpath: "subagents/x" };

describe("ClaudeSessionStore", () => {
  test("loads what was appended, in order", async () => {
    const store = newStore();
    assert.equal(await store.load(KEY), null);
    await store.append(KEY, []);
    assert.equal(await store.load(KEY), null);
    const entries = [
      { type: "a", nested: { x: [1, null] } },
      { type: "b", text: "é 😀" },
      { type: "c" },
    ];
    await store.append(KEY, entries.slice(0, 2));
    await store.append(KEY, entries.slice(2));
    assert.deepEqual(await store.load(KEY), entries);
  });

  test("an entry is stored once by its uuid, also where batches overlap", async () => {
    const store = newStore();
    const [a, b, c] = ["1", "2", "3"].map((uuid) => ({ type: "user", uuid }));
    const title = { type: "title" };
    await store.append(KEY, [a, title, b] as never);
    await store.append(KEY, [b, title, c, c] as never);
    assert.deepEqual(await store.load(KEY), [a, title, b, title, c]);
  });

  test("subagents and projects have transcripts of their own", async () => {
    const store = newStore();
    const other = { projectKey: "other", sessionId: "sess" };
    await store.append(KEY, [{ type: "main" }]);
    await store.append(SUB, [{ type: "sub" }]);
    await store.append(other, [{ type: "other" }]);
    assert.deepEqual(await store.load(SUB), [{ type: "sub" }]);
    assert.deepEqual(await store.listSubkeys(KEY), ["subagents/x"]);
    assert.deepEqual(await store.listSubkeys(other), []);
    const [session, ...rest] = await store.listSessions(KEY.projectKey);
    assert.deepEqual([session?.sessionId, rest], ["sess", []]);
    assert.ok(Number.isInteger(session?.mtime) && (session?.mtime ?? 0) > 1e12);
    assert.deepEqual(await store.listSessions("unknown"), []);
  });

  test("deleting a session deletes its subagents, and no other", async () => {
    const store = newStore();
    const keys = [KEY, SUB, { ...KEY, sessionId: "sess2" }, { ...KEY, subpath: "subagents/y" }];
    for (const key of keys) await store.append(key, [{ type: "x" }]);
    await store.delete(SUB);
    assert.equal(await store.load(SUB), null);
    assert.deepEqual(await store.listSubkeys(KEY), ["subagents/y"]);
    await store.delete(KEY);
    await store.delete(KEY);
    assert.deepEqual(await store.listSubkeys(KEY), []);
    const left = await store.listSessions(KEY.projectKey);
    assert.deepEqual(
      left.map(({ sessionId }) => sessionId),
      ["sess2"],
    );
  });

  test("a long fork is appended at once", async () => {
    const store = newStore();
    const entries = Array.from({ length: 2_500 }, (_, i) => ({ type: "user", uuid: String(i) }));
    await store.append(KEY, entries);
    assert.equal((await store.load(KEY))?.length, 2_500);
  });
});
