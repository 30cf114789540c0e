/** Reads of any size over a file far away, which is fetched in windows: one is read while the next one comes. */
import type { ByteSource } from "../safetensors.ts";

/** Bytes that one request asks for at most. Two of them are in memory: the one that is read and the one that comes. */
export const WINDOW = 2 ** 22;

/** Fetches exactly [start, end) into all of `to`. */
export type FetchRange = (
  start: number,
  end: number,
  to: Uint8Array,
  signal: AbortSignal | undefined,
) => Promise<void>;

type Window = {
  readonly start: number;
  readonly end: number;
  /** Who asked for it: another's abort must not end a read. */
  readonly signal: AbortSignal | undefined;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly done: Promise<void>;
  /** Whether nothing will be written into `bytes` any more. */
  settled: boolean;
  /** Reads that copy from it, or will. */
  readers: number;
};

/** How many windows are kept: the one that is read and the one that comes. */
const KEPT = 2;

/** `read` of a source of `size` bytes, of which the first ones are known. */
export function windowed(size: number, first: Uint8Array, fetchRange: FetchRange): ByteSource["read"] {
  let windows: readonly Window[] = [];
  let retired: readonly Window[] = [];

  /** Memory of windows is used again: a collector would free it too late. */
  const memory = (): ArrayBuffer => {
    const idle = retired.find((w) => w.settled && w.readers === 0);
    retired = retired.filter((w) => w !== idle).slice(-KEPT);
    return idle?.bytes.buffer ?? new ArrayBuffer(Math.min(size, WINDOW));
  };
  const open = (start: number, end: number, signal: AbortSignal | undefined): Window => {
    if (windows.length === KEPT) {
      retired = [...retired, ...windows.slice(0, 1)];
      windows = windows.slice(1);
    }
    const bytes = new Uint8Array(memory(), 0, end - start);
    const done = fetchRange(start, end, bytes, signal);
    const window: Window = { start, end, signal, bytes, done, settled: false, readers: 0 };
    windows = [...windows, window];
    done.then(
      () => (window.settled = true),
      // A failure is told to those who wait for it, and is not kept.
      () => (windows = windows.filter((w) => w !== window)),
    );
    return window;
  };
  const holding = (at: number, signal: AbortSignal | undefined) =>
    windows.find((w) => w.start <= at && at < w.end && w.signal === signal);

  return async (start, stop, { until = stop, signal, into } = {}) => {
    const end = Math.min(stop, size);
    if (end <= first.length) return first.subarray(start, Math.max(start, end));
    const limit = Math.min(size, Math.max(end, until));
    const length = Math.max(0, end - start);
    const whole =
      into !== undefined && into.length >= length ? into.subarray(0, length) : new Uint8Array(length);
    for (let at = start; at < end;) {
      signal?.throwIfAborted();
      const window = holding(at, signal) ?? open(at, Math.min(limit, at + WINDOW), signal);
      window.readers++;
      try {
        if (window.end < limit && holding(window.end, signal) === undefined)
          open(window.end, Math.min(limit, window.end + WINDOW), signal);
        await window.done;
        const part = window.bytes.subarray(at - window.start, end - window.start);
        whole.set(part, at - start);
        at += part.length;
      } finally {
        window.readers--;
      }
    }
    return whole;
  };
}
