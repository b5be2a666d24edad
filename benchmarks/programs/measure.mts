// Measures unary appends and full reads from TypeScript; see ../languages.py.
//
// Usage: measure.mts TARGET SESSION APPENDS LONG_SESSION READS, with the message on the standard
// input. Prints a JSON object.

import { readFileSync } from "node:fs";
import { Client } from "../../client/typescript/src/index.js";

const WARM_UP = 30;
const [target = "", sessionId = "", appends = "", long = "", reads = ""] = process.argv.slice(2);
const text = readFileSync(0, "utf8");
const client = new Client({ target });
await client.sessions.create({ sessionId });

const times: number[] = [];
for (let i = 0; i < WARM_UP + Number(appends); i++) {
  const began = performance.now();
  await client.sessions.storeMessage(sessionId, text, { format: "openai" });
  if (i >= WARM_UP) times.push(performance.now() - began);
}
let count = await read();
const began = performance.now();
for (let i = 0; i < Number(reads); i++) count = await read();
const tookS = (performance.now() - began) / 1000;
times.sort((a, b) => a - b);
const at = (fraction: number) => times[Math.floor(times.length * fraction)] ?? 0;
console.log(
  JSON.stringify({
    append_p50_ms: at(0.5),
    append_p99_ms: at(0.99),
    read_messages_s: (Number(reads) * count) / tookS,
  }),
);
await client.close();

async function read(): Promise<number> {
  let found = 0;
  for await (const { json } of client.sessions.getMessages(long)) found += json ? 1 : 0;
  return found;
}
