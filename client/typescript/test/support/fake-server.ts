// A gRPC server that answers as a test says, and records what it was asked.

import { after } from "node:test";
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServiceDefinition,
  type ServiceError,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { Any } from "../../src/gen/google/protobuf/any.js";
import { ErrorInfo, RetryInfo } from "../../src/gen/google/rpc/error_details.js";
import { Status } from "../../src/gen/google/rpc/status.js";
import { AdminServiceDefinition } from "../../src/gen/sessiond/v1/admin_service.js";
import { AssetServiceDefinition } from "../../src/gen/sessiond/v1/asset_service.js";
import { ConversationServiceDefinition } from "../../src/gen/sessiond/v1/conversation_service.js";
import { ProcessingServiceDefinition } from "../../src/gen/sessiond/v1/processing_service.js";
import { SessionServiceDefinition } from "../../src/gen/sessiond/v1/session_service.js";
import { Client, type ClientOptions } from "../../src/index.js";
import { toDuration } from "../../src/protocol/times.js";

const SERVICES = [
  SessionServiceDefinition,
  ConversationServiceDefinition,
  ProcessingServiceDefinition,
  AdminServiceDefinition,
  AssetServiceDefinition,
];

/** What the server was asked. */
export interface Received {
  readonly method: string;
  // biome-ignore lint/suspicious/noExplicitAny: a request of any method.
  readonly request: any;
  readonly metadata: Metadata;
  /** Milliseconds until the deadline. Infinity = none. */
  readonly remainingMs: number;
}

/** Never answers. */
export const SILENCE = Symbol("silence");

type Step = object | ServiceError | typeof SILENCE;
/** A response, an error, the steps of a stream, or a function that chooses one of these. */
export type Answer =
  | Step
  | readonly Step[]
  // biome-ignore lint/suspicious/noExplicitAny: a request of any method.
  | ((request: any) => Step | readonly Step[] | Promise<Step | readonly Step[]>);

/** Return an error of the server. */
export function failure(
  code: keyof typeof status,
  text: string,
  details: { reason?: string; metadata?: Record<string, string>; retryAfterMs?: number } = {},
): ServiceError {
  const found: Any[] = [];
  const add = (type: string, value: Uint8Array) =>
    found.push(Any.create({ typeUrl: `type.googleapis.com/google.rpc.${type}`, value }));
  if (details.reason) {
    const info = {
      reason: details.reason,
      domain: "sessiond.v1",
      metadata: details.metadata ?? {},
    };
    add("ErrorInfo", ErrorInfo.encode(ErrorInfo.create(info)).finish());
  }
  if (details.retryAfterMs !== undefined) {
    const retryDelay = toDuration(details.retryAfterMs, "retryAfterMs");
    add("RetryInfo", RetryInfo.encode(RetryInfo.create({ retryDelay })).finish());
  }
  const metadata = new Metadata();
  if (found.length > 0) {
    const encoded = Status.encode(Status.create({ code: status[code], details: found })).finish();
    metadata.set("grpc-status-details-bin", Buffer.from(encoded));
  }
  return Object.assign(new Error(text), { code: status[code], details: text, metadata });
}

/** A server whose methods give the answers of `on`. The last answer is repeated for later calls. */
export class FakeServer {
  readonly received: Received[] = [];
  target = "";
  readonly #answers = new Map<string, Answer[]>();
  readonly #server = new Server();

  async start(): Promise<void> {
    for (const definition of SERVICES) {
      const service: Record<string, unknown> = {};
      const implementation: UntypedServiceImplementation = {};
      for (const [name, method] of Object.entries(definition.methods)) {
        service[name] = {
          path: `/${definition.fullName}/${method.name}`,
          requestStream: true,
          responseStream: true,
          requestSerialize: () => Buffer.alloc(0),
          requestDeserialize: (bytes: Buffer) => method.requestType.decode(bytes),
          responseSerialize: (value: object) =>
            Buffer.from(method.responseType.encode(value as never).finish()),
          responseDeserialize: () => undefined,
        };
        implementation[name] = (call: ServerDuplexStream<object, object>) =>
          void this.#serve(method.name, call);
      }
      this.#server.addService(service as unknown as ServiceDefinition, implementation);
    }
    const port = await new Promise<number>((resolve, reject) => {
      this.#server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      );
    });
    this.target = `127.0.0.1:${port}`;
  }

  /** Say what a method answers, call after call. */
  on(method: string, ...answers: Answer[]): void {
    this.#answers.set(method, answers);
  }

  /** Return the requests of a method. */
  // biome-ignore lint/suspicious/noExplicitAny: a request of any method.
  of(method: string): any[] {
    return this.received.filter((call) => call.method === method).map(({ request }) => request);
  }

  stop(): void {
    this.#server.forceShutdown();
  }

  async #serve(method: string, call: ServerDuplexStream<object, object>): Promise<void> {
    call.on("error", () => {});
    const first = await new Promise((resolve) => {
      call.once("data", resolve);
      call.once("end", () => resolve(undefined));
    });
    call.resume();
    const deadline = call.getDeadline();
    this.received.push({
      method,
      request: first,
      metadata: call.metadata,
      remainingMs: Number(deadline) - Date.now(),
    });
    const answers = this.#answers.get(method) ?? [failure("UNIMPLEMENTED", `no ${method}`)];
    const next = answers.length > 1 ? answers.shift() : answers[0];
    const answer = typeof next === "function" ? await next(first) : next;
    for (const step of Array.isArray(answer) ? answer : [answer]) {
      if (step === SILENCE) return;
      if (step instanceof Error) {
        call.emit("error", step);
        return;
      }
      call.write(step);
    }
    call.end();
  }
}

/** Start a server and a client of it, which end with the tests. */
export async function fake(
  options: ClientOptions = {},
): Promise<{ server: FakeServer; client: Client }> {
  const server = new FakeServer();
  await server.start();
  const client = new Client({ target: server.target, ...options });
  after(async () => {
    await client.close();
    server.stop();
  });
  return { server, client };
}
