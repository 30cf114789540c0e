/** Device `interpret`: a Plan through the kernel interpreter, which checks every promise of the kernels. Slow. */
import { turnsOf } from "../../runtime/chunks.ts";
import { sizeOf, variantFor } from "../../runtime/plan.ts";
import type { BufferRef, Dtype, Plan } from "../../runtime/plan.ts";
import { tableValues } from "../../runtime/tables.ts";
import { interpret } from "../interpret.ts";
import type { Kernel } from "../kernel.ts";
import { rounding } from "../storage.ts";

type Data = Float32Array | Int32Array;

/**
 * Runs a plan at length N and batch B; `weights` in the plan's order and layouts. Outputs and slots start as NaN, so that
 * whatever a kernel leaves open shows. Inputs and weights of 16 bits are rounded to their type, as a device stores them.
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
  const slots = variant.slots.map((s) => slotOf(sizeOf(s, at)));
  const outputs = plan.outputs.map((o) =>
    empty(o.shape.reduce<number>((product, d) => product * sizeOf(d, at), 1)),
  );
  const tables = plan.tables.map((t) => tableValues(t, at.N));
  const rooms: { readonly [K in Exclude<BufferRef["in"], "slot">]: readonly Data[] } = {
    state: [],
    input: inputs.map((x, i) => stored(x, plan.inputs[i]?.dtype)),
    output: outputs,
    weight: weights.map((x, i) => stored(x, plan.weights[i]?.dtype)),
    table: tables,
  };
  const dataOf = (ref: BufferRef, { dtype, access }: Kernel["buffers"][number]): Data | undefined =>
    ref.in === "slot"
      ? slots[ref.index]?.(dtype === "f32" || dtype === "i32" ? "wide" : "narrow", access !== "read")
      : rooms[ref.in][ref.index];
  const turns = turnsOf(plan, variant, at);
  turns.forEach(({ step, at, skip }, i) => {
    progress?.(`step ${i + 1} of ${turns.length}: ${step.title}`);
    const kernel = kernels[step.kernel];
    if (kernel === undefined) throw new Error(`heddle: internal: there is no kernel ${step.kernel}`);
    const buffers = kernel.buffers.map((buffer, b): readonly [string, Data] => {
      const ref = step.buffers[b];
      const data = ref === undefined ? undefined : dataOf(ref, buffer);
      if (data === undefined)
        throw new Error(`heddle: internal: '${step.title}' leaves '${buffer.name}' open`);
      const narrow = buffer.dtype === "f16" || buffer.dtype === "bf16";
      return [buffer.name, ref === undefined ? data : data.subarray((narrow ? 2 : 1) * skip(ref))];
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

const empty = (length: number) => new Float32Array(length).fill(NaN);

const stored = (data: Data, dtype: Dtype | undefined): Data =>
  data instanceof Int32Array || (dtype !== "f16" && dtype !== "bf16") ? data : data.map(rounding[dtype]);

/**
 * Memory that f32 and 16-bit values use in turn, as `words` of 32 bits. The interpreter has an element for each number, so either
 * kind has an array; what is written as one is no more to be read as the other.
 */
function slotOf(words: number): (as: "wide" | "narrow", write: boolean) => Float32Array {
  const arrays: { wide?: Float32Array; narrow?: Float32Array } = {};
  return (as, write) => {
    if (write) arrays[as === "wide" ? "narrow" : "wide"]?.fill(NaN);
    return (arrays[as] ??= empty(as === "wide" ? words : 2 * words));
  };
}
