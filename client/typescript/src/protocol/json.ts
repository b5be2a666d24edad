import { invalidField, typeName } from "./invalid.js";

/** A JSON value. */
export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [key: string]: Json };

/**
 * A JSON object.
 *
 * Values are `any`, because most callers know their own keys. Only JSON values are allowed.
 */
// biome-ignore lint/suspicious/noExplicitAny: callers define the values.
export type JsonObject = Record<string, any>;

const MAX_LEVELS = 200;

/** Return whether a value is an object that is neither a list, nor binary, nor a map or a set. */
export function isObject(value: unknown): value is JsonObject {
  return (
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    !ArrayBuffer.isView(value) &&
    !(value instanceof ArrayBuffer) &&
    // Their content is not in properties, so JSON would not have it.
    !(value instanceof Map) &&
    !(value instanceof Set)
  );
}

/**
 * Return an object as compact JSON.
 *
 * As in JSON.stringify, `undefined` properties are left out and toJSON() is called. Values that
 * JSON.stringify would change silently are refused: NaN, infinity, bytes, functions, maps and sets.
 *
 * @throws InvalidField with the path of the first value that JSON does not have.
 */
export function encodeJson(value: object, path: string): string {
  checkJson(value, path, []);
  return JSON.stringify(value);
}

function checkJson(value: unknown, path: string, around: readonly unknown[]): void {
  switch (typeof value) {
    case "string":
    case "boolean":
    case "undefined":
      return;
    case "number":
      if (!Number.isFinite(value))
        throw invalidField(path, `is ${value}, which JSON does not have`);
      return;
    case "object":
      break;
    default:
      throw invalidField(path, `is ${typeName(value)}, which JSON does not have`);
  }
  if (value === null) return;
  if (around.includes(value)) throw invalidField(path, "contains itself");
  if (around.length >= MAX_LEVELS) {
    throw invalidField(`${path.slice(0, 80)}...`, `is nested deeper than ${MAX_LEVELS} levels`);
  }
  const within = [...around, value];
  if ("toJSON" in value && typeof value.toJSON === "function") {
    checkJson(value.toJSON(), path, within);
  } else if (Array.isArray(value)) {
    value.forEach((item, i) => {
      if (item === undefined) throw invalidField(`${path}[${i}]`, "is undefined");
      checkJson(item, `${path}[${i}]`, within);
    });
  } else if (
    ArrayBuffer.isView(value) ||
    value instanceof ArrayBuffer ||
    value instanceof Map ||
    value instanceof Set
  ) {
    throw invalidField(path, `is ${typeName(value)}, which JSON does not have`);
  } else {
    for (const [key, item] of Object.entries(value)) checkJson(item, `${path}.${key}`, within);
  }
}

/** Parse the JSON text of an object. Other texts return an empty object. */
export function parseObject(text: string): JsonObject {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : {};
  } catch {
    return {};
  }
}
