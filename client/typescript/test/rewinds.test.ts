import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  HistoryRewound,
  InvalidField,
  MessageNotFound,
  ModelNotConfigured,
  rpc,
  type Session,
  TurnRunning,
} from "../src/index.js";
import { useClient } from "./support/fixture.js";

const given = useClient();

async function newSession(count = 4): Promise<Session> {
  const session = await given.client.createSession({ model: "echo" });
  await session.storeMessages(
    Array.from({ length: count }, (_, i) => ({ role: "user", content: String(i + 1) })),
  );
  return session;
}

async function contents(session: Session): Promise<string> {
  return (await session.getMessages().toArray()).map(({ content }) => content).join();
}

describe("rewinds", () => {
  test("remove the newest messages, return them, and append others", async () => {
    const session = await newSession();
    const copy = await session.copy();
    const result = await session.rewind({
      toSeq: 2,
      messages: [{ role: "user", content: "other" }],
      returnRemoved: 1,
      expectedLastSeq: 4,
      expectedEpoch: 0,
    });
    assert.deepEqual(
      [result.lastSeq, result.firstSeq, result.epoch, result.removedCount],
      [3, 3, 1, 2],
    );
    assert.deepEqual(
      result.removed.map(({ content }) => content),
      ["4"],
    );
    assert.equal(await contents(session), "1,2,other");
    assert.equal(await contents(copy), "1,2,3,4");
    assert.equal((await session.refresh()).epoch, 1);
  });

  test("go back to a bookmark, or by a number of messages", async () => {
    const session = await newSession();
    await session.bookmarks.create("plan", { seq: 3 });
    await session.rewind({ toBookmark: "plan" });
    assert.equal(await contents(session), "1,2,3");
    const { removedCount, firstSeq } = await session.rewind({ dropLast: 9 });
    assert.deepEqual([removedCount, firstSeq], [3, undefined]);
    assert.equal(await contents(session), "");
  });

  test("are noticed by whoever names the epoch", async () => {
    const session = await newSession();
    const { epoch } = await session.storeMessage({ role: "user", content: "5" });
    await session.rewind({ toSeq: 1 });
    const message = { role: "user", content: "x" };
    const options = { expectedEpoch: epoch };
    await assert.rejects(session.storeMessage(message, options), HistoryRewound);
    await assert.rejects(session.importMessages([message], options), HistoryRewound);
    await assert.rejects(session.getMessages(options).toArray(), HistoryRewound);
    await assert.rejects(session.sendAndWait("x", options), HistoryRewound);
    await assert.rejects(session.rewind({ toSeq: 0, ...options }), HistoryRewound);
  });

  test("are told to watchers, which go on from there", async () => {
    const session = await newSession(3);
    const seen: string[] = [];
    for await (const event of session.events({ afterSeq: 0 })) {
      seen.push(
        event.type === "session.rewound" ? `rewound to ${event.data.last_seq}` : event.data.content,
      );
      if (event.seq === 3 && event.epoch === 0) {
        await session.rewind({ toSeq: 1, messages: [{ role: "user", content: "new" }] });
      }
      if (event.data.content === "new") break;
    }
    assert.deepEqual(seen, ["1", "2", "3", "rewound to 1", "new"]);
    const [first] = await Promise.all([session.events({ afterSeq: 3, afterEpoch: 0 }).first()]);
    assert.deepEqual([first?.type, first?.epoch], ["session.rewound", 1]);
  });

  test("the same requestId rewinds once", async () => {
    const session = await newSession();
    const options = { dropLast: 1, requestId: "r" };
    const first = await session.rewind(options);
    assert.deepEqual(await session.rewind(options), first);
    assert.equal(await contents(session), "1,2,3");
  });

  test("wait for no turn: a running one is an error, or is aborted", async () => {
    const session = await newSession(1);
    await session.send("one two three", { options: { echo_delay_ms: 60_000 } });
    await assert.rejects(session.rewind({ toSeq: 0 }), TurnRunning);
    await session.rewind({ toSeq: 0, abortTurn: true });
    assert.equal(await contents(session), "");
  });

  test("refusals are typed", async () => {
    const session = await newSession();
    await assert.rejects(session.rewind({ toSeq: 9 }), MessageNotFound);
    await assert.rejects(session.rewind({}), InvalidField);
    await assert.rejects(session.rewind({ toSeq: 1, dropLast: 1 }), InvalidField);
  });
});

test("client.call makes the calls of the protos, with typed errors", async () => {
  const session = await newSession();
  const request = { sessionId: session.sessionId };
  const found = await given.client.call(rpc.sessions.getSession, request, { isRepeatable: true });
  assert.equal(found.lastSeq, 4);
});

describe("answers that are taken back", () => {
  const asked = [{ role: "user", content: "a" }];

  test("pop and clear remove messages, and take no place of their own", async () => {
    const session = await newSession();
    assert.equal((await session.pop({ state: { popped: 4 } }))?.content, "4");
    assert.deepEqual((await session.refresh()).state, { popped: 4 });
    assert.equal((await session.clear({ expectedLastSeq: 3 })).removedCount, 3);
    assert.equal(await session.pop(), undefined);
    await assert.rejects(session.pop({ toSeq: 1 } as object), InvalidField);
    await assert.rejects(session.clear({ messages: [] } as object), InvalidField);
  });

  test("an answer is replaced", async () => {
    const session = await given.client.createSession({ model: "echo" });
    const first = await session.sendAndWait("a");
    const second = await session.regenerate();
    assert.deepEqual([second.seq, second.content], [first.seq, first.content]);
    assert.notEqual(second.turn?.turnId, first.turn?.turnId);
    assert.equal((await session.refresh()).epoch, 1);
  });

  test("the old answer stays as a branch, or in a copy", async () => {
    const session = await given.client.createSession({ model: "echo" });
    await session.sendAndWait("a");
    const second = await session.regenerate({ branch: true });
    const third = await session.regenerate({ branch: true });
    assert.deepEqual(
      [second, third].map((answer) => [answer.seq, answer.parentSeq, answer.content]),
      [
        [3, 1, "echo of 1 message: a"],
        [4, 1, "echo of 1 message: a"],
      ],
    );
    const branch = await session.getMessages({ branchOf: 2 }).toArray();
    assert.deepEqual(
      branch.map(({ seq }) => seq),
      [1, 2],
    );
    const copyTo = `${session.sessionId}-old`;
    await session.regenerate({ copyTo });
    assert.equal(
      (await given.client.sessions.getMessage(copyTo, 4)).turn?.turnId,
      third.turn?.turnId,
    );
    await assert.rejects(session.regenerate({ copyTo, branch: true }), InvalidField);
    const empty = await given.client.createSession({ model: "echo" });
    await assert.rejects(empty.regenerate(), InvalidField);
  });

  test("an answer of one branch is replaced without the other branches", async () => {
    const session = await given.client.createSession({ model: "echo" });
    await session.sendAndWait("a");
    await session.regenerate({ branch: true });
    const third = await session.regenerate();
    assert.deepEqual([third.seq, third.parentSeq], [3, 1]);
    assert.deepEqual(
      (await session.getMessages({ branchOf: 2 }).toArray()).map(({ seq }) => seq),
      [1, 2],
    );
  });

  test("an answer stays if the model cannot be asked for another one", async () => {
    const session = await given.client.createSession({ model: "echo" });
    await session.sendAndWait("a");
    await assert.rejects(session.regenerate({ model: "nobody's" }), ModelNotConfigured);
    await assert.rejects(session.regenerate({ turnTimeoutMs: Number.NaN }), InvalidField);
    assert.equal((await session.refresh()).lastSeq, 2);
    assert.equal((await session.regenerate({ model: "echo-2" })).seq, 2);
  });

  test("a running turn that has no answer yet is not answered twice", async () => {
    const session = await given.client.createSession({ model: "echo" });
    const sent = await session.send("a", { options: { echo_delay_ms: 60_000 } });
    await assert.rejects(session.regenerate(), TurnRunning);
    const answer = await session.regenerate({ abortTurn: true });
    assert.equal(answer.seq, 2);
    assert.equal((await session.getTurn(sent.turnId)).state, "aborted");
  });

  test("the answer of a turn is no longer found once a rewind has removed it", async () => {
    const session = await given.client.createSession({ model: "echo" });
    const turnId = (await session.sendAndWait("a")).turn?.turnId ?? "";
    assert.equal((await session.waitForTurn(turnId)).seq, 2);
    await session.clear();
    await assert.rejects(session.waitForTurn(turnId), MessageNotFound);
    await session.storeMessages([...asked, ...asked]);
    await assert.rejects(session.waitForTurn(turnId), MessageNotFound);
  });

  test("a turn continues the message that it names", async () => {
    const session = await given.client.createSession({ model: "echo" });
    await session.storeMessages([...asked, { role: "assistant", content: "b" }, ...asked]);
    const answer = await session.sendAndWait("c", { parentSeq: 2 });
    assert.equal(answer.content, "echo of 3 messages: c");
    assert.equal((await session.getTurn(answer.turn?.turnId ?? "")).parentSeq, 2);
  });
});
