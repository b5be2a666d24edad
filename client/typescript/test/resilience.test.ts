// Reads, imports, watches and turns through cut connections, kill -9 and drained servers.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Client, type Message } from "../src/index.js";
import {
  isQuick,
  newDatabase,
  skipInQuick,
  startProxy,
  startServer,
  type TestServer,
  uniqueId,
  useClient,
} from "./support/fixture.js";

const TEST = dirname(fileURLToPath(import.meta.url));
const MANY = isQuick ? 10_000 : 30_000;
const PADDING = "A quite ordinary sentence of a conversation, long enough to be one. ".repeat(4);
// Number of bytes from the server before each cut: cuts within the handshake, within the first
// batches, and within large ones.
const CUTS = [10, 20_000, 700_000, 60, 333_333, 100_000, 5, 500_000];

const given = useClient();

function textOf(seq: number): string {
  const role = seq % 2 ? "user" : "assistant";
  return `{"role":"${role}","content":"${seq}: ${PADDING}"}`;
}

function texts(count: number): string[] {
  return Array.from({ length: count }, (_, i) => textOf(i + 1));
}

let stored: Promise<string> | undefined;

/** Return a session of many messages, which is made once. */
function manySession(): Promise<string> {
  stored ??= (async () => {
    const session = await given.client.createSession({ sessionId: uniqueId("many") });
    await session.importMessages(texts(MANY));
    return session.sessionId;
  })();
  return stored;
}

async function checkMessages(messages: AsyncIterable<Message>, seqs: number[]): Promise<void> {
  let place = 0;
  for await (const message of messages) {
    const seq = seqs[place];
    place += 1;
    if (message.seq !== seq || message.json !== textOf(seq)) {
      assert.fail(`message ${place} is ${message.seq}, not ${seq}, or another text`);
    }
  }
  assert.equal(place, seqs.length);
}

/** Start a server again at the same address, on the same database. */
async function restarted(server: TestServer, url: string): Promise<TestServer> {
  return await startServer({ SESSIOND_DATABASE_URL: url }, ["--listen", server.target]);
}

const all = Array.from({ length: MANY }, (_, i) => i + 1);

describe("cut connections", () => {
  const readings: [string, object, number[]][] = [
    ["forwards", {}, all],
    ["backwards", { order: "desc" }, [...all].reverse()],
    [
      "of one role",
      { roles: ["assistant"], afterSeq: 100, limit: MANY / 2 - 100 },
      Array.from({ length: MANY / 2 - 100 }, (_, i) => 102 + 2 * i),
    ],
  ];
  for (const [name, options, seqs] of readings) {
    test(`leave no gap and no repeat in a read ${name}`, async () => {
      const sessionId = await manySession();
      const proxy = await startProxy(given.client.target, CUTS);
      await using client = new Client({ target: proxy.target });
      await checkMessages(client.sessions.getMessages(sessionId, options), seqs);
      const counts = await proxy.counts();
      assert.ok(counts.cuts >= 6 && counts.connections > counts.cuts);
    });
  }

  test("leave no gap and no repeat in a watch", async () => {
    const sessionId = await manySession();
    const proxy = await startProxy(given.client.target, CUTS);
    await using client = new Client({ target: proxy.target });
    let expected = 0;
    for await (const { seq } of client.sessions.events(sessionId, { afterSeq: 0 })) {
      if (seq === undefined) continue;
      expected += 1;
      assert.equal(seq, expected);
      if (expected === MANY) break;
    }
  });

  for (const cut of [100_000, 1_000_000, 2_222_222]) {
    test(`let an import of an array be sent again: after ${cut} bytes`, async () => {
      const proxy = await startProxy(given.client.target, [cut], true);
      await using client = new Client({ target: proxy.target });
      const session = await client.createSession();
      const stored = await session.importMessages(texts(10_000));
      assert.deepEqual([stored.firstSeq, stored.lastSeq], [1, 10_000]);
      assert.equal((await session.refresh()).messageCount, 10_000);
      assert.equal((await proxy.counts()).cuts, 1);
    });
  }

  test("store an append once, and lose none", async () => {
    const proxy = await startProxy(
      given.client.target,
      Array.from({ length: 30 }, (_, i) => 150 + 37 * (i % 7)),
    );
    // Each cut fails all calls that are under way.
    await using client = new Client({ target: proxy.target, retries: 100 });
    const session = await client.createSession();
    const results = await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        const range = await session.storeMessage({ role: "user", content: String(i) });
        return range.lastSeq;
      }),
    );
    assert.deepEqual(
      results.sort((a, b) => a - b),
      Array.from({ length: 40 }, (_, i) => i + 1),
    );
    assert.ok((await proxy.counts()).cuts > 5);
  });

  test("are not noticed by uploads and downloads", async () => {
    const content = new Uint8Array(randomBytes(3_000_000));
    const up = await startProxy(given.client.target, [1_500_000], true);
    await using uploading = new Client({ target: up.target });
    const { assetId } = await uploading.assets.upload(content);
    const down = await startProxy(given.client.target, [1_000_000, 10, 900_000]);
    await using downloading = new Client({ target: down.target });
    assert.equal(Buffer.compare(await downloading.assets.read(assetId), content), 0);
    assert.equal((await down.counts()).cuts, 3);
  });

  test("do not end a wait for a turn, and leave one answer", async () => {
    const proxy = await startProxy(given.client.target, [700, 20, 900, 800]);
    await using client = new Client({ target: proxy.target });
    const session = await client.createSession({ model: "echo" });
    const options = { options: { echo_delay_ms: 50 } };
    const answer = await session.sendAndWait("one two three four five six seven", options);
    assert.match(answer.content, /seven$/);
    assert.equal((await session.refresh()).messageCount, 2);
    assert.ok((await proxy.counts()).cuts > 0);
  });
});

describe("a server that is killed", () => {
  test("and comes back leaves no gap in a read, a watch and appends", async () => {
    const url = await newDatabase();
    const server = await startServer({ SESSIOND_DATABASE_URL: url });
    await using client = new Client({ target: server.target, timeoutMs: 60_000, retries: 100 });
    const session = await client.createSession({ sessionId: "s" });
    await session.importMessages(texts(10_000));
    const iterator = session.getMessages()[Symbol.asyncIterator]();
    const watched: number[] = [];
    const watch = (async () => {
      for await (const { seq } of session.events({ afterSeq: 9_999 })) {
        if (seq) watched.push(seq);
        if (seq === 10_050) return;
      }
    })();
    assert.equal((await iterator.next()).value?.seq, 1);
    const append = async (count: number) => {
      const seqs: number[] = [];
      for (let i = 0; i < count; i++) seqs.push((await session.storeMessage(textOf(1))).lastSeq);
      return seqs;
    };
    const before = await append(10);
    const during = append(40);
    await server.kill();
    await restarted(server, url);
    let expected = 2;
    for (;;) {
      const { value, done } = await iterator.next();
      if (done) break;
      assert.equal(value.seq, expected);
      expected += 1;
    }
    assert.equal(expected, 10_001);
    const seqs = [...before, ...(await during)];
    assert.deepEqual(
      seqs,
      Array.from({ length: 50 }, (_, i) => 10_001 + i),
    );
    await watch;
    assert.deepEqual(
      watched,
      Array.from({ length: 51 }, (_, i) => 10_000 + i),
    );
  });

  test("during a turn lets the wait end with the turn's own error", async () => {
    const url = await newDatabase();
    const server = await startServer({ SESSIOND_DATABASE_URL: url, SESSIOND_TURN_LEASE_S: "2" });
    await using client = new Client({ target: server.target, retries: 100 });
    const session = await client.createSession({ model: "echo" });
    const wait = session.sendAndWait("one two three", { options: { echo_delay_ms: 20_000 } });
    const settled = wait.catch((error: unknown) => error);
    for await (const event of session.events({ afterSeq: 0 })) if (event.seq === 1) break;
    await server.kill();
    await startServer({ SESSIOND_DATABASE_URL: url, SESSIOND_TURN_LEASE_S: "2" }, [
      "--listen",
      server.target,
    ]);
    assert.equal(((await settled) as { reason?: string }).reason, "TURN_LOST");
  });
});

describe("a server that drains", () => {
  test("hands its streams over to the next one", async () => {
    const url = await newDatabase();
    const server = await startServer({ SESSIOND_DATABASE_URL: url });
    await using client = new Client({ target: server.target, timeoutMs: 60_000, retries: 100 });
    const session = await client.createSession();
    await session.storeMessages(texts(3));
    const seen: (number | undefined)[] = [];
    let reached = () => {};
    const isFollowing = new Promise<void>((resolve) => {
      reached = resolve;
    });
    const watch = (async () => {
      for await (const { seq } of session.events({ afterSeq: 0 })) {
        seen.push(seq);
        if (seq === 3) reached();
        if (seq === 4) return;
      }
    })();
    await isFollowing;
    await server.terminate();
    await restarted(server, url);
    await session.storeMessage(textOf(4));
    await watch;
    assert.deepEqual(seen, [1, 2, 3, 4]);
  });
});

describe("a large session", () => {
  test("of 100,000 messages is read in bounded memory", { skip: skipInQuick }, async () => {
    const session = await given.client.createSession();
    for (let i = 0; i < 10; i++) {
      await session.importMessages(
        Array.from({ length: 10_000 }, (_, j) => textOf(i * 10_000 + j + 1)),
      );
    }
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ["--expose-gc", "--import", "tsx", join(TEST, "support", "read-large.ts"), session.sessionId],
      { env: { ...process.env, SESSIOND_TARGET: given.client.target } },
    );
    const { count, grownBytes } = JSON.parse(stdout);
    assert.equal(count, 100_000);
    assert.ok(grownBytes < 60 * 1024 * 1024, `the heap grew by ${grownBytes} bytes`);
  });

  test("holds its server back while it is read slowly", async () => {
    const sessionId = await manySession();
    let count = 0;
    for await (const batch of given.client.sessions.getMessages(sessionId).batches()) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      count += batch.length;
    }
    assert.equal(count, MANY);
  });

  test("that nobody reads to its end lets the process end", async () => {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ["--import", "tsx", join(TEST, "support", "leave-open.ts"), await manySession()],
      { env: { ...process.env, SESSIOND_TARGET: given.client.target }, timeout: 120_000 },
    );
    assert.equal(stdout, "1\n");
  });
});
