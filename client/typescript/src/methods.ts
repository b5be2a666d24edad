import { type BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { AdminServiceDefinition } from "./gen/sessiond/v1/admin_service.js";
import { AssetServiceDefinition } from "./gen/sessiond/v1/asset_service.js";
import { BookmarkServiceDefinition } from "./gen/sessiond/v1/bookmark_service.js";
import { ConversationServiceDefinition } from "./gen/sessiond/v1/conversation_service.js";
import { ProcessingServiceDefinition } from "./gen/sessiond/v1/processing_service.js";
import { SessionServiceDefinition } from "./gen/sessiond/v1/session_service.js";
import { TaskServiceDefinition } from "./gen/sessiond/v1/task_service.js";
import { invalidField } from "./protocol/invalid.js";

interface Codec<T> {
  encode(message: T, writer?: BinaryWriter): BinaryWriter;
  decode(input: BinaryReader | Uint8Array): T;
}

interface MethodDefinition {
  readonly name: string;
  // biome-ignore lint/suspicious/noExplicitAny: any message.
  readonly requestType: Codec<any>;
  // biome-ignore lint/suspicious/noExplicitAny: any message.
  readonly responseType: Codec<any>;
}

interface ServiceDefinition {
  readonly fullName: string;
  readonly methods: Readonly<Record<string, MethodDefinition>>;
}

/** One RPC: its path, and the codecs of its messages. */
export interface Method<Request, Response> {
  /** The path, e.g. "/sessiond.v1.SessionService/GetSession". */
  readonly path: string;
  /** Encode a request; refuse strings that are no valid Unicode. */
  encode(request: Request): Buffer;
  /** Decode a response. */
  decode(bytes: Uint8Array): Response;
}

type MethodsOf<Definition extends ServiceDefinition> = {
  readonly [Name in keyof Definition["methods"]]: Definition["methods"][Name] extends {
    requestType: Codec<infer Request>;
    responseType: Codec<infer Response>;
  }
    ? Method<Request, Response>
    : never;
};

class LoneSurrogate extends Error {}

/** Refuses strings with lone surrogates, which TextEncoder would replace silently. */
class StrictWriter extends BinaryWriter {
  override string(value: string): this {
    if (typeof value === "string" && !value.isWellFormed()) throw new LoneSurrogate();
    return super.string(value);
  }
}

function encoded<Request>(codec: Codec<Request>, request: Request): Buffer {
  let bytes: Uint8Array;
  try {
    bytes = codec.encode(request, new StrictWriter()).finish();
  } catch (error) {
    if (!(error instanceof LoneSurrogate))
      throw invalidField("request", `cannot be sent: ${error}`);
    throw invalidField(
      pathOfSurrogate(request) ?? "request",
      "holds a lone surrogate, so it is not valid Unicode",
    );
  }
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function pathOfSurrogate(value: unknown, path = ""): string | undefined {
  if (typeof value === "string") return value.isWellFormed() ? undefined : path;
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return undefined;
  for (const [key, item] of Object.entries(value)) {
    // A oneof is { $case: "json", value: "..." }.
    const name = key === "value" && "$case" in value ? String(value.$case) : key;
    const inner = Array.isArray(value) ? `${path}[${key}]` : path ? `${path}.${name}` : name;
    const found = pathOfSurrogate(item, inner.replace(/\.content\.json$/, ".json"));
    if (found) return found;
  }
  return undefined;
}

function methodsOf<Definition extends ServiceDefinition>(
  definition: Definition,
): MethodsOf<Definition> {
  const methods = Object.entries(definition.methods).map(([name, method]) => [
    name,
    {
      path: `/${definition.fullName}/${method.name}`,
      encode: (request: unknown) => encoded(method.requestType, request),
      decode: (bytes: Uint8Array): unknown => method.responseType.decode(bytes),
    },
  ]);
  return Object.fromEntries(methods);
}

export const sessionMethods = methodsOf(SessionServiceDefinition);
export const conversationMethods = methodsOf(ConversationServiceDefinition);
export const taskMethods = methodsOf(TaskServiceDefinition);
export const bookmarkMethods = methodsOf(BookmarkServiceDefinition);
export const assetMethods = methodsOf(AssetServiceDefinition);
export const processingMethods = methodsOf(ProcessingServiceDefinition);
export const adminMethods = methodsOf(AdminServiceDefinition);

/** The methods of the protos; the unary ones are for `client.call`. */
export const rpc = {
  sessions: sessionMethods,
  conversations: conversationMethods,
  tasks: taskMethods,
  bookmarks: bookmarkMethods,
  assets: assetMethods,
  processing: processingMethods,
  admin: adminMethods,
} as const;
