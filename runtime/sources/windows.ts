/** Reads of any size over a file far away, which is fetched in windows: one is read while the next one comes. */
import type { ByteSource } from "../safetensors.ts";

/** Bytes that one request asks for at most. Three of them may be in memory. */
export const WINDOW = 2 ** 23;

/** Fetches exactly [start, end). */
export type FetchRange = (start: number, end: number, signal: AbortSignal | undefined) => Promise<Uint8Array>;

type Window = {
  readonly start: number;
  readonly end: number;
  /** Who asked for it: another's abort must not end a read. */
  readonly signal: AbortSignal | undefined;
  readonly bytes: Promise<Uint8Array>;
};

/** How many windows are kept: the one that is read and the one that comes. */
const KEPT = 2;

/** `read` of a source of `size` bytes, of which the first ones are known. */
export function windowed(size: number, first: Uint8Array, fetchRange: FetchRange): ByteSource["read"] {
  let windows: Window[] = [];

  const open = (start: number, end: number, signal: AbortSignal | undefined): Window => {
    const window: Window = { start, end, signal, bytes: fetchRange(start, end, signal) };
    windows = [...windows, window].slice(-KEPT);
    // A failure is told to those who wait for it, and is not kept; before anyone waits it must not be nobody's.
    window.bytes.catch(() => (windows = windows.filter((w) => w !== window)));
    return window;
  };
  const holding = (at: number, signal: AbortSignal | undefined) =>
    windows.find((w) => w.start <= at && at < w.end && w.signal === signal);

  return async (start, stop, { until = stop, signal } = {}) => {
    const end = Math.min(stop, size);
    if (end <= first.length) return first.subarray(start, Math.max(start, end));
    const limit = Math.min(size, Math.max(end, until));
    let whole: Uint8Array | undefined;
    for (let at = start; at < end;) {
      signal?.throwIfAborted();
      const window = holding(at, signal) ?? open(at, Math.min(limit, at + WINDOW), signal);
      if (window.end < limit && holding(window.end, signal) === undefined)
        open(window.end, Math.min(limit, window.end + WINDOW), signal);
      const part = (await window.bytes).subarray(at - window.start, end - window.start);
      if (part.length === end - start) return part;
      whole ??= new Uint8Array(end - start);
      whole.set(part, at - start);
      at += part.length;
    }
    return whole ?? new Uint8Array(0);
  };
}
