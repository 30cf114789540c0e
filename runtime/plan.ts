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
  | { readonly in: "slot"; readonly index: number }
  /** What stays from run to run, for all entries of a plan (`Plan.decoding.states`). */
  | { readonly in: "state"; readonly index: number };

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
  /** Storage on the device, two 16-bit elements to a 32-bit word, the earlier one in its lower half; f32 unless given. */
  readonly dtype?: "f32" | "f16" | "bf16";
};

/**
 * Host-made tables, f32. `xpos`: [N, headDim] of (cos, sin) pairs: at row n, pair i has the angle n · 10000^(−2i/headDim) with
 * torch's f32 roundings (`xposFrequencies` in runtime/tables.ts) and both multiplied by ζ_i^(sign·(n mod block)/base), computed in f64.
 * `sincos`: [rows, width], row p the sines of p · 10000^(−2k/width), k < width/2, then the cosines.
 */
export type PlanTable =
  | {
      readonly kind: "xpos";
      readonly headDim: number;
      readonly base: number;
      readonly block: number;
      readonly sign: 1 | -1;
    }
  | { readonly kind: "sincos"; readonly rows: number; readonly width: number };
export type XposTable = Extract<PlanTable, { readonly kind: "xpos" }>;

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
  /** What the kernel computes, where a device may have a product of its own for it; in plans for CUDA. */
  readonly linear?: PlanLinear;
};

/** out = activation(x Wᵀ + bias) + alpha · residual over the kernel's buffers of these names: x [M, ins], weight [outs, ins] in panels. */
export type PlanLinear = {
  readonly ins: number;
  readonly outs: number;
  readonly activation?: "gelu" | "relu" | "swish";
  readonly alpha?: number;
};

export type Step = {
  readonly kernel: number;
  readonly title: string;
  readonly buffers: readonly BufferRef[];
  readonly scalars: readonly Size[];
  /** Number of groups. */
  readonly grid: Size;
};

/**
 * Steps `from` … `to` − 1 run one after another for each `rows` of the N·B rows, before the next rows: their formulas see the rows of the
 * chunk as N, and 1 as B. Inputs, outputs and slots have a row for each token, of which the steps see those of the chunk from the first
 * on; `slots` have room for the rows of one chunk only.
 */
export type PlanChunk = {
  readonly from: number;
  readonly to: number;
  readonly rows: number;
  readonly slots: readonly number[];
};

/** The steps for lengths N ≤ upTo (null: every longer one). Schedules may change with the length; results do not. */
export type PlanVariant = {
  readonly upTo: number | null;
  readonly schedule: string;
  readonly steps: readonly Step[];
  /** Steps that run chunk by chunk, in order; absent where none do. */
  readonly chunks?: readonly PlanChunk[];
  /** 32-bit words of each arena slot: an f32 or i32 takes one, two 16-bit elements share one (⌈n/2⌉ for n). */
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
  /** How to generate token by token; absent where the program was not compiled for it or cannot. */
  readonly decoding?: PlanDecoding;
};

/** A buffer that keeps what one run left for the next: the keys and values of a layer that may still be read. */
export type PlanState = {
  readonly name: string;
  readonly dtype: "f32" | "f16" | "bf16";
  /** N: the tokens that a sequence may have; B: sequences kept side by side, each in a lane. */
  readonly elements: Size;
  /** Elements for each token of a cache that keeps them all: what `elements` is to be compared with. */
  readonly perToken: number;
};

/** Another program over the weights, kernels and states of a plan: what a plan has of its own. */
export type PlanEntry = Pick<Plan, "inputs" | "outputs" | "tables" | "variants">;

/**
 * Generation: `prefill` puts into the states what a prompt leaves visible; `step` takes one token of each of B sequences and gives the
 * logits [B, 1, vocab] behind it. Both, and `promote`, take an i32 input `place` [3, B]: the tokens of each sequence before this run (0 for
 * `prefill`), the lane of each, and the N that the states were made for, B times. In `step` and `promote` N is of no account.
 */
export type PlanDecoding = {
  readonly states: readonly PlanState[];
  readonly entries: { readonly prefill: PlanEntry; readonly step: PlanEntry; readonly promote?: PlanEntry };
  /** Inputs of `step` [B, headDim], made by the host: row b is that of the table at the position of sequence b. */
  readonly rows: readonly { readonly input: string; readonly table: XposTable }[];
  /** `promote` must run before a step where some position is a multiple of one of these, and not 0. */
  readonly moves: readonly number[];
  /** Tokens that a sequence may have, and why not more; null: no end. */
  readonly reach: { readonly tokens: number; readonly why: string } | null;
  /** Whether the states grow with N without an end; otherwise any large N takes the same bytes. */
  readonly grows: boolean;
  /** Tells specs apart, so that no cache is read as that of another. */
  readonly spec: string;
};
export type EntryName = keyof PlanDecoding["entries"];

/** An entry as a plan of its own. */
export function entryOf(plan: Plan, name: EntryName): Plan {
  const entry = plan.decoding?.entries[name];
  if (entry === undefined)
    throw new Error(`heddle: '${plan.name}' was not compiled for generation, or has no '${name}'`);
  return { ...plan, ...entry };
}

/** The storage type of what a reference names; undefined for slots, which hold values of any type. */
export function storageOf(plan: Plan, ref: BufferRef): Dtype | undefined {
  if (ref.in === "slot") return undefined;
  if (ref.in === "table") return "f32";
  if (ref.in === "state") return plan.decoding?.states[ref.index]?.dtype;
  if (ref.in === "weight") {
    const weight = plan.weights[ref.index];
    return weight === undefined ? undefined : (weight.dtype ?? "f32");
  }
  return (ref.in === "input" ? plan.inputs : plan.outputs)[ref.index]?.dtype;
}

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

/**
 * A buffer as a shader's text uses it: only through functions named after it, which the runtime writes, so that it may split
 * a large tensor into several bindings and choose how 16-bit numbers are unpacked without touching the text.
 *
 * `NAME_at(i)` and `NAME_at4(i)` load one element (f32 or i32) or the four from i on, `NAME_put(i, v)` and `NAME_put4(i, v)` store;
 * i is an i32 and counts elements.
 */
export type ShaderBuffer = {
  readonly name: string;
  readonly dtype: Dtype;
  readonly access: "read" | "write" | "readwrite";
  /**
   * `four`: the text calls no `put`, and every i of `at4` and `put4` is a multiple of 4: the buffer may be an array of vectors.
   * `one`: `at4` and `put4` may start anywhere; never with a 16-bit dtype that is written.
   */
  readonly layout: "four" | "one";
  readonly uses: readonly ("at" | "at4" | "put" | "put4")[];
};

/**
 * Numbers known at compile time that a kernel looks up. Not constants of the text: compilers give every place that indexes a constant
 * array a copy of its own in each invocation.
 */
export type ShaderTable = {
  readonly name: string;
  readonly type: "i32" | "f32";
  readonly values: readonly number[];
};

/**
 * One kernel in WGSL without the declarations of its buffers (bindings 1 … of group 0, in the order of `buffers`). Binding 0 is
 * the text's own `var<uniform> params: Params`, 4-byte fields in this order: `first_group` u32, `groups` u32, `low` f32 (the
 * runtime writes −∞, for which WGSL has no literal), `first_row` u32 (of a chunk, for the functions of tensors in parts), then the kernel's scalars as i32 or f32. A dispatch runs groups
 * first_group … groups − 1, as many as it has workgroups; its y axis continues where x ends, and workgroups past `groups` do nothing.
 * The entry point is `main`. A text with tables has one more uniform, `tables: Tables` at binding 0 of group 1: each table as an array
 * of vectors of four, the last one filled up.
 */
export type Shader = {
  readonly buffers: readonly ShaderBuffer[];
  /** Constants of the kernel, for `tables`; absent where there are none. */
  readonly tables?: readonly ShaderTable[];
  readonly code: string;
};

/**
 * A program for WebGPU. What it needs of a device besides `features` stands in its plan: `sharedBytes` (workgroup storage),
 * `workgroup` (invocations) and the number of buffers (plus one uniform) of each kernel.
 */
export type WgslProgram = {
  readonly features: readonly "subgroups"[];
  /** Inputs, outputs, weights and tables are those of the Program's own plan, in the same order. */
  readonly plan: Plan;
  /** By kernel of the plan. */
  readonly shaders: readonly Shader[];
};

/**
 * One kernel as CUDA C++: a translation unit without headers, with the one function `entry` (`extern "C"`).
 *
 * Arguments of a launch, in this order: a device pointer for each buffer of the plan's kernel, aligned to 16 bytes; each scalar as 4
 * bytes; then `first_group`, an i32. A launch has a grid of (groups, 1, 1) blocks of (`workgroup`, 1, 1) threads and `sharedBytes` of
 * dynamic shared memory, for which a function must be allowed more where that passes 48 KiB. It runs groups first_group …
 * first_group + groups − 1, so that a grid may be cut into several launches. Scalars and numbers of groups stay below 2³¹ − 2¹⁶.
 */
export type CudaSource = { readonly entry: string; readonly code: string };

/** A program for CUDA. What it needs of a device besides `capability` stands in its plan: `sharedBytes` and `workgroup` of each kernel. */
export type CudaProgram = {
  /** The least compute capability: 80 for sm_80. */
  readonly capability: number;
  /** For NVRTC, besides the architecture. */
  readonly options: readonly string[];
  /** Inputs, outputs, weights and tables are those of the Program's own plan, in the same order. */
  readonly plan: Plan;
  /** By kernel of the plan. */
  readonly sources: readonly CudaSource[];
};

/** Vectors of a processor: 16, 8 or 4 lanes of f32. `sse` is what any processor may compute, if slowly. */
export type NativeVectors = "avx512" | "avx2" | "neon" | "sse";

/**
 * A program as one translation unit of C with the vectors of GCC and Clang. Each kernel of the plan is a function
 * `void entry(int begin, int end, char *scratch, void *const *buffers, const word *scalars)` that runs groups begin … end − 1: `scratch`
 * are `scratchBytes` of this thread at a multiple of 64, `buffers` and `scalars` those of the plan's kernel in order, `word` a union of
 * an int and a float. Indices are 32 bits: no tensor may have 2³¹ elements.
 */
export type NativeProgram = {
  readonly vectors: NativeVectors;
  /** Columns of a panel of weights here: a device packs those of `PlanWeight.layout` anew. */
  readonly panel: number;
  readonly scratchBytes: number;
  /** Inputs, outputs, weights and tables are those of the Program's own plan, in the same order. */
  readonly plan: Plan;
  readonly code: string;
};

/** Everything a device needs to run: the plan and, per target, its kernels. */
export type Program = {
  /** Of `wasm` where it is there, otherwise of the last of `webgpu` or `cuda`. For readers and checks it stands for all targets. */
  readonly plan: Plan;
  readonly wasm?: WasmModules;
  /** Best first: a device runs the first one that it meets the needs of. The last one needs no feature, 16 KiB and 256 invocations. */
  readonly webgpu?: readonly WgslProgram[];
  /** Best first, likewise; all of them need sm_80 or later. */
  readonly cuda?: readonly CudaProgram[];
  /** Widest first; a host takes the first whose vectors it has. */
  readonly native?: readonly NativeProgram[];
};
