// Many streams of one client, and proxies in the environment.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Client } from "../src/index.js";
import { sharedTarget, startProxy, uniqueId } from "./support/fixture.js";

describe("many streams", () => {
  test("take more connections as they fill, and leave room for other calls", async () => {
    const proxy = await startProxy(await sharedTarget());
    await using client = new Client({ target: proxy.target });
    const session = await client.createSession({ sessionId: uniqueId() });
    const watchers = Array.from({ length: 120 }, () =>
      session.events({ afterSeq: 0 })[Symbol.asyncIterator](),
    );
    const first = watchers.map((watcher) => watcher.next());
    await session.storeMessages([{ role: "user", content: "hello" }]);
    for (const event of await Promise.all(first)) assert.equal(event.value?.seq, 1);
    assert.equal((await proxy.counts()).connections, 3);
    for (const watcher of watchers) await watcher.return?.();
    // The connections are used again.
    const again = Array.from({ length: 120 }, async () => {
      for await (const event of session.events({ afterSeq: 0 })) return event.seq;
    });
    assert.deepEqual(new Set(await Promise.all(again)), new Set([1]));
    assert.equal((await proxy.counts()).connections, 3);
  });
});

describe("proxies in the environment", () => {
  test("are not asked for this machine", async () => {
    const names = ["http_proxy", "https_proxy", "grpc_proxy"];
    for (const name of names) process.env[name] = "http://127.0.0.1:9";
    try {
      const port = (await sharedTarget()).split(":").pop();
      for (const host of ["127.0.0.1", "localhost", "ipv4:127.0.0.1", "dns:localhost"]) {
        await using client = new Client({ target: `${host}:${port}` });
        await client.getOrCreateSession("proxied");
      }
    } finally {
      for (const name of names) delete process.env[name];
    }
  });
});
