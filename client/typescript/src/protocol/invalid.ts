import { InvalidField } from "../errors/reasons.js";

/** Return the error of an argument that cannot be sent; nothing was sent. */
export function invalidField(field: string, description: string): InvalidField {
  return new InvalidField(`${field} ${description}`, { fieldViolations: [{ field, description }] });
}

/** Return a value as it is shown in errors: at most 60 characters. */
export function shown(value: unknown): string {
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** Return the name of a value's type, as it is shown in errors. */
export function typeName(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (value === undefined) return "undefined";
  if (typeof value !== "object") return `a ${typeof value}`;
  const name = value.constructor?.name ?? "Object";
  return name === "Object" ? "an object" : `${/^[AEIOU]/.test(name) ? "an" : "a"} ${name}`;
}
