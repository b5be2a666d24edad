// Exports and imports of whole sessions. The Python client reads and writes the same files.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Message } from "../src/gen/sessiond/v1/message.js";
import { Session as SessionProto } from "../src/gen/sessiond/v1/session.js";
import {
  ExportSessionResponse,
  GetMessagesResponse,
} from "../src/gen/sessiond/v1/session_service.js";
import {
  AssetNotFound,
  HistoryRewound,
  InvalidField,
  InvalidJson,
  type JsonObject,
  NewMessage,
  type Session,
  SessionAlreadyExists,
  SessionNotFound,
  Unimplemented,
} from "../src/index.js";
import { failure, fake } from "./support/fake-server.js";
import { uniqueId, useClient } from "./support/fixture.js";

const given = useClient();
const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
const directory = mkdtempSync(join(tmpdir(), "sessiond-test-"));
after(() => rmSync(directory, { recursive: true }));

const ODD_JSON =
  '{ "role" :"user",\r\n\t"content":"a\\u0000b \\ud83d\\ude00 \\ud800 ü\u2028\x7f",  ' +
  '"n": 1.0e2, "big": 12345678901234567890 }';
const CONTENT = Buffer.alloc(450_000, "sessiond");
const ASSET = createHash("sha256").update(CONTENT).digest("hex");

/** Create a session with every kind of content. */
async function aSession(): Promise<Session> {
  const { client } = given;
  const session = await client.createSession({
    sessionId: uniqueId(),
    model: "gpt-5",
    user: "ada",
    title: "Über alles",
    config: { z: 1, a: { y: [1, { c: null, b: 2.5 }], x: true }, model_options: { top_p: 1 } },
    metadata: { team: "ü", empty: {}, list: [] },
    state: { z: { b: 1, a: [null, "}:,"] }, a: 'quote " and \\ end', n: 1.5 },
    idleTtlMs: 86_400_001,
  });
  await client.assets.upload(CONTENT, { mediaType: "text/plain" });
  await session.storeMessages([
    { role: "system", content: "Be kind." },
    ODD_JSON,
    new NewMessage({
      role: "assistant",
      metadata: { b: 1, a: { d: 1, c: 2 } },
      messageId: "m-3",
      parts: [
        { type: "text", text: "" },
        { type: "text", text: "ü\0\u2028" },
        { type: "image", mediaType: "image/png", name: "a.png", data: Uint8Array.of(0, 255, 1) },
        { type: "audio", data: new Uint8Array() },
        { type: "file", uri: "https://example.com/x" },
        { type: "file", assetId: ASSET },
        { type: "tool_call", callId: "c", name: "n", argumentsJson: '{"a" : 1}' },
        {
          type: "tool_result",
          callId: "c",
          parts: [{ type: "data", data: "[ 1 ]" }],
          isError: true,
        },
        { type: "reasoning", text: "hm", signature: Uint8Array.of(255, 0), format: "anthropic" },
        { type: "data", data: '{"x":1.50}' },
      ],
    }),
    new NewMessage({
      blob: { role: "user", content: [{ type: "text", text: "x" }] },
      format: "anthropic",
      parentSeq: 2,
    }),
    new NewMessage({ blob: { role: "user", content: "edited" }, isRoot: true }),
  ]);
  await session.sendAndWait("hello", { model: "echo" });
  const other = { blob: { any: "thing" }, format: "other", formatName: "mine" } as const;
  await session.storeMessages([new NewMessage({ ...other, role: "user" })]);
  for (let i = 0; i < 3; i += 1) {
    const data = { z: i, a: "b" };
    await session.tasks.create({ taskId: `t${i}`, data, messageSeqs: i ? [1, 3] : [] });
  }
  await session.tasks.update("t1", { status: "failed" });
  await session.bookmarks.create("the start", { seq: 0 });
  await session.bookmarks.create("plan", { description: "über" });
  return session;
}

/** Return the records in the lines of an export, without the session's id. */
function recordsOf(lines: readonly string[]): JsonObject[] {
  return lines.map((text) => {
    const record = JSON.parse(text);
    delete record.session?.session_id;
    return record;
  });
}

/** Run a Python program with the shared server as its target; return what it prints. */
async function python(program: string, ...values: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(
    join(ROOT, ".venv", "bin", "python"),
    ["-c", `import sys\nfrom sessiond import Client\n${program}`, ...values],
    {
      maxBuffer: 64 * 1024 * 1024,
      env: {
        ...process.env,
        SESSIOND_TARGET: given.client.target,
        PYTHONPATH: join(ROOT, "client"),
      },
    },
  );
  return stdout;
}

describe("an export", () => {
  test("is imported as an equal session, from each of its forms", async () => {
    const { client } = given;
    const session = await aSession();
    const lines = await session.exportLines().toArray();
    assert.deepEqual(
      lines.map((text) => JSON.parse(text).kind).filter((kind) => kind !== "asset"),
      [
        "export",
        ...Array(3).fill("task"),
        ...Array(2).fill("bookmark"),
        ...Array(8).fill("message"),
        "end",
      ],
    );
    assert.deepEqual(await session.exportLines().toArray(), lines);
    const document = await session.export();
    const files = { jsonl: join(directory, "x.jsonl"), json: join(directory, "x.json") };
    for (const format of ["jsonl", "json"] as const) {
      const seen: unknown[] = [];
      const progress = (...counts: unknown[]) => seen.push(counts);
      const info = await session.exportTo(files[format], { format, progress });
      assert.equal(info.sessionId, session.sessionId);
      assert.deepEqual(seen.at(-1), [8, 8]);
    }
    assert.equal(readFileSync(files.jsonl, "utf8"), lines.join(""));
    assert.deepEqual(JSON.parse(readFileSync(files.json, "utf8")), document);
    async function* slowly() {
      yield* lines;
    }
    for (const source of [document, files.jsonl, files.json, lines, slowly()]) {
      const sessionId = uniqueId();
      const info = await client.sessions.importSession(source, { sessionId });
      assert.deepEqual([info.sessionId, info.lastSeq], [sessionId, 8]);
      const again = await client.sessions.exportLines(sessionId).toArray();
      assert.deepEqual(recordsOf(again), recordsOf(lines));
    }
    const [, odd] = await client.sessions.getMessages(session.sessionId).toArray();
    assert.equal(odd?.json, ODD_JSON);
  });

  test("is the one of the Python client, which imports it, and the other way round", async () => {
    const { client } = given;
    const session = await aSession();
    const lines = await session.exportLines().toArray();
    const theirs = await python(
      "with Client() as c: sys.stdout.writelines(c.sessions.export_lines(sys.argv[1]))",
      session.sessionId,
    );
    assert.deepEqual(recordsOf(theirs.split("\n").filter(Boolean)), recordsOf(lines));
    const path = join(directory, "ours.json");
    await session.exportTo(path, { format: "json" });
    const imported = uniqueId();
    await python(
      "with Client() as c: c.sessions.import_session(sys.argv[1], sys.argv[2])",
      path,
      imported,
    );
    const again = await client.sessions.exportLines(imported).toArray();
    assert.deepEqual(recordsOf(again), recordsOf(lines));
    const theirPath = join(directory, "theirs.jsonl");
    writeFileSync(theirPath, theirs);
    const sessionId = uniqueId();
    await client.sessions.importSession(theirPath, { sessionId });
    const third = await client.sessions.exportLines(sessionId).toArray();
    assert.deepEqual(recordsOf(third), recordsOf(lines));
  });

  test("without assets needs them at its import", async () => {
    const { client } = given;
    const session = await client.createSession();
    const part = { type: "file", assetId: ASSET } as const;
    await client.assets.upload(CONTENT);
    await session.storeMessages([new NewMessage({ role: "user", parts: [part] })]);
    const document = await session.export({ assets: false });
    assert.deepEqual(document.assets, []);
    document.session.session_id = uniqueId();
    await client.sessions.importSession(document);
    document.messages[0].parts[0].file.asset_id = "0".repeat(64);
    document.session.session_id = uniqueId();
    await assert.rejects(client.sessions.importSession(document), AssetNotFound);
  });

  test("a repeated import with the same requestId makes one session", async () => {
    const { client } = given;
    const session = await client.createSession();
    await session.storeMessage({ role: "user", content: "x" });
    const lines = await session.exportLines().toArray();
    const options = { sessionId: uniqueId(), requestId: uniqueId() };
    const first = await client.sessions.importSession(lines, options);
    assert.deepEqual(await client.sessions.importSession(lines, options), first);
    const { sessionId } = options;
    await assert.rejects(client.sessions.importSession(lines, { sessionId }), SessionAlreadyExists);
  });

  test("of a missing session fails, and leaves a file as it was", async () => {
    const { client } = given;
    const path = join(directory, "kept.jsonl");
    writeFileSync(path, "kept");
    await assert.rejects(client.sessions.export("missing"), SessionNotFound);
    await assert.rejects(client.sessions.exportTo("missing", path), SessionNotFound);
    assert.equal(readFileSync(path, "utf8"), "kept");
    assert.deepEqual(
      readdirSync(directory).filter((name) => name.endsWith(".part")),
      [],
    );
  });
});

describe("an export that is malformed", () => {
  const line = (number: number, change: (record: JsonObject) => void) => (lines: string[]) => {
    const record = JSON.parse(lines[number] ?? "");
    change(record);
    return [...lines.slice(0, number), JSON.stringify(record), ...lines.slice(number + 1)];
  };
  const CASES: Record<string, [(lines: string[]) => string[], RegExp]> = {
    "that is empty": [() => [], /source is empty/],
    "that is cut off": [(lines) => lines.slice(0, -1), /no end: it was cut off after line 3/],
    "that is no export": [() => ['{"kind": "task"}'], /line 1 is not the beginning/],
    "of another version": [line(0, (r) => Object.assign(r, { version: 2 })), /version 2/],
    "with a message missing": [(lines) => lines.toSpliced(1, 1), /seq 2 instead of 1/],
    "with a wrong count": [line(3, (r) => Object.assign(r, { messages: 3 })), /counts 3 messages/],
    "with a broken line": [(lines) => lines.toSpliced(1, 1, "{"), /line 2 is not JSON/],
    "with an unknown role": [line(1, (r) => Object.assign(r, { role: "x" })), /line 2: role/],
    "with a wrong time": [line(1, (r) => Object.assign(r, { created_at: "x" })), /ISO 8601/],
    "with a wrong type": [line(1, (r) => Object.assign(r, { json: 1 })), /line 2: json/],
    "with neither": [line(1, (r) => Object.assign(r, { json: null })), /neither json nor parts/],
    "with a broken state": [
      line(0, (r) => Object.assign(r.session, { state_json: "{]" })),
      /line 1: session: state_json/,
    ],
  };
  for (const [name, [change, expected]] of Object.entries(CASES)) {
    test(`${name} is refused with its place, and nothing is made`, async () => {
      const { client } = given;
      const session = await client.createSession();
      await session.storeMessages(["1", "2"].map((content) => ({ role: "user", content })));
      const lines = change(await session.exportLines().toArray());
      const sessionId = uniqueId();
      await assert.rejects(
        client.sessions.importSession(lines, { sessionId }),
        (error) => error instanceof InvalidField && expected.test(error.message),
      );
      await assert.rejects(client.sessions.get(sessionId), SessionNotFound);
    });
  }

  test("the server's refusals name the message", async () => {
    const { client } = given;
    const session = await client.createSession();
    await session.storeMessage({ role: "user", content: "x" });
    const document = await session.export();
    document.session.session_id = uniqueId();
    document.messages[0].json = "no JSON";
    await assert.rejects(client.sessions.importSession(document), InvalidJson);
  });

  for (const source of ['{"version": 1}', "", 7, Buffer.from("x"), null, [1]]) {
    test(`${JSON.stringify(source)} is no source`, async () => {
      await assert.rejects(given.client.sessions.importSession(source as never), InvalidField);
    });
  }
});

describe("the stream of an export", () => {
  const json = '{"role":"user","content":"x"}';
  const messages = (...seqs: number[]) =>
    seqs.map((seq) => Message.create({ seq, format: 1, content: { $case: "json", value: json } }));
  const session = SessionProto.create({ sessionId: "s", lastSeq: 4, epoch: 2 });
  const snapshot = ExportSessionResponse.create({ session });
  const piece = (...seqs: number[]) =>
    ExportSessionResponse.create({ messages: messages(...seqs) });

  test("goes on with the messages of its snapshot after a broken connection", async () => {
    const { server, client } = await fake();
    const broken = failure("UNAVAILABLE", "Connection dropped");
    server.on("ExportSession", broken, [snapshot, piece(1, 2), broken]);
    server.on("GetMessages", [GetMessagesResponse.create({ messages: messages(3, 4) })]);
    const document = await client.sessions.export("s");
    assert.deepEqual(
      document.messages.map(({ seq }: { seq: number }) => seq),
      [1, 2, 3, 4],
    );
    const [request] = server.of("GetMessages");
    assert.deepEqual([request.start.value, request.throughSeq, request.expectedEpoch], [2, 4, 2]);
  });

  test("exports no part of a session that is rewound or deleted meanwhile", async () => {
    const { server, client } = await fake();
    const rewound = failure("ABORTED", "rewound", { reason: "HISTORY_REWOUND" });
    server.on("ExportSession", [snapshot, rewound]);
    server.on("GetMessages", rewound);
    await assert.rejects(client.sessions.export("s"), HistoryRewound);
    server.on("GetMessages", [GetMessagesResponse.create({ messages: messages(1) })]);
    await assert.rejects(client.sessions.export("s"), SessionNotFound);
  });

  test("of an older server is a typed error", async () => {
    const { client } = await fake();
    await assert.rejects(client.sessions.export("s"), Unimplemented);
  });
});
