// Builds dist/esm and dist/cjs, unless they were built from the same files. A build takes half a minute of CPU time, and
// one run of the checks asks for several: for the examples of other languages, for their tests, and for the package.

import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { digestOf } from "./inputs.mjs";

const PACKAGE = dirname(dirname(fileURLToPath(import.meta.url)));
const TSC = join(PACKAGE, "node_modules", "typescript", "bin", "tsc");

const INPUTS = [
  "src",
  "scripts/build.mjs",
  "package.json",
  "package-lock.json",
  "tsconfig.json",
  "tsconfig.cjs.json",
];
// Not part of the package.
const STAMP = join(PACKAGE, "dist", ".inputs");

function builtFrom() {
  try {
    return readFileSync(STAMP, "utf8");
  } catch {
    return "";
  }
}

const inputs = digestOf(PACKAGE, INPUTS);
if (builtFrom() === inputs) {
  process.exit(0);
}
rmSync(join(PACKAGE, "dist"), { recursive: true, force: true });
for (const [project, type] of [
  ["tsconfig.json", "module"],
  ["tsconfig.cjs.json", "commonjs"],
]) {
  execFileSync(process.execPath, [TSC, "--project", join(PACKAGE, project)], { stdio: "inherit" });
  const target = join(PACKAGE, "dist", type === "module" ? "esm" : "cjs");
  writeFileSync(join(target, "package.json"), `{ "type": "${type}" }\n`);
}
writeFileSync(STAMP, inputs);
