/** The steps of a variant in the order in which they run, those of a chunk once for every piece of the rows. */
import { bytesOf } from "./memory.ts";
import { sizeOf } from "./plan.ts";
import type { BufferRef, Plan, PlanVariant, Step } from "./plan.ts";
import { elementsAt } from "./tensors.ts";
import type { Extent } from "./tensors.ts";

export type Turn = {
  readonly step: Step;
  /** For the formulas of the step. */
  readonly at: Extent;
  /** Rows before those that the step sees. */
  readonly row: number;
  /**
   * 32-bit words of so many rows of a tensor, `row` of them unless given: where what the step sees begins. Two rows and more of 16-bit
   * elements are whole words where their number is even; 0 of what the step sees from its start.
   */
  readonly skip: (ref: BufferRef, rows?: number) => number;
};

export const turnsOf = (
  plan: Pick<Plan, "inputs" | "outputs">,
  variant: PlanVariant,
  at: Extent,
): readonly Turn[] =>
  variant.steps.flatMap((step, i): readonly Turn[] => {
    const chunk = variant.chunks?.find((c) => c.from <= i && i < c.to);
    if (chunk === undefined) return [{ step, at, row: 0, skip: () => 0 }];
    if (chunk.from !== i) return [];
    const { from, to, rows, slots } = chunk;
    const turns: Turn[] = [];
    for (let row = 0; row < at.N * at.B; row += rows) {
      const skip = ({ in: kind, index }: BufferRef, N = row): number => {
        if (kind === "slot")
          return slots.includes(index) ? 0 : sizeOf(variant.slots[index] ?? 0, { N, B: 1 });
        if (kind !== "input" && kind !== "output") return 0;
        const tensor = plan[`${kind}s`][index];
        return tensor === undefined ? 0 : bytesOf(tensor.dtype, elementsAt(tensor.shape, { N, B: 1 })) / 4;
      };
      const part = { N: Math.min(rows, at.N * at.B - row), B: 1 };
      for (const s of variant.steps.slice(from, to)) turns.push({ step: s, at: part, row, skip });
    }
    return turns;
  });
