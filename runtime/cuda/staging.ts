/**
 * Pinned memory through which inputs and outputs go. What fits into it as a whole is enqueued without waiting; more goes in pieces, each
 * of which waits for the copy that had its place before.
 */
import type { CudaEvent, DeviceMemory, PinnedMemory } from "./context.ts";
import type { Session } from "./session.ts";
import type { CudaStream } from "./stream.ts";

export type Staging = {
  readonly bytes: number;
  /** Enqueues a copy of the first `bytes` to the device; `give` writes a piece of them, which begins at byte `from`. */
  readonly upload: (to: DeviceMemory, bytes: number, give: Move) => Promise<void>;
  /** Enqueues a copy of the first `bytes` from the device; `take` reads a piece of them when it is there, at the latest in `finish`. */
  readonly download: (from: DeviceMemory, bytes: number, take: Move) => Promise<void>;
  /** Waits for the stream; all pieces have been taken then. */
  readonly finish: () => Promise<void>;
  /** Waits for the stream after a failure, so that the memory may be used again. Takes nothing. */
  readonly abandon: () => Promise<void>;
  readonly dispose: () => void;
};
type Move = (piece: Uint8Array<ArrayBuffer>, from: number) => void;

/** Of the memory as a whole, unless told otherwise: a second's hundredth of a slow bus. */
export const STAGING_BYTES = 2 ** 26;
/** Parts of the memory: while one is filled, another is copied. */
const PARTS = 8;
/** Where pieces begin: lines of the host and vectors of the device. */
const ALIGNED = 256;
const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNED) * ALIGNED;

type Busy = {
  readonly start: number;
  readonly end: number;
  /** When the copy is done; null where nothing will have this place before `finish`. */
  readonly done: CudaEvent | null;
  readonly take: () => void;
};

/** For tensors of these sizes. `most`: of the memory, at least 2 KiB. */
export async function stagingFor(
  session: Session,
  stream: CudaStream,
  sizes: readonly number[],
  most: number,
): Promise<Staging> {
  const all = sizes.reduce((sum, bytes) => sum + aligned(bytes), 0);
  const size = Math.max(ALIGNED, Math.min(all, aligned(most)));
  const goesRound = all > size;
  const part = goesRound ? Math.max(ALIGNED, Math.floor(size / PARTS / ALIGNED) * ALIGNED) : size;
  const memory: PinnedMemory = await session.allocatePinned(size);
  const events: CudaEvent[] = [];
  const spare: CudaEvent[] = [];
  let busy: Busy[] = [];
  let head = 0;

  /** A place that nothing uses any more. */
  const place = async (bytes: number): Promise<number> => {
    if (head + bytes > size) head = 0;
    const [start, end] = [head, head + aligned(bytes)];
    while (busy.some((b) => b.start < end && start < b.end)) {
      const [oldest] = busy;
      if (oldest?.done == null) throw new Error("heddle: internal: pinned memory went round unforeseen");
      await oldest.done.synchronize();
      busy.shift();
      oldest.take();
      spare.push(oldest.done);
    }
    head = end;
    return start;
  };
  const event = (): CudaEvent | null => {
    if (!goesRound) return null;
    const known = spare.pop();
    if (known !== undefined) return known;
    const made = session.context.event();
    events.push(made);
    return made;
  };
  const taken = (start: number, bytes: number, take: () => void) => {
    const done = event();
    if (done !== null) stream.record(done);
    busy.push({ start, end: start + aligned(bytes), done, take });
  };
  const pieces = async (bytes: number, copy: (from: number, size: number) => Promise<void>) => {
    for (let from = 0; from < bytes; from += part) await copy(from, Math.min(part, bytes - from));
  };
  const clear = () => {
    spare.push(...busy.flatMap((b) => (b.done === null ? [] : [b.done])));
    busy = [];
    head = 0;
  };
  const none = () => undefined;
  return {
    bytes: size,
    upload: (to, bytes, give) =>
      pieces(bytes, async (from, length) => {
        const start = await place(length);
        give(new Uint8Array(memory.buffer, start, length), from);
        stream.upload(to, { memory, offset: start }, { offset: from, bytes: length });
        taken(start, length, none);
      }),
    download: (of, bytes, take) =>
      pieces(bytes, async (from, length) => {
        const start = await place(length);
        stream.download(of, { memory, offset: start }, { offset: from, bytes: length });
        taken(start, length, () => take(new Uint8Array(memory.buffer, start, length), from));
      }),
    finish: async () => {
      await stream.synchronize();
      busy.forEach((b) => b.take());
      clear();
    },
    abandon: async () => {
      // Where the stream cannot be waited for, its context is gone and nothing writes here any more.
      await stream.synchronize().catch(none);
      clear();
    },
    dispose: () => {
      events.forEach((e) => e.dispose());
      session.free(memory);
    },
  };
}
