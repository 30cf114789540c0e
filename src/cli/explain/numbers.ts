/** What `heddle explain` tells, as data. */
import { cudaTarget } from "../../../codegen/cuda/target.ts";
import { modelDefinition } from "../../../codegen/ts/definition.ts";
import { NATIVE_VARIANTS, nativeTarget } from "../../../codegen/native/target.ts";
import { cacheSize, modelReach } from "../../../codegen/decode.ts";
import { wasmTarget } from "../../../codegen/wasm/target.ts";
import { wgslTarget } from "../../../codegen/wgsl/target.ts";
import { bytesOf, memoryOf, weightLength } from "../../../runtime/memory.ts";
import type { Memory } from "../../../runtime/memory.ts";
import { rowsFor } from "../../../runtime/forward.ts";
import { sizeOf, variantFor } from "../../../runtime/plan.ts";
import type { Plan } from "../../../runtime/plan.ts";
import { scheduling, wishFor } from "../../compile.ts";
import type { CompiledProgram } from "../../compile.ts";
import { choose, countPairs } from "../../planner.ts";
import type { AttentionSpec, ModelSpec, Spec } from "../../spec.ts";
import { storedAs } from "../../storage.ts";
import { longestPath } from "./path.ts";
import type { KernelNumbers } from "./kernels.ts";
import type { Path } from "./path.ts";

const [widest] = NATIVE_VARIANTS;
if (widest === undefined) throw new Error("heddle: internal: native code has no variant");
/** Whose schedules and kernels are explained: of WebGPU those that every device runs, native code for the widest vectors. */
export const explained = {
  wasm: wasmTarget,
  native: nativeTarget(widest),
  wgsl: wgslTarget({ sharedBytes: 16384, features: [] }),
  cuda: cudaTarget,
} as const;
export type Explained = keyof typeof explained;

/** Counts are exact; those that may pass 2^53 are decimal strings in JSON, see `toPlain`. */
export type AttentionNumbers = {
  readonly kind: "attention";
  readonly name: string;
  /** Tokens of the one sequence that all numbers are about. */
  readonly length: number;
  /** Attended (query, key) pairs over all heads; a key of several branches counts for each. */
  readonly pairs: bigint;
  /** Pairs that dense attention over the same tokens has. */
  readonly densePairs: bigint;
  /** 4 · head_dim for each pair: q·k and the sum of v. */
  readonly flops: bigint;
  /** q, k, v, out and lse once, in the storage that the spec asks for: what any implementation must move. */
  readonly bytes: number;
  readonly branches: readonly {
    readonly segment: number | "all";
    readonly dilation: number;
    readonly pairs: bigint;
    /** Share of all (head, token) rows that the branch covers. */
    readonly coverage: number;
  }[];
  readonly target: Explained;
  readonly schedules: readonly ScheduleNumbers[];
  readonly path: Path;
  /** Of target `cuda`. */
  readonly kernels?: readonly KernelNumbers[];
};

export type ScheduleNumbers = {
  readonly kind: string;
  readonly chosen: boolean;
  /** Why the schedule cannot be used; null where it can. */
  readonly refused: string | null;
  readonly rows: number | null;
  readonly keys: number | null;
  readonly launches: number | null;
  readonly groups: number | null;
  /** Times that all groups which a GPU runs side by side are replaced by the next ones; on one thread every group is one. */
  readonly waves: number | null;
  /** Pairs that the tiles compute, padding included, for each attended pair. */
  readonly work: number | null;
  readonly bytes: number | null;
  /** Modelled, of one thread of a processor or of a whole GPU. */
  readonly ms: number | null;
};

/** `hints`: the spec that may ask for a schedule. */
export function attentionNumbers(
  spec: AttentionSpec,
  N: number,
  hints: Spec,
  target: Explained,
): AttentionNumbers {
  const counted = countPairs(spec, N);
  const { heads, kvHeads, headDim, causal } = spec;
  const n = BigInt(N);
  const { chosen, candidates } = scheduling(() =>
    choose(spec, N, explained[target], wishFor(hints, spec, undefined, target)),
  );
  return {
    kind: "attention",
    name: spec.name,
    length: N,
    pairs: counted.total,
    densePairs: BigInt(heads) * (causal ? (n * (n + 1n)) / 2n : n * n),
    flops: 4n * BigInt(headDim) * counted.total,
    bytes:
      bytesOf(storedAs(spec.dtype, headDim), N * (2 * heads + 2 * kvHeads) * headDim) +
      bytesOf("f32", N * heads),
    branches: spec.branches.map(({ segment, dilation }, b) => {
      const found = counted.branches[b] ?? { pairs: 0n, rows: 0n };
      return {
        segment: Number.isFinite(segment) ? segment : "all",
        dilation,
        pairs: found.pairs,
        coverage: Number(found.rows) / (heads * N),
      };
    }),
    target,
    schedules: candidates.map(({ kind, schedule, why, cost }) => ({
      kind,
      chosen: schedule !== null && schedule === chosen,
      refused: schedule === null ? why : null,
      rows: schedule?.rows ?? null,
      keys: schedule?.keys ?? null,
      launches: cost?.launches ?? null,
      groups: cost?.groups ?? null,
      waves: cost?.waves ?? null,
      work: cost === null ? null : cost.executedPairs / Math.max(1, Number(counted.total)),
      bytes: cost?.bytes ?? null,
      ms: cost === null ? null : cost.ns / 1e6,
    })),
    path: longestPath(spec, N),
  };
}

export type ModelNumbers = {
  readonly kind: "model";
  readonly name: string;
  /** Tokens of each sequence. */
  readonly length: number;
  readonly batch: number;
  readonly layers: number;
  /** Numbers that a checkpoint holds; a tied tensor counts once. */
  readonly parameters: number;
  /** Of one sequence. */
  readonly flops: {
    /** 2 for each weight of a matrix and token. */
    readonly linear: bigint;
    readonly attention: bigint;
    readonly total: bigint;
  };
  /** Bytes of a run at this length and batch, from the Plan. */
  readonly memory: Memory;
  /** Bytes that generation keeps of all layers and sequences after this many tokens of each, and what a dense cache of them would take; null where it cannot go so far. */
  readonly cache: { readonly bytes: number; readonly dense: number } | null;
  readonly kernels: number;
  readonly steps: number;
  /** How many of the steps run for so many rows at a time, so that their values never exist for all tokens; null where none do. */
  readonly chunks: { readonly rows: number; readonly steps: number } | null;
  /** Of one layer. */
  readonly attention: AttentionNumbers;
  /** Of target `cuda`. */
  readonly kernelUse?: readonly KernelNumbers[];
};

export function modelNumbers(
  spec: ModelSpec,
  { graph, program }: Pick<CompiledProgram, "graph" | "program">,
  { N, B }: { readonly N: number; readonly B: number },
  hints: Spec,
  target: Explained,
): ModelNumbers {
  const attention = attentionNumbers(spec.attention, N, hints, target);
  const perToken = graph.nodes.reduce((sum, node) => {
    const weight = node.op === "linear" ? graph.weights.find((w) => w.id === node.weight) : undefined;
    return sum + (weight === undefined ? 0 : 2 * weightLength({ shape: weight.shape, layout: "rows" }));
  }, 0);
  const linear = BigInt(perToken) * BigInt(N);
  const attended = BigInt(spec.layers) * attention.flops;
  return {
    kind: "model",
    name: spec.name,
    length: N,
    batch: B,
    layers: spec.layers,
    parameters: graph.weights.reduce((sum, { shape }) => sum + weightLength({ shape, layout: "rows" }), 0),
    flops: { linear, attention: attended, total: linear + attended },
    memory: memoryOf(program.plan, { N: rowsFor(modelDefinition(spec), N), B }),
    cache: cacheNumbers(spec, N, B, target),
    kernels: program.plan.kernels.length,
    steps: program.plan.variants[0]?.steps.length ?? 0,
    chunks: chunkNumbers(program.plan, N),
    attention,
  };
}

function chunkNumbers(plan: Plan, N: number): ModelNumbers["chunks"] {
  const cut = (variantFor(plan, N).chunks ?? []).filter(({ rows }) => rows < N);
  const [first] = cut;
  return first === undefined
    ? null
    : { rows: first.rows, steps: cut.reduce((sum, { from, to }) => sum + to - from, 0) };
}

function cacheNumbers(spec: ModelSpec, N: number, B: number, target: Explained): ModelNumbers["cache"] {
  if (modelReach(spec).tokens < N) return null;
  const { kvHeads, headDim, dtype } = spec.attention;
  // Processors store f32 whatever a spec asks for.
  const wide = target === "wasm" || target === "native";
  const bytes = B * spec.layers * (wide || storedAs(dtype, headDim) === "f32" ? 4 : 2);
  return {
    bytes: bytes * sizeOf(cacheSize(spec.attention), { N, B: 1 }),
    dense: bytes * 2 * kvHeads * headDim * N,
  };
}

/** For JSON: integers as numbers where they are exact, as decimal strings beyond 2^53. */
export const toPlain = (_key: string, value: unknown): unknown => {
  if (typeof value !== "bigint") return value;
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value.toString();
};
