/**
 * The client of sessiond, the session store for language-model agents.
 *
 * @module
 */

export type {
  Admin,
  ApiKey,
  CreateApiKeyOptions,
  LimitUsage,
  NewApiKey,
  Project,
  ProjectLimits,
  ProjectUsage,
  SetProjectLimits,
} from "./admin.js";
export type { Asset, AssetSource, Assets, DownloadOptions, UploadOptions } from "./assets.js";
export type {
  Bookmark,
  Bookmarks,
  CreateBookmarkOptions,
  SessionBookmarks,
  UpdateBookmarkOptions,
} from "./bookmarks.js";
export { Client } from "./client.js";
export * from "./errors/index.js";
export type { Progress } from "./exports/records.js";
export type { ExportOptions, ExportToOptions, ImportOptions } from "./exports.js";
export { LazyList, type Page, PagedList } from "./lazy.js";
export type {
  AcknowledgeOptions,
  FailedMessage,
  Lease,
  LeaseOptions,
  ProcessingCounts,
  RequeueOptions,
} from "./leases.js";
export { onWarning, type WarningHandler } from "./log.js";
export type {
  MessageName,
  ReadOptions,
  RemovalOptions,
  RewindOptions,
  StoreMessageOptions,
  StoreOptions,
} from "./messages.js";
export { type Method, rpc } from "./methods.js";
export type { CallOptions, ChangeOptions } from "./options.js";
export {
  type AcquireOptions,
  type LeasedSession,
  SessionPool,
  type SessionPoolOptions,
} from "./pool.js";
export type { PreviewOptions } from "./previews.js";
export type { LeaseHandler, Processing, WorkOptions } from "./processing.js";
export type { JsonObject } from "./protocol/json.js";
export type {
  FitChangeKind,
  Format,
  MessageOrder,
  MessageView,
  OnDuplicate,
  Role,
  SendMode,
  SessionOrder,
  SessionStatus,
  TaskStatus,
  TurnState,
} from "./protocol/names.js";
export type { RegenerateOptions } from "./regeneration.js";
export type { AttachmentFields, AttachmentInput } from "./requests/attachments.js";
export { type MessageInput, NewMessage, type NewMessageFields } from "./requests/input.js";
export type { SessionConditions, SessionSettings } from "./requests/sessions.js";
export type { StateChange } from "./requests/state.js";
export type { Prompt, SendFields } from "./requests/turns.js";
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
export type {
  CreateTaskOptions,
  DeleteOptions,
  ListTasksOptions,
  SessionTasks,
  Task,
  TaskSettings,
  Tasks,
  UpdateTaskOptions,
} from "./tasks.js";
export type { ExportSource } from "./transfer.js";
export type {
  AbortOptions,
  EventOptions,
  ListTurnsOptions,
  SendAndWaitOptions,
  SendOptions,
  StreamOptions,
} from "./turns.js";
export { Event, type EventHandler, type EventType } from "./types/event.js";
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
  RewindResult,
  SessionCopy,
  SessionInfo,
  SessionOrigin,
  StoredRange,
  TokenCounts,
} from "./types/session.js";
export type {
  FitChange,
  MessageTurn,
  SentMessage,
  Turn,
  TurnError,
  TurnPreview,
  Usage,
} from "./types/turn.js";
export { VERSION } from "./version.js";
