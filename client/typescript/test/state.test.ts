import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ETagMismatch, InvalidField } from "../src/index.js";
import { uniqueId, useClient } from "./support/fixture.js";

const given = useClient();

describe("a session's state", () => {
  test("an append or a rewind is refused if somebody else changed the state meanwhile", async () => {
    const session = await given.client.createSession({ state: { a: 1 } });
    const { stateEtag } = session.info;
    const message = { role: "user", content: "x" };
    await session.storeMessage(message, { state: { a: 2 }, stateEtag });
    await assert.rejects(session.storeMessage(message, { stateEtag }), ETagMismatch);
    await assert.rejects(session.importMessages([message], { stateEtag }), ETagMismatch);
    await assert.rejects(session.rewind({ toSeq: 0, stateEtag }), ETagMismatch);
    assert.equal((await session.refresh()).lastSeq, 1);
  });

  test("is given at creation, and changed by updates and appends", async () => {
    const user = uniqueId("user");
    const session = await given.client.createSession({ user, state: { a: 1, b: [null, "é"] } });
    assert.deepEqual(session.info.state, { a: 1, b: [null, "é"] });
    const { stateEtag } = session.info;
    await session.storeMessage(
      { role: "user", content: "x" },
      { state: { c: null }, removeState: ["a"] },
    );
    await session.refresh();
    assert.deepEqual(session.info.state, { b: [null, "é"], c: null });
    await assert.rejects(session.update({ state: { b: 2 }, stateEtag }), ETagMismatch);
    await session.update({ state: { b: { z: 1, y: 2 } }, stateEtag: session.info.stateEtag });
    assert.equal(session.info.stateJson, '{"b":{"z":1,"y":2},"c":null}');
    await session.rewind({ toSeq: 0, removeState: ["b"] });
    assert.deepEqual((await session.refresh()).state, { c: null });
    const [without] = await given.client.listSessions({ user }).toArray();
    const [listed] = await given.client.listSessions({ user, withState: true }).toArray();
    assert.deepEqual([without?.state, listed?.state], [undefined, { c: null }]);
    assert.deepEqual((await (await session.copy()).refresh()).state, { c: null });
    const changed = await session.copy({ state: { d: 1 }, removeState: ["c"] });
    assert.deepEqual((await changed.refresh()).state, { d: 1 });
  });

  test("refuses what JSON does not have, with its path", async () => {
    await assert.rejects(
      given.client.createSession({ state: { a: { b: Number.NaN } } }),
      (error) =>
        error instanceof InvalidField && /^state\.a/.test(error.fieldViolations[0]?.field ?? ""),
    );
    await assert.rejects(given.client.createSession({ state: [] as never }), InvalidField);
  });
});

test("getTurn can wait for the turn's end", async () => {
  const session = await given.client.createSession({ model: "echo" });
  const { turnId } = await session.send("one two", { options: { echo_delay_ms: 100 } });
  assert.equal((await session.getTurn(turnId, { waitMs: 20_000 })).state, "completed");
});
