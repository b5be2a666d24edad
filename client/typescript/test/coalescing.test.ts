// Concurrent appends share calls, against a fake server and a real one.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Status } from "../src/gen/google/rpc/status.js";
import {
  BatchStoreMessagesResponse,
  StoreMessagesResponse,
} from "../src/gen/sessiond/v1/session_service.js";
import {
  ClientClosed,
  DeadlineExceeded,
  InvalidField,
  SequenceConflict,
  SessionNotFound,
  Unavailable,
} from "../src/index.js";
import { type FakeServer, failure, fake, SILENCE } from "./support/fake-server.js";
import { sharedTarget, uniqueId, useClient } from "./support/fixture.js";

const HELLO = { role: "user", content: "hello" };
const STORED = StoreMessagesResponse.create({ firstSeq: 1, lastSeq: 1 });

interface Batch {
  requests: { sessionId: string; requestId: string }[];
}

function results(seqs: readonly (number | Status)[], first = 0): BatchStoreMessagesResponse {
  return BatchStoreMessagesResponse.create({
    results: seqs.map((seq, i) => ({
      index: first + i,
      outcome:
        typeof seq === "number"
          ? {
              $case: "response",
              value: StoreMessagesResponse.create({ firstSeq: seq, lastSeq: seq }),
            }
          : { $case: "error", value: seq },
    })),
  });
}

function answered({ requests }: Batch): BatchStoreMessagesResponse[] {
  return [results(requests.map((_, i) => i + 10))];
}

/** Wait until a server has received a number of calls of a method. */
async function asked(server: FakeServer, method: string, count: number): Promise<void> {
  while (server.of(method).length < count) await new Promise((resolve) => setImmediate(resolve));
}

function gate(): { promise: Promise<void>; open: () => void } {
  let open = () => {};
  const promise = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { promise, open };
}

describe("concurrent appends", () => {
  test("are sent together, each with its own request id and result", async () => {
    const { server, client } = await fake();
    server.on("BatchStoreMessages", answered);
    const ids = Array.from({ length: 10 }, (_, i) => `s${i}`);
    const stored = await Promise.all(ids.map((id) => client.sessions.storeMessage(id, HELLO)));
    assert.deepEqual(
      stored.map(({ lastSeq }) => lastSeq),
      ids.map((_, i) => i + 10),
    );
    const [batch, ...others] = server.of("BatchStoreMessages") as Batch[];
    assert.deepEqual(
      batch?.requests.map(({ sessionId }) => sessionId),
      ids,
    );
    assert.equal(new Set(batch?.requests.map(({ requestId }) => requestId)).size, 10);
    assert.equal(others.length + server.of("StoreMessages").length, 0);
  });

  test("a lone append is sent alone, at once", async () => {
    const { server, client } = await fake();
    server.on("StoreMessages", STORED);
    for (let i = 0; i < 3; i += 1) await client.sessions.storeMessage("s", HELLO);
    assert.equal(server.of("StoreMessages").length, 3);
    assert.equal(server.of("BatchStoreMessages").length, 0);
  });

  test("to a session wait for the one in flight, and keep their order", async () => {
    const { server, client } = await fake();
    const landing = gate();
    server.on("StoreMessages", async ({ sessionId }) => {
      if (sessionId === "hot") await landing.promise;
      return STORED;
    });
    server.on("BatchStoreMessages", answered);
    const first = client.sessions.storeMessage("hot", HELLO);
    await asked(server, "StoreMessages", 1);
    const later = ["a", "b", "c"].map((requestId) =>
      client.sessions.storeMessage("hot", HELLO, { requestId }),
    );
    await client.sessions.storeMessage("cold", HELLO);
    landing.open();
    await Promise.all([first, ...later]);
    const [batch] = server.of("BatchStoreMessages") as Batch[];
    assert.deepEqual(
      batch?.requests.map(({ sessionId, requestId }) => [sessionId, requestId]),
      [
        ["hot", "a"],
        ["hot", "b"],
        ["hot", "c"],
      ],
    );
  });

  test("do not wait for a distant server", async () => {
    const { server, client } = await fake();
    const landing = gate();
    server.on("StoreMessages", async () => {
      await landing.promise;
      return STORED;
    });
    const calls: Promise<unknown>[] = [];
    for (let i = 0; i < 6; i += 1) {
      calls.push(client.sessions.storeMessage(`s${i}`, HELLO));
      await asked(server, "StoreMessages", i + 1);
    }
    landing.open();
    await Promise.all(calls);
  });

  test("have their own errors, typed", async () => {
    const { server, client } = await fake();
    const missing = failure("NOT_FOUND", "there is no session", { reason: "SESSION_NOT_FOUND" });
    const [encoded] = missing.metadata.get("grpc-status-details-bin");
    const { details } = Status.decode(encoded as Buffer);
    const status = Status.create({ code: 5, message: "there is no session", details });
    server.on("BatchStoreMessages", () => [results([1, status, 3])]);
    const ends = await Promise.allSettled(
      ["a", "missing", "c"].map((id) => client.sessions.storeMessage(id, HELLO)),
    );
    assert.deepEqual(
      ends.map((end) => (end.status === "fulfilled" ? end.value.lastSeq : end.reason.constructor)),
      [1, SessionNotFound, 3],
    );
  });

  test("an error before the call concerns one append only", async () => {
    const { server, client } = await fake();
    server.on("BatchStoreMessages", answered);
    const [good, bad, other] = await Promise.allSettled(
      ["a", "\ud800", "c"].map((id) => client.sessions.storeMessage(id, HELLO)),
    );
    assert.deepEqual([good?.status, other?.status], ["fulfilled", "fulfilled"]);
    assert.ok(bad?.status === "rejected" && bad.reason instanceof InvalidField);
  });

  test("are repeated with the same request ids after a broken batch", async () => {
    const { server, client } = await fake();
    server.on("StoreMessages", STORED);
    server.on("BatchStoreMessages", [results([1]), failure("UNAVAILABLE", "away")], answered);
    await Promise.all(["a", "b", "c"].map((id) => client.sessions.storeMessage(id, HELLO)));
    const sent = [
      ...(server.of("BatchStoreMessages") as Batch[]).flatMap(({ requests }) => requests),
      ...server.of("StoreMessages"),
    ];
    const ids = (id: string) =>
      sent.filter(({ sessionId }) => sessionId === id).map(({ requestId }) => requestId);
    assert.deepEqual([ids("a").length, ids("b").length, ids("c").length], [1, 2, 2]);
    assert.equal(new Set(ids("b")).size, 1);
  });

  test("a stream that ends early is an outage", async () => {
    const { server, client } = await fake({ retries: 0 });
    server.on("BatchStoreMessages", [results([1])]);
    const [first, second] = await Promise.allSettled(
      ["a", "b"].map((id) => client.sessions.storeMessage(id, HELLO)),
    );
    assert.equal(first?.status, "fulfilled");
    assert.ok(second?.status === "rejected" && second.reason instanceof Unavailable);
  });

  test("are sent one by one to a server that does not know batches", async () => {
    const { server, client } = await fake();
    server.on("StoreMessages", STORED);
    const append = () =>
      Promise.all(["a", "b", "c"].map((id) => client.sessions.storeMessage(id, HELLO)));
    await append();
    await append();
    assert.equal(server.of("StoreMessages").length, 6);
    assert.equal(server.of("BatchStoreMessages").length, 1);
  });

  test("of many bytes are sent alone, and batches have limits", async () => {
    const { server, client } = await fake();
    server.on("StoreMessages", STORED);
    server.on("BatchStoreMessages", answered);
    const large = { role: "user", content: "x".repeat(65 * 1024) };
    const calls = Array.from({ length: 600 }, (_, i) =>
      client.sessions.storeMessage(`s${i}`, i === 3 ? large : HELLO),
    );
    await Promise.all(calls);
    assert.deepEqual(
      server.of("StoreMessages").map(({ sessionId }) => sessionId),
      ["s3"],
    );
    const sizes = (server.of("BatchStoreMessages") as Batch[]).map((one) => one.requests.length);
    assert.equal(
      sizes.reduce((sum, size) => sum + size, 0),
      599,
    );
    assert.ok(sizes.every((size) => size <= 256));
  });

  test("have their own timeouts and signals, which do not disturb the others", async () => {
    const { server, client } = await fake();
    const landing = gate();
    server.on("BatchStoreMessages", async (batch: Batch) => {
      await landing.promise;
      return answered(batch);
    });
    const controller = new AbortController();
    const calls = [
      client.sessions.storeMessage("a", HELLO),
      client.sessions.storeMessage("b", HELLO, { timeoutMs: 50 }),
      client.sessions.storeMessage("c", HELLO, { signal: controller.signal }),
    ];
    await asked(server, "BatchStoreMessages", 1);
    controller.abort(new Error("enough"));
    await assert.rejects(calls[2] ?? Promise.resolve(), /^Error: enough$/);
    await assert.rejects(calls[1] ?? Promise.resolve(), DeadlineExceeded);
    landing.open();
    assert.equal((await calls[0])?.lastSeq, 10);
  });

  test("end when the client is closed", async () => {
    const { server, client } = await fake();
    server.on("BatchStoreMessages", SILENCE);
    const calls = ["a", "b"].map((id) => client.sessions.storeMessage(id, HELLO));
    const ends = Promise.allSettled(calls);
    await asked(server, "BatchStoreMessages", 1);
    await client.close();
    for (const end of await ends) {
      assert.ok(end.status === "rejected" && end.reason instanceof ClientClosed);
    }
  });
});

describe("on a real server", () => {
  const given = useClient();

  test("400 concurrent appends to 20 sessions are stored once, in the order of their calls", async () => {
    await sharedTarget();
    const sessions = await Promise.all(
      Array.from({ length: 20 }, () => given.client.createSession({ sessionId: uniqueId() })),
    );
    const stored = await Promise.all(
      Array.from({ length: 400 }, (_, i) =>
        sessions[i % 20]?.storeMessage({ role: "user", content: String(i) }),
      ),
    );
    for (const [i, session] of sessions.entries()) {
      const texts = (await session.getMessages().toArray()).map(({ content }) => content);
      assert.deepEqual(
        texts,
        Array.from({ length: 20 }, (_, k) => String(i + 20 * k)),
      );
      assert.equal(stored[i + 380]?.lastSeq, 20);
    }
  });

  test("a conflict of one append leaves the others alone", async () => {
    const [one, two] = await Promise.all([
      given.client.createSession(),
      given.client.createSession(),
    ]);
    const [conflict, good] = await Promise.allSettled([
      one.storeMessage(HELLO, { expectedLastSeq: 7 }),
      two.storeMessage(HELLO, { expectedLastSeq: 0 }),
    ]);
    assert.ok(conflict.status === "rejected" && conflict.reason instanceof SequenceConflict);
    assert.equal(good.status, "fulfilled");
  });
});
