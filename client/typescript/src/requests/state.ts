import { StatePatch } from "../gen/sessiond/v1/session_state.js";
import { checkText, listed } from "../protocol/checks.js";
import { invalidField, typeName } from "../protocol/invalid.js";
import { encodeJson, isObject, type JsonObject } from "../protocol/json.js";

/** A change of a session's state. */
export interface StateChange {
  /**
   * New values of top-level keys of the session's state, as JSON values. null is a value like any
   * other.
   */
  readonly state?: JsonObject | undefined;
  /** Top-level keys to remove from the session's state. */
  readonly removeState?: Iterable<string> | undefined;
}

/** The names of the fields of a change. */
export const STATE_CHANGE = ["state", "removeState"] as const;

/**
 * Return the change of a session's state. `undefined` = none.
 *
 * @throws InvalidField with the path of a value that JSON does not have.
 */
export function statePatchOf({ state, removeState }: StateChange): StatePatch | undefined {
  if (state === undefined && removeState === undefined) return undefined;
  if (state !== undefined && !isObject(state)) {
    throw invalidField("state", `must be an object, not ${typeName(state)}`);
  }
  const set: Record<string, string> = {};
  for (const [key, value] of Object.entries(state ?? {})) {
    if (value === undefined) continue;
    // A list, so that any JSON value can be encoded.
    set[key] = encodeJson([value], `state.${key}`).slice(1, -1);
  }
  const remove = listed(removeState ?? [], "removeState");
  remove.forEach((key, i) => {
    checkText(key, `removeState[${i}]`);
  });
  return StatePatch.create({ set, remove });
}
