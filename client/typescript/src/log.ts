/** A function that takes the client's warnings: what happened, and the error, if there is one. */
export type WarningHandler = (text: string, error?: unknown) => void;

let handler: WarningHandler = (text, error) => {
  if (error === undefined) console.warn(`sessiond: ${text}`);
  else console.warn(`sessiond: ${text}:`, error);
};

/**
 * Choose where warnings go: of event handlers that throw, of watches that are retried in the
 * background, of sessions that a pool takes back. Default: `console.warn`.
 */
export function onWarning(call: WarningHandler): void {
  handler = call;
}

/** Report what no caller can be told. */
export function warn(text: string, error?: unknown): void {
  handler(text, error);
}
