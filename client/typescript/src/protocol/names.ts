import { SendMode as SendModeEnum } from "../gen/sessiond/v1/conversation_service.js";
import { Format as FormatEnum, Role as RoleEnum } from "../gen/sessiond/v1/message.js";
import { SessionStatus as SessionStatusEnum } from "../gen/sessiond/v1/session.js";
import {
  MessageOrder as MessageOrderEnum,
  MessageView as MessageViewEnum,
  OnDuplicate as OnDuplicateEnum,
  SessionOrder as SessionOrderEnum,
} from "../gen/sessiond/v1/session_service.js";
import { TaskStatus as TaskStatusEnum } from "../gen/sessiond/v1/task.js";
import {
  FitChangeKind as FitChangeKindEnum,
  TurnState as TurnStateEnum,
} from "../gen/sessiond/v1/turn.js";
import { invalidField, shown } from "./invalid.js";

type NamesOf<Key, Prefix extends string> = Key extends `${Prefix}${infer Name}`
  ? Exclude<Lowercase<Name>, "unspecified">
  : never;

/** The names of an enum's values, in lower case and without their prefix. */
class Names<Name extends string> {
  readonly #numbers = new Map<string, number>();
  readonly #names = new Map<number, Name>();

  constructor(values: Readonly<Record<string, string | number>>, prefix: string) {
    for (const [key, number] of Object.entries(values)) {
      if (typeof number !== "number" || number === 0) continue;
      const name = key.slice(prefix.length).toLowerCase() as Name;
      this.#numbers.set(name, number);
      this.#names.set(number, name);
    }
  }

  /** Return the name of a number. `undefined` = unset, or of a newer server. */
  nameOf(number: number): Name | undefined {
    return this.#names.get(number);
  }

  /**
   * Return the number of a name.
   *
   * @throws InvalidField if there is no such name.
   */
  numberOf(name: Name, field: string): number {
    const number = this.#numbers.get(name);
    if (number === undefined) {
      const known = [...this.#numbers.keys()].join(", ");
      throw invalidField(field, `is ${shown(name)}; it must be one of ${known}`);
    }
    return number;
  }
}

/** Who speaks in a message. */
export type Role = NamesOf<keyof typeof RoleEnum, "ROLE_">;
/** The provider of the message in `json`. */
export type Format = NamesOf<keyof typeof FormatEnum, "FORMAT_">;
/** The status of a session: "active" accepts appends, "destroyed" does not until a resume. */
export type SessionStatus = NamesOf<keyof typeof SessionStatusEnum, "SESSION_STATUS_">;
/** An order of sessions. */
export type SessionOrder = NamesOf<keyof typeof SessionOrderEnum, "SESSION_ORDER_">;
/** An order of messages. */
export type MessageOrder = NamesOf<keyof typeof MessageOrderEnum, "MESSAGE_ORDER_">;
/** How much of each message is read. */
export type MessageView = NamesOf<keyof typeof MessageViewEnum, "MESSAGE_VIEW_">;
/** The status of a task's work. */
export type TaskStatus = NamesOf<keyof typeof TaskStatusEnum, "TASK_STATUS_">;
/** The state of a turn. */
export type TurnState = NamesOf<keyof typeof TurnStateEnum, "TURN_STATE_">;
/** What happened to a part of a message in a request to a model. */
export type FitChangeKind = NamesOf<keyof typeof FitChangeKindEnum, "FIT_CHANGE_KIND_">;
/** What happens to a message while a turn is running. */
export type SendMode = NamesOf<keyof typeof SendModeEnum, "SEND_MODE_">;

/** What an append does with a message whose messageId the session has already. */
export type OnDuplicate = NamesOf<keyof typeof OnDuplicateEnum, "ON_DUPLICATE_">;

export const ON_DUPLICATE = new Names<OnDuplicate>(OnDuplicateEnum, "ON_DUPLICATE_");
export const ROLES = new Names<Role>(RoleEnum, "ROLE_");
export const FORMATS = new Names<Format>(FormatEnum, "FORMAT_");
export const SESSION_STATUSES = new Names<SessionStatus>(SessionStatusEnum, "SESSION_STATUS_");
export const SESSION_ORDERS = new Names<SessionOrder>(SessionOrderEnum, "SESSION_ORDER_");
export const MESSAGE_ORDERS = new Names<MessageOrder>(MessageOrderEnum, "MESSAGE_ORDER_");
export const MESSAGE_VIEWS = new Names<MessageView>(MessageViewEnum, "MESSAGE_VIEW_");
export const TASK_STATUSES = new Names<TaskStatus>(TaskStatusEnum, "TASK_STATUS_");
export const TURN_STATES = new Names<TurnState>(TurnStateEnum, "TURN_STATE_");
export const FIT_CHANGE_KINDS = new Names<FitChangeKind>(FitChangeKindEnum, "FIT_CHANGE_KIND_");
export const SEND_MODES = new Names<SendMode>(SendModeEnum, "SEND_MODE_");
