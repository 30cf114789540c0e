/**
 * The functions of the native shim (`runtime/native`), as it has them. `cuda.ts` and `nvrtc.ts` are what to use: they give records
 * instead of handles. Every function throws a CudaError where an argument does not fit, and never crashes.
 */
import type { CudaError } from "./errors.ts";

declare const kind: unique symbol;
/** An object of the shim that stands for one of the driver's. */
export type Handle<K extends HandleKind = HandleKind> = { readonly [kind]: K };
export type HandleKind =
  | "driver"
  | "nvrtc"
  | "cublaslt"
  | "context"
  | "module"
  | "function"
  | "stream"
  | "event"
  | "memory"
  | "pinned"
  | "graph"
  | "products"
  | "product";

/** What a function takes of a device, as its compiled code says. */
export type FunctionUsage = {
  /** For each thread. */
  readonly registers: number;
  /** For each block, without what a launch adds. */
  readonly sharedBytes: number;
  readonly constantBytes: number;
  /** For each thread: spilled registers and arrays that could not be kept in registers. */
  readonly localBytes: number;
  /** The most threads of a block that can be launched. */
  readonly maxThreads: number;
  /** The most dynamic shared memory that a launch may ask for, as it is set now. */
  readonly maxDynamicShared: number;
  /** 80 for PTX 8.0; and 90 for code of sm_90. */
  readonly ptxVersion: number;
  readonly binaryVersion: number;
  /** Bytes of the parameters, −1 where the driver is older than CUDA 12.4 and cannot say. */
  readonly parameterBytes: number;
};

type Driver = Handle<"driver">;
type Context = Handle<"context">;
type Stream = Handle<"stream">;
type Memory = Handle<"memory">;
type Pinned = Handle<"pinned">;

/** Offsets, counts and sizes are in bytes unless said otherwise. */
export type Shim = {
  /** `version` as CUDA writes it: 12040 for 12.4. */
  openDriver(path: string): Promise<{ readonly handle: Driver; readonly version: number }>;
  openNvrtc(
    path: string,
    builtins: string | null,
  ): Promise<{
    readonly handle: Handle<"nvrtc">;
    readonly major: number;
    readonly minor: number;
    readonly archs: readonly number[];
  }>;
  /** Rejects with the `log` where the source does not compile. PTX has no zero at its end. */
  compile(
    nvrtc: Handle<"nvrtc">,
    name: string,
    source: string,
    options: readonly string[],
  ): Promise<{
    readonly ptx?: Uint8Array<ArrayBuffer>;
    readonly cubin?: Uint8Array<ArrayBuffer>;
    readonly log: string;
  }>;
  deviceCount(driver: Driver): number;
  deviceInfo(
    driver: Driver,
    ordinal: number,
    attributes: Int32Array,
  ): { readonly name: string; readonly bytes: number; readonly values: readonly number[] };
  openContext(driver: Driver, ordinal: number): Promise<Context>;
  memoryInfo(context: Context): { readonly free: number; readonly total: number };
  synchronizeContext(context: Context): Promise<void>;
  loadModule(context: Context, image: Uint8Array): Promise<Handle<"module">>;
  moduleFunction(module: Handle<"module">, name: string): Handle<"function">;
  functionUsage(fn: Handle<"function">): FunctionUsage;
  occupancy(fn: Handle<"function">, threads: number, sharedBytes: number): number;
  setSharedLimit(fn: Handle<"function">, bytes: number): void;
  /** `shape`: grid x, y, z, block x, y, z, shared bytes. `slots`: per memory its place in the parameters and the offset into it. */
  launch(
    fn: Handle<"function">,
    stream: Stream,
    shape: Uint32Array,
    parameters: Uint8Array,
    memories: readonly Memory[],
    slots: Float64Array,
  ): void;
  createStream(context: Context): Stream;
  synchronizeStream(stream: Stream): Promise<void>;
  createEvent(context: Context): Handle<"event">;
  recordEvent(event: Handle<"event">, stream: Stream): void;
  waitEvent(stream: Stream, event: Handle<"event">): void;
  synchronizeEvent(event: Handle<"event">): Promise<void>;
  /** Milliseconds. */
  elapsed(start: Handle<"event">, end: Handle<"event">): number;
  allocate(context: Context, bytes: number): Promise<Memory>;
  allocatePinned(
    context: Context,
    bytes: number,
  ): Promise<{ readonly handle: Pinned; readonly buffer: ArrayBuffer }>;
  /** `count` values of `width` bytes. */
  fill(stream: Stream, memory: Memory, offset: number, count: number, value: number, width: 1 | 4): void;
  upload(
    stream: Stream,
    memory: Memory,
    offset: number,
    pinned: Pinned,
    pinnedOffset: number,
    bytes: number,
  ): void;
  download(
    stream: Stream,
    memory: Memory,
    offset: number,
    pinned: Pinned,
    pinnedOffset: number,
    bytes: number,
  ): void;
  copy(stream: Stream, to: Memory, toOffset: number, from: Memory, fromOffset: number, bytes: number): void;
  write(stream: Stream, memory: Memory, offset: number, from: Uint8Array): Promise<void>;
  read(stream: Stream, memory: Memory, offset: number, into: Uint8Array): Promise<void>;
  beginCapture(stream: Stream): void;
  /** Undefined where it is discarded. */
  endCapture(
    stream: Stream,
    discard: 0 | 1,
  ): { readonly handle: Handle<"graph">; readonly nodes: number } | undefined;
  launchGraph(graph: Handle<"graph">, stream: Stream): void;
  /** `version` as the library writes it: 130101 for 13.1.1. */
  openCublasLt(path: string): Promise<{ readonly handle: Handle<"cublaslt">; readonly version: number }>;
  openProducts(context: Context, cublaslt: Handle<"cublaslt">): Promise<Handle<"products">>;
  /**
   * `shape`: ins, outs, rows, type of x and W and type of out (0 f32, 1 f16, 2 bf16), 1 for relu, 1 for a bias of f32, alpha (0: no
   * residual), bytes of workspace. Undefined where the library has no algorithm.
   */
  product(
    products: Handle<"products">,
    shape: Float64Array,
  ): { readonly handle: Handle<"product">; readonly workspaceBytes: number } | undefined;
  /** `memories`: x, W, out, then bias, residual and workspace as far as the product has them. */
  multiply(product: Handle<"product">, stream: Stream, memories: readonly Memory[]): void;
  /** What the driver said while it released; never thrown, so that it fits a `finally`. Harmless when repeated. */
  dispose(handle: Handle): CudaError | undefined;
};
