/** What a program needs of memory, from its Plan alone. */
import { notCompiled, planFor } from "./compiled.ts";
import type { CompiledFor } from "./compiled.ts";
import { inputError } from "./input-error.ts";
import { sizeOf, variantFor } from "./plan.ts";
import type { Dtype, Plan, PlanWeight, Program, TensorSpec } from "./plan.ts";
import { tableLength } from "./tables.ts";
import { elementsAt } from "./tensors.ts";

/** Bytes on the device, in the storage types of the plan. */
export type Memory = {
  /** Weights in the layouts of the kernels; a tensor that is read in two layouts counts twice. */
  readonly weights: number;
  readonly inputs: number;
  readonly outputs: number;
  /** Values between the steps. Slots are used again, so this does not grow with the number of layers. */
  readonly activations: number;
  /** Tables made for the length. */
  readonly tables: number;
  /** What generation keeps of its sequences, where their capacity was given. */
  readonly cache: number;
  readonly total: number;
};

export type PlanOptions = {
  readonly length: number;
  /** Default 1. */
  readonly batch?: number;
  /** Default `wasm`. */
  readonly device?: CompiledFor;
  /** Tokens that each of `batch` generated sequences may have. */
  readonly capacity?: number;
};

/**
 * What a program takes of a device, before anything is loaded. A device adds its alignment and its own scratch memory.
 * @throws InputError where the program was not compiled for the device.
 */
export function plannedMemory(
  program: Program,
  { device = "wasm", length: N, batch: B = 1, capacity }: PlanOptions,
): Memory {
  const plan = planFor(program, device);
  if (plan === undefined) throw inputError(notCompiled(program, device));
  return memoryOf(plan, { N, B }, capacity);
}

/** Bytes of `count` elements on a device, up to whole 32-bit words. */
export const bytesOf = (dtype: Dtype, count: number): number =>
  4 * (dtype === "f16" || dtype === "bf16" ? Math.ceil(count / 2) : count);

/** Elements of a weight as a kernel reads it: panels are filled up to whole eights of outputs. */
export function weightLength({ shape, layout }: Pick<PlanWeight, "shape" | "layout">): number {
  const [out = 1, ...rest] = shape;
  const rows = layout === "panels" ? 8 * Math.ceil(out / 8) : out;
  return rest.reduce((product, d) => product * d, rows);
}

/** Bytes of a weight as a kernel reads it. */
export const weightBytes = (weight: PlanWeight): number =>
  bytesOf(weight.dtype ?? "f32", weightLength(weight));

export function memoryOf(
  plan: Plan,
  at: { readonly N: number; readonly B: number },
  capacity?: number,
): Memory {
  const sum = (bytes: readonly number[]) => bytes.reduce((total, n) => total + n, 0);
  const tensors = (list: readonly TensorSpec[]) =>
    sum(list.map(({ dtype, shape }) => bytesOf(dtype, elementsAt(shape, at))));
  const parts = {
    weights: sum(plan.weights.map(weightBytes)),
    inputs: tensors(plan.inputs),
    outputs: tensors(plan.outputs),
    activations: sum(variantFor(plan, at.N).slots.map((s) => 4 * sizeOf(s, at))),
    tables: sum(plan.tables.map((t) => 4 * tableLength(t, at.N))),
    cache: sum(
      capacity === undefined
        ? []
        : (plan.decoding?.states ?? []).map((s) =>
            bytesOf(s.dtype, sizeOf(s.elements, { ...at, N: capacity })),
          ),
    ),
  };
  return { ...parts, total: Object.values(parts).reduce((a, b) => a + b, 0) };
}
