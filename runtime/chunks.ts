/** The steps of a variant in the order in which they run, those of a chunk once for every piece of the rows. */
import { sizeOf } from "./plan.ts";
import type { BufferRef, Plan, PlanVariant, Step } from "./plan.ts";
import { elementsAt } from "./tensors.ts";
import type { Extent } from "./tensors.ts";

const ONE: Extent = { N: 1, B: 1 };

export type Turn = {
  readonly step: Step;
  /** For the formulas of the step. */
  readonly at: Extent;
  /** 32-bit words from the start of a tensor to what the step sees of it. */
  readonly skip: (ref: BufferRef) => number;
};

export function turnsOf(
  plan: Pick<Plan, "inputs" | "outputs">,
  variant: PlanVariant,
  at: Extent,
): readonly Turn[] {
  return variant.steps.flatMap((step, i): readonly Turn[] => {
    const chunk = variant.chunks?.find((c) => c.from <= i && i < c.to);
    if (chunk === undefined) return [{ step, at, skip: () => 0 }];
    if (chunk.from !== i) return [];
    const { from, to, rows, slots } = chunk;
    const turns: Turn[] = [];
    for (let row = 0; row < at.N * at.B; row += rows) {
      const skip = ({ in: kind, index }: BufferRef): number => {
        if (kind === "slot") return slots.includes(index) ? 0 : row * sizeOf(variant.slots[index] ?? 0, ONE);
        if (kind !== "input" && kind !== "output") return 0;
        return row * elementsAt((kind === "input" ? plan.inputs : plan.outputs)[index]?.shape ?? [], ONE);
      };
      const part = { N: Math.min(rows, at.N * at.B - row), B: 1 };
      for (const s of variant.steps.slice(from, to)) turns.push({ step: s, at: part, skip });
    }
    return turns;
  });
}
