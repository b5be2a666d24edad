// A build is kept as long as its inputs are the same.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

const { digestOf } = await import(new URL("../scripts/inputs.mjs", import.meta.url).href);

const root = mkdtempSync(join(tmpdir(), "sessiond-inputs-"));
const digest = (): string => digestOf(root, ["src", "package.json"]);

after(() => {
  rmSync(root, { recursive: true });
});

test("the digest of the inputs changes with each name and each content", () => {
  mkdirSync(join(root, "src", "deep"), { recursive: true });
  writeFileSync(join(root, "package.json"), "{}");
  writeFileSync(join(root, "src", "deep", "a.ts"), "1");
  const first = digest();
  const seen = new Set([first]);
  const changes = [
    () => writeFileSync(join(root, "src", "deep", "a.ts"), "2"),
    () => writeFileSync(join(root, "src", "b.ts"), ""),
    () => renameSync(join(root, "src", "b.ts"), join(root, "src", "c.ts")),
    () => writeFileSync(join(root, "package.json"), '{"type": "module"}'),
    () => rmSync(join(root, "src", "deep", "a.ts")),
  ];
  for (const change of changes) {
    change();
    seen.add(digest());
  }
  assert.equal(seen.size, 1 + changes.length);
  rmSync(join(root, "src", "c.ts"));
  writeFileSync(join(root, "package.json"), "{}");
  writeFileSync(join(root, "src", "deep", "a.ts"), "1");
  assert.equal(digest(), first);
});
