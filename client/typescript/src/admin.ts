import { Calls } from "./connection.js";
import {
  type ApiKey as ApiKeyProto,
  CreateApiKeyRequest,
  CreateProjectRequest,
  ListApiKeysRequest,
  ListProjectsRequest,
  type Project as ProjectProto,
} from "./gen/sessiond/v1/admin_service.js";
import {
  type LimitUsage as LimitUsageProto,
  ProjectLimits as ProjectLimitsProto,
} from "./gen/sessiond/v1/limits.js";
import type { PagedList } from "./lazy.js";
import { adminMethods } from "./methods.js";
import type { CallOptions } from "./options.js";
import { checkBoolean, checkInteger, checkOptionalText, checkText } from "./protocol/checks.js";
import { fromOptionalTimestamp, fromTimestamp } from "./protocol/times.js";
import type { ListOptions } from "./sessions.js";

/** A tenant: each session, user and key belongs to exactly one project. */
export interface Project {
  /** The project's name, unique on the server. */
  readonly name: string;
  /** Time of creation. */
  readonly createdAt: Date;
}

/**
 * The limits of a project. `undefined` is the server's default, which may be no limit. 0 is no
 * limit, whatever the default is. The comment of each limit ends with the error that calls above
 * the limit throw.
 */
export interface ProjectLimits {
  /** Calls per second at each server process, without calls of `client.admin`. RateLimited. */
  readonly callsPerSecond?: number | undefined;
  /** Messages stored per second at each server process. Imports wait, others get RateLimited. */
  readonly messagesPerSecond?: number | undefined;
  /** Number of sessions. QuotaExceeded. */
  readonly maxSessions?: number | undefined;
  /** Bytes of messages and assets. A copy counts in full. QuotaExceeded. */
  readonly maxBytes?: number | undefined;
  /** Number of turns that run or are queued. QuotaExceeded. */
  readonly maxRunningTurns?: number | undefined;
  /** Input and output tokens of turns, per day from midnight UTC. QuotaExceeded. */
  readonly modelTokensPerDay?: number | undefined;
}

/** The limits that were set for a project. */
export interface SetProjectLimits extends ProjectLimits {
  /** Changes whenever the limits do. */
  readonly etag: string;
}

/** How much of one limit is used. */
export interface LimitUsage {
  /** The amount that is used. */
  readonly used: number;
  /** The project's own limit or the server's default. `undefined` = no limit. */
  readonly limit: number | undefined;
}

/** The usage of a project, and its effective limits. */
export interface ProjectUsage {
  /** Calls of the last second at the responding process; 0 if there is no limit. */
  readonly callsPerSecond: LimitUsage;
  /** Messages stored in the last second at the responding process; 0 if there is no limit. */
  readonly messagesPerSecond: LimitUsage;
  /** Number of sessions. */
  readonly sessions: LimitUsage;
  /** Bytes of messages and assets. */
  readonly bytes: LimitUsage;
  /** Number of turns that run or are queued. */
  readonly runningTurns: LimitUsage;
  /** Tokens of turns since midnight UTC. */
  readonly modelTokens: LimitUsage;
  /** Number of messages in all sessions. Those of a copy count again. */
  readonly messageCount: number;
}

/** An API key. Only createApiKey returns its secret. */
export interface ApiKey {
  /** Identifies the key. Not secret: it may be shown and logged. */
  readonly keyId: string;
  /** Name of the key's project. */
  readonly project: string;
  /** A description for people to read. Empty = none. */
  readonly label: string;
  /** Whether the key may manage projects and keys. */
  readonly isAdmin: boolean;
  /** Time of creation. */
  readonly createdAt: Date;
  /** Time of revocation. `undefined` = the key is valid. */
  readonly revokedAt: Date | undefined;
}

/** A new API key, with its secret. */
export interface NewApiKey extends ApiKey {
  /** The whole key, to pass as `apiKey`. The server keeps only a hash of it. */
  readonly secret: string;
}

/** How an API key is created. */
export interface CreateApiKeyOptions extends CallOptions {
  /** A text that helps people to recognise the key, at most 256 characters. */
  readonly label?: string | undefined;
  /** Let the key manage projects and keys. Default: false. */
  readonly isAdmin?: boolean | undefined;
}

/**
 * The calls about projects, their limits, and API keys. If the server requires keys, the client
 * needs an admin key for these calls (AdminKeyRequired). createApiKey is not retried: a retry could
 * create another key.
 */
export class Admin extends Calls {
  /**
   * Create a project.
   *
   * @param name - 1 to 64 characters of a-z, 0-9, "-" and "_", beginning with a letter or a digit.
   * @param options - getOrCreate returns the existing project if the name is taken; the call is
   *   then also retried.
   * @throws ProjectAlreadyExists if the name is taken, unless getOrCreate is set.
   * @throws ProjectBeingDeleted if a project of this name is still being removed.
   */
  async createProject(
    name: string,
    options: CallOptions & { readonly getOrCreate?: boolean | undefined } = {},
  ): Promise<Project> {
    checkText(name, "name");
    const getOrCreate = options.getOrCreate ?? false;
    const request = CreateProjectRequest.create({ project: { name }, getOrCreate });
    return projectOf(
      await this.connection.call(adminMethods.createProject, request, options, {
        isRepeatable: getOrCreate,
      }),
    );
  }

  /**
   * Delete a project with its keys, sessions, queues and assets.
   *
   * Its keys are refused within seconds. The rest is removed in the background; until that is done,
   * no project of this name can be created.
   *
   * @param name - the project. "default" cannot be deleted.
   * @param options - allowMissing does nothing if there is no such project.
   * @throws ProjectNotFound if there is no such project, unless allowMissing is set.
   */
  async deleteProject(
    name: string,
    options: CallOptions & { readonly allowMissing?: boolean | undefined } = {},
  ): Promise<void> {
    checkText(name, "name");
    const request = { project: name, allowMissing: options.allowMissing ?? false };
    await this.connection.call(adminMethods.deleteProject, request, options);
  }

  /** List the projects by name, fetched page by page during the iteration. */
  listProjects(options: ListOptions = {}): PagedList<Project> {
    checkInteger(options.pageSize, "pageSize");
    const request = ListProjectsRequest.create({ pageSize: options.pageSize ?? 0 });
    return this.paged(adminMethods.listProjects, request, options, ({ projects }) =>
      projects.map(projectOf),
    );
  }

  /**
   * Create an API key.
   *
   * @returns the key with its secret, which cannot be read again.
   * @throws ProjectNotFound if there is no such project.
   */
  async createApiKey(project: string, options: CreateApiKeyOptions = {}): Promise<NewApiKey> {
    checkText(project, "project");
    checkOptionalText(options.label, "label");
    checkBoolean(options.isAdmin, "isAdmin");
    const request = CreateApiKeyRequest.create({
      project,
      label: options.label ?? "",
      isAdmin: options.isAdmin ?? false,
    });
    const { key, secret } = await this.connection.call(
      adminMethods.createApiKey,
      request,
      options,
      { isRepeatable: false },
    );
    return { ...apiKeyOf(key), secret };
  }

  /**
   * List a project's keys, the newest first, without their secrets, fetched page by page. Iterating
   * throws ProjectNotFound if there is no such project.
   */
  listApiKeys(project: string, options: ListOptions = {}): PagedList<ApiKey> {
    checkText(project, "project");
    checkInteger(options.pageSize, "pageSize");
    const request = ListApiKeysRequest.create({ project, pageSize: options.pageSize ?? 0 });
    return this.paged(adminMethods.listApiKeys, request, options, ({ keys }) => keys.map(apiKeyOf));
  }

  /**
   * Revoke a key. Servers refuse it within seconds.
   *
   * @throws ApiKeyNotFound if there is no such key.
   */
  async revokeApiKey(keyId: string, options: CallOptions = {}): Promise<ApiKey> {
    checkText(keyId, "keyId");
    return apiKeyOf(await this.connection.call(adminMethods.revokeApiKey, { keyId }, options));
  }

  /**
   * Return the limits that were set for a project.
   *
   * @throws ProjectNotFound if there is no such project.
   */
  async getProjectLimits(project: string, options: CallOptions = {}): Promise<SetProjectLimits> {
    checkText(project, "project");
    return this.connection.call(adminMethods.getProjectLimits, { project }, options);
  }

  /**
   * Replace the limits of a project. Servers apply them within seconds.
   *
   * @param project - name of the project.
   * @param limits - the new values of all limits. `undefined` = the server's default, 0 = no limit.
   * @param options - etag: the change is refused unless the current limits have this etag.
   * @returns the limits, with their new etag.
   * @throws ProjectNotFound if there is no such project.
   * @throws ETagMismatch if the limits were changed by another caller.
   * @throws InvalidField if a limit is negative.
   */
  async setProjectLimits(
    project: string,
    limits: ProjectLimits,
    options: CallOptions & { readonly etag?: string | undefined } = {},
  ): Promise<SetProjectLimits> {
    checkText(project, "project");
    checkOptionalText(options.etag, "etag");
    checkInteger(limits.callsPerSecond, "limits.callsPerSecond");
    checkInteger(limits.messagesPerSecond, "limits.messagesPerSecond");
    checkInteger(limits.maxSessions, "limits.maxSessions");
    checkInteger(limits.maxBytes, "limits.maxBytes");
    checkInteger(limits.maxRunningTurns, "limits.maxRunningTurns");
    checkInteger(limits.modelTokensPerDay, "limits.modelTokensPerDay");
    const request = {
      project,
      limits: ProjectLimitsProto.create({
        callsPerSecond: limits.callsPerSecond,
        messagesPerSecond: limits.messagesPerSecond,
        maxSessions: limits.maxSessions,
        maxBytes: limits.maxBytes,
        maxRunningTurns: limits.maxRunningTurns,
        modelTokensPerDay: limits.modelTokensPerDay,
      }),
      etag: options.etag ?? "",
    };
    return this.connection.call(adminMethods.setProjectLimits, request, options);
  }

  /**
   * Return the usage of a project, and its effective limits. The server counts the project's
   * sessions, which takes about a second for a million.
   *
   * @throws ProjectNotFound if there is no such project.
   */
  async getProjectUsage(project: string, options: CallOptions = {}): Promise<ProjectUsage> {
    checkText(project, "project");
    const usage = await this.connection.call(adminMethods.getProjectUsage, { project }, options);
    return {
      callsPerSecond: limitUsageOf(usage.callsPerSecond),
      messagesPerSecond: limitUsageOf(usage.messagesPerSecond),
      sessions: limitUsageOf(usage.sessions),
      bytes: limitUsageOf(usage.bytes),
      runningTurns: limitUsageOf(usage.runningTurns),
      modelTokens: limitUsageOf(usage.modelTokens),
      messageCount: usage.messageCount,
    };
  }
}

function limitUsageOf(usage: LimitUsageProto | undefined): LimitUsage {
  return { used: usage?.used ?? 0, limit: usage?.limit };
}

function projectOf(project: ProjectProto): Project {
  return { name: project.name, createdAt: fromTimestamp(project.createTime) };
}

function apiKeyOf(key: ApiKeyProto | undefined): ApiKey {
  return {
    keyId: key?.keyId ?? "",
    project: key?.project ?? "",
    label: key?.label ?? "",
    isAdmin: key?.isAdmin ?? false,
    createdAt: fromTimestamp(key?.createTime),
    revokedAt: fromOptionalTimestamp(key?.revokeTime),
  };
}
