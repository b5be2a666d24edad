import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { AgentsSession, HistoryTransactionError } from "../../src/adapters/openai-agents.js";
import { uniqueId, useClient } from "../support/fixture.js";

const given = useClient();

const user = (content: string) => ({ role: "user", content });
const call = { type: "function_call", callId: "c", name: "f", arguments: '{ "a": 1 }' };

describe("AgentsSession", () => {
  test("returns items in order, the latest with a limit", async () => {
    const sessionId = uniqueId();
    const session = new AgentsSession(given.client, { sessionId, user: "ada" });
    assert.equal(await session.getSessionId(), sessionId);
    assert.deepEqual(await session.getItems(), []);
    const items = [
      user("1"),
      call,
      { type: "reasoning", rawContent: [], providerData: { x: null } },
    ];
    await session.addItems(items.slice(0, 1));
    await session.addItems(items.slice(1));
    await session.addItems([]);
    assert.deepEqual(await session.getItems(), items);
    assert.deepEqual(await session.getItems(2), items.slice(1));
    assert.deepEqual(await session.getItems(0), []);
    assert.deepEqual(await session.getItems(99), items);
    assert.equal((await given.client.sessions.get(sessionId)).user, "ada");
  });

  test("pops each item once, also at the same time", async () => {
    const session = new AgentsSession(given.client);
    assert.equal(await session.popItem(), undefined);
    await session.addItems(["1", "2", "3", "4", "5"].map(user));
    const popped = await Promise.all(Array.from({ length: 6 }, () => session.popItem()));
    const contents = popped.map((item) => item?.content);
    assert.deepEqual(contents.filter(Boolean).sort(), ["1", "2", "3", "4", "5"]);
    assert.deepEqual(await session.getItems(), []);
  });

  test("is cleared, and takes new items", async () => {
    const session = new AgentsSession(given.client);
    await session.clearSession();
    await session.addItems([user("1")]);
    await session.clearSession();
    assert.deepEqual(await session.getItems(), []);
    await session.addItems([user("2")]);
    assert.deepEqual(await session.getItems(), [user("2")]);
  });

  test("takes more items at once than one request may have", async () => {
    const session = new AgentsSession(given.client);
    await session.addItems(Array.from({ length: 1_500 }, (_, i) => user(String(i))));
    assert.equal((await session.getItems()).length, 1_500);
  });

  describe("transactions", () => {
    const append = { type: "append_items", items: [user("a")] } as const;

    test("append once", async () => {
      const session = new AgentsSession(given.client);
      await session.applyHistoryTransaction({ operationId: "op", transaction: append });
      await session.applyHistoryTransaction({ operationId: "op", transaction: append });
      const sessionId = await session.getSessionId();
      const retried = new AgentsSession(given.client, { sessionId });
      await retried.applyHistoryTransaction({ operationId: "op", transaction: append });
      assert.deepEqual(await session.getItems(), [user("a")]);
    });

    test("replace a suffix once, also when another process repeats it", async () => {
      const session = new AgentsSession(given.client);
      await session.addItems([user("1"), call, user("2")]);
      const transaction = {
        type: "replace_suffix",
        expectedSuffix: [call, user("2")],
        replacement: [user("x"), user("y")],
      } as const;
      await session.applyHistoryTransaction({ operationId: "op", transaction });
      const expected = [user("1"), user("x"), user("y")];
      assert.deepEqual(await session.getItems(), expected);
      const sessionId = await session.getSessionId();
      for (const again of [session, new AgentsSession(given.client, { sessionId })]) {
        await again.applyHistoryTransaction({ operationId: "op", transaction });
        assert.deepEqual(await session.getItems(), expected);
      }
    });

    test("refuse an operationId of another transaction, and another suffix", async () => {
      const session = new AgentsSession(given.client);
      await session.addItems([user("1")]);
      const replace = (expected: string, replacement: object[]) =>
        ({ type: "replace_suffix", expectedSuffix: [user(expected)], replacement }) as const;
      await session.applyHistoryTransaction({
        operationId: "op",
        transaction: replace("1", [user("2")]),
      });
      const sessionId = await session.getSessionId();
      const other = new AgentsSession(given.client, { sessionId });
      for (const transaction of [append, replace("2", [user("3")])]) {
        for (const target of [session, other]) {
          await assert.rejects(
            target.applyHistoryTransaction({ operationId: "op", transaction }),
            HistoryTransactionError,
          );
        }
      }
      await assert.rejects(
        session.applyHistoryTransaction({ operationId: "new", transaction: replace("9", []) }),
        HistoryTransactionError,
      );
      assert.deepEqual(await session.getItems(), [user("2")]);
      await session.applyHistoryTransaction({ operationId: "end", transaction: replace("2", []) });
      await session.applyHistoryTransaction({ operationId: "end", transaction: replace("2", []) });
      assert.deepEqual(await session.getItems(), []);
    });
  });
});
