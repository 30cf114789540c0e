/** A device in use: memory, modules, streams. Whatever is made here ends with the context, and may be ended before. */
import type { CudaDevice } from "./devices.ts";
import type { CudaError } from "./errors.ts";
import type { FunctionUsage, Handle, Shim } from "./shim.ts";
import { streamOf } from "./stream.ts";
import type { CudaStream } from "./stream.ts";

/**
 * Ends the object and frees what it has on the device, which waits for work that uses it. Gives what the driver had to say about
 * that, and does not throw. Harmless when repeated; every other use afterwards throws DISPOSED.
 */
export type Dispose = () => CudaError | undefined;

/** Memory on the device. What it holds at first is undefined. */
export type DeviceMemory = {
  readonly handle: Handle<"memory">;
  readonly bytes: number;
  readonly dispose: Dispose;
};

/** Memory of the host that the device copies from and to by itself. `dispose` detaches the buffer. */
export type PinnedMemory = {
  readonly handle: Handle<"pinned">;
  readonly bytes: number;
  readonly buffer: ArrayBuffer;
  readonly dispose: Dispose;
};

export type CudaEvent = {
  readonly handle: Handle<"event">;
  /** Milliseconds from `start` to this event; both must have happened. */
  readonly since: (start: CudaEvent) => number;
  readonly synchronize: () => Promise<void>;
  readonly dispose: Dispose;
};

export type CudaFunction = {
  readonly handle: Handle<"function">;
  readonly name: string;
  readonly usage: () => FunctionUsage;
  /** Blocks of one multiprocessor at a time. */
  readonly occupancy: (threads: number, sharedBytes?: number) => number;
  /** Dynamic shared memory that launches may ask for; beyond 48 KiB it must be set first. */
  readonly setSharedLimit: (bytes: number) => void;
};

export type CudaModule = {
  readonly handle: Handle<"module">;
  /** @throws CudaError CUDA_ERROR_NOT_FOUND. */
  readonly function: (name: string) => CudaFunction;
  readonly dispose: Dispose;
};

/** A linear layer: out [rows, outs] = relu?(x [rows, ins] · W [outs, ins]ᵀ + bias) + alpha · residual, without relu where alpha is not 0. */
export type ProductShape = {
  readonly ins: number;
  readonly outs: number;
  readonly rows: number;
  /** Storage of x and W, and of out and residual; sums are f32. */
  readonly x: "f32" | "f16" | "bf16";
  readonly out: "f32" | "f16" | "bf16";
  readonly relu: boolean;
  /** One of f32. */
  readonly bias: boolean;
  readonly alpha: number;
};

export type CudaProduct = {
  readonly handle: Handle<"product">;
  /** That it takes when it runs. */
  readonly workspaceBytes: number;
  readonly dispose: Dispose;
};

/** cuBLASLt in a context. */
export type CudaProducts = {
  readonly handle: Handle<"products">;
  /** Null where the library has no algorithm within so many bytes of workspace. @throws CudaError CUBLAS_STATUS_…. */
  readonly product: (shape: ProductShape, workspaceBytes: number) => CudaProduct | null;
  readonly dispose: Dispose;
};

export type CudaContext = {
  readonly handle: Handle<"context">;
  readonly device: CudaDevice;
  /** @throws CudaError CUDA_ERROR_OUT_OF_MEMORY; the message has the bytes. */
  readonly allocate: (bytes: number) => Promise<DeviceMemory>;
  readonly allocatePinned: (bytes: number) => Promise<PinnedMemory>;
  /** A cubin, or PTX that the driver compiles. */
  readonly load: (image: Uint8Array) => Promise<CudaModule>;
  readonly stream: () => CudaStream;
  /** @throws CudaError CUBLAS_STATUS_…. */
  readonly products: (library: Handle<"cublaslt">) => Promise<CudaProducts>;
  readonly event: () => CudaEvent;
  /** Bytes of the device, of all processes. */
  readonly memory: () => { readonly free: number; readonly total: number };
  /** Waits for all streams. */
  readonly synchronize: () => Promise<void>;
  readonly dispose: Dispose;
};

/** The primary context of a device, which the CUDA runtime and other libraries of this process share. */
export async function contextOf(
  shim: Shim,
  driver: Handle<"driver">,
  device: CudaDevice,
): Promise<CudaContext> {
  const handle = await shim.openContext(driver, device.ordinal);
  const ends =
    (h: Handle): Dispose =>
    () =>
      shim.dispose(h);
  return {
    handle,
    device,
    allocate: async (bytes) => {
      const memory = await shim.allocate(handle, bytes);
      return { handle: memory, bytes, dispose: ends(memory) };
    },
    allocatePinned: async (bytes) => {
      const pinned = await shim.allocatePinned(handle, bytes);
      return { ...pinned, bytes, dispose: ends(pinned.handle) };
    },
    load: async (image) => {
      const module = await shim.loadModule(handle, image);
      return { handle: module, function: (name) => functionOf(shim, module, name), dispose: ends(module) };
    },
    stream: () => {
      const stream = shim.createStream(handle);
      return streamOf(shim, stream, ends(stream));
    },
    products: async (library) => {
      const products = await shim.openProducts(handle, library);
      const types = ["f32", "f16", "bf16"] as const;
      return {
        handle: products,
        product: ({ ins, outs, rows, x, out, relu, bias, alpha }, workspaceBytes) => {
          const flags = [types.indexOf(x), types.indexOf(out), Number(relu), Number(bias)];
          const shape = Float64Array.of(ins, outs, rows, ...flags, alpha, workspaceBytes);
          const made = shim.product(products, shape);
          return made === undefined ? null : { ...made, dispose: ends(made.handle) };
        },
        dispose: ends(products),
      };
    },
    event: () => {
      const event = shim.createEvent(handle);
      return {
        handle: event,
        since: (start) => shim.elapsed(start.handle, event),
        synchronize: () => shim.synchronizeEvent(event),
        dispose: ends(event),
      };
    },
    memory: () => shim.memoryInfo(handle),
    synchronize: () => shim.synchronizeContext(handle),
    dispose: ends(handle),
  };
}

function functionOf(shim: Shim, module: Handle<"module">, name: string): CudaFunction {
  const handle = shim.moduleFunction(module, name);
  return {
    handle,
    name,
    usage: () => shim.functionUsage(handle),
    occupancy: (threads, sharedBytes = 0) => shim.occupancy(handle, threads, sharedBytes),
    setSharedLimit: (bytes) => shim.setSharedLimit(handle, bytes),
  };
}
