/**
 * Linear layers by cuBLASLt: those that it computes exactly as they are meant. The others stay heddle's own kernels, and so does every
 * layer whose weight such a kernel reads too, for cuBLASLt takes weights by rows and the kernels take panels.
 */
import { deviceError } from "../device-error.ts";
import type { Dtype, Plan, PlanKernel, PlanWeight } from "../plan.ts";
import type { CudaProduct, CudaProducts, ProductShape } from "./context.ts";

/** Bytes that products may use between their kernels: what NVIDIA advises from Hopper on (cuBLAS, "cublasSetWorkspace"). */
export const WORKSPACE_BYTES = 32 * 2 ** 20;

/** By whom a linear layer's kernel of the plan is computed. */
export type LinearUse = {
  /** Of the kernel that would compute it, and an operation that it serves. */
  readonly entry: string;
  readonly title: string;
  readonly by: "own" | "cublaslt";
  /** Why not by cuBLASLt. */
  readonly why?: string;
};

export type Linears = {
  /** Weights that lie in rows, and are multiplied by cuBLASLt. */
  readonly rows: ReadonlySet<number>;
  readonly uses: readonly LinearUse[];
};
export const NO_LINEARS: Linears = { rows: new Set(), uses: [] };

const bufferOf = (kernel: PlanKernel, name: string): Dtype | null =>
  kernel.buffers.find((b) => b.name === name)?.dtype ?? null;

/** What cuBLASLt is asked for, but for the rows of x; a sentence where it means another thing or has none such. */
function shapeOf(kernel: PlanKernel): Omit<ProductShape, "rows"> | string {
  const { linear } = kernel;
  if (linear === undefined) return "it is no linear layer";
  const { ins, outs, activation, alpha = 0 } = linear;
  const [x, weight, out] = ["x", "weight", "out"].map((name) => bufferOf(kernel, name));
  const [bias, residual] = [bufferOf(kernel, "bias"), bufferOf(kernel, "residual")];
  if (x == null || out == null || x !== weight || x === "i32" || out === "i32")
    return "x and its weight are stored differently";
  if (out !== "f32" && out !== x) return `it stores ${out} where x has ${x}`;
  if (activation === "gelu") return "its GELU is the exact one (erf), cuBLASLt's the tanh form";
  if (activation === "swish") return "cuBLASLt has no swish";
  if (activation === "relu" && residual !== null) return "it adds after relu, where cuBLASLt adds before it";
  if (residual !== null && residual !== out) return `it adds ${residual} to ${out}`;
  // Rounding the bias to out's type would be another sum.
  if (bias !== null && (bias !== "f32" || out !== "f32"))
    return `its bias is ${bias}, and cuBLASLt adds one of ${out}'s type`;
  return { ins, outs, x, out, relu: activation === "relu", bias: bias !== null, alpha };
}

/** Rows for which a layer must have an algorithm to be taken: one token, and many. */
const TRIED = [1, 4096] as const;

/** Which linear layers of a plan, its entries included, cuBLASLt takes. */
export function linearsOf(plan: Plan, products: CudaProducts): Linears {
  const whyOf = plan.kernels.map((kernel): string | null => {
    const shape = shapeOf(kernel);
    if (typeof shape === "string") return shape;
    for (const rows of TRIED) {
      const product = products.product({ ...shape, rows }, WORKSPACE_BYTES);
      if (product === null)
        return `cuBLASLt has no algorithm for ${shape.ins} × ${shape.outs} at ${rows} rows`;
      product.dispose();
    }
    return null;
  });
  const entries = plan.decoding === undefined ? [] : Object.values(plan.decoding.entries);
  const steps = [plan, ...entries].flatMap((e) => e.variants.flatMap((v) => v.steps));
  const kept = new Map<number, string>();
  for (const step of steps)
    step.buffers.forEach((ref, i) => {
      if (ref.in !== "weight") return;
      const kernel = plan.kernels[step.kernel];
      const why = whyOf[step.kernel];
      if (kernel?.buffers[i]?.name !== "weight" || why == null) return;
      kept.set(ref.index, `${step.title} reads the same weight`);
    });
  const rows = new Set<number>();
  const uses = new Map<number, LinearUse>();
  for (const step of steps) {
    const kernel = plan.kernels[step.kernel];
    if (kernel?.linear === undefined) continue;
    const index = weightOf(kernel, step.buffers);
    const why = whyOf[step.kernel] ?? kept.get(index ?? -1) ?? null;
    const { entry, title } = kernel;
    if (why === null && index !== null) rows.add(index);
    // Of several layers by one kernel, one that stays ours is told.
    if (why !== null || !uses.has(step.kernel))
      uses.set(step.kernel, {
        entry,
        title,
        ...(why === null ? { by: "cublaslt" as const } : { by: "own" as const, why }),
      });
  }
  return { rows, uses: [...uses.values()] };
}

/** The index of a linear layer's weight. */
function weightOf(
  kernel: PlanKernel,
  buffers: readonly { readonly in: string; readonly index: number }[],
): number | null {
  const ref = buffers[kernel.buffers.findIndex((b) => b.name === "weight")];
  return ref?.in === "weight" ? ref.index : null;
}

/** Whether a step is a product of cuBLASLt's. */
export const isProduct = (
  { rows }: Linears,
  kernel: PlanKernel,
  buffers: readonly { readonly in: string; readonly index: number }[],
): boolean => kernel.linear !== undefined && rows.has(weightOf(kernel, buffers) ?? -1);

/** The product of a kernel at so many rows. @throws DeviceError FAILED where the library has none for just these. */
export function productOf(products: CudaProducts, kernel: PlanKernel, rows: number): CudaProduct {
  const shape = shapeOf(kernel);
  const made = typeof shape === "string" ? null : products.product({ ...shape, rows }, WORKSPACE_BYTES);
  if (made === null)
    throw deviceError(
      "FAILED",
      `cuBLASLt has no algorithm for '${kernel.entry}' at ${rows} rows: open the device with linear 'own'`,
    );
  return made;
}

/** A weight [outs, ins] in panels, as it comes from a loader, by rows. */
export function rowsOfPanels(panels: Float32Array, { shape }: PlanWeight): Float32Array {
  const [outs = 0, ins = 0] = shape;
  const rows = new Float32Array(outs * ins);
  for (let j = 0; j < outs; j++) {
    const from = Math.floor(j / 8) * ins * 8 + (j % 8);
    for (let k = 0; k < ins; k++) rows[j * ins + k] = panels[from + 8 * k] ?? NaN;
  }
  return rows;
}
