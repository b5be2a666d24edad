import { setMaxListeners } from "node:events";
import { invalidField, typeName } from "./protocol/invalid.js";

/**
 * Throw the reason of a signal that is aborted.
 *
 * @throws InvalidField for a value that is no signal.
 */
export function throwIfAborted(signals: readonly (AbortSignal | undefined)[]): void {
  for (const signal of signals) {
    if (!signal) continue;
    if (typeof signal.throwIfAborted !== "function") {
      throw invalidField("signal", `must be an AbortSignal, not ${typeName(signal)}`);
    }
    signal.throwIfAborted();
  }
}

/**
 * Call a function once one of the signals is aborted.
 *
 * AbortSignal.any() is not used: it would keep each derived signal alive as long as its sources.
 *
 * @returns a function that stops waiting for the signals.
 */
export function onAbort(
  signals: readonly (AbortSignal | undefined)[],
  call: (reason: unknown) => void,
): () => void {
  const removers: (() => void)[] = [];
  for (const signal of signals) {
    if (!signal) continue;
    if (signal.aborted) {
      call(signal.reason);
      break;
    }
    // Any number of calls may share a signal; Node would warn of a leak at the eleventh.
    setMaxListeners(0, signal);
    const listener = () => call(signal.reason);
    signal.addEventListener("abort", listener, { once: true });
    removers.push(() => signal.removeEventListener("abort", listener));
  }
  return () => {
    for (const remove of removers) remove();
  };
}

/**
 * Wait for some milliseconds.
 *
 * @throws the reason of the signal that is aborted meanwhile.
 */
export async function sleep(
  millis: number,
  signals: readonly (AbortSignal | undefined)[] = [],
): Promise<void> {
  throwIfAborted(signals);
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => {
      remove();
      resolve();
    }, millis);
    const remove = onAbort(signals, (reason) => {
      clearTimeout(timer);
      reject(reason);
    });
  });
}
