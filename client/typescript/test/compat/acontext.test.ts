// Programs for Acontext's SDK run with nothing but their import line changed.

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { AcontextClient, APIError, TransportError } from "../../src/compat/acontext.js";
import { Client, DeadlineExceeded, ServerUnavailable, SessionNotFound } from "../../src/index.js";
import { sharedTarget, startServer, uniqueId } from "../support/fixture.js";
import { blocksOf, runBlocks } from "../support/programs.js";

const TEST = dirname(dirname(fileURLToPath(import.meta.url)));
// The page of Acontext's documentation is not part of the repository. programs/acontext.md covers
// the same calls.
const SEEDS = process.env.SESSIOND_SEEDS ?? join(TEST, "..", "..", "..", "..", "shared", "seeds");
const seed = existsSync(SEEDS)
  ? readdirSync(SEEDS).find((name) => name.startsWith("000"))
  : undefined;

function withImport(block: string): string {
  return block.replace(/(["'])@acontext\/acontext\1/, '"sessiond/compat/acontext"');
}

describe("Acontext's page", { skip: seed ? false : `the page is not here (${SEEDS}/000*)` }, () => {
  let blocks: string[] = [];
  let client: Client;
  const limit = 2;

  before(async () => {
    blocks = blocksOf(readFileSync(join(SEEDS, seed as string), "utf8"), "typescript").map(
      withImport,
    );
    const server = await startServer({ SESSIOND_COPY_MAX_MESSAGES: String(limit) });
    client = new Client({ target: server.target });
  });

  test("all six blocks do what it says", async () => {
    assert.equal(blocks.length, 6);
    for (const sessionId of ["session-uuid", "original", "checked", "template-session-uuid"]) {
      await client.createSession({ sessionId, user: "ada", config: { temperature: 1 } });
      await client.sessions.storeMessage(sessionId, { role: "user", content: "the beginning" });
    }
    const printed = await runBlocks(blocks, {
      env: { SESSIOND_TARGET: client.target },
      prelude: 'const originalId = "original", sessionId = "checked";',
    });
    const [basic, async_, errors, compare, checkpoint, template] = printed.map((lines) =>
      lines.map((line) => line.split(": ")),
    );
    const contents = async (id: string | undefined) =>
      (await client.sessions.getMessages(id ?? "").toArray()).map(({ content }) => content);

    // The basic copy: the copy gets another message, and the source does not.
    assert.deepEqual(basic?.[0], ["Original session", "session-uuid"]);
    assert.equal(basic?.[1]?.[0], "Copied session");
    const copied = basic?.[1]?.[1];
    assert.deepEqual(await contents(copied), ["the beginning", "Let's try a different approach"]);
    assert.deepEqual(await contents("session-uuid"), ["the beginning"]);

    // The asynchronous example: everything that the page promises is copied.
    const info = await client.sessions.get(async_?.[0]?.[1] ?? "");
    assert.deepEqual([info.user, info.config, info.messageCount], ["ada", { temperature: 1 }, 1]);

    // A missing session.
    assert.deepEqual(errors, [["Session does not exist or you don't have access"]]);

    // An experiment: the copy has more tokens than the original.
    const [original, experimental] = (compare ?? []).map(([, count]) =>
      Number.parseInt(count ?? "", 10),
    );
    assert.deepEqual(
      compare?.map(([name]) => name),
      ["Original", "Experimental"],
    );
    assert.equal(original, (await client.sessions.getTokenCounts("original")).totalTokens);
    assert.ok((original ?? 0) < (experimental ?? 0));

    // A checkpoint: the session gets another message, and the checkpoint does not.
    assert.equal(checkpoint?.[0]?.[0], "Checkpoint created");
    assert.deepEqual(await contents(checkpoint?.[0]?.[1]), ["the beginning"]);
    assert.deepEqual(await contents("checked"), ["the beginning", "Major change..."]);

    // A template: its copies have its system message.
    const copies = await client.sessions.copies("template-session-uuid").toArray();
    assert.deepEqual(await contents(copies[0]?.sessionId), [
      "the beginning",
      "You are a helpful assistant...",
    ]);
    assert.deepEqual(template, []);
  });

  test("a session that is too large is refused as the page says", async () => {
    await client.createSession({ sessionId: "invalid-uuid" });
    await client.sessions.storeMessages(
      "invalid-uuid",
      Array.from({ length: limit + 1 }, () => ({ role: "user", content: "x" })),
    );
    const [, , errors = ""] = blocks;
    const [printed] = await runBlocks([`${blocks[0]?.split("\n")[0]}\n${errors}`], {
      env: { SESSIOND_TARGET: client.target },
    });
    assert.deepEqual(printed, ["Session is too large to copy synchronously"]);
    await client.close();
  });
});

test("a kitchen's assistant runs as written", async () => {
  const page = readFileSync(join(TEST, "programs", "acontext.md"), "utf8");
  const expected = blocksOf(page, "text").map((text) => text.split("\n").slice(0, -1));
  const printed = await runBlocks(blocksOf(page, "typescript").map(withImport), {
    env: { SESSIOND_TARGET: await sharedTarget() },
  });
  assert.deepEqual(printed, expected);
});

describe("AcontextClient", () => {
  test("errors name the reason, and have sessiond's error as their cause", async () => {
    await using client = new AcontextClient({ baseUrl: `http://${await sharedTarget()}/api/v1` });
    await assert.rejects(
      client.sessions.copy("nowhere"),
      (error) =>
        error instanceof APIError &&
        error.statusCode === 404 &&
        error.error === "SESSION_NOT_FOUND" &&
        error.message.startsWith("404: SESSION_NOT_FOUND: ") &&
        error.payload.session_id === "nowhere" &&
        error.cause instanceof SessionNotFound,
    );
    await using away = new AcontextClient({ baseUrl: "localhost:9", timeout: 500 });
    await assert.rejects(
      away.sessions.list(),
      (error) =>
        error instanceof TransportError &&
        // On a slow machine, the time may be over during an attempt.
        (error.cause instanceof ServerUnavailable || error.cause instanceof DeadlineExceeded),
    );
  });

  test("results have both spellings", async () => {
    await using client = new AcontextClient({ baseUrl: await sharedTarget() });
    const id = uniqueId();
    const session = await client.sessions.create({ useUuid: id, user: "mira" });
    assert.deepEqual([session.id, session.userId, session.user_id], [id, "mira", "mira"]);
    const stored = await client.sessions.storeMessage(id, { role: "user", content: "1" });
    assert.deepEqual([stored.id, stored.parentId, stored.session_id], [`${id}/1`, null, id]);
    const copy = await client.sessions.copy(id);
    assert.equal(copy.newSessionId, copy.new_session_id);
    assert.equal(copy.oldSessionId, copy.old_session_id);
  });

  test("messages come page by page, in both directions", async () => {
    await using client = new AcontextClient({ baseUrl: await sharedTarget() });
    const { id } = await client.sessions.create();
    for (const content of ["1", "2", "3", "4", "5"]) {
      await client.sessions.storeMessage(id, { role: "user", content });
    }
    for (const timeDesc of [false, true]) {
      const pages: string[] = [];
      let cursor: string | null = null;
      do {
        const page = await client.sessions.getMessages(id, { limit: 2, cursor, timeDesc });
        pages.push(page.items.map((item) => item.content).join());
        cursor = page.nextCursor;
        assert.equal(page.has_more, cursor !== null);
      } while (cursor);
      assert.deepEqual(pages, timeDesc ? ["4,5", "2,3", "1"] : ["1,2", "3,4", "5"]);
    }
    await assert.rejects(
      client.sessions.getMessages(id, { format: "gemini" }),
      /400: INVALID_FIELD/,
    );
    await assert.rejects(client.sessions.getMessages(id, { cursor: "x" }), /400: INVALID_FIELD/);
  });

  test("configs are replaced and patched, sessions listed and deleted", async () => {
    await using client = new AcontextClient({ baseUrl: await sharedTarget() });
    const user = uniqueId();
    const { id } = await client.sessions.create({ user, configs: { a: 1 } });
    await client.sessions.create({ user });
    await client.sessions.updateConfigs(id, { configs: { b: 1, c: 2 } });
    assert.deepEqual(await client.sessions.patchConfigs(id, { configs: { b: null, d: 3 } }), {
      c: 2,
      d: 3,
    });
    assert.deepEqual((await client.sessions.getConfigs(id)).configs, { c: 2, d: 3 });
    const page = await client.sessions.list({ user, limit: 1 });
    assert.deepEqual([page.items[0]?.id, page.hasMore], [id, true]);
    await client.sessions.delete(id);
    assert.equal((await client.sessions.list({ user })).items.length, 1);
  });

  test("a key of another service is not sent", async () => {
    await using client = new AcontextClient({
      baseUrl: await sharedTarget(),
      apiKey: "sk-ac-another-service",
    });
    assert.equal(typeof (await client.sessions.create()).id, "string");
  });
});
