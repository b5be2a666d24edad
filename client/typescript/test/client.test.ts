import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as sessiond from "../src/index.js";
import {
  ApiKeyInvalid,
  ApiKeyMissing,
  Client,
  ClientClosed,
  DeadlineExceeded,
  InvalidField,
  NotFound,
  ServerUnavailable,
  SessiondError,
  SessionNotFound,
  Unauthenticated,
  Unavailable,
} from "../src/index.js";
import { errorFrom } from "../src/protocol/status.js";
import { sessiond as command, newDatabase, startServer, useClient } from "./support/fixture.js";

const given = useClient();

describe("the client's settings", () => {
  test("come from options, then the environment, then defaults", () => {
    const target = (options: object) => new Client(options).target;
    assert.equal(target({}), "localhost:50051");
    assert.equal(target({ target: "db.example" }), "db.example:50051");
    process.env.SESSIOND_TARGET = "other:7";
    try {
      assert.equal(target({}), "other:7");
      assert.equal(target({ target: "own:8" }), "own:8");
    } finally {
      delete process.env.SESSIOND_TARGET;
    }
  });

  for (const [name, options] of Object.entries({
    "a URL as the target": { target: "http://localhost:50051" },
    "a number as the target": { target: 7 },
    "a key that is not ASCII": { apiKey: "clé" },
    "NaN as the timeout": { timeoutMs: Number.NaN },
    "negative retries": { retries: -1 },
    "a missing certificate": { tls: "/nowhere/ca.pem" },
  })) {
    test(`${name} is refused`, () => {
      assert.throws(() => new Client(options as never), InvalidField);
    });
  }
});

describe("errors", () => {
  test("every reason has a class, and a class for its kind", () => {
    assert.equal(sessiond.BY_REASON.SESSION_NOT_FOUND, SessionNotFound);
    for (const [reason, Class] of Object.entries(sessiond.BY_REASON)) {
      const error = new Class("text");
      assert.equal(error.reason, reason);
      assert.ok(error instanceof SessiondError && error instanceof Error);
      assert.equal(error.message, `${reason}: text`);
      assert.equal(error.name, Class.name);
    }
    assert.ok(new SessionNotFound() instanceof NotFound);
  });

  test("an unknown reason has the class of its code", () => {
    const details = { metadata: {}, fieldViolations: [], retryAfterMs: undefined };
    const error = errorFrom(5, "gone", { ...details, reason: "MOON_NOT_FOUND" });
    assert.ok(error instanceof NotFound);
    assert.equal(error.message, "MOON_NOT_FOUND: gone");
  });

  test("the reason stands once, also if the server says it too", () => {
    const details = { metadata: {}, fieldViolations: [], retryAfterMs: undefined };
    const text = "SESSION_NOT_FOUND: there is no session 'x'; ImportMessages needs one";
    const error = errorFrom(5, text, { ...details, reason: "SESSION_NOT_FOUND" });
    const expected = "SESSION_NOT_FOUND: there is no session 'x'; importMessages needs one";
    assert.equal(error.message, expected);
  });
});

describe("a connection", () => {
  test("without a server is ServerUnavailable, and says what to do", async () => {
    await using client = new Client({ target: "localhost:9", retries: 1 });
    await assert.rejects(
      client.sessions.get("x"),
      (error) =>
        error instanceof ServerUnavailable &&
        error instanceof Unavailable &&
        error.reason === "UNAVAILABLE" &&
        /is `sessiond serve` running at localhost:9\?/.test(error.message),
    );
  });

  test("is bounded by the timeout", async () => {
    await using client = new Client({ target: "localhost:9", timeoutMs: 50, retries: 1000 });
    await assert.rejects(
      client.sessions.get("x"),
      (error) => error instanceof ServerUnavailable || error instanceof DeadlineExceeded,
    );
    await assert.rejects(given.client.sessions.get("x", { timeoutMs: 0 }), DeadlineExceeded);
  });

  test("is given up when the signal is aborted, also between two attempts", async () => {
    await using client = new Client({ target: "localhost:9", timeoutMs: 60_000, retries: 1000 });
    const controller = new AbortController();
    const call = client.sessions.get("x", { signal: controller.signal });
    setImmediate(() => controller.abort(new Error("enough")));
    await assert.rejects(call, /^Error: enough$/);
  });

  test("that is closed refuses calls until start()", async () => {
    const client = new Client({ target: given.client.target });
    const { sessionId } = await client.createSession();
    await client.close();
    await assert.rejects(client.sessions.get(sessionId), ClientClosed);
    await assert.rejects(client.sessions.getMessages(sessionId).toArray(), ClientClosed);
    client.start();
    assert.equal((await client.sessions.get(sessionId)).sessionId, sessionId);
    await client.close();
  });

  test("that is closed during a call ends the call", async () => {
    const client = new Client({ target: "localhost:9", timeoutMs: 60_000, retries: 1000 });
    const call = client.sessions.get("x");
    setImmediate(() => void client.close());
    await assert.rejects(call, ClientClosed);
  });

  test("with keys needs a valid one", async () => {
    const url = await newDatabase();
    const server = await startServer({
      SESSIOND_DATABASE_URL: url,
      SESSIOND_REQUIRE_KEYS: "true",
    });
    const output = await command(["keys", "create", "--project", "default"], {
      SESSIOND_DATABASE_URL: url,
    });
    const [apiKey = ""] = /sk-sessiond-\S+/.exec(output) ?? [];
    await using good = new Client({ target: server.target, apiKey });
    await good.createSession({ sessionId: "mine" });
    await using without = new Client({ target: server.target });
    await assert.rejects(
      without.sessions.get("mine"),
      (error) => error instanceof ApiKeyMissing && error instanceof Unauthenticated,
    );
    await using wrong = new Client({ target: server.target, apiKey: `${apiKey}x` });
    await assert.rejects(wrong.sessions.get("mine"), ApiKeyInvalid);
  });
});
