// Runs the tests, against servers that test/support/fixture.py starts with the Python of ../../.venv.
//
//   node scripts/test.mjs [--quick] [files]     --quick leaves out the tests that take many seconds

import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const PACKAGE = dirname(dirname(fileURLToPath(import.meta.url)));
const ROOT = join(PACKAGE, "..", "..");
const PYTHON = join(ROOT, ".venv", "bin", "python");

if (!existsSync(PYTHON)) {
  console.log("skipped: the tests need the server, and .venv is not here (make setup)");
  process.exit(0);
}

const isQuick = process.argv.includes("--quick");
const given = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));
const files =
  given.length > 0
    ? given
    : readdirSync(join(PACKAGE, "test"), { recursive: true })
        .filter((file) => file.endsWith(".test.ts"))
        .sort()
        .map((file) => join("test", file));

const fixture = spawn(PYTHON, [join(PACKAGE, "test", "support", "fixture.py")], {
  cwd: ROOT,
  stdio: ["pipe", "pipe", "inherit"],
  env: {
    ...process.env,
    PYTHONPATH: [ROOT, join(ROOT, "client"), join(ROOT, "server")].join(":"),
  },
});
const [port] = await Promise.race([
  createInterface(fixture.stdout)
    [Symbol.asyncIterator]()
    .next()
    .then(({ value }) => [value]),
  new Promise((_, reject) => fixture.once("exit", () => reject(new Error("the fixture failed")))),
]);

const tests = spawn(
  process.execPath,
  [
    "--import",
    "tsx",
    "--test",
    "--test-concurrency=1",
    "--test-timeout=600000",
    "--test-reporter=spec",
    ...files,
  ],
  {
    cwd: PACKAGE,
    stdio: "inherit",
    env: { ...process.env, SESSIOND_TS_FIXTURE: port, ...(isQuick && { SESSIOND_TS_QUICK: "1" }) },
  },
);
process.exitCode = await new Promise((resolve) => tests.once("exit", (code) => resolve(code ?? 1)));
fixture.stdin.end();
await new Promise((resolve) => fixture.once("exit", resolve));
