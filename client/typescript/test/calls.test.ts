// Retries, request ids, deadlines and errors of single calls, with failures of a fake server.

import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { describe, test } from "node:test";
import { Session } from "../src/gen/sessiond/v1/session.js";
import {
  DeleteSessionsResponse,
  StoreMessagesResponse,
} from "../src/gen/sessiond/v1/session_service.js";
import {
  ClientClosed,
  DatabaseUnavailable,
  DeadlineExceeded,
  HistoryRewound,
  InternalError,
  NotFound,
  Overloaded,
  ResourceExhausted,
  ServerUnavailable,
  SessiondError,
  Unimplemented,
} from "../src/index.js";
import { failure, fake, SILENCE } from "./support/fake-server.js";

const SESSION = Session.create({ sessionId: "s" });
const UNAVAILABLE = failure("UNAVAILABLE", "away");

describe("a call", () => {
  test("sends the API key", async () => {
    const { server, client } = await fake({ apiKey: " sk-sessiond-x " });
    server.on("GetSession", SESSION);
    await client.sessions.get("s");
    assert.deepEqual(server.received[0]?.metadata.get("authorization"), ["Bearer sk-sessiond-x"]);
  });

  test("has the client's deadline, or its own, or none", async () => {
    const { server, client } = await fake({ timeoutMs: 7_000 });
    server.on("GetSession", SESSION);
    await client.sessions.get("s");
    await client.sessions.get("s", { timeoutMs: 3_000 });
    await client.sessions.get("s", { timeoutMs: Number.POSITIVE_INFINITY });
    const [first = 0, second = 0, third = 0] = server.received.map((call) => call.remainingMs);
    assert.ok(first > 3_000 && first <= 7_000 && second <= 3_000 && third > 1e9);
  });

  test("is repeated with the same request id while the server is unavailable", async () => {
    const { server, client } = await fake();
    server.on("CreateSession", UNAVAILABLE, UNAVAILABLE, SESSION);
    await client.createSession();
    await client.createSession();
    const [one, two, three, other] = server.of("CreateSession").map(({ requestId }) => requestId);
    assert.ok(one && one === two && two === three && other && other !== one);
  });

  test("that changes something carries a request id", async () => {
    const { server, client } = await fake();
    server.on("StoreMessages", StoreMessagesResponse.create({ firstSeq: 1, lastSeq: 1 }));
    for (const method of ["UpdateSession", "ResumeSession", "DestroySession"]) {
      server.on(method, SESSION);
    }
    server.on("DeleteSession", {});
    server.on("DeleteSessions", DeleteSessionsResponse.create());
    await client.sessions.storeMessage("s", { role: "user", content: "x" });
    await client.sessions.update("s", { title: "t" });
    await client.sessions.resume("s");
    await client.sessions.destroy("s");
    await client.sessions.delete("s");
    await client.sessions.deleteMany({ user: "u" });
    assert.equal(server.received.length, 6);
    for (const { request, method } of server.received) assert.ok(request.requestId, method);
  });

  test("gives up after the client's retries", async () => {
    const { server, client } = await fake({ retries: 2 });
    server.on("GetSession", UNAVAILABLE);
    await assert.rejects(client.sessions.get("s"), ServerUnavailable);
    assert.equal(server.received.length, 3);
  });

  test("is repeated as long as its timeout lasts", async () => {
    const { server, client } = await fake();
    const draining = failure("UNAVAILABLE", "x", { reason: "SERVER_DRAINING", retryAfterMs: 1 });
    const cancelled = failure("CANCELLED", "CANCELLED");
    // Six failures. If five retries were the limit, the call would fail.
    const failures = [draining, cancelled, draining, cancelled, draining, cancelled];
    server.on("GetSession", ...failures, SESSION);
    await client.sessions.get("s", { timeoutMs: 60_000 });
    assert.equal(server.received.length, 7);
  });

  test("is not repeated beyond its deadline", async () => {
    const { server, client } = await fake({ timeoutMs: 2_000 });
    const busy = { reason: "OVERLOADED", retryAfterMs: 900_000 };
    server.on("GetSession", failure("RESOURCE_EXHAUSTED", "busy", busy));
    await assert.rejects(client.sessions.get("s"), Overloaded);
    assert.equal(server.received.length, 1);
  });

  test("is repeated on overload only where the server says when", async () => {
    const { server, client } = await fake();
    const error = (retryAfterMs?: number) =>
      failure("RESOURCE_EXHAUSTED", "busy", {
        reason: "OVERLOADED",
        ...(retryAfterMs && { retryAfterMs }),
      });
    server.on("GetSession", error(1), SESSION);
    await client.sessions.get("s");
    server.on("GetSession", error());
    await assert.rejects(client.sessions.get("s"), Overloaded);
    server.on("GetSession", failure("RESOURCE_EXHAUSTED", "Received message larger than max"));
    await assert.rejects(client.sessions.get("s"), ResourceExhausted);
    assert.equal(server.received.length, 4);
  });

  test("of which a repetition would be another change is not repeated", async () => {
    const { server, client } = await fake();
    for (const method of ["CreateProject", "CreateApiKey", "LeaseMessages"]) {
      server.on(method, UNAVAILABLE);
    }
    await assert.rejects(client.admin.createProject("p"), ServerUnavailable);
    await assert.rejects(client.admin.createApiKey("p"), ServerUnavailable);
    await assert.rejects(client.processing.lease("q"), ServerUnavailable);
    assert.equal(server.received.length, 3);
  });

  test("without an answer ends at its deadline", async () => {
    const { server, client } = await fake({ timeoutMs: 100 });
    server.on("GetSession", SILENCE);
    await assert.rejects(client.sessions.get("s"), DeadlineExceeded);
  });

  test("ends when its signal is aborted, and is not repeated", async () => {
    const { server, client } = await fake();
    server.on("GetSession", SILENCE);
    const controller = new AbortController();
    const call = client.sessions.get("s", { signal: controller.signal });
    setTimeout(() => controller.abort(new Error("enough")), 20);
    await assert.rejects(call, /^Error: enough$/);
    assert.ok(server.received.length <= 1);
  });

  test("leaves no listener on its signal, which many calls may share", async () => {
    const { server, client } = await fake();
    server.on("GetSession", SESSION);
    const warnings: Error[] = [];
    const listener = (warning: Error) => warnings.push(warning);
    process.on("warning", listener);
    const { signal } = new AbortController();
    await Promise.all(Array.from({ length: 30 }, () => client.sessions.get("s", { signal })));
    await new Promise((resolve) => setImmediate(resolve));
    process.off("warning", listener);
    assert.deepEqual(warnings, []);
    assert.equal(getEventListeners(signal, "abort").length, 0);
  });

  test("ends when the client is closed", async () => {
    const { server, client } = await fake();
    server.on("GetSession", SILENCE);
    const call = client.sessions.get("s");
    setTimeout(() => void client.close(), 20);
    await assert.rejects(call, ClientClosed);
  });

  test("that a lease waits in has the wait added to its timeout", async () => {
    const { server, client } = await fake({ timeoutMs: 5_000 });
    server.on("LeaseMessages", { leases: [] });
    assert.deepEqual(await client.processing.lease("q", { waitMs: 20_000 }), []);
    assert.ok((server.received[0]?.remainingMs ?? 0) > 20_000);
  });
});

describe("an error", () => {
  const errors: [string, ReturnType<typeof failure>, typeof SessiondError][] = [
    ["of a known reason", failure("ABORTED", "x", { reason: "HISTORY_REWOUND" }), HistoryRewound],
    ["of an unknown reason", failure("NOT_FOUND", "x", { reason: "NEW_NOT_FOUND" }), NotFound],
    ["without a reason", failure("UNIMPLEMENTED", "x"), Unimplemented],
    [
      "of the server's own, with a transport's words",
      failure("INTERNAL", "RST_STREAM", { reason: "INTERNAL" }),
      InternalError,
    ],
    [
      "of the database",
      failure("UNAVAILABLE", "x", { reason: "DATABASE_UNAVAILABLE" }),
      DatabaseUnavailable,
    ],
    [
      "of a broken connection",
      failure("INTERNAL", "Received RST_STREAM with code 2"),
      ServerUnavailable,
    ],
    ["of a server's cancellation", failure("CANCELLED", "CANCELLED"), ServerUnavailable],
  ];
  for (const [name, answer, Class] of errors) {
    test(`${name} is ${Class.name}`, async () => {
      const { server, client } = await fake({ retries: 0 });
      server.on("GetSession", answer);
      await assert.rejects(client.sessions.get("s"), (error) => {
        assert.ok(error instanceof Class);
        assert.equal(error.message.split(":")[0], error.reason);
        return true;
      });
    });
  }

  test("has metadata, and the server's delay", async () => {
    const { server, client } = await fake({ retries: 0 });
    const metadata = { session_id: "s", call_id: "c" };
    server.on(
      "GetSession",
      failure("UNAVAILABLE", "SERVER_DRAINING: going", {
        reason: "SERVER_DRAINING",
        metadata,
        retryAfterMs: 250,
      }),
    );
    await assert.rejects(client.sessions.get("s"), (error) => {
      assert.ok(error instanceof SessiondError);
      assert.deepEqual([error.metadata, error.callId], [metadata, "c"]);
      assert.deepEqual([error.retryAfterMs, error.message], [250, "SERVER_DRAINING: going"]);
      return true;
    });
  });
});
