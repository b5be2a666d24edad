// Reads one message of a large session, and closes nothing.

import { Client } from "../../src/index.js";

const client = new Client();
for await (const message of client.sessions.getMessages(process.argv[2] ?? "")) {
  console.log(message.seq);
  break;
}
