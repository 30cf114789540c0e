/** What a program needs of memory, from its Plan alone. */
import { sizeOf, variantFor } from "./plan.ts";
import type { Plan, PlanWeight, Size } from "./plan.ts";

/** Bytes as f32 and i32. */
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

/** Floats of a weight as a kernel reads it: panels are filled up to whole eights of outputs. */
export function weightLength({ shape, layout }: Pick<PlanWeight, "shape" | "layout">): number {
  const [out = 1, ...rest] = shape;
  const rows = layout === "panels" ? 8 * Math.ceil(out / 8) : out;
  return rest.reduce((product, d) => product * d, rows);
}

export function memoryOf(plan: Plan, at: { readonly N: number; readonly B: number }): Memory {
  const count = (shape: readonly Size[]) => shape.reduce<number>((product, d) => product * sizeOf(d, at), 1);
  const sum = (lengths: readonly number[]) => lengths.reduce((bytes, n) => bytes + 4 * n, 0);
  const parts = {
    weights: sum(plan.weights.map(weightLength)),
    inputs: sum(plan.inputs.map((t) => count(t.shape))),
    outputs: sum(plan.outputs.map((t) => count(t.shape))),
    activations: sum(variantFor(plan, at.N).slots.map((s) => sizeOf(s, at))),
    tables: sum(plan.tables.map((t) => at.N * t.headDim)),
  };
  return { ...parts, total: Object.values(parts).reduce((a, b) => a + b, 0) };
}
