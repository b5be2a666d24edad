// The tests' side of fixture.py.

import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { after, before } from "node:test";
import { Client, type ClientOptions } from "../../src/index.js";

/** Whether the tests that take many seconds are left out. */
export const isQuick = process.env.SESSIOND_TS_QUICK === "1";
/** The `skip` of a test that takes many seconds. */
export const skipInQuick = isQuick ? "takes many seconds: left out of the short run" : false;

let socket: Socket | undefined;
let answers: AsyncIterator<string> | undefined;
let last: Promise<unknown> = Promise.resolve();

async function ask<T>(request: object): Promise<T> {
  const result = last.then(async () => {
    if (!socket || !answers) {
      const port = process.env.SESSIOND_TS_FIXTURE;
      if (!port) throw new Error("run the tests by `npm test`, which starts the fixture");
      socket = connect(Number(port), "127.0.0.1");
      answers = createInterface(socket)[Symbol.asyncIterator]();
    }
    socket.write(`${JSON.stringify(request)}\n`);
    const { value } = await answers.next();
    const answer = JSON.parse(value as string);
    if (answer.error) throw new Error(answer.error);
    return answer as T;
  });
  last = result.catch(() => {});
  return await result;
}

after(async () => {
  await last;
  socket?.end();
});

/** A server of a test's own. */
export class TestServer {
  constructor(
    readonly target: string,
    readonly id: string,
    readonly log: string,
  ) {}

  /** End it as a power cut would. */
  async kill(): Promise<void> {
    await ask({ do: "end", id: this.id, how: "kill" });
  }

  /** Send SIGTERM, and wait for the end. */
  async terminate(): Promise<void> {
    await ask({ do: "end", id: this.id, how: "terminate" });
  }
}

/** Return the address of the server that all tests share. */
export async function sharedTarget(): Promise<string> {
  return (await ask<{ target: string }>({ do: "shared" })).target;
}

/** Return the URL of a new database with the schema. */
export async function newDatabase(): Promise<string> {
  return (await ask<{ url: string }>({ do: "database" })).url;
}

/** Start a server, by default on a database of its own. */
export async function startServer(
  environment: Record<string, string> = {},
  flags: string[] = [],
): Promise<TestServer> {
  const url = environment.SESSIOND_DATABASE_URL ?? (await newDatabase());
  const { target, id, log } = await ask<{ target: string; id: string; log: string }>({
    do: "server",
    flags,
    environment: { SESSIOND_DATABASE_URL: url, ...environment },
  });
  return new TestServer(target, id, log);
}

/** Run the command `sessiond`, and return what it prints. */
export async function sessiond(
  args: string[],
  environment: Record<string, string>,
): Promise<string> {
  return (await ask<{ output: string }>({ do: "command", arguments: args, environment })).output;
}

/** A proxy that cuts connections after given numbers of bytes. */
export class TestProxy {
  constructor(
    readonly target: string,
    readonly id: string,
  ) {}

  async counts(): Promise<{ connections: number; cuts: number }> {
    return await ask({ do: "counts", id: this.id });
  }
}

/** Start a proxy; `upwards` counts the bytes from the client. */
export async function startProxy(
  target: string,
  cuts: number[] = [],
  upwards = false,
): Promise<TestProxy> {
  const { target: own, id } = await ask<{ target: string; id: string }>({
    do: "proxy",
    target,
    cuts,
    upwards,
  });
  return new TestProxy(own, id);
}

/** Make a client of the shared server for each test file; it is closed after the tests. */
export function useClient(options: ClientOptions = {}): { readonly client: Client } {
  let client: Client | undefined;
  before(async () => {
    client = new Client({ target: await sharedTarget(), ...options });
  });
  after(async () => {
    await client?.close();
  });
  return {
    get client() {
      if (!client) throw new Error("the client is there once the tests run");
      return client;
    },
  };
}

let names = 0;

/** Return an id that no other test has. */
export function uniqueId(prefix = "ts"): string {
  names += 1;
  return `${prefix}-${process.pid}-${Date.now().toString(36)}-${names}`;
}
