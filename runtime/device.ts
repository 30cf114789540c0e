/**
 * What runs a Program. Every method that a device with its own memory could have to wait for is asynchronous, and numbers
 * cross the border by copy, so that a GPU can stand behind the same interface as WebAssembly.
 */
import type { Plan, Program } from "./plan.ts";
import type { Extent, HostArray, Tensors } from "./tensors.ts";

/** Bytes in use, by what they hold. `total` is what the device really took, so at least the sum of the others. */
export type MemoryUse = {
  readonly weights: number;
  readonly tables: number;
  readonly inputs: number;
  readonly outputs: number;
  /** Slots that the values between steps share. */
  readonly arena: number;
  /** What stays between runs besides weights; absent where nothing does. */
  readonly states?: number;
  /** Tiles of the threads; on CUDA pinned memory of the host, through which inputs and outputs go. */
  readonly scratch: number;
  readonly total: number;
};

/** Reads every weight of a plan and hands each, in its layout, to `set`. May be called again after a device was lost. */
export type WeightSource = (set: (index: number, data: Float32Array) => Promise<void>) => Promise<void>;

export type LoadOptions = {
  /** Where weights come from, at once and again after a loss. Without it they are set by `setWeight`. */
  readonly weights?: WeightSource;
  /** Called after each kernel that was compiled (WebGPU, CUDA). */
  readonly warmup?: (done: number, of: number) => void;
};

export type Device = {
  /** "wasm", "webgpu", "cuda" or "native". */
  readonly name: string;
  /** For a reader: variant, threads, and why fewer than asked for. */
  readonly detail: string;
  compile(program: Program, options?: LoadOptions): Promise<Executable>;
  /** Ends every executable of this device. */
  dispose(): Promise<void>;
};

export type Executable = {
  readonly plan: Plan;
  /** Like the device's, with what was found out when this program was loaded. */
  readonly detail: string;
  /**
   * Copies `plan.weights[index]`, already in its layout, to the device. Fits `loadWeights` as its sink; a weight that was
   * never set makes `run` fail.
   */
  setWeight(index: number, data: Float32Array): Promise<void>;
  /**
   * Runs at N and B with every input of the plan and gives every output in fresh arrays. Runs wait for each other.
   * Rejects with an InputError where the arrays do not fit.
   */
  run(inputs: Tensors, at: Extent): Promise<{ readonly [name: string]: HostArray }>;
  /** Like `run`, into the caller's arrays; outputs that are not named stay on the device. */
  runInto(inputs: Tensors, at: Extent, outputs: Tensors): Promise<void>;
  memory(): MemoryUse;
  /** Memory that stays from run to run, for programs that were compiled with it (`Plan.decoding`); absent where the device has none. */
  readonly states?: States;
  dispose(): Promise<void>;
};

/**
 * What generation asks of a device; runtime/generate/decoding.ts makes the rest of it. Everything here waits for what was asked before.
 */
export type States = {
  /** Like `run` of an executable, of what `entry` makes of the plan that runs here and of how many states there are. */
  run(
    entry: (plan: Plan, held: number) => Plan,
    inputs: Tensors,
    at: Extent,
  ): Promise<{ readonly [name: string]: HostArray }>;
  /** How many states there are now: none before they are made, and where they went with a device. */
  held(): Promise<number>;
  /** Makes a memory for each state of the plan; those that there were go. */
  allocate(
    wanted: readonly { readonly label: string; readonly bytes: number; readonly formula: string }[],
  ): Promise<void>;
  /** Copies a whole state out, or in. */
  read(index: number, into: Uint8Array<ArrayBuffer>): Promise<void>;
  write(index: number, from: Uint8Array): Promise<void>;
};
