// Runs programs of pages: blocks of TypeScript, one after the other.

import { execFile } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const TEST = dirname(dirname(fileURLToPath(import.meta.url)));
const DIRECTORY = join(TEST, ".programs");
const MARK = "-- the next block --";

/** Return the blocks of a language in a page of Markdown, without their indentation. */
export function blocksOf(page: string, language: string): string[] {
  const fence = new RegExp(`^( *)\`\`\`${language}\\b[^\\n]*\\n(.*?)^\\1\`\`\``, "gms");
  return [...page.matchAll(fence)].map(([, indent = "", block = ""]) =>
    block.replace(new RegExp(`^${indent}`, "gm"), ""),
  );
}

/**
 * Run blocks in one scope, in their order, and return the lines that each prints.
 *
 * Later blocks use the names of earlier ones, and declare some of them again: each block is nested
 * in the one before.
 */
export async function runBlocks(
  blocks: readonly string[],
  { env = {}, prelude = "" }: { env?: Record<string, string>; prelude?: string } = {},
): Promise<string[][]> {
  const imports = new Set<string>();
  const bodies = blocks.map((block) =>
    block.replace(/^import\b[^;]*;\n/gm, (line) => {
      imports.add(line);
      return "";
    }),
  );
  const program = [
    ...imports,
    prelude,
    ...bodies.map((body) => `{\n${body}\nconsole.log(${JSON.stringify(MARK)});\n`),
    ...bodies.map(() => "}"),
  ].join("\n");
  mkdirSync(DIRECTORY, { recursive: true });
  const file = join(DIRECTORY, `program-${process.pid}-${Date.now()}-${Math.random()}.mts`);
  writeFileSync(file, program);
  try {
    const { stdout } = await promisify(execFile)(process.execPath, ["--import", "tsx", file], {
      cwd: TEST,
      env: { ...process.env, TSX_TSCONFIG_PATH: join(TEST, "tsconfig.json"), ...env },
    });
    return stdout
      .split(`${MARK}\n`)
      .slice(0, -1)
      .map((text) => text.split("\n").slice(0, -1));
  } finally {
    rmSync(file);
  }
}
