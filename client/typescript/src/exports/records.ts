// Creates the records of an export. The Python client writes the same ones.

import type { Asset } from "../assets.js";
import type { Bookmark } from "../gen/sessiond/v1/bookmark.js";
import type * as proto from "../gen/sessiond/v1/message.js";
import type { ExportSessionResponse } from "../gen/sessiond/v1/session_service.js";
import type { Task } from "../gen/sessiond/v1/task.js";
import { isObject, type JsonObject } from "../protocol/json.js";
import { FORMATS, SESSION_STATUSES, TASK_STATUSES } from "../protocol/names.js";
import { fromDuration, timeText } from "../protocol/times.js";
import { ASSET_PREFIX } from "../requests/attachments.js";
import { stringsAtFiles } from "../requests/inline-files.js";
import type { Message } from "../types/message.js";
import { partsToJson } from "./parts.js";

/** The version of the form of exports. */
export const VERSION = 1;
/** Large enough to keep a stream busy, small enough to hold several in memory. */
export const PIECE_BYTES = 256 * 1024;
/**
 * Bytes of an asset in one record; in base64 they have PIECE_BYTES characters. A multiple of 3, so
 * that the base64 of the pieces can be concatenated.
 */
export const ASSET_PIECE_BYTES = (PIECE_BYTES / 4) * 3;

/** The kinds of records, and the names of their lists in a document. */
export const LISTS = {
  task: "tasks",
  bookmark: "bookmarks",
  message: "messages",
  asset: "assets",
} as const;

/** A record's kind, and its JSON object. */
export interface ExportRecord {
  readonly kind: string;
  readonly value: JsonObject;
}

/** Called with the numbers of finished messages and of all messages; `undefined` = unknown. */
export type Progress = (done: number, total: number | undefined) => void;

/** Return the first record of an export. */
export function header({ session, statePatch }: ExportSessionResponse): ExportRecord {
  const { config, metadata, expiry } = session ?? {};
  // A map of protobuf has no order, but exports of the same session should have the same text.
  const state = Object.entries(statePatch?.set ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  const members = state.map(([key, value]) => `${JSON.stringify(key)}:${value}`);
  return {
    kind: "export",
    value: {
      version: VERSION,
      session: {
        session_id: session?.sessionId,
        status: SESSION_STATUSES.nameOf(session?.status ?? 0) ?? null,
        model: session?.model,
        user: session?.user,
        title: session?.title,
        // model_options remains text, because its spelling and the order of its keys matter.
        config: sorted(config ?? {}),
        metadata: sorted(metadata ?? {}),
        state_json: `{${members.join(",")}}`,
        idle_ttl: expiry?.$case === "idleTtl" ? fromDuration(expiry.value) / 1000 : null,
        never_expires: expiry?.$case !== "idleTtl",
        created_at: timeText(session?.createTime),
        active_at: timeText(session?.activeTime),
        last_seq: session?.lastSeq,
      },
    },
  };
}

/** Return the record of a task. */
export function taskRecord(task: Task): ExportRecord {
  return {
    kind: "task",
    value: {
      task_id: task.taskId,
      status: TASK_STATUSES.nameOf(task.status) ?? null,
      data: sorted(task.data ?? {}),
      message_seqs: task.messageSeqs,
      created_at: timeText(task.createTime),
      updated_at: timeText(task.updateTime),
    },
  };
}

/** Return the record of a bookmark. */
export function bookmarkRecord(bookmark: Bookmark): ExportRecord {
  return {
    kind: "bookmark",
    value: {
      name: bookmark.name,
      seq: bookmark.seq ?? 0,
      description: bookmark.description,
      created_at: timeText(bookmark.createTime),
      updated_at: timeText(bookmark.updateTime),
    },
  };
}

/** Return the record of a message. `content` is for people to read. */
export function messageRecord(message: Message): ExportRecord {
  const { proto: pb } = message;
  const { turn } = pb;
  return {
    kind: "message",
    value: {
      seq: message.seq,
      role: message.role,
      created_at: message.createdAtText,
      parent_seq: message.parentSeq ?? null,
      metadata: sorted(message.metadata),
      content: message.content,
      format: FORMATS.nameOf(pb.format) ?? null,
      ...(pb.content?.$case === "parts"
        ? { parts: partsToJson(pb.content.value.parts) }
        : { json: message.json }),
      ...(message.formatName && { format_name: message.formatName }),
      ...(message.messageId && { message_id: message.messageId }),
      ...(turn && {
        turn: {
          turn_id: turn.turnId,
          message_id: turn.messageId,
          model: turn.model,
          provider: turn.provider,
          stop_reason: turn.stopReason,
          usage: turn.usage
            ? {
                input_tokens: turn.usage.inputTokens,
                output_tokens: turn.usage.outputTokens,
                cached_input_tokens: turn.usage.cachedInputTokens,
                reasoning_tokens: turn.usage.reasoningTokens,
              }
            : null,
        },
      }),
      ...(message.incomplete && { incomplete: true }),
      ...(message.isRoot && { is_root: true }),
    },
  };
}

/** Return the record of a piece of an asset, at an offset in bytes. */
export function assetRecord(asset: Asset, offset: number, data: Buffer): ExportRecord {
  return {
    kind: "asset",
    value: {
      asset_id: asset.assetId,
      media_type: asset.mediaType,
      size: asset.size,
      offset,
      data: data.toString("base64"),
    },
  };
}

const REFERENCE = new RegExp(`^${ASSET_PREFIX}([0-9a-f]{64})$`);

/** Return the ids of the assets that a message refers to, possibly with duplicates. */
export function assetIds(message: Message): string[] {
  const { content } = message.proto;
  if (content?.$case === "parts") return assetIdsOf(content.value.parts);
  // Most messages refer to no asset, and a substring search is faster than parsing.
  if (!message.json.includes(ASSET_PREFIX)) return [];
  return stringsAtFiles(message.blob, message.format).flatMap((text) => {
    const found = REFERENCE.exec(text);
    return found?.[1] ? [found[1]] : [];
  });
}

function assetIdsOf(parts: readonly proto.Part[]): string[] {
  return parts.flatMap(({ kind }): string[] => {
    switch (kind?.$case) {
      case "image":
      case "audio":
      case "file":
        return kind.value.source?.$case === "assetId" ? [kind.value.source.value] : [];
      case "toolResult":
        return assetIdsOf(kind.value.parts);
      default:
        return [];
    }
  });
}

/** The number of records of each kind. An asset counts once, however many pieces it has. */
export class ExportCounts {
  readonly #of = new Map<string, number>(Object.values(LISTS).map((name) => [name, 0]));

  get messages(): number {
    return this.#of.get(LISTS.message) ?? 0;
  }

  /** Count a record, and return it. */
  count(record: ExportRecord): ExportRecord {
    const name = (LISTS as Record<string, string>)[record.kind];
    if (name && !(record.kind === "asset" && record.value.offset)) {
      this.#of.set(name, (this.#of.get(name) ?? 0) + 1);
    }
    return record;
  }

  /** Return the last record of an export. */
  end(): ExportRecord {
    return { kind: "end", value: Object.fromEntries(this.#of) };
  }
}

/** Return a JSON value with the keys of its objects sorted: a Struct has no order. */
function sorted<T>(value: T): T {
  if (Array.isArray(value)) return value.map(sorted) as T;
  if (!isObject(value)) return value;
  const keys = Object.keys(value).sort();
  return Object.fromEntries(keys.map((key) => [key, sorted(value[key])])) as T;
}
