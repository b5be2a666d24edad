import type { Duration } from "../gen/google/protobuf/duration.js";
import type { Timestamp } from "../gen/google/protobuf/timestamp.js";
import { invalidField, shown, typeName } from "./invalid.js";

/** Return a time as a Date, truncated to milliseconds. Unset = 1970. */
export function fromTimestamp(value: Timestamp | undefined): Date {
  return new Date((value?.seconds ?? 0) * 1000 + Math.floor((value?.nanos ?? 0) / 1e6));
}

/** Return an optional time as a Date. */
export function fromOptionalTimestamp(value: Timestamp | undefined): Date | undefined {
  return value && fromTimestamp(value);
}

/** Return a time as ISO 8601 in UTC with microseconds, e.g. "2026-01-31T12:00:00.123456Z". */
export function timeText(value: Timestamp | undefined): string {
  const micros = Math.floor((value?.nanos ?? 0) / 1000);
  const seconds = new Date((value?.seconds ?? 0) * 1000).toISOString().slice(0, -5);
  return `${seconds}.${String(micros).padStart(6, "0")}Z`;
}

/**
 * Return a Date as a Timestamp.
 *
 * @throws InvalidField if it is no valid Date.
 */
export function toTimestamp(value: Date, field: string): Timestamp {
  if (!(value instanceof Date)) throw invalidField(field, `must be a Date, not ${typeName(value)}`);
  const millis = value.getTime();
  if (Number.isNaN(millis)) throw invalidField(field, "is an invalid Date");
  const seconds = Math.floor(millis / 1000);
  return { seconds, nanos: (millis - seconds * 1000) * 1e6 };
}

/**
 * Return milliseconds as a Duration.
 *
 * @throws InvalidField if the value is no finite number.
 */
export function toDuration(millis: number, field: string): Duration {
  if (typeof millis !== "number" || !Number.isFinite(millis)) {
    throw invalidField(field, `is ${shown(millis)}; it must be a number of milliseconds`);
  }
  const seconds = Math.trunc(millis / 1000);
  return { seconds, nanos: Math.round((millis - seconds * 1000) * 1e6) };
}

/** Return a Duration in milliseconds. */
export function fromDuration(value: Duration): number {
  return value.seconds * 1000 + value.nanos / 1e6;
}
