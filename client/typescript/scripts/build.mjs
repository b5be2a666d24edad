// Builds dist/esm and dist/cjs.

import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const PACKAGE = dirname(dirname(fileURLToPath(import.meta.url)));
const TSC = join(PACKAGE, "node_modules", "typescript", "bin", "tsc");

rmSync(join(PACKAGE, "dist"), { recursive: true, force: true });
for (const [project, type] of [
  ["tsconfig.json", "module"],
  ["tsconfig.cjs.json", "commonjs"],
]) {
  execFileSync(process.execPath, [TSC, "--project", join(PACKAGE, project)], { stdio: "inherit" });
  const target = join(PACKAGE, "dist", type === "module" ? "esm" : "cjs");
  writeFileSync(join(target, "package.json"), `{ "type": "${type}" }\n`);
}
