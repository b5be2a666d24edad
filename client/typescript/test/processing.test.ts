import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidField, type Lease, LeaseLost, onWarning, QueueNotFound } from "../src/index.js";
import { startServer, useClient } from "./support/fixture.js";

let queues = 0;
const given = useClient();

/** Return the name of a new queue, and a session with a number of messages. */
async function newQueue(count: number) {
  queues += 1;
  const queue = `q${queues}-${process.pid}`;
  const session = await given.client.createSession();
  await session.storeMessages(
    Array.from({ length: count }, (_, i) => ({ role: "user", content: String(i + 1) })),
  );
  return { queue, session };
}

/** Lease messages until those of a session come. */
async function leaseOf(queue: string, sessionId: string, options: object = {}): Promise<Lease> {
  for (;;) {
    const leases = await given.client.processing.lease(queue, { maxSessions: 100, ...options });
    const found = leases.find((lease) => lease.sessionId === sessionId);
    for (const lease of leases)
      if (lease !== found) await given.client.processing.acknowledge(lease);
    if (found) return found;
    if (leases.length === 0) throw new Error("no such lease");
  }
}

describe("queues", () => {
  test("lease, extend, acknowledge, count and requeue", async () => {
    const { queue, session } = await newQueue(4);
    const { processing } = given.client;
    const { sessionId } = session;
    const lease = await leaseOf(queue, sessionId);
    assert.deepEqual([lease.ranges, lease.attempt], [[{ firstSeq: 1, lastSeq: 4 }], 1]);
    const longer = await processing.extend(lease, { leaseDurationMs: 600_000 });
    assert.ok(longer.expiresAt > lease.expiresAt);
    await processing.acknowledge(lease, {
      throughSeq: 3,
      failures: [{ seq: 2, error: "unreadable" }],
    });
    const counts = { pending: 1, running: 0, success: 2, failed: 1 };
    assert.deepEqual(await processing.counts(queue, { sessionId }), counts);
    const failed = await processing.failedMessages(queue, sessionId).toArray();
    assert.deepEqual(failed, [{ seq: 2, error: "unreadable" }]);
    assert.equal(await processing.requeue(queue, sessionId, { failed: true }), 1);
    assert.equal(await processing.requeue(queue, sessionId, { seqs: [1] }), 1);
    const again = await leaseOf(queue, sessionId);
    await processing.release(again);
    await assert.rejects(processing.acknowledge(again), LeaseLost);
    assert.ok((await processing.queues()).includes(queue));
    await processing.deleteQueue(queue);
    await assert.rejects(processing.deleteQueue(queue), QueueNotFound);
    await processing.deleteQueue(queue, { allowMissing: true });
    await assert.rejects(processing.counts(queue), QueueNotFound);
    await assert.rejects(processing.requeue(queue, sessionId, {}), InvalidField);
  });

  test("work processes all messages, and gives up on those that fail", async () => {
    const server = await startServer();
    const { Client } = await import("../src/index.js");
    await using client = new Client({ target: server.target });
    const good = await client.createSession();
    const bad = await client.createSession();
    for (const session of [good, bad]) {
      await session.storeMessages(["1", "2"].map((content) => ({ role: "user", content })));
    }
    onWarning(() => {});
    const seen: string[] = [];
    const processed = await client.processing.work(
      "index",
      (lease, messages) => {
        if (lease.sessionId === bad.sessionId) throw new Error(`no ${lease.attempt}`);
        seen.push(...messages.map(({ content }) => content));
      },
      { stopWhenEmpty: true, retryDelayMs: 0, maxAttempts: 2, maxMessages: 1 },
    );
    assert.deepEqual([processed, seen], [2, ["1", "2"]]);
    const failed = await client.processing.failedMessages("index", bad.sessionId).toArray();
    assert.deepEqual(failed, [
      { seq: 1, error: "Error: no 2" },
      { seq: 2, error: "Error: no 2" },
    ]);
    await client.processing.deleteQueue("index");
  });

  test("a worker that is stopped gives its lease back", async () => {
    const server = await startServer();
    const { Client } = await import("../src/index.js");
    await using client = new Client({ target: server.target });
    const session = await client.createSession();
    await session.storeMessage({ role: "user", content: "1" });
    const controller = new AbortController();
    const work = client.processing.work(
      "stopped",
      async () => {
        controller.abort(new Error("stop"));
      },
      { signal: controller.signal },
    );
    await assert.rejects(work, /^Error: stop$/);
    const [lease] = await client.processing.lease("stopped");
    assert.equal(lease?.sessionId, session.sessionId);
  });
});
