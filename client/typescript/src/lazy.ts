/** Creates the batches of one iteration, which the signal ends. */
export type BatchSource<T> = (signal: AbortSignal) => AsyncGenerator<Iterable<T>, void, undefined>;

/**
 * A list that is fetched from the server while it is iterated over, in bounded memory.
 *
 * No call is made until the first item is requested. `break`, `return()` and an aborted `signal` end
 * the call. Each iteration calls the server again.
 */
export class LazyList<T> implements AsyncIterable<T> {
  readonly #source: BatchSource<T>;

  /** @internal */
  constructor(source: BatchSource<T>) {
    this.#source = source;
  }

  /** Iterate over the items. */
  [Symbol.asyncIterator](): AsyncIterableIterator<T, undefined, undefined> {
    const source = this.#source;
    return stoppable(async function* items(signal) {
      for await (const batch of source(signal)) yield* batch;
    });
  }

  /** Iterate over the items as they arrive: a list for each response of the server. */
  batches(): AsyncIterableIterator<T[], undefined, undefined> {
    const source = this.#source;
    return stoppable(async function* batches(signal) {
      for await (const batch of source(signal)) yield [...batch];
    });
  }

  /** Fetch all items. This never returns for a list that never ends. */
  async toArray(): Promise<T[]> {
    const items: T[] = [];
    for await (const batch of this.#source(new AbortController().signal)) {
      for (const item of batch) items.push(item);
    }
    return items;
  }

  /** Fetch the first item only. `undefined` = the list is empty. */
  async first(): Promise<T | undefined> {
    for await (const item of this) return item;
    return undefined;
  }
}

/** A page of a list. */
export interface Page<T> {
  /** The items, in order. */
  readonly items: readonly T[];
  /** The token of the next page. `undefined` = this is the last one. */
  readonly nextPageToken: string | undefined;
}

/** A lazy list that is fetched page by page. */
export class PagedList<T> extends LazyList<T> {
  readonly #page: (pageToken: string, signal?: AbortSignal) => Promise<Page<T>>;

  /** @internal */
  constructor(page: (pageToken: string, signal?: AbortSignal) => Promise<Page<T>>) {
    super(async function* pages(signal) {
      let token = "";
      do {
        const { items, nextPageToken } = await page(token, signal);
        yield items;
        token = nextPageToken ?? "";
      } while (token);
    });
    this.#page = page;
  }

  /**
   * Fetch one page, for callers that pass the token on, such as web pages.
   *
   * @param pageToken - `nextPageToken` of the previous page. Default: the first page.
   */
  async page(pageToken = ""): Promise<Page<T>> {
    return await this.#page(pageToken);
  }
}

/**
 * Return an iterator whose return() also ends a next() that is still waiting for the server. A
 * generator alone would finish the next() first, which for a watch may take for ever.
 */
function stoppable<T>(
  start: (signal: AbortSignal) => AsyncGenerator<T, void, undefined>,
): AsyncIterableIterator<T, undefined, undefined> & AsyncDisposable {
  const stop = new AbortController();
  const items = start(stop.signal);
  const done: IteratorReturnResult<undefined> = { done: true, value: undefined };
  const end = async (): Promise<IteratorReturnResult<undefined>> => {
    stop.abort();
    await items.return(undefined).catch(() => {});
    return done;
  };
  return {
    async next() {
      try {
        const result = await items.next();
        return result.done ? done : result;
      } catch (error) {
        if (stop.signal.aborted) return done;
        throw error;
      }
    },
    return: end,
    [Symbol.asyncIterator]() {
      return this;
    },
    async [Symbol.asyncDispose]() {
      await end();
    },
  };
}
