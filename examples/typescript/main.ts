// A client of sessiond in TypeScript: it creates a session, stores, streams and watches messages, asks a model, and handles an error.
//
// The other commands read and write one session, one message a line in base64, so that tests can compare languages.

import { createInterface } from "node:readline";
import { Client, SessiondError } from "sessiond";

// $SESSIOND_TARGET and $SESSIOND_API_KEY; $SESSIOND_CA is the PEM file of a certificate authority.
const client = new Client({ tls: process.env.SESSIOND_CA ?? false });

function show(json: string): void {
  console.log(Buffer.from(json).toString("base64"));
}

async function demo(): Promise<void> {
  // Create.
  const sessionId = `typescript-${Date.now()}`;
  const requestId = `${sessionId}-create`;
  const session = await client.createSession({ sessionId, model: "echo", requestId });
  console.log("created", session.sessionId === sessionId);

  // Store. A repeated requestId stores nothing, and gets the response of the first call.
  for (let i = 0; i < 2; i++) {
    const message = '{"role": "user", "content": "Hello"}';
    const stored = await session.storeMessage(message, { requestId: `${sessionId}-store` });
    console.log("stored at", stored.firstSeq);
  }

  // Stream. A stream that breaks is resumed.
  for await (const message of session.getMessages()) show(message.json);

  // Send. Deltas come while the model writes; the events with a seq are what is stored.
  let text = "";
  for await (const event of session.stream("How are you?")) {
    if (event.type === "assistant.message_delta") text += event.data.delta_content;
  }
  console.log("model:", text);

  // Watch, from the beginning.
  await watch(sessionId, 3);

  // An error has a reason.
  console.log("error:", await reasonOf("no-such-session"));
}

async function write(sessionId: string): Promise<void> {
  const session = await client.getOrCreateSession(sessionId);
  const messages: Uint8Array[] = [];
  for await (const line of createInterface(process.stdin)) messages.push(Buffer.from(line, "base64"));
  await session.storeMessages(messages, { format: "openai" });
}

async function watch(sessionId: string, count: number): Promise<void> {
  let left = count;
  for await (const { message } of client.sessions.events(sessionId, { afterSeq: 0 })) {
    if (!message) continue;
    show(message.json);
    left -= 1;
    if (left === 0) break;
  }
}

async function reasonOf(sessionId: string): Promise<string> {
  try {
    await client.getSession(sessionId);
    return "";
  } catch (error) {
    if (error instanceof SessiondError) return error.reason;
    throw error;
  }
}

const [command = "", id = "", count = "0"] = process.argv.slice(2);
switch (command) {
  case "":
    await demo();
    break;
  case "write":
    await write(id);
    break;
  case "read":
    for await (const message of client.sessions.getMessages(id)) show(message.json);
    break;
  case "watch":
    await watch(id, Number(count));
    break;
  case "reason":
    console.log(await reasonOf(id));
    break;
  default:
    throw new Error(`unknown command ${command}`);
}
await client.close();
