// Sources whose next item never comes, and calls that end before their source.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { AssetMismatch, DeadlineExceeded, InvalidField } from "../src/index.js";
import { useClient } from "./support/fixture.js";

const never = new Promise<never>(() => {});

/** Yield the items, call a function, and then nothing more. */
async function* stuck<T>(items: Iterable<T>, then: () => void): AsyncGenerator<T, void, undefined> {
  yield* items;
  then();
  await never;
}

describe("a source whose next item never comes", () => {
  const fixture = useClient();
  const bytes = [new Uint8Array(600_000)];

  it("does not delay an aborted call", async () => {
    for (const items of [bytes, []]) {
      const controller = new AbortController();
      const source = stuck(items, () => controller.abort(new Error("enough")));
      await assert.rejects(
        fixture.client.assets.upload(source, { signal: controller.signal }),
        /^Error: enough$/,
      );
    }
  });

  it("does not delay a timeout", async () => {
    const upload = fixture.client.assets.upload(
      stuck(bytes, () => {}),
      { timeoutMs: 200 },
    );
    await assert.rejects(upload, DeadlineExceeded);
    const lines = fixture.client.sessions.importSession(
      stuck([], () => {}),
      { timeoutMs: 200 },
    );
    await assert.rejects(lines, DeadlineExceeded);
  });

  it("does not delay the server's refusal", async () => {
    const upload = fixture.client.assets.upload(
      stuck(bytes, () => {}),
      { size: 5 },
    );
    await assert.rejects(upload, AssetMismatch);
  });
});

describe("an import that ends before its source", () => {
  const fixture = useClient();

  /** More than one piece of an import, so that the server gets some of it. */
  const messages = Array.from({ length: 50 }, () => ({
    role: "user",
    content: "x".repeat(9_000),
  }));

  // Node completes the stream of a call that it cancels, so the server took a part for the whole.
  it("stores nothing if it is aborted", async () => {
    for (let i = 0; i < 20; i++) {
      const session = await fixture.client.createSession();
      const controller = new AbortController();
      const source = stuck(messages, () => {
        setTimeout(() => controller.abort(new Error("enough")), i % 5);
      });
      await assert.rejects(session.importMessages(source, { signal: controller.signal }), /enough/);
      // The session takes no other append before the import has ended.
      assert.equal((await session.storeMessage({ role: "user", content: "x" })).lastSeq, 1);
    }
  });

  it("stores nothing if its time is over", async () => {
    const session = await fixture.client.createSession();
    const source = stuck(messages, () => {});
    await assert.rejects(session.importMessages(source, { timeoutMs: 300 }), DeadlineExceeded);
    assert.equal((await session.storeMessage({ role: "user", content: "x" })).lastSeq, 1);
  });
});

describe("arguments of another type", () => {
  const fixture = useClient();

  it("are refused as InvalidField", async () => {
    const { client } = fixture;
    const session = await client.createSession();
    // biome-ignore lint/suspicious/noExplicitAny: the types forbid them.
    for (const wrong of [5, "x", null, []] as any[]) {
      await assert.rejects(client.createSession(wrong), InvalidField);
      await assert.rejects(client.getSession(session.sessionId, wrong), InvalidField);
    }
    // biome-ignore lint/suspicious/noExplicitAny: the types forbid them.
    for (const signal of [{}, "x", new AbortController()] as any[]) {
      await assert.rejects(client.getSession(session.sessionId, { signal }), InvalidField);
      await assert.rejects(session.getMessages({ signal }).toArray(), InvalidField);
    }
    for (const metadata of [new Map([["a", 1]]), new Set(["a"])]) {
      await assert.rejects(client.createSession({ metadata }), InvalidField);
    }
  });

  it("a timeout of any length is taken", async () => {
    const session = await fixture.client.createSession();
    for (const timeoutMs of [1e300, Number.MAX_SAFE_INTEGER, 2 ** 31, Number.POSITIVE_INFINITY]) {
      await session.refresh({ timeoutMs });
      assert.deepEqual(await session.getMessages({ timeoutMs }).toArray(), []);
    }
  });
});
