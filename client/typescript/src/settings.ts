import { readFileSync } from "node:fs";
import { ChannelCredentials, type ChannelOptions, credentials, Metadata } from "@grpc/grpc-js";
import { invalidField, shown, typeName } from "./protocol/invalid.js";
import { Deadline } from "./protocol/retry.js";
import { VERSION } from "./version.js";

const DEFAULT_TARGET = "localhost:50051";
const DEFAULT_PORT = 50051;
/** The default timeout of a call, over all its attempts. */
export const DEFAULT_TIMEOUT_MS = 30_000;

const CHANNEL_OPTIONS = {
  // Detects a peer that vanished during a call. The server allows a ping every 10 seconds.
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.max_receive_message_length": 64 * 1024 * 1024,
  // The client retries by itself, with a request_id and within the call's timeout. Retries by gRPC
  // would multiply the attempts, and buffer streams.
  "grpc.enable_retries": 0,
  // All calls fail while a channel backs off, so it must not back off longer than our retries do.
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 2_000,
  // Clients in one process must not share connections, and thus failures.
  "grpc.use_local_subchannel_pool": 1,
  "grpc.primary_user_agent": `sessiond-typescript/${VERSION}`,
} satisfies ChannelOptions;

/** The options of a client. */
export interface ClientOptions {
  /** HOST:PORT of the server. Default: `$SESSIOND_TARGET`, or localhost:50051. */
  readonly target?: string | undefined;
  /**
   * The API key, which also determines the project. Default: `$SESSIOND_API_KEY`, or none. Without
   * TLS the key is sent unencrypted.
   */
  readonly apiKey?: string | undefined;
  /** Timeout of a call over all its attempts, in milliseconds. Default: 30,000. */
  readonly timeoutMs?: number | undefined;
  /**
   * How often a call is repeated at most after transient errors. 0 = never. Default: no limit; a
   * call is repeated until its timeout has passed, or for a minute if it has none. A stream that
   * has delivered something is resumed for a minute in any case.
   */
  readonly retries?: number | undefined;
  /**
   * `true` = TLS with the certificate authorities of Node; a path = TLS with the certificate
   * authority in this PEM file; `ChannelCredentials` of grpc-js for anything else. Default: no TLS.
   */
  readonly tls?: boolean | string | ChannelCredentials | undefined;
  /** Channel options of grpc-js, which override the client's own. */
  readonly channelOptions?: ChannelOptions | undefined;
}

/** The settings of one client. */
export interface Settings {
  readonly target: string;
  readonly timeoutMs: number;
  readonly retries: number;
  readonly metadata: Metadata;
  readonly credentials: ChannelCredentials;
  readonly channelOptions: ChannelOptions;
}

/**
 * Combine options, environment and defaults.
 *
 * @throws InvalidField if an option is malformed.
 */
export function settingsOf(options: ClientOptions): Settings {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  new Deadline(timeoutMs); // checks it
  const retries = options.retries ?? Number.POSITIVE_INFINITY;
  if (retries < 0 || (retries !== Number.POSITIVE_INFINITY && !Number.isInteger(retries))) {
    throw invalidField("retries", `is ${shown(retries)}; it must be an integer from 0`);
  }
  const metadata = new Metadata();
  const key = keyOf(options.apiKey ?? process.env.SESSIOND_API_KEY ?? "");
  if (key) metadata.set("authorization", `Bearer ${key}`);
  const target = targetOf(options.target || process.env.SESSIOND_TARGET || DEFAULT_TARGET);
  return {
    target,
    timeoutMs,
    retries,
    metadata,
    credentials: credentialsOf(options.tls ?? false),
    channelOptions: { ...CHANNEL_OPTIONS, ...proxyOptions(target), ...options.channelOptions },
  };
}

/**
 * Return the options that keep calls to this machine away from a proxy.
 *
 * gRPC sends all calls to the proxy of the variables grpc_proxy, https_proxy and http_proxy, unless
 * no_proxy names the host. A proxy does not reach this machine's loopback.
 */
function proxyOptions(target: string): ChannelOptions {
  return isLocal(target) ? { "grpc.enable_http_proxy": 0 } : {};
}

/** Return whether a target, in any of gRPC's forms, is on the loopback or a Unix socket. */
function isLocal(target: string): boolean {
  if (target.startsWith("unix:")) return true;
  const addresses = target.replace(/^(dns|ipv4|ipv6):(\/\/[^/]*\/)?/, "");
  return addresses.split(",").every((address) => {
    const host = address.replace(/^\[([^\]]*)\](:\d*)?$/, "$1").replace(/^([^:]*):\d*$/, "$1");
    return /^(localhost|.*\.localhost|127(\.\d+){3}|(0*:)+0*1)\.?$/i.test(host);
  });
}

function keyOf(value: unknown): string {
  if (typeof value !== "string") {
    throw invalidField("apiKey", `must be a string, not ${typeName(value)}`);
  }
  const key = value.trim();
  if (!/^[\x20-\x7e]*$/.test(key)) {
    throw invalidField("apiKey", "must consist of printable ASCII characters");
  }
  return key;
}

function targetOf(target: unknown): string {
  if (typeof target !== "string") {
    throw invalidField("target", `must be a string, not ${typeName(target)}`);
  }
  if (/^(https?|grpcs?):\/\//.test(target)) {
    throw invalidField(
      "target",
      `must be HOST:PORT, not a URL: "${target}" (for TLS, set tls: true)`,
    );
  }
  // gRPC's default port is 443, where no sessiond listens.
  return /^[\w.-]+$/.test(target) ? `${target}:${DEFAULT_PORT}` : target;
}

function credentialsOf(tls: unknown): ChannelCredentials {
  if (tls instanceof ChannelCredentials) return tls;
  if (tls === false) return credentials.createInsecure();
  if (tls === true) return credentials.createSsl();
  if (typeof tls !== "string" || tls === "") {
    throw invalidField("tls", `is ${shown(tls)}; it must be true, false, a path or credentials`);
  }
  try {
    return credentials.createSsl(readFileSync(tls));
  } catch (error) {
    throw invalidField("tls", `names a file that cannot be read: ${String(error)}`);
  }
}
