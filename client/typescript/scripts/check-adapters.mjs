// Checks that the adapters fit the types of the frameworks' own packages, where npm can install them.

import { spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const PACKAGE = dirname(dirname(fileURLToPath(import.meta.url)));
const HERE = join(PACKAGE, "sdk-types");
const INSTALLED = join(HERE, "node_modules", ".package-lock.json");
const TIMEOUT_MS = 300_000;

function run(command, directory) {
  const [program, ...rest] = command;
  return spawnSync(program, rest, { cwd: directory, stdio: "inherit", timeout: TIMEOUT_MS }).status;
}

const isNew = (file) =>
  existsSync(INSTALLED) && statSync(INSTALLED).mtimeMs >= statSync(join(HERE, file)).mtimeMs;

if (!isNew("package.json")) {
  // Optional packages are the programs that the SDKs run. Types need none of them.
  const flags = ["--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional"];
  if (run(["npm", "install", ...flags], HERE) !== 0) {
    console.log("adapters' types: skipped, npm cannot install the frameworks");
    process.exit(0);
  }
}
const status = run(["npx", "tsc", "-p", HERE], PACKAGE);
console.log(status === 0 ? "adapters' types: they fit" : "adapters' types: they do not fit");
process.exit(status ?? 1);
