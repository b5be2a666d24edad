// The settings and options of the SDK, in any of its spellings. No I/O.

import { isObject, type JsonObject } from "../protocol/json.js";
import type { AttachmentInput } from "../requests/attachments.js";
import type { Prompt } from "../requests/turns.js";
import type { ClientOptions } from "../settings.js";
import type { EventHandler, EventType } from "../types/event.js";
import type { SessionInfo } from "../types/session.js";

/** The settings of a session. Other fields of the SDK throw a TypeError unless they are empty. */
export interface SessionConfig {
  /** The session's id. Default: the server generates one. */
  readonly sessionId?: string | undefined;
  /** Name of the model. Default: the server's default model. */
  readonly model?: string | undefined;
  /** The system prompt: a string, or `{ content }` with the mode "append" or "replace". */
  readonly systemMessage?:
    | string
    | { readonly content: string; readonly mode?: string }
    | undefined;
  /** Passed to the model unchanged. */
  readonly reasoningEffort?: string | undefined;
  /**
   * true = the session never expires; false = the server's default. An object is only stored in the
   * session's config: it concerns compaction of the history, not expiry.
   */
  readonly infiniteSessions?: boolean | JsonObject | undefined;
  /** A function to call with each event, as with session.on(). */
  readonly onEvent?: EventHandler | undefined;
  /** Fields of the SDK, in any spelling. */
  readonly [field: string]: unknown;
}

/** A message to send. */
export interface MessageOptions {
  /** The user's text. */
  readonly prompt: string;
  /** Files, as `client.sessions.send` takes them, or the SDK's objects of type "file" or "blob". */
  readonly attachments?: readonly AttachmentInput[] | undefined;
  /** What to do while a turn is running: "enqueue" (default) or "immediate". */
  readonly mode?: "enqueue" | "immediate" | undefined;
}

/** A session, as the SDK lists it. */
export interface SessionMetadata {
  readonly sessionId: string;
  /** Time of creation. */
  readonly startTime: Date;
  /** Time of the last append or change. */
  readonly modifiedTime: Date;
  /** The title, or the first words of the first message. */
  readonly summary: string | undefined;
  /** Always true: sessions are on the server. */
  readonly isRemote: true;
}

const SUPPORTED: ReadonlySet<string> = new Set([
  "sessionId",
  "model",
  "systemMessage",
  "reasoningEffort",
  "infiniteSessions",
  "onEvent",
]);
const IGNORED: ReadonlySet<string> = new Set([
  "streaming",
  "includeSubAgentStreamingEvents",
  "clientName",
  "workingDirectory",
  "configDir",
  "onPermissionRequest",
  "onUserInputRequest",
  "onElicitationRequest",
  "onExitPlanModeRequest",
  "onAutoModeSwitchRequest",
  "onMcpAuthRequest",
  "disableResume",
  "continuePendingWork",
  "enableSessionTelemetry",
]);
// Options of the local process that the SDK starts.
const PROCESS_OPTIONS: ReadonlySet<string> = new Set([
  "autoRestart",
  "autoStart",
  "baseDirectory",
  "cliArgs",
  "cliPath",
  "cliUrl",
  "cwd",
  "env",
  "githubToken",
  "logLevel",
  "port",
  "telemetry",
  "useLoggedInUser",
  "useStdio",
  "workingDirectory",
]);
const CLIENT_OPTIONS: ReadonlySet<string> = new Set([
  "target",
  "apiKey",
  "timeoutMs",
  "retries",
  "tls",
  "channelOptions",
]);

/** The options of a CopilotClient: sessiond's own, and those of the SDK, which are ignored. */
export interface CopilotClientOptions extends ClientOptions {
  readonly [field: string]: unknown;
}

/** Return the options of sessiond's client; refuse unknown ones. */
export function clientOptionsOf(options: CopilotClientOptions): ClientOptions {
  const values = spelled(
    "CopilotClient",
    options,
    new Set([...CLIENT_OPTIONS, ...PROCESS_OPTIONS]),
  );
  return Object.fromEntries(Object.entries(values).filter(([key]) => CLIENT_OPTIONS.has(key)));
}

/** The settings that a session should have. */
export interface Wanted {
  readonly sessionId: string | undefined;
  readonly model: string | undefined;
  readonly config: JsonObject | undefined;
  readonly neverExpires: boolean;
  readonly onEvent: EventHandler | undefined;
}

/** Return the settings that a session should have. */
export function wantedOf(call: string, given: SessionConfig): Wanted {
  const values = spelled(call, given, new Set([...SUPPORTED, ...IGNORED]));
  const infinite: unknown = values.infiniteSessions ?? false;
  if (typeof infinite !== "boolean" && !isObject(infinite)) {
    // Refuse values of other types. If one were taken for false, the session would expire,
    // although the caller may have meant true.
    throw new TypeError(`infiniteSessions is true, false or an object, not ${typeof infinite}`);
  }
  const config = {
    ...(isObject(infinite) && { infinite_sessions: infinite }),
    ...(values.systemMessage && { system_prompt: systemPrompt(values.systemMessage) }),
    ...(values.reasoningEffort && {
      model_options: { reasoning_effort: values.reasoningEffort },
    }),
  };
  return {
    sessionId: values.sessionId,
    model: values.model,
    config: Object.keys(config).length > 0 ? config : undefined,
    neverExpires: infinite === true,
    onEvent: values.onEvent,
  };
}

/** Return the fields in the client's spelling; refuse unknown ones that are not empty. */
function spelled(call: string, given: object, known: ReadonlySet<string>): JsonObject {
  if (!isObject(given)) throw new TypeError(`${call}() takes an object`);
  const values: JsonObject = {};
  for (const [key, value] of Object.entries(given)) {
    if (value === undefined || value === null) continue;
    const name = key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
    if (known.has(name)) {
      if (name in values) throw new TypeError(`${call}() got ${name} twice`);
      values[name] = value;
    } else if (!isEmpty(value)) {
      throw new TypeError(`${call}() knows no ${key} here; it takes ${[...known].join(", ")}`);
    }
  }
  return values;
}

function isEmpty(value: unknown): boolean {
  if (value === false || value === "") return true;
  if (Array.isArray(value)) return value.length === 0;
  return isObject(value) && Object.keys(value).length === 0;
}

function systemPrompt(given: unknown): string {
  if (typeof given === "string") return given;
  if (isObject(given) && typeof given.content === "string") {
    const { content, mode = "append", ...rest } = given;
    if (Object.keys(rest).length === 0 && (mode === "append" || mode === "replace")) return content;
  }
  throw new TypeError(
    'systemMessage must be a string, or { content } with mode "append" or "replace"',
  );
}

/** Return the prompt to send. */
export function promptOf(options: string | MessageOptions): Prompt {
  if (typeof options === "string") return options;
  const values = spelled("send", options, new Set(["prompt", "attachments", "mode"]));
  if (values.prompt === undefined) throw new TypeError("send() needs a prompt");
  return values;
}

/** Return the type of events (undefined = any) and the function to call with them. */
export function handlerOf(
  call: string,
  typeOrHandler: EventType | EventHandler,
  handler: EventHandler | undefined,
): { type: string | undefined; call: EventHandler } {
  if (typeof typeOrHandler !== "string") return { type: undefined, call: typeOrHandler };
  if (!handler) throw new TypeError(`${call}() needs a handler in addition to the type`);
  return { type: typeOrHandler, call: handler };
}

/** Return a session as the SDK lists it. */
export function metadataOf(info: SessionInfo): SessionMetadata {
  return {
    sessionId: info.sessionId,
    startTime: info.createdAt,
    modifiedTime: info.activeAt,
    summary: info.summary || undefined,
    isRemote: true,
  };
}
