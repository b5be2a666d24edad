// Converts the records of an export to messages of the protos.

import { Bookmark } from "../gen/sessiond/v1/bookmark.js";
import { Message } from "../gen/sessiond/v1/message.js";
import { Session } from "../gen/sessiond/v1/session.js";
import { StatePatch } from "../gen/sessiond/v1/session_state.js";
import { Task } from "../gen/sessiond/v1/task.js";
import { MessageTurn } from "../gen/sessiond/v1/turn.js";
import { invalidField } from "../protocol/invalid.js";
import { isObject } from "../protocol/json.js";
import { FORMATS, ROLES, SESSION_STATUSES, TASK_STATUSES } from "../protocol/names.js";
import { toDuration } from "../protocol/times.js";
import type { Fields } from "./fields.js";
import { partFromJson } from "./parts.js";

export function sessionFrom(fields: Fields): Session {
  // Older clients exported the status as "state".
  const status = typeof fields.get("state") === "string" ? "state" : "status";
  const idleTtl = fields.get("idle_ttl");
  if (idleTtl !== undefined && typeof idleTtl !== "number") {
    throw fields.fault("idle_ttl", "is not a number of seconds");
  }
  return Session.create({
    sessionId: fields.text("session_id"),
    model: fields.text("model"),
    user: fields.text("user"),
    title: fields.text("title"),
    status: fields.nameOf(status, SESSION_STATUSES),
    config: fields.struct("config"),
    metadata: fields.struct("metadata"),
    createTime: fields.time("created_at"),
    activeTime: fields.time("active_at"),
    expiry:
      idleTtl !== undefined
        ? { $case: "idleTtl", value: toDuration(idleTtl * 1000, `${fields.place}: idle_ttl`) }
        : fields.get("never_expires")
          ? { $case: "neverExpires", value: true }
          : undefined,
  });
}

/** Read the state of a session, which is an object as JSON text. Its values keep their spelling. */
export function statePatchFrom(fields: Fields): StatePatch | undefined {
  const text = fields.text("state_json");
  if (!text) return undefined;
  let state: unknown;
  try {
    state = JSON.parse(text);
  } catch (error) {
    throw fields.fault("state_json", `is not a state: ${(error as Error).message}`);
  }
  if (!isObject(state)) throw fields.fault("state_json", "is not a state: it is no JSON object");
  return StatePatch.create({ set: members(text) });
}

/** Return the members of an object's compact JSON text, each value as it is written. */
function members(text: string): Record<string, string> {
  const found: Record<string, string> = {};
  // Strings, brackets, and the colons and commas between them.
  const tokens = /"(?:[^"\\]|\\.)*"|[{}[\],:]/gs;
  let depth = 0;
  let key: string | undefined;
  let start = 0;
  for (const { 0: token, index } of text.matchAll(tokens)) {
    if (token === "{" || token === "[") depth += 1;
    if (depth === 1 && key === undefined && token.startsWith('"')) key = JSON.parse(token);
    else if (depth === 1 && token === ":") start = index + 1;
    else if (depth === 1 && key !== undefined && (token === "," || token === "}")) {
      found[key] = text.slice(start, index).trim();
      key = undefined;
    }
    if (token === "}" || token === "]") depth -= 1;
  }
  return found;
}

export function taskFrom(fields: Fields): Task {
  return Task.create({
    taskId: fields.text("task_id"),
    status: fields.nameOf("status", TASK_STATUSES),
    data: fields.struct("data"),
    messageSeqs: fields.seqs("message_seqs"),
    createTime: fields.time("created_at"),
    updateTime: fields.time("updated_at"),
  });
}

export function bookmarkFrom(fields: Fields): Bookmark {
  return Bookmark.create({
    name: fields.text("name"),
    description: fields.text("description"),
    seq: fields.integer("seq"),
    createTime: fields.time("created_at"),
    updateTime: fields.time("updated_at"),
  });
}

export function messageFrom(fields: Fields): Message {
  const hasParts = fields.get("parts") !== undefined;
  if (!hasParts && fields.get("json") === undefined) {
    throw invalidField(fields.place, "has neither json nor parts");
  }
  return Message.create({
    role: fields.nameOf("role", ROLES),
    format: fields.nameOf("format", FORMATS),
    content: hasParts
      ? { $case: "parts", value: { parts: fields.list("parts").map(partFromJson) } }
      : { $case: "json", value: fields.text("json") },
    seq: fields.integer("seq") ?? 0,
    parentSeq: fields.integer("parent_seq") ?? 0,
    messageId: fields.text("message_id"),
    formatName: fields.text("format_name"),
    metadata: fields.struct("metadata"),
    createTime: fields.time("created_at"),
    turn: turnFrom(fields.nested("turn")),
    incomplete: fields.boolean("incomplete"),
    isRoot: fields.boolean("is_root"),
  });
}

function turnFrom(fields: Fields | undefined): MessageTurn | undefined {
  if (!fields) return undefined;
  const usage = fields.nested("usage");
  return MessageTurn.create({
    turnId: fields.text("turn_id"),
    messageId: fields.text("message_id"),
    model: fields.text("model"),
    provider: fields.text("provider"),
    stopReason: fields.text("stop_reason"),
    usage: usage && {
      inputTokens: usage.integer("input_tokens") ?? 0,
      outputTokens: usage.integer("output_tokens") ?? 0,
      cachedInputTokens: usage.integer("cached_input_tokens") ?? 0,
      reasoningTokens: usage.integer("reasoning_tokens") ?? 0,
    },
  });
}
