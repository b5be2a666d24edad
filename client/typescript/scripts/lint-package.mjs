// Packs the package, and checks the tarball: publint for its manifest, attw for its types.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const PACKAGE = dirname(dirname(fileURLToPath(import.meta.url)));
const bin = (name) => join(PACKAGE, "node_modules", ".bin", name);
const directory = mkdtempSync(join(tmpdir(), "sessiond-pack-"));
try {
  execFileSync("npm", ["pack", "--silent", "--pack-destination", directory], {
    cwd: PACKAGE,
    stdio: ["ignore", "ignore", "inherit"],
  });
  const [tarball] = readdirSync(directory);
  for (const [command, ...args] of [
    [bin("publint"), join(directory, tarball), "--strict"],
    // TypeScript's resolution of before 2022 (node10) does not know "exports".
    [bin("attw"), join(directory, tarball), "--profile", "node16", "--format", "ascii"],
  ]) {
    execFileSync(command, args, { cwd: PACKAGE, stdio: "inherit" });
  }
} finally {
  rmSync(directory, { recursive: true });
}
