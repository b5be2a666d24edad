import { checkText } from "../protocol/checks.js";
import { invalidField } from "../protocol/invalid.js";

/**
 * Return the caller's request_id, or else a random one. Without a request_id, a retry could make a
 * change a second time.
 */
export function requestIdOr(given: string | undefined): string {
  if (given === undefined || given === "") return crypto.randomUUID();
  checkText(given, "requestId");
  return given;
}

/**
 * Return an id. Refuse an empty one, because it is more likely an unset variable than a wish for a
 * new id.
 */
export function optionalId(given: string | undefined, field: string): string {
  if (given === undefined) return "";
  checkText(given, field);
  if (given === "") throw invalidField(field, "is empty; leave it out to have one generated");
  return given;
}
