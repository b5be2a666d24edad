// Files of exports.

import { randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, mkdtemp, open, realpath, rename, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/**
 * A text file that replaces the file at its path when it is complete. A pipe or a device is written
 * directly; a symbolic link is kept.
 */
export class NewFile {
  readonly #file: FileHandle;
  readonly #path: string;
  /** `undefined` = the file is written directly. */
  readonly #target: string | undefined;

  private constructor(file: FileHandle, path: string, target: string | undefined) {
    this.#file = file;
    this.#path = path;
    this.#target = target;
  }

  static async create(path: string): Promise<NewFile> {
    const existing = await stat(path).catch(() => undefined);
    if (existing && !existing.isFile()) return new NewFile(await open(path, "w"), path, undefined);
    const target = existing ? await realpath(path) : path;
    const beside = join(dirname(target), `.${randomUUID()}.part`);
    return new NewFile(await open(beside, "wx"), beside, target);
  }

  async write(text: string): Promise<void> {
    await this.#file.writeFile(text);
  }

  /** Close the file and move it to its path. */
  async complete(): Promise<void> {
    await this.#file.close();
    if (this.#target) await rename(this.#path, this.#target);
  }

  /** Close and remove the new file. The existing file, if any, is kept. */
  async discard(): Promise<void> {
    await this.#file.close().catch(() => {});
    if (this.#target) await rm(this.#path, { force: true });
  }
}

/** A temporary file, to write and then read by its path. */
export class TemporaryFile {
  readonly path: string;
  readonly #directory: string;
  readonly #file: FileHandle;

  private constructor(directory: string, path: string, file: FileHandle) {
    this.#directory = directory;
    this.path = path;
    this.#file = file;
  }

  static async create(): Promise<TemporaryFile> {
    const directory = await mkdtemp(join(tmpdir(), "sessiond-"));
    const path = join(directory, "asset");
    return new TemporaryFile(directory, path, await open(path, "wx"));
  }

  async write(data: Uint8Array): Promise<void> {
    await this.#file.writeFile(data);
  }

  /** Close the file, so that it can be read. */
  async complete(): Promise<void> {
    await this.#file.close();
  }

  /** Close and remove the file. */
  async discard(): Promise<void> {
    await this.#file.close().catch(() => {});
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/**
 * Yield the lines of a file in UTF-8, each with its line end. Lines end at "\n" alone.
 */
export async function* linesOf(path: string): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let rest = "";
  for await (const chunk of createReadStream(path, { highWaterMark: 256 * 1024 })) {
    const lines = (rest + decoder.decode(chunk as Buffer, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield `${line}\n`;
  }
  rest += decoder.decode();
  if (rest) yield rest;
}
