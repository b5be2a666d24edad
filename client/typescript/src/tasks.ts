import { Calls } from "./connection.js";
import type { Task as TaskProto } from "./gen/sessiond/v1/task.js";
import {
  CreateTaskRequest,
  ListTasksRequest,
  UpdateTaskRequest,
} from "./gen/sessiond/v1/task_service.js";
import type { PagedList } from "./lazy.js";
import { taskMethods } from "./methods.js";
import { type CallOptions, CHANGE_OPTIONS, type ChangeOptions } from "./options.js";
import {
  checkInteger,
  checkKnown,
  checkOptionalText,
  checkText,
  listed,
} from "./protocol/checks.js";
import type { JsonObject } from "./protocol/json.js";
import { TASK_STATUSES, type TaskStatus } from "./protocol/names.js";
import { toStruct } from "./protocol/structs.js";
import { fromTimestamp } from "./protocol/times.js";
import { optionalId, requestIdOr } from "./requests/ids.js";
import type { ListOptions } from "./sessions.js";

/** A task as the server returned it; it does not change afterwards. */
export interface Task {
  /** The task's id, unique in its session. */
  readonly taskId: string;
  /** The task's position among the session's tasks: 1, 2, 3, ... */
  readonly position: number;
  /** The status of the work. */
  readonly status: TaskStatus | "unknown";
  /** The caller's data about the task. */
  readonly data: JsonObject;
  /** The seqs of the task's messages, ascending. */
  readonly messageSeqs: readonly number[];
  /** Time of creation. */
  readonly createdAt: Date;
  /** Time of the last change other than of its position. */
  readonly updatedAt: Date;
  /** An opaque version that changes with everything but the position. */
  readonly etag: string;
}

/** The settings of a task. */
export interface TaskSettings {
  /** The status of the work. Default: "pending". */
  readonly status?: TaskStatus | undefined;
  /** Data about the task: a JSON object of at most 64 KiB, integers below 2^53. */
  readonly data?: JsonObject | undefined;
  /** Seqs of the task's messages, which must exist; at most 10,000. */
  readonly messageSeqs?: Iterable<number> | undefined;
}

/** How a task is created. */
export interface CreateTaskOptions extends ChangeOptions, TaskSettings {
  /** 1 to 128 characters, unique in the session. Default: a UUIDv7. */
  readonly taskId?: string | undefined;
}

/** How a task is changed. data and messageSeqs are replaced as a whole. */
export interface UpdateTaskOptions extends ChangeOptions, TaskSettings {
  /** A JSON merge patch (RFC 7396) of data. Not together with data. */
  readonly dataPatch?: JsonObject | undefined;
  /** Seqs to add to messageSeqs. Not together with messageSeqs. */
  readonly link?: Iterable<number> | undefined;
  /** Seqs to remove from messageSeqs. Not together with messageSeqs. */
  readonly unlink?: Iterable<number> | undefined;
  /** The call fails unless this is the task's current etag. Default: no check. */
  readonly etag?: string | undefined;
}

/** Which tasks to list, and how. */
export interface ListTasksOptions extends ListOptions {
  /** Only tasks with this status. Default: all. */
  readonly status?: TaskStatus | undefined;
}

/** How something is deleted. */
export interface DeleteOptions extends ChangeOptions {
  /** Do nothing if there is nothing to delete. */
  readonly allowMissing?: boolean | undefined;
  /** The call fails unless this is the current etag of what is deleted. Default: no check. */
  readonly etag?: string | undefined;
}

const SETTINGS = ["status", "data", "messageSeqs"] as const;
const CREATE: ReadonlySet<string> = new Set([...CHANGE_OPTIONS, ...SETTINGS, "taskId"]);
const UPDATE: ReadonlySet<string> = new Set([
  ...CHANGE_OPTIONS,
  ...SETTINGS,
  "dataPatch",
  "link",
  "unlink",
  "etag",
]);
const PATHS = { status: "status", data: "data", messageSeqs: "message_seqs" } as const;

/**
 * The calls about tasks, by session id: an agent's units of work, at most 1,000 a session.
 *
 * In addition to the errors listed for each call, all calls throw SessionNotFound, and all changes
 * throw SessionDestroyed if the session is destroyed.
 */
export class Tasks extends Calls {
  /**
   * Create a task, as the last one of the session.
   *
   * @throws TaskAlreadyExists if the id is taken.
   * @throws MessageNotFound if a message of messageSeqs does not exist.
   * @throws LimitExceeded if the session has 1,000 tasks.
   */
  async create(sessionId: string, options: CreateTaskOptions = {}): Promise<Task> {
    checkKnown(options, CREATE, "tasks.create");
    checkText(sessionId, "sessionId");
    const request = CreateTaskRequest.create({
      sessionId,
      task: {
        ...taskFields({ status: "pending", ...options }),
        taskId: optionalId(options.taskId, "taskId"),
      },
      requestId: requestIdOr(options.requestId),
    });
    return taskOf(await this.connection.call(taskMethods.createTask, request, options));
  }

  /**
   * Return one task.
   *
   * @throws TaskNotFound if there is no such task.
   */
  async get(sessionId: string, taskId: string, options: CallOptions = {}): Promise<Task> {
    checkText(sessionId, "sessionId");
    checkText(taskId, "taskId");
    const request = { sessionId, taskId };
    return taskOf(await this.connection.call(taskMethods.getTask, request, options));
  }

  /** List the tasks in their order, fetched page by page during the iteration. */
  list(sessionId: string, options: ListTasksOptions = {}): PagedList<Task> {
    checkText(sessionId, "sessionId");
    checkInteger(options.pageSize, "pageSize");
    const request = ListTasksRequest.create({
      sessionId,
      status: options.status === undefined ? 0 : TASK_STATUSES.numberOf(options.status, "status"),
      pageSize: options.pageSize ?? 0,
    });
    return this.paged(taskMethods.listTasks, request, options, ({ tasks }) => tasks.map(taskOf));
  }

  /**
   * Change a task, all or nothing. Settings that are not given are not changed.
   *
   * @throws TaskNotFound if there is no such task.
   * @throws ETagMismatch if the task's current etag differs.
   * @throws MessageNotFound if a given seq has no message.
   */
  async update(sessionId: string, taskId: string, options: UpdateTaskOptions): Promise<Task> {
    checkKnown(options, UPDATE, "tasks.update");
    checkText(sessionId, "sessionId");
    checkText(taskId, "taskId");
    checkOptionalText(options.etag, "etag");
    const mask = SETTINGS.filter((key) => options[key] !== undefined).map((key) => PATHS[key]);
    const request = UpdateTaskRequest.create({
      sessionId,
      task: { ...taskFields(options), taskId },
      updateMask: mask.length > 0 ? mask : undefined,
      dataPatch: options.dataPatch && toStruct(options.dataPatch, "dataPatch"),
      linkSeqs: seqs(options.link, "link"),
      unlinkSeqs: seqs(options.unlink, "unlink"),
      etag: options.etag ?? "",
      requestId: requestIdOr(options.requestId),
    });
    return taskOf(await this.connection.call(taskMethods.updateTask, request, options));
  }

  /**
   * Move tasks to the front of the order; the others follow in their current order.
   *
   * @returns the ids of all tasks, in the new order.
   * @throws TaskNotFound if one of the tasks does not exist.
   */
  async reorder(
    sessionId: string,
    taskIds: Iterable<string>,
    options: ChangeOptions = {},
  ): Promise<string[]> {
    checkText(sessionId, "sessionId");
    const ids = listed(taskIds, "taskIds");
    ids.forEach((id, i) => {
      checkText(id, `taskIds[${i}]`);
    });
    const request = { sessionId, taskIds: ids, requestId: requestIdOr(options.requestId) };
    return (await this.connection.call(taskMethods.reorderTasks, request, options)).taskIds;
  }

  /**
   * Delete a task. The tasks after it move up.
   *
   * @throws TaskNotFound if there is no such task, unless allowMissing is set.
   */
  async delete(sessionId: string, taskId: string, options: DeleteOptions = {}): Promise<void> {
    checkText(sessionId, "sessionId");
    checkText(taskId, "taskId");
    const { allowMissing = false, etag = "" } = options;
    const requestId = requestIdOr(options.requestId);
    const request = { sessionId, taskId, allowMissing, etag, requestId };
    await this.connection.call(taskMethods.deleteTask, request, options);
  }
}

/** `session.tasks`: the calls of `client.tasks` for one session. */
export class SessionTasks {
  readonly #tasks: Tasks;
  readonly #sessionId: string;

  /** @internal */
  constructor(tasks: Tasks, sessionId: string) {
    this.#tasks = tasks;
    this.#sessionId = sessionId;
  }

  /** Create a task; see `client.tasks.create`. */
  async create(options?: CreateTaskOptions): Promise<Task> {
    return await this.#tasks.create(this.#sessionId, options);
  }

  /** Return one task; see `client.tasks.get`. */
  async get(taskId: string, options?: CallOptions): Promise<Task> {
    return await this.#tasks.get(this.#sessionId, taskId, options);
  }

  /** List the tasks in their order; see `client.tasks.list`. */
  list(options?: ListTasksOptions): PagedList<Task> {
    return this.#tasks.list(this.#sessionId, options);
  }

  /** Change a task; see `client.tasks.update`. */
  async update(taskId: string, options: UpdateTaskOptions): Promise<Task> {
    return await this.#tasks.update(this.#sessionId, taskId, options);
  }

  /** Move tasks to the front of the order; see `client.tasks.reorder`. */
  async reorder(taskIds: Iterable<string>, options?: ChangeOptions): Promise<string[]> {
    return await this.#tasks.reorder(this.#sessionId, taskIds, options);
  }

  /** Delete a task; see `client.tasks.delete`. */
  async delete(taskId: string, options?: DeleteOptions): Promise<void> {
    await this.#tasks.delete(this.#sessionId, taskId, options);
  }
}

function taskFields({ status, data, messageSeqs }: TaskSettings): Partial<TaskProto> {
  return {
    ...(status !== undefined && { status: TASK_STATUSES.numberOf(status, "status") }),
    ...(data !== undefined && { data: toStruct(data, "data") }),
    ...(messageSeqs !== undefined && { messageSeqs: seqs(messageSeqs, "messageSeqs") }),
  };
}

function seqs(values: Iterable<number> | undefined, field: string): number[] {
  const list = values === undefined ? [] : listed(values, field);
  list.forEach((seq, i) => {
    checkInteger(seq, `${field}[${i}]`);
  });
  return list;
}

function taskOf(task: TaskProto): Task {
  return {
    taskId: task.taskId,
    position: task.position,
    status: TASK_STATUSES.nameOf(task.status) ?? "unknown",
    data: task.data ?? {},
    messageSeqs: task.messageSeqs,
    createdAt: fromTimestamp(task.createTime),
    updatedAt: fromTimestamp(task.updateTime),
    etag: task.etag,
  };
}
