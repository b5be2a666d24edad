import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ApiKeyInvalid,
  ApiKeyNotFound,
  Client,
  ETagMismatch,
  ProjectAlreadyExists,
  ProjectNotFound,
  QuotaExceeded,
} from "../src/index.js";
import { startServer, uniqueId, useClient } from "./support/fixture.js";

const given = useClient();

test("projects and keys are created, listed and revoked", async () => {
  const { admin } = given.client;
  const name = uniqueId("project");
  const project = await admin.createProject(name);
  assert.equal(project.name, name);
  await assert.rejects(admin.createProject(name), ProjectAlreadyExists);
  const names = (await admin.listProjects({ pageSize: 1 }).toArray()).map((found) => found.name);
  assert.ok(names.includes(name) && names.includes("default"));
  const key = await admin.createApiKey(name, { label: "a label" });
  assert.match(key.secret, /^sk-sessiond-/);
  const { secret: _, ...known } = key;
  assert.deepEqual(await admin.listApiKeys(name).toArray(), [known]);
  assert.equal((await admin.createProject(name, { getOrCreate: true })).name, name);
  assert.ok((await admin.revokeApiKey(key.keyId)).revokedAt);
  await assert.rejects(admin.revokeApiKey("unknown"), ApiKeyNotFound);
  await assert.rejects(admin.createApiKey("no-such-project"), ProjectNotFound);
  await admin.deleteProject(name);
  await assert.rejects(admin.deleteProject("no-such-project"), ProjectNotFound);
  await admin.deleteProject("no-such-project", { allowMissing: true });
});

test("limits of a project are set, shown beside what is used, and enforced", async () => {
  const { admin } = given.client;
  const name = uniqueId("project");
  await admin.createProject(name);
  const before = await admin.getProjectLimits(name);
  assert.equal(before.maxSessions, undefined);
  const set = await admin.setProjectLimits(name, { maxSessions: 1 }, { etag: before.etag });
  assert.equal(set.maxSessions, 1);
  await assert.rejects(admin.setProjectLimits(name, {}, { etag: before.etag }), ETagMismatch);
  const { secret } = await admin.createApiKey(name);
  await using tenant = new Client({ target: given.client.target, apiKey: secret });
  await tenant.createSession();
  await assert.rejects(tenant.createSession(), (error) => {
    assert.ok(error instanceof QuotaExceeded);
    assert.deepEqual(
      [error.metadata["what"], error.metadata["limit"], error.metadata["used"]],
      ["max_sessions", "1", "1"],
    );
    return true;
  });
  const usage = await admin.getProjectUsage(name);
  assert.deepEqual(usage.sessions, { used: 1, limit: 1 });
  assert.equal(usage.bytes.limit, undefined);
});

test("a key belongs to one project, whose sessions others do not find", async () => {
  const server = await startServer();
  await using open = new Client({ target: server.target });
  await open.admin.createProject("other");
  const { secret } = await open.admin.createApiKey("other");
  await using other = new Client({ target: server.target, apiKey: secret });
  await open.createSession({ sessionId: "mine" });
  assert.deepEqual(await other.listSessions().toArray(), []);
  await using wrong = new Client({ target: server.target, apiKey: `${secret}x` });
  await assert.rejects(wrong.listSessions().toArray(), ApiKeyInvalid);
});
