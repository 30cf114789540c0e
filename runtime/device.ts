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
  /** "wasm", "webgpu" or "cuda". */
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
  dispose(): Promise<void>;
};
