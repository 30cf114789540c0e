/** Trying again: which failures of a connection pass, how long to wait, and when a silence counts as a cut. */

export type Patience = {
  /** Attempts after one that brought nothing, each after a longer wait (5). */
  readonly retries: number;
  /** Milliseconds before the first of them; before each next twice as many, at most 8 s (250). */
  readonly backoffMs: number;
  /** Milliseconds without a byte after which a connection counts as cut (30,000). */
  readonly stallMs: number;
};
const MOST_MS = 8000;
/** A server that asks for a longer pause is not waited for. */
const MOST_ASKED_MS = 60_000;

/** A failure that may pass. `waitMs`: how long the server asks to be left alone. */
export type Passing = Error & { readonly passing: true; readonly waitMs: number };
export const passing = (message: string, cause?: unknown, waitMs = 0): Passing =>
  Object.assign(new Error(message, { cause }), { passing: true as const, waitMs });

export const isPassing = (error: unknown): error is Passing => error instanceof Error && "passing" in error;

/** Something arrived, so the clock of the silence begins anew; where it need not be fetched again, so does the count of failures. */
export type Alive = (kept: boolean) => void;

/**
 * Runs `work` until it succeeds. Rejects with the signal's reason, with what `work` threw where that does not pass, or with what `gaveUp` makes
 * of the last failure.
 */
export async function persist<T>(
  { retries, backoffMs, stallMs }: Patience,
  signal: AbortSignal | undefined,
  work: (signal: AbortSignal, alive: Alive) => Promise<T>,
  gaveUp: (attempts: number, last: Passing) => Error,
): Promise<T> {
  for (let failures = 0; ;) {
    signal?.throwIfAborted();
    const cut = new AbortController();
    const abort = () => cut.abort(signal?.reason);
    signal?.addEventListener("abort", abort, { once: true });
    // One clock for many pieces: what came last is looked up when it rings.
    let latest = performance.now();
    const ring = () => {
      const left = latest + stallMs - performance.now();
      if (left > 0) clock = setTimeout(ring, left);
      else cut.abort(passing(`nothing came for ${stallMs} ms`));
    };
    let clock = setTimeout(ring, stallMs);
    const alive = (kept: boolean) => {
      if (kept) failures = 0;
      latest = performance.now();
    };
    let last: Passing;
    try {
      return await work(cut.signal, alive);
    } catch (error) {
      signal?.throwIfAborted();
      const reason: unknown = cut.signal.aborted ? cut.signal.reason : error;
      if (!isPassing(reason)) throw reason;
      last = reason;
    } finally {
      clearTimeout(clock);
      signal?.removeEventListener("abort", abort);
    }
    failures++;
    if (failures > retries || last.waitMs > MOST_ASKED_MS) throw gaveUp(failures, last);
    await pause(Math.max(last.waitMs, Math.min(MOST_MS, backoffMs * 2 ** (failures - 1))), signal);
  }
}

/** Waits, at most until the signal ends it. */
function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done, { once: true });
  });
}
