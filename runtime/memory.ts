/** What a program needs of memory, from its Plan alone. */
import { sizeOf, variantFor } from "./plan.ts";
import type { Dtype, Plan, PlanWeight, TensorSpec } from "./plan.ts";
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
  readonly total: number;
};

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

export function memoryOf(plan: Plan, at: { readonly N: number; readonly B: number }): Memory {
  const sum = (bytes: readonly number[]) => bytes.reduce((total, n) => total + n, 0);
  const tensors = (list: readonly TensorSpec[]) =>
    sum(list.map(({ dtype, shape }) => bytesOf(dtype, elementsAt(shape, at))));
  const parts = {
    weights: sum(plan.weights.map(weightBytes)),
    inputs: tensors(plan.inputs),
    outputs: tensors(plan.outputs),
    activations: sum(variantFor(plan, at.N).slots.map((s) => 4 * sizeOf(s, at))),
    tables: sum(plan.tables.map((t) => 4 * tableLength(t, at.N))),
  };
  return { ...parts, total: Object.values(parts).reduce((a, b) => a + b, 0) };
}
