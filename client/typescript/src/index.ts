/**
 * The client of sessiond, the session store for language-model agents.
 *
 * @module
 */

export { Client } from "./client.js";
export type { CallOptions, ChangeOptions } from "./connection.js";
export * from "./errors/index.js";
export { LazyList, type Page, PagedList } from "./lazy.js";
export type { ReadOptions, StoreMessageOptions, StoreOptions } from "./messages.js";
export type { JsonObject } from "./protocol/json.js";
export type {
  FitChangeKind,
  Format,
  MessageOrder,
  MessageView,
  Role,
  SessionOrder,
  SessionStatus,
} from "./protocol/names.js";
export { type MessageInput, NewMessage, type NewMessageFields } from "./requests/input.js";
export type { SessionConditions, SessionSettings } from "./requests/sessions.js";
export { Session } from "./session.js";
export type {
  CopyOptions,
  CreateSessionOptions,
  DeleteSessionOptions,
  DeleteSessionsOptions,
  ListOptions,
  ListSessionsOptions,
  Sessions,
  UpdateSessionOptions,
} from "./sessions.js";
export type { ClientOptions } from "./settings.js";
export { Message, type MessageData } from "./types/message.js";
export type {
  DataPart,
  FilePart,
  Part,
  ReasoningPart,
  TextPart,
  ToolCallPart,
  ToolResultPart,
  UnknownPart,
} from "./types/parts.js";
export type {
  CopyResult,
  DeletedSessions,
  SessionCopy,
  SessionInfo,
  SessionOrigin,
  StoredRange,
  TokenCounts,
} from "./types/session.js";
export type { MessageTurn, Usage } from "./types/turn.js";
export { VERSION } from "./version.js";
