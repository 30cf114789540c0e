/**
 * A Plan: what a device must do to run one program, as JSON. No decision is left to the device: buffers, their reuse,
 * kernels, arguments and grids are all written down as formulas of N (tokens per sequence) and B (batch).
 */

export type Dtype = "f32" | "f16" | "bf16" | "i32";

/** A non-negative integer as a formula of N and B. */
export type Size =
  | number
  | "N"
  | "B"
  | {
      readonly op: "add" | "sub" | "mul" | "ceilDiv" | "floorDiv" | "min" | "max";
      readonly args: readonly [Size, Size];
    };

/** The value of a formula at batch B and length N. */
export function sizeOf(size: Size, at: { readonly N: number; readonly B: number }): number {
  if (typeof size === "number") return size;
  if (size === "N") return at.N;
  if (size === "B") return at.B;
  const a = sizeOf(size.args[0], at);
  const b = sizeOf(size.args[1], at);
  switch (size.op) {
    case "add":
      return a + b;
    case "sub":
      return a - b;
    case "mul":
      return a * b;
    case "ceilDiv":
      return Math.ceil(a / b);
    case "floorDiv":
      return Math.floor(a / b);
    case "min":
      return Math.min(a, b);
    case "max":
      return Math.max(a, b);
  }
}

export type TensorSpec = {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly Size[];
};

/** Where a step's buffer argument lives. */
export type BufferRef =
  | { readonly in: "input"; readonly index: number }
  | { readonly in: "output"; readonly index: number }
  | { readonly in: "weight"; readonly index: number }
  /** A table the host computes for the current N (`Plan.tables`). */
  | { readonly in: "table"; readonly index: number }
  /** A slot of the arena; several values share a slot at different times. */
  | { readonly in: "slot"; readonly index: number };

export type PlanWeight = {
  /** Name in the checkpoint. */
  readonly name: string;
  /** Shape in the checkpoint. */
  readonly shape: readonly number[];
  /**
   * `rows`: as in the checkpoint. `panels`: a matrix [out, in] stored as panels of 8 outputs, element (k, j) at
   * floor(j/8)·in·8 + k·8 + j mod 8, outputs padded with zeros to a multiple of 8.
   */
  readonly layout: "rows" | "panels";
};

/**
 * Host-made tables. `xpos`: [N, headDim] of (cos, sin) pairs: at row n, pair i has the angle n · 10000^(−2i/headDim) with
 * torch's f32 roundings (`xposFrequencies` in runtime/tables.ts) and both multiplied by ζ_i^(sign·(n mod block)/base), computed in f64.
 */
export type PlanTable = {
  readonly kind: "xpos";
  readonly headDim: number;
  readonly base: number;
  readonly block: number;
  readonly sign: 1 | -1;
};

export type PlanKernel = {
  /** Export name in the artifact. */
  readonly entry: string;
  /** For a reader: which operation it serves. */
  readonly title: string;
  readonly buffers: readonly {
    readonly name: string;
    readonly dtype: Dtype;
    readonly access: "read" | "write" | "readwrite";
  }[];
  readonly scalars: readonly { readonly name: string; readonly type: "i32" | "f32" }[];
  /** Bytes of workgroup memory, on a CPU of one thread's scratch. */
  readonly sharedBytes: number;
  /** Lanes per group. */
  readonly workgroup: number;
};

export type Step = {
  readonly kernel: number;
  readonly title: string;
  readonly buffers: readonly BufferRef[];
  readonly scalars: readonly Size[];
  /** Number of groups. */
  readonly grid: Size;
};

/** The steps for lengths N ≤ upTo (null: every longer one). Schedules may change with the length; results do not. */
export type PlanVariant = {
  readonly upTo: number | null;
  readonly schedule: string;
  readonly steps: readonly Step[];
  /** Elements (f32) of each arena slot. */
  readonly slots: readonly Size[];
};

export type Plan = {
  readonly format: 1;
  readonly name: string;
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly weights: readonly PlanWeight[];
  readonly tables: readonly PlanTable[];
  /** Checkpoint names accepted besides the weights: tied names and unused buffers, with their shapes. */
  readonly accepts: readonly {
    readonly name: string;
    readonly shape: readonly number[];
    /** A tied name: must hold the same numbers as this weight. */
    readonly sameAs?: string;
  }[];
  readonly kernels: readonly PlanKernel[];
  readonly variants: readonly PlanVariant[];
};

export const variantFor = (plan: Plan, N: number): PlanVariant => {
  const found = plan.variants.find((v) => v.upTo === null || N <= v.upTo);
  if (found === undefined)
    throw new Error(`heddle: the plan of '${plan.name}' has no variant for length ${N}`);
  return found;
};

/** The modules of a program for WebAssembly: the same exports, with and without relaxed SIMD. Both import `env.memory`. */
export type WasmModules = {
  readonly base: Uint8Array;
  readonly relaxed: Uint8Array;
  /** Byte offset in both modules of the limits flag of the memory import: 0x01 unshared, 0x03 shared. */
  readonly memoryFlag: { readonly base: number; readonly relaxed: number };
  /** First byte of memory that neither module's constant tables use. */
  readonly dataEnd: number;
};

/** Everything a device needs to run: the plan and, per target, its kernels. */
export type Program = {
  readonly plan: Plan;
  readonly wasm?: WasmModules;
};
