import type { FieldViolation } from "../errors/index.js";
import type { Any } from "../gen/google/protobuf/any.js";
import { BadRequest, ErrorInfo, RetryInfo } from "../gen/google/rpc/error_details.js";
import { Status } from "../gen/google/rpc/status.js";
import { fromDuration } from "./times.js";

/** The details of a failed call. */
export interface StatusDetails {
  /** The reason. Empty = no server sent the error. */
  reason: string;
  /** Details of the reason. */
  metadata: Record<string, string>;
  /** The invalid fields of the request. */
  fieldViolations: FieldViolation[];
  /** How long to wait before a retry, in milliseconds. `undefined` = not said. */
  retryAfterMs: number | undefined;
}

/**
 * Return the details in an encoded google.rpc.Status.
 *
 * Bytes that do not parse come from a proxy, not from the server; they count as none.
 */
export function detailsOf(status: Uint8Array | undefined): StatusDetails {
  try {
    return detailsFrom(status ? Status.decode(status).details : []);
  } catch {
    return detailsFrom([]);
  }
}

/** Return the details of the kinds that a server sends. */
export function detailsFrom(found: readonly Any[]): StatusDetails {
  const details: StatusDetails = {
    reason: "",
    metadata: {},
    fieldViolations: [],
    retryAfterMs: undefined,
  };
  for (const { typeUrl, value } of found) {
    switch (typeUrl.slice(typeUrl.lastIndexOf("/") + 1)) {
      case "google.rpc.ErrorInfo": {
        const { reason, metadata } = ErrorInfo.decode(value);
        Object.assign(details, { reason, metadata });
        break;
      }
      case "google.rpc.BadRequest":
        details.fieldViolations = BadRequest.decode(value).fieldViolations.map(
          ({ field, description }) => ({ field, description }),
        );
        break;
      case "google.rpc.RetryInfo": {
        const { retryDelay } = RetryInfo.decode(value);
        details.retryAfterMs = retryDelay && fromDuration(retryDelay);
        break;
      }
    }
  }
  return details;
}
