// The package, as `npm pack` makes it, installs and imports in an empty ESM project and an empty CJS one.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { sharedTarget, skipInQuick } from "./support/fixture.js";

const PACKAGE = dirname(dirname(fileURLToPath(import.meta.url)));
const run = promisify(execFile);

const MODULES = [
  "sessiond",
  "sessiond/compat/acontext",
  "sessiond/compat/copilot",
  "sessiond/adapters/ai-sdk",
  "sessiond/adapters/claude-agent-sdk",
  "sessiond/adapters/openai-agents",
  "sessiond/gen/sessiond/v1/session_service",
];

const PROGRAM = `
const client = new sessiond.Client();
client.createSession().then(async (session) => {
  await session.storeMessage({ role: "user", content: "Hello" });
  const [message] = await session.getMessages().toArray();
  console.log(message.content, modules.every((module) => Object.keys(module).length > 0));
  await client.close();
});
`;

describe("the packed package", { skip: skipInQuick }, () => {
  const directory = mkdtempSync(join(tmpdir(), "sessiond-pack-"));

  before(async () => {
    await run("npm", ["pack", "--silent", "--pack-destination", directory], { cwd: PACKAGE });
  });

  after(() => {
    rmSync(directory, { recursive: true });
  });

  const programs = {
    "main.mjs": [
      ...MODULES.map((name, i) => `import * as m${i} from "${name}";`),
      `const modules = [${MODULES.map((_, i) => `m${i}`).join()}];`,
      "const sessiond = m0;",
      PROGRAM,
    ],
    "main.cjs": [
      `const modules = [${MODULES.map((name) => `require("${name}")`).join()}];`,
      "const [sessiond] = modules;",
      PROGRAM,
    ],
  };
  for (const [name, lines] of Object.entries(programs)) {
    test(`works in an empty project: ${name}`, async () => {
      const project = join(directory, name.replace(".", "-"));
      mkdirSync(project);
      writeFileSync(join(project, "package.json"), "{}");
      writeFileSync(join(project, name), lines.join("\n"));
      const tarball = readdirSync(directory).find((file) => file.endsWith(".tgz")) ?? "";
      const flags = ["--silent", "--no-audit", "--no-fund", "--no-package-lock"];
      await run("npm", ["install", ...flags, join(directory, tarball)], { cwd: project });
      const { stdout } = await run(process.execPath, [name], {
        cwd: project,
        env: { ...process.env, SESSIOND_TARGET: await sharedTarget() },
      });
      assert.equal(stdout, "Hello true\n");
    });
  }
});
