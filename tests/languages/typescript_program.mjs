// The commands of the example programs, with the TypeScript client, which `make languages` builds.

import { readFileSync } from "node:fs";
import { Client, SessiondError } from "../../client/typescript/dist/esm/index.js";

const [command, sessionId, count] = process.argv.slice(2);
const show = (text) => console.log(Buffer.from(text).toString("base64"));
const client = new Client();
try {
  switch (command) {
    case "write": {
      const lines = readFileSync(0, "utf8").trim().split("\n");
      const texts = lines.map((line) => Buffer.from(line, "base64").toString());
      const session = await client.getOrCreateSession(sessionId);
      await session.storeMessages(texts, { format: "openai" });
      break;
    }
    case "read":
      for await (const message of client.sessions.getMessages(sessionId)) show(message.json);
      break;
    case "watch": {
      let left = Number(count);
      for await (const event of client.sessions.events(sessionId, { afterSeq: 0 })) {
        if (event.message === undefined) continue;
        show(event.message.json);
        left -= 1;
        if (left === 0) break;
      }
      break;
    }
    case "reason":
      try {
        await client.getSession(sessionId);
      } catch (error) {
        if (!(error instanceof SessiondError)) throw error;
        console.log(error.reason);
      }
  }
} finally {
  await client.close();
}
