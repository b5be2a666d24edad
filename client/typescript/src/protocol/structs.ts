import { invalidField, typeName } from "./invalid.js";
import { encodeJson, isObject, type JsonObject, parseObject } from "./json.js";

const MAX_INTEGER = Number.MAX_SAFE_INTEGER;
// A nested object uses three of the 100 levels that protobuf's parsers allow, and the messages
// around it use some as well.
const MAX_DEPTH = 30;

/** The key of a session's config that holds the model options: text for the server. */
const MODEL_OPTIONS = "model_options";

/**
 * Return a copy of a JSON object in the form that a Struct of the protos takes: without
 * `undefined`, and with dates as text.
 *
 * @throws InvalidField for a value that a Struct cannot represent: NaN, infinity, an integer beyond
 *   ±(2^53 - 1), another type, or more than 30 levels.
 */
export function toStruct(value: unknown, field: string): JsonObject {
  if (!isObject(value)) throw invalidField(field, `must be an object, not ${typeName(value)}`);
  return toObject(value, field, 1);
}

/** Return a condition on a config; the server cannot search model options. */
export function toCondition(value: unknown, field: string): JsonObject {
  if (isObject(value) && MODEL_OPTIONS in value) {
    throw invalidField(
      `${field}.${MODEL_OPTIONS}`,
      "is stored as text, which the server cannot search; filter by another key, or by metadata",
    );
  }
  return toStruct(value, field);
}

/** Return a config as the server takes it: with its model options as text. */
export function toConfig(value: unknown, field: string): JsonObject {
  if (isObject(value) && isObject(value[MODEL_OPTIONS])) {
    const text = encodeJson(value[MODEL_OPTIONS], `${field}.${MODEL_OPTIONS}`);
    return toStruct({ ...value, [MODEL_OPTIONS]: text }, field);
  }
  return toStruct(value, field);
}

/** Return a config of the server with its model options as an object. */
export function fromConfig(config: JsonObject | undefined): JsonObject {
  const text: unknown = config?.[MODEL_OPTIONS];
  if (typeof text !== "string") return config ?? {};
  const options = parseObject(text);
  return Object.keys(options).length > 0 || text.trim() === "{}"
    ? { ...config, [MODEL_OPTIONS]: options }
    : (config ?? {});
}

function toObject(value: JsonObject, path: string, depth: number): JsonObject {
  const result: JsonObject = {};
  for (const [key, item] of Object.entries(value)) {
    const inner = `${path}.${key}`;
    // Assigning a value to this key would set the object's prototype, and lose the value.
    if (key === "__proto__") throw invalidField(inner, "is a key that JavaScript cannot keep");
    if (!key.isWellFormed()) throw invalidField(path, "has a key that holds a lone surrogate");
    if (item !== undefined) result[key] = toValue(item, inner, depth);
  }
  return result;
}

function toValue(value: unknown, path: string, depth: number): unknown {
  switch (typeof value) {
    case "boolean":
      return value;
    case "string":
      if (!value.isWellFormed()) {
        throw invalidField(path, "is not valid Unicode: it holds a lone surrogate");
      }
      return value;
    case "number":
      if (!Number.isFinite(value))
        throw invalidField(path, `is ${value}, which JSON does not have`);
      if (Number.isInteger(value) && Math.abs(value) > MAX_INTEGER) {
        throw invalidField(path, "is an integer beyond ±(2^53 - 1); send it as a string");
      }
      return value;
    case "object":
      break;
    default:
      throw invalidField(path, `is ${typeName(value)}, which JSON does not have`);
  }
  if (value === null) return null;
  if (value instanceof Date) return value.toJSON();
  if (depth >= MAX_DEPTH) throw invalidField(path, `is nested deeper than ${MAX_DEPTH} levels`);
  if (Array.isArray(value)) {
    return value.map((item, i) => toValue(item ?? null, `${path}[${i}]`, depth + 1));
  }
  const prototype = Object.getPrototypeOf(value);
  if (isObject(value) && (prototype === Object.prototype || prototype === null)) {
    return toObject(value, path, depth + 1);
  }
  throw invalidField(path, `is ${typeName(value)}, which JSON does not have`);
}
