/** A function that takes the client's warnings: what happened, and the error, if there is one. */
export type WarningHandler = (text: string, error?: unknown) => void;

let handler: WarningHandler = (text, error) => {
  if (error === undefined) console.warn(`sessiond: ${text}`);
  else console.warn(`sessiond: ${text}:`, error);
};

/**
 * Set the function that receives warnings: about event handlers that throw, watches that are
 * retried in the background, and sessions that a pool takes back. Default: `console.warn`.
 */
export function onWarning(call: WarningHandler): void {
  handler = call;
}

/** Report a problem that no caller can receive as an error. */
export function warn(text: string, error?: unknown): void {
  handler(text, error);
}
