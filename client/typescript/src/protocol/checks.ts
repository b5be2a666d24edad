import { invalidField, shown, typeName } from "./invalid.js";
import { isObject } from "./json.js";

/** Check that a value is a string. */
export function checkText(value: unknown, field: string): asserts value is string {
  if (typeof value !== "string") {
    throw invalidField(field, `must be a string, not ${typeName(value)}`);
  }
}

/** Check an optional string. */
export function checkOptionalText(value: unknown, field: string): void {
  if (value !== undefined) checkText(value, field);
}

/** Check that a value, if there is one, is an integer that JavaScript can represent exactly. */
export function checkInteger(value: unknown, field: string): void {
  if (value !== undefined && !Number.isSafeInteger(value)) {
    throw invalidField(field, `is ${shown(value)}; it must be an integer`);
  }
}

/** Check that a value, if there is one, is a boolean. */
export function checkBoolean(value: unknown, field: string): void {
  if (value !== undefined && typeof value !== "boolean") {
    throw invalidField(field, `must be true or false, not ${typeName(value)}`);
  }
}

/** Check that a value is a function. */
export function checkFunction(value: unknown, field: string): void {
  if (typeof value !== "function") {
    throw invalidField(field, `must be a function, not ${typeName(value)}`);
  }
}

/** Return a list; refuse a single value. */
export function listed<T>(values: Iterable<T>, field: string): T[] {
  if (typeof values === "string") {
    throw invalidField(field, `must be a list, e.g. [${shown(values)}]`);
  }
  if (
    values === null ||
    typeof values !== "object" ||
    ArrayBuffer.isView(values) ||
    !(Symbol.iterator in values)
  ) {
    throw invalidField(field, `must be a list, not ${typeName(values)}`);
  }
  return [...values];
}

/** Check that the options of a call are an object. */
export function checkOptions(options: unknown): void {
  if (!isObject(options)) {
    throw invalidField("options", `must be an object, not ${typeName(options)}`);
  }
}

/**
 * Refuse options that a call does not know. TypeScript finds them if they are written in the call,
 * but not if the options are in a variable. JavaScript ignores them silently.
 */
export function checkKnown(options: object, known: ReadonlySet<string>, call: string): void {
  checkOptions(options);
  for (const [key, value] of Object.entries(options)) {
    if (value !== undefined && !known.has(key)) {
      throw invalidField(key, `is not an option of ${call}; known are ${[...known].join(", ")}`);
    }
  }
}
