// Reads a session, and prints how many messages it has and how much the heap grew meanwhile.

import { Client } from "../../src/index.js";

declare const gc: () => void;

await using client = new Client();
let count = 0;
let base = 0;
let peak = 0;
for await (const _ of client.sessions.getMessages(process.argv[2] ?? "")) {
  count += 1;
  if (count % 10_000 !== 0) continue;
  gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  base ||= heapUsed + arrayBuffers;
  peak = Math.max(peak, heapUsed + arrayBuffers);
}
console.log(JSON.stringify({ count, grownBytes: peak - base }));
