// The examples of docs/guides/typescript.md and of the README run, and print what they should.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { sharedTarget } from "./support/fixture.js";
import { blocksOf, runBlocks } from "./support/programs.js";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");

/**
 * Return the output that the comments of a block announce: those after console.log(...), and those
 * on lines of their own.
 */
function saidBy(block: string): string[] {
  return block.split("\n").flatMap((line) => {
    const [, after] = /^\s*(?:.*console\.log\(.*\);)? ?\/\/ (.*)$/.exec(line) ?? [];
    return after === undefined || after.startsWith("$") ? [] : [after];
  });
}

test("the guide's examples print what they say", async () => {
  const page = readFileSync(join(ROOT, "docs", "guides", "typescript.md"), "utf8");
  const blocks = blocksOf(page, "ts");
  assert.ok(blocks.length > 5);
  const printed = await runBlocks(blocks, { env: { SESSIOND_TARGET: await sharedTarget() } });
  assert.deepEqual(printed, blocks.map(saidBy));
});

test("the README's example runs", async () => {
  const blocks = blocksOf(readFileSync(join(ROOT, "client/typescript/README.md"), "utf8"), "ts");
  const printed = await runBlocks(blocks, { env: { SESSIOND_TARGET: await sharedTarget() } });
  assert.deepEqual(printed, [["user Hello", "SESSION_NOT_FOUND nobody"]]);
});
