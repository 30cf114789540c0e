/** A stream: what it is given is done in that order, beside the host, which waits only where a promise says so. */
import type { Launch } from "./arguments.ts";
import type { CudaEvent, CudaFunction, CudaProduct, DeviceMemory, Dispose, PinnedMemory } from "./context.ts";
import type { Handle, Shim } from "./shim.ts";

/** A part of a memory; the whole unless said otherwise. Bytes. */
export type Part = { readonly offset?: number; readonly bytes?: number };
export type HostPart = { readonly memory: PinnedMemory; readonly offset?: number };

/** Work that was captured. It keeps the memory and code that it uses, also when they are disposed. */
export type CudaGraph = {
  readonly handle: Handle<"graph">;
  /** Launches, copies and fills in it. */
  readonly nodes: number;
  readonly dispose: Dispose;
};

/** Synchronous functions enqueue and return at once; an error of the device shows in `synchronize` or a later call. */
export type CudaStream = {
  readonly handle: Handle<"stream">;
  readonly launch: (fn: CudaFunction, launch: Launch) => void;
  /** x, W, out, then bias, residual and workspace as far as the product has them. */
  readonly multiply: (product: CudaProduct, memories: readonly DeviceMemory[]) => void;
  /** Sets every byte. */
  readonly fill: (memory: DeviceMemory, byte: number, part?: Part) => void;
  /** Sets every 32-bit word, say to the bits of a NaN. */
  readonly fillWords: (memory: DeviceMemory, word: number, part?: Part) => void;
  /** From pinned memory, which must stay as it is until the copy was done. */
  readonly upload: (to: DeviceMemory, from: HostPart, part?: Part) => void;
  /** Into pinned memory, which holds it once the copy was done. */
  readonly download: (from: DeviceMemory, to: HostPart, part?: Part) => void;
  readonly copy: (
    to: DeviceMemory,
    from: DeviceMemory,
    part?: Part & { readonly fromOffset?: number },
  ) => void;
  /**
   * From any array and into any. It is enqueued while the promise is under way, so await it before giving the stream what comes
   * after; and as with all of Node, the array must not be detached, moved or resized meanwhile.
   */
  readonly write: (to: DeviceMemory, from: ArrayBufferView, offset?: number) => Promise<void>;
  readonly read: (from: DeviceMemory, into: ArrayBufferView, offset?: number) => Promise<void>;
  readonly record: (event: CudaEvent) => void;
  /** What is given from now on waits for the event, on the device. */
  readonly wait: (event: CudaEvent) => void;
  /** What `work` gives this stream becomes a graph instead of being done. Where `work` throws, nothing is kept. */
  readonly capture: (work: () => void) => CudaGraph;
  readonly replay: (graph: CudaGraph) => void;
  /** Waits for all that the stream was given. */
  readonly synchronize: () => Promise<void>;
  readonly dispose: Dispose;
};

export function streamOf(shim: Shim, handle: Handle<"stream">, dispose: Dispose): CudaStream {
  const rest = (memory: DeviceMemory, { offset = 0, bytes = memory.bytes - offset }: Part) =>
    [offset, bytes] as const;
  return {
    handle,
    launch: (fn, { shape, parameters, memories, slots }) =>
      shim.launch(fn.handle, handle, shape, parameters, memories, slots),
    multiply: (product, memories) =>
      shim.multiply(
        product.handle,
        handle,
        memories.map((m) => m.handle),
      ),
    fill: (memory, byte, part = {}) => {
      const [offset, bytes] = rest(memory, part);
      shim.fill(handle, memory.handle, offset, bytes, byte, 1);
    },
    fillWords: (memory, word, part = {}) => {
      const [offset, bytes] = rest(memory, part);
      shim.fill(handle, memory.handle, offset, bytes / 4, word, 4);
    },
    upload: (to, from, part = {}) => {
      const [offset, bytes] = rest(to, part);
      shim.upload(handle, to.handle, offset, from.memory.handle, from.offset ?? 0, bytes);
    },
    download: (from, to, part = {}) => {
      const [offset, bytes] = rest(from, part);
      shim.download(handle, from.handle, offset, to.memory.handle, to.offset ?? 0, bytes);
    },
    copy: (to, from, { fromOffset = 0, ...part } = {}) => {
      const [offset, bytes] = rest(to, part);
      shim.copy(handle, to.handle, offset, from.handle, fromOffset, bytes);
    },
    write: (to, from, offset = 0) => shim.write(handle, to.handle, offset, bytesOf(from)),
    read: (from, into, offset = 0) => shim.read(handle, from.handle, offset, bytesOf(into)),
    record: (event) => shim.recordEvent(event.handle, handle),
    wait: (event) => shim.waitEvent(handle, event.handle),
    capture: (work) => {
      shim.beginCapture(handle);
      try {
        work();
      } catch (error) {
        try {
          shim.endCapture(handle, 1);
        } catch {
          // The first error is the cause.
        }
        throw error;
      }
      const graph = shim.endCapture(handle, 0);
      if (graph === undefined) throw new Error("heddle: internal: a capture gave no graph");
      return { ...graph, dispose: () => shim.dispose(graph.handle) };
    },
    replay: (graph) => shim.launchGraph(graph.handle, handle),
    synchronize: () => shim.synchronizeStream(handle),
    dispose,
  };
}

const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);
