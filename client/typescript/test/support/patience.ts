/**
 * Timeouts to try one after the other, for tests of a timeout that must not pass before the server
 * has answered for the first time. The first one is enough, unless the machine is very busy.
 */
export const LONGER_TIMEOUTS_MS = [500, 5_000, 50_000];
