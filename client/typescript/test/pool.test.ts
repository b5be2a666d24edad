import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  InvalidField,
  onWarning,
  PoolClosed,
  PoolTimeout,
  SessionNotFound,
  SessionPool,
} from "../src/index.js";
import { uniqueId, useClient } from "./support/fixture.js";

const given = useClient();

function prefixed(sessionIdPrefix: string) {
  return given.client.listSessions({ sessionIdPrefix }).toArray();
}

describe("a pool", () => {
  test("lends copies of its template, and deletes them", async () => {
    const prefix = uniqueId("pool-");
    const pool = new SessionPool(given.client, {
      size: 2,
      model: "echo",
      messages: [{ role: "system", content: "Be brief." }],
      sessionIdPrefix: prefix,
    });
    await pool.initialize();
    const answer = await pool.run(async (session) => {
      assert.deepEqual([pool.leased, pool.available], [1, 1]);
      assert.equal(session.info.messageCount, 1);
      return await session.sendAndWait("Hello");
    });
    assert.match(answer.content, /Hello/);
    assert.equal(pool.leased, 0);
    assert.equal((await prefixed(prefix)).length, 1); // the template
    await pool.close();
    assert.deepEqual(await prefixed(prefix), []);
    await assert.rejects(pool.acquire(), PoolClosed);
  });

  test("serves waiting callers in order, and within their timeout", async () => {
    await using pool = new SessionPool(given.client, { size: 1 });
    const first = await pool.acquire();
    await assert.rejects(pool.acquire({ timeoutMs: 10 }), PoolTimeout);
    const order: number[] = [];
    const waiting = [1, 2].map(async (number) => {
      const session = await pool.acquire();
      order.push(number);
      await pool.release(session);
    });
    await pool.release(first);
    await Promise.all(waiting);
    assert.deepEqual(order, [1, 2]);
    await assert.rejects(pool.release(first), InvalidField);
  });

  test("takes a session back after leaseTimeoutMs", async () => {
    const warned = new Promise<string>((resolve) => onWarning(resolve));
    await using pool = new SessionPool(given.client, { size: 1, leaseTimeoutMs: 50 });
    const session = await pool.acquire();
    // The timer of a lease does not keep the process alive; the test does.
    const alive = setInterval(() => {}, 1000);
    assert.match(await warned, /was taken back/);
    clearInterval(alive);
    await assert.rejects(session.refresh(), SessionNotFound);
    assert.equal(pool.available, 1);
  });

  test("keeps returned sessions where asked to, and leaves a given template alone", async () => {
    const template = await given.client.createSession({ title: "template" });
    const pool = new SessionPool(given.client, { template, keep: true });
    const session = await pool.acquire();
    assert.equal(session.info.title, "template");
    await pool.release(session);
    await pool.close();
    const info = await session.refresh();
    assert.deepEqual([info.status, info.neverExpires], ["destroyed", true]);
    await template.refresh();
  });

  test("closing ends waits and takes sessions back", async () => {
    const pool = new SessionPool(given.client, { size: 1 });
    const session = await pool.acquire();
    const wait = pool.acquire();
    await Promise.all([assert.rejects(wait, PoolClosed), pool.close()]);
    await assert.rejects(session.refresh(), SessionNotFound);
    await pool.release(session);
  });

  test("refuses options that are out of range", () => {
    for (const options of [
      { size: 0 },
      { leaseTimeoutMs: 0 },
      { template: "x", messages: [] },
      { messages: "x" },
    ]) {
      assert.throws(() => new SessionPool(given.client, options as never), InvalidField);
    }
  });
});
