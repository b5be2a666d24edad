import type { Session } from "../gen/sessiond/v1/session.js";
import { type CopySessionRequest, SessionFilter } from "../gen/sessiond/v1/session_service.js";
import { checkBoolean, checkOptionalText } from "../protocol/checks.js";
import { invalidField } from "../protocol/invalid.js";
import type { JsonObject } from "../protocol/json.js";
import { SESSION_STATUSES, type SessionStatus } from "../protocol/names.js";
import { toCondition, toConfig, toStruct } from "../protocol/structs.js";
import { toDuration, toTimestamp } from "../protocol/times.js";

/** The settings of a session. */
export interface SessionSettings {
  /** Model that the conversation uses, at most 256 characters. "" = none. */
  readonly model?: string | undefined;
  /** User whom the conversation belongs to, at most 256 characters. "" = none. */
  readonly user?: string | undefined;
  /** Name for people to read, at most 512 characters. "" = none. */
  readonly title?: string | undefined;
  /**
   * Settings of the conversation: a JSON object of at most 64 KiB, integers below 2^53. Its key
   * `model_options`, an object of at most 1 MiB, keeps the order of its keys.
   */
  readonly config?: JsonObject | undefined;
  /** Labels of the caller: a JSON object of at most 64 KiB, integers below 2^53. */
  readonly metadata?: JsonObject | undefined;
  /** How long the session lives unused, in milliseconds: from 1 second to 10 years. */
  readonly idleTtlMs?: number | undefined;
  /** `true` keeps the session until it is deleted. Not together with idleTtlMs. */
  readonly neverExpires?: boolean | undefined;
}

/** Conditions on sessions. A session must meet all given conditions. */
export interface SessionConditions {
  /** Prefix of the session id, case-sensitive. */
  readonly sessionIdPrefix?: string | undefined;
  /** Sessions of this user. */
  readonly user?: string | undefined;
  /** Sessions of this status. */
  readonly status?: SessionStatus | undefined;
  /** Sessions of this model. */
  readonly model?: string | undefined;
  /** Sessions whose config contains this JSON object, as PostgreSQL's jsonb `@>` defines it. */
  readonly configContains?: JsonObject | undefined;
  /** Sessions whose metadata contains this JSON object. */
  readonly metadataContains?: JsonObject | undefined;
  /** Sessions created at this time or later. */
  readonly createdFrom?: Date | undefined;
  /** Sessions created before this time. */
  readonly createdBefore?: Date | undefined;
  /** Sessions last active at this time or later. */
  readonly activeFrom?: Date | undefined;
  /** Sessions last active before this time. */
  readonly activeBefore?: Date | undefined;
}

export const SETTINGS = [
  "model",
  "user",
  "title",
  "config",
  "metadata",
  "idleTtlMs",
  "neverExpires",
] as const satisfies readonly (keyof SessionSettings)[];

export const CONDITIONS = [
  "sessionIdPrefix",
  "user",
  "status",
  "model",
  "configContains",
  "metadataContains",
  "createdFrom",
  "createdBefore",
  "activeFrom",
  "activeBefore",
] as const satisfies readonly (keyof SessionConditions)[];

type Settings = Pick<Session, "model" | "user" | "title" | "config" | "metadata" | "expiry">;

/**
 * Return the fields of a request that hold settings; those that are not given are left out.
 *
 * @throws InvalidField if a value cannot be sent.
 */
export function settingsFields(
  settings: SessionSettings,
): Partial<Settings> & Partial<Pick<CopySessionRequest, keyof Settings>> {
  const { model, user, title, config, metadata, idleTtlMs, neverExpires } = settings;
  checkOptionalText(model, "model");
  checkOptionalText(user, "user");
  checkOptionalText(title, "title");
  checkBoolean(neverExpires, "neverExpires");
  if (neverExpires && idleTtlMs !== undefined) {
    throw invalidField("idleTtlMs", "cannot be given together with neverExpires");
  }
  return {
    ...(model !== undefined && { model }),
    ...(user !== undefined && { user }),
    ...(title !== undefined && { title }),
    ...(config !== undefined && { config: toConfig(config, "config") }),
    ...(metadata !== undefined && { metadata: toStruct(metadata, "metadata") }),
    ...(idleTtlMs !== undefined && {
      expiry: { $case: "idleTtl" as const, value: toDuration(idleTtlMs, "idleTtlMs") },
    }),
    ...(neverExpires && { expiry: { $case: "neverExpires" as const, value: true } }),
  };
}

const PATHS: Readonly<Record<keyof SessionSettings, string>> = {
  model: "model",
  user: "user",
  title: "title",
  config: "config",
  metadata: "metadata",
  idleTtlMs: "idle_ttl",
  neverExpires: "never_expires",
};

/**
 * Return the mask of an update. Without a mask, the server interprets an empty string or object as
 * "unchanged".
 */
export function settingsMask(settings: SessionSettings): string[] | undefined {
  const paths = SETTINGS.filter((key) => settings[key] !== undefined && settings[key] !== false);
  return paths.length > 0 ? paths.map((key) => PATHS[key]) : undefined;
}

/**
 * Return the filter that selects sessions.
 *
 * @throws InvalidField if a value cannot be sent.
 */
export function filterOf(conditions: SessionConditions): SessionFilter {
  const { status, configContains, metadataContains } = conditions;
  for (const field of ["sessionIdPrefix", "user", "model"] as const) {
    checkOptionalText(conditions[field], field);
  }
  const time = (field: "createdFrom" | "createdBefore" | "activeFrom" | "activeBefore") => {
    const value = conditions[field];
    return value && toTimestamp(value, field);
  };
  return SessionFilter.create({
    sessionIdPrefix: conditions.sessionIdPrefix ?? "",
    user: conditions.user ?? "",
    status: status === undefined ? 0 : SESSION_STATUSES.numberOf(status, "status"),
    model: conditions.model ?? "",
    configContains: configContains && toCondition(configContains, "configContains"),
    metadataContains: metadataContains && toStruct(metadataContains, "metadataContains"),
    createdFrom: time("createdFrom"),
    createdBefore: time("createdBefore"),
    activeFrom: time("activeFrom"),
    activeBefore: time("activeBefore"),
  });
}
