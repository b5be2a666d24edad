import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  InvalidField,
  MessageAlreadyExists,
  MessageNotFound,
  NewMessage,
  SessionNotFound,
} from "../src/index.js";
import { uniqueId, useClient } from "./support/fixture.js";

const given = useClient();

function named(messageId: string, content: string): NewMessage {
  return new NewMessage({ blob: { role: "user", content }, messageId });
}

describe("message ids", () => {
  test("find messages, and places to read from and to rewind to", async () => {
    const session = await given.client.createSession();
    await session.storeMessages([named("a", "1"), named("b", "2")]);
    await session.storeMessage({ role: "user", content: "3" }, { messageId: "c" });
    const found = await session.getMessage({ messageId: "b" });
    assert.deepEqual([found.seq, found.messageId, found.content], [2, "b", "2"]);
    const later = await session.getMessages({ afterMessageId: "a" }).toArray();
    assert.deepEqual(
      later.map(({ messageId }) => messageId),
      ["b", "c"],
    );
    await session.rewind({ beforeMessageId: "b" });
    assert.equal((await session.refresh()).lastSeq, 1);
    await assert.rejects(session.getMessage({ messageId: "b" }), MessageNotFound);
    await assert.rejects(session.getMessages({ afterMessageId: "b" }).toArray(), MessageNotFound);
    assert.throws(() => session.getMessages({ afterMessageId: "a", afterSeq: 1 }), InvalidField);
  });

  test("are refused twice, or skipped", async () => {
    const session = await given.client.createSession();
    await session.storeMessages([named("a", "1")]);
    const batch = [named("a", "other"), named("b", "2")];
    await assert.rejects(session.storeMessages(batch), MessageAlreadyExists);
    const stored = await session.storeMessages(batch, { onDuplicate: "skip" });
    assert.deepEqual([stored.firstSeq, stored.lastSeq, stored.skipped], [2, 2, 1]);
    const again = await session.importMessages(batch, { onDuplicate: "skip" });
    assert.deepEqual([again.firstSeq, again.skipped, again.createTime], [0, 2, undefined]);
  });

  test("a message that was read is stored again with its id", async () => {
    const [one, other] = [await given.client.createSession(), await given.client.createSession()];
    await one.storeMessages([named("a", "1")]);
    await other.storeMessages([await one.getMessage(1)]);
    assert.equal((await other.getMessage({ messageId: "a" })).content, "1");
  });
});

test("an append can create its session", async () => {
  const sessionId = uniqueId();
  const message = { role: "user", content: "x" };
  const { sessions } = given.client;
  await assert.rejects(sessions.storeMessage(sessionId, message), SessionNotFound);
  await sessions.storeMessage(sessionId, message, { create: { user: "ada" } });
  await sessions.storeMessage(sessionId, message, { create: { user: "bob" } });
  const info = await sessions.get(sessionId);
  assert.deepEqual([info.user, info.lastSeq], ["ada", 2]);
});

test("messages of other programs are kept byte for byte", async () => {
  const session = await given.client.createSession();
  const text = '{ "uuid":"1",  "type":"summary" }';
  await session.storeMessage(text, { formatName: "claude-code" });
  await session.storeMessages([
    new NewMessage({ blob: text, format: "other", formatName: "x", role: "user" }),
  ]);
  const [first, second] = await session.getMessages().toArray();
  assert.deepEqual(
    [first?.json, first?.format, first?.formatName, first?.role, first?.content],
    [text, "other", "claude-code", "other", ""],
  );
  assert.deepEqual([second?.formatName, second?.role], ["x", "user"]);
  await assert.rejects(session.storeMessage(text, { format: "other" }), InvalidField);
});
