// The adapters fit the types of the SDKs. Checked by scripts/check-adapters.mjs, and never run.

import type { SessionStore } from "@anthropic-ai/claude-agent-sdk";
import type { Agent, Session } from "@openai/agents";
import { run } from "@openai/agents";
import type { UIMessage } from "ai";
import { ChatStore } from "../src/adapters/ai-sdk.js";
import { ClaudeSessionStore } from "../src/adapters/claude-agent-sdk.js";
import { AgentsSession } from "../src/adapters/openai-agents.js";
import type { Client } from "../src/index.js";

declare const client: Client;
declare const agent: Agent;

export const agentsSession: Session = new AgentsSession(client, { sessionId: "s" });
export const result = run(agent, "Hello", { session: agentsSession });
export const claudeStore: SessionStore = new ClaudeSessionStore(client);
export const chats = new ChatStore<UIMessage>(client);
export const messages: Promise<UIMessage[]> = chats.load("chat");
export const saved = (all: UIMessage[]): Promise<void> => chats.save("chat", all);
