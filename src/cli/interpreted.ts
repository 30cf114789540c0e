/** Device `interpret`: a Plan through the kernel interpreter, which checks every promise of the kernels. Slow. */
import { sizeOf, variantFor } from "../../runtime/plan.ts";
import type { BufferRef, Plan } from "../../runtime/plan.ts";
import { xposTable } from "../../runtime/tables.ts";
import { interpret } from "../interpret.ts";
import type { Kernel } from "../kernel.ts";

type Data = Float32Array | Int32Array;

/**
 * Runs a plan at length N and batch B; `weights` in the plan's order and layouts. Outputs and slots start as NaN, so that
 * whatever a kernel leaves open shows.
 */
export function runInterpreted(
  plan: Plan,
  kernels: readonly Kernel[],
  inputs: readonly Data[],
  weights: readonly Float32Array[],
  at: { readonly N: number; readonly B: number },
  progress?: (text: string) => void,
): readonly Float32Array[] {
  const variant = variantFor(plan, at.N);
  const empty = (length: number) => new Float32Array(length).fill(NaN);
  const slots = variant.slots.map((s) => empty(sizeOf(s, at)));
  const outputs = plan.outputs.map((o) =>
    empty(o.shape.reduce<number>((product, d) => product * sizeOf(d, at), 1)),
  );
  const tables = plan.tables.map((t) => xposTable(t, at.N));
  const rooms: { readonly [K in BufferRef["in"]]: readonly Data[] } = {
    input: inputs,
    output: outputs,
    weight: weights,
    table: tables,
    slot: slots,
  };
  variant.steps.forEach((step, i) => {
    progress?.(`step ${i + 1} of ${variant.steps.length}: ${step.title}`);
    const kernel = kernels[step.kernel];
    if (kernel === undefined) throw new Error(`heddle: internal: there is no kernel ${step.kernel}`);
    const buffers = kernel.buffers.map(({ name }, b): readonly [string, Data] => {
      const ref = step.buffers[b];
      const data = ref === undefined ? undefined : rooms[ref.in][ref.index];
      if (data === undefined) throw new Error(`heddle: internal: '${step.title}' leaves '${name}' open`);
      return [name, data];
    });
    const scalars = kernel.scalars.map(({ name }, s) => [name, sizeOf(step.scalars[s] ?? 0, at)] as const);
    interpret(kernel, {
      buffers: Object.fromEntries(buffers),
      scalars: Object.fromEntries(scalars),
      groups: sizeOf(step.grid, at),
    });
  });
  return outputs;
}
