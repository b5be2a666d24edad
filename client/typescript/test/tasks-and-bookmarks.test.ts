import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  BookmarkAlreadyExists,
  BookmarkNotFound,
  ETagMismatch,
  InvalidField,
  MessageNotFound,
  SessionDestroyed,
  TaskAlreadyExists,
  TaskNotFound,
} from "../src/index.js";
import { useClient } from "./support/fixture.js";

const given = useClient();

async function newSession(messages = 3) {
  const session = await given.client.createSession();
  await session.storeMessages(
    Array.from({ length: messages }, (_, i) => ({ role: "user", content: String(i + 1) })),
  );
  return session;
}

describe("tasks", () => {
  test("are created, read, listed, changed, reordered and deleted", async () => {
    const session = await newSession();
    const first = await session.tasks.create({ taskId: "a", data: { x: 1 }, messageSeqs: [2, 1] });
    assert.deepEqual(
      [first.taskId, first.position, first.status, first.data, first.messageSeqs],
      ["a", 1, "pending", { x: 1 }, [1, 2]],
    );
    await session.tasks.create({ taskId: "b", status: "running" });
    assert.deepEqual(await session.tasks.get("a"), first);
    const changed = await session.tasks.update("a", {
      status: "success",
      dataPatch: { x: null, y: [1] },
      link: [3],
      unlink: [1],
      etag: first.etag,
    });
    assert.deepEqual(
      [changed.status, changed.data, changed.messageSeqs],
      ["success", { y: [1] }, [2, 3]],
    );
    assert.deepEqual(await session.tasks.reorder(["b"]), ["b", "a"]);
    const ids = async (options = {}) =>
      (await session.tasks.list({ pageSize: 1, ...options }).toArray()).map((task) => task.taskId);
    assert.deepEqual(await ids(), ["b", "a"]);
    assert.deepEqual(await ids({ status: "success" }), ["a"]);
    await session.tasks.delete("b");
    assert.deepEqual(await ids(), ["a"]);
    await session.tasks.update("a", { data: {}, messageSeqs: [] });
    const cleared = await session.tasks.get("a");
    assert.deepEqual([cleared.data, cleared.messageSeqs], [{}, []]);
  });

  test("refusals are typed", async () => {
    const session = await newSession();
    const task = await session.tasks.create({ taskId: "a" });
    await session.tasks.update("a", { status: "running" });
    await assert.rejects(session.tasks.create({ taskId: "a" }), TaskAlreadyExists);
    await assert.rejects(session.tasks.create({ messageSeqs: [9] }), MessageNotFound);
    await assert.rejects(session.tasks.create({ taskId: "" }), InvalidField);
    await assert.rejects(session.tasks.get("b"), TaskNotFound);
    await assert.rejects(session.tasks.update("a", { data: {}, etag: task.etag }), ETagMismatch);
    await assert.rejects(session.tasks.delete("b"), TaskNotFound);
    await session.tasks.delete("b", { allowMissing: true });
    await session.destroy();
    await assert.rejects(session.tasks.create(), SessionDestroyed);
  });

  test("a copy has the tasks, and their links where asked for", async () => {
    const session = await newSession();
    await session.tasks.create({ taskId: "a", status: "running", messageSeqs: [1] });
    const links = async (options: object) =>
      (await (await session.copy(options)).tasks.get("a")).messageSeqs;
    assert.deepEqual(await links({}), []);
    assert.deepEqual(await links({ keepTaskLinks: true }), [1]);
  });
});

describe("bookmarks", () => {
  test("are created, read, listed, moved, renamed and deleted", async () => {
    const session = await newSession();
    const made = await session.bookmarks.create("plan", { seq: 1, description: "the plan" });
    assert.deepEqual([made.name, made.seq, made.description], ["plan", 1, "the plan"]);
    assert.deepEqual(await session.bookmarks.get("plan"), made);
    const contents = async (name: string) =>
      (await session.bookmarks.messagesSince(name).toArray()).map(({ content }) => content);
    assert.deepEqual(await contents("plan"), ["2", "3"]);
    assert.equal((await session.bookmarks.create("end")).seq, 3);
    assert.equal((await session.bookmarks.move("plan", 0)).seq, 0);
    assert.deepEqual(await contents("plan"), ["1", "2", "3"]);
    assert.equal((await session.bookmarks.move("plan")).seq, 3);
    const changed = await session.bookmarks.update("plan", { description: "", newName: "new" });
    assert.deepEqual([changed.name, changed.seq, changed.description], ["new", 3, ""]);
    const listed = await session.bookmarks.list({ pageSize: 1 }).toArray();
    assert.deepEqual(
      listed.map(({ name }) => name),
      ["end", "new"],
    );
    await session.bookmarks.delete("new");
    await assert.rejects(session.bookmarks.get("new"), BookmarkNotFound);
  });

  test("a copy ends at a bookmark, and a read begins at one", async () => {
    const session = await newSession();
    await session.bookmarks.create("cut", { seq: 2 });
    const copy = await session.copy({ upToBookmark: "cut" });
    assert.equal(copy.info.messageCount, 2);
    assert.equal((await copy.bookmarks.get("cut")).seq, 2);
    const read = await session.getMessages({ afterBookmark: "cut" }).toArray();
    assert.deepEqual(
      read.map(({ seq }) => seq),
      [3],
    );
  });

  test("refusals are typed", async () => {
    const session = await newSession();
    await session.bookmarks.create("a");
    await assert.rejects(session.bookmarks.create("a"), BookmarkAlreadyExists);
    const { etag } = await session.bookmarks.get("a");
    await session.bookmarks.update("a", { description: "x", etag });
    await assert.rejects(session.bookmarks.update("a", { seq: 1, etag }), ETagMismatch);
    await assert.rejects(session.bookmarks.delete("a", { etag }), ETagMismatch);
    await session.bookmarks.create("a", { replace: true, seq: 1 });
    await assert.rejects(session.bookmarks.create("b", { seq: 9 }), MessageNotFound);
    await assert.rejects(session.bookmarks.update("a", { newName: "" }), InvalidField);
    await assert.rejects(session.bookmarks.messagesSince("none").toArray(), BookmarkNotFound);
    await session.bookmarks.delete("none", { allowMissing: true });
  });
});
