// Programs for the Copilot SDK run with nothing but their import line changed.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { CopilotClient } from "../../src/compat/copilot.js";
import { DeadlineExceeded, SessionDestroyed, SessionNotFound } from "../../src/index.js";
import { startServer, uniqueId } from "../support/fixture.js";
import { blocksOf, runBlocks } from "../support/programs.js";

const TEST = dirname(dirname(fileURLToPath(import.meta.url)));
let target = "";

before(async () => {
  const server = await startServer({
    SESSIOND_ECHO_MODELS: "true",
    SESSIOND_DEFAULT_IDLE_TTL_S: "86400",
  });
  target = server.target;
});

test("the examples of the SDK's recipes run as written", async () => {
  const page = readFileSync(join(TEST, "programs", "copilot.md"), "utf8");
  const blocks = blocksOf(page, "typescript").map((block) =>
    block.replace('"@github/copilot-sdk"', '"sessiond/compat/copilot"'),
  );
  const printed = await runBlocks(blocks, { env: { SESSIOND_TARGET: target } });
  const expected = blocksOf(page, "text").map((text) => text.split("\n").slice(0, -1));
  assert.deepEqual(printed, expected);
});

describe("CopilotClient", () => {
  test("settings of the SDK take effect", async () => {
    await using client = new CopilotClient({
      target,
      cliPath: "/usr/bin/copilot",
      logLevel: "debug",
    });
    const seen: string[] = [];
    const session = await client.createSession({
      sessionId: uniqueId(),
      model: "gpt-5",
      systemMessage: { mode: "append", content: "Be brief." },
      reasoningEffort: "low",
      infiniteSessions: true,
      onEvent: (event) => seen.push(event.type),
      onPermissionRequest: () => {},
      tools: [],
    });
    await session.sendAndWait("Hello");
    assert.ok(seen.includes("assistant.message"));
    const same = await client.createSession({ session_id: session.sessionId, model: "other" });
    assert.equal((await same.getMessages()).length, 2);
    const metadata = await client.getSessionMetadata(session.sessionId);
    assert.equal(metadata?.summary, "Hello");
    assert.equal(await client.getSessionMetadata("nowhere"), undefined);
    assert.equal(await client.getLastSessionId(), session.sessionId);
    assert.equal((await client.ping("x")).message, "pong: x");
  });

  test("what is not supported is refused", async () => {
    await using client = new CopilotClient({ target });
    await assert.rejects(client.createSession({ tools: [{ name: "f" }] }), TypeError);
    await assert.rejects(client.createSession({ infiniteSessions: "yes" as never }), TypeError);
    await assert.rejects(
      client.createSession({ systemMessage: { content: 1 } as never }),
      TypeError,
    );
    await assert.rejects(
      client.createSession({ sessionId: "a", session_id: "b" }),
      /got sessionId twice/,
    );
    assert.throws(() => new CopilotClient({ turbo: true }), TypeError);
    const session = await client.createSession();
    await assert.rejects(session.sendAndWait({ promt: "x" } as never), TypeError);
  });

  test("destroy waits for turns, and closes the session", async () => {
    await using client = new CopilotClient({ target });
    const session = await client.createSession();
    await session.send("Hello");
    await session.destroy();
    await session.destroy();
    assert.equal((await session.getMessages()).length, 2);
    await assert.rejects(session.send("more"), SessionDestroyed);
    await assert.rejects(client.resumeSession("nowhere"), SessionNotFound);
  });

  test("a timeout leaves the turn running, and abort ends it", async () => {
    await using client = new CopilotClient({ target });
    const session = await client.createSession({ config: {} });
    await assert.rejects(session.sendAndWait("x", 0), DeadlineExceeded);
    await session.abort();
    await session.setModel("other");
    assert.equal((await session.sendAndWait("y")).turn?.model, "other");
  });

  test("lifecycle handlers are called until they are removed", async () => {
    await using client = new CopilotClient({ target });
    let deleted: unknown;
    client.on("session.deleted", (event) => {
      deleted = event.sessionId;
    });
    // The watch may not be open yet, so sessions are deleted until the client sees a deletion.
    while (!deleted) {
      const { sessionId } = await client.createSession();
      await client.deleteSession(sessionId);
    }
    assert.equal(typeof deleted, "string");
  });
});
