/** The tensors that a program needs room for at one length, with what a reader is told where there is none. */
import { bytesOf } from "./memory.ts";
import { sizeOf, variantFor } from "./plan.ts";
import type { BufferRef, Dtype, Plan, Size } from "./plan.ts";
import { tableShape } from "./tables.ts";
import type { Extent } from "./tensors.ts";

/** Something for each tensor of a plan that lasts for runs at one length, in the order of the plan. */
export type Room<T> = { readonly [K in Exclude<BufferRef["in"], "weight" | "state">]: readonly T[] };

export type RoomFor = {
  /** `input 'q'`. */
  readonly label: string;
  readonly elements: number;
  readonly bytes: number;
  /** `B * N * 768 of f16 at N = 4096, B = 1`. */
  readonly formula: string;
};

export function roomOf(plan: Plan, at: Extent): Room<RoomFor> {
  const room = (label: string, dtype: Dtype, sizes: readonly Size[]): RoomFor => {
    const elements = sizes.reduce<number>((product, s) => product * sizeOf(s, at), 1);
    const formula = `${sizes.map(sizeText).join(" * ")} of ${dtype} at N = ${at.N}, B = ${at.B}`;
    return { label, elements, bytes: bytesOf(dtype, elements), formula };
  };
  return {
    input: plan.inputs.map((t) => room(`input '${t.name}'`, t.dtype, t.shape)),
    output: plan.outputs.map((t) => room(`output '${t.name}'`, t.dtype, t.shape)),
    table: plan.tables.map((t) => room("a table of positions", "f32", tableShape(t))),
    slot: variantFor(plan, at.N).slots.map((words, i) =>
      room(`values between the steps (slot ${i})`, "f32", [words]),
    ),
  };
}

/** A size as people write it: `N * 768`. */
export function sizeText(size: Size): string {
  if (typeof size !== "object") return String(size);
  const [a, b] = size.args.map(sizeText);
  const signs: { readonly [op: string]: string } = { add: "+", sub: "-", mul: "*" };
  const sign = signs[size.op];
  if (sign !== undefined) return size.op === "mul" ? `${a} * ${b}` : `(${a} ${sign} ${b})`;
  return `${size.op}(${a}, ${b})`;
}
