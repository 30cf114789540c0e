/** What must hold of the chunks of a variant, checked apart from the pass that makes them (codegen/chunks.ts). */
import type { PlanVariant } from "../runtime/plan.ts";
import type { Dim, ValueId } from "../src/graph.ts";
import type { Launch } from "./lower/launch.ts";
import { productOf } from "./lower/shape.ts";

const ROWWISE = JSON.stringify({ M: productOf(["B", "N"]) });

/**
 * Values that are kept for one chunk only, with its rows. Chunks are in order and do not overlap; their launches know only the number of
 * their rows; every value they name has a row for each token; what is kept for one chunk is named by its launches alone.
 */
export function chunkedValues(
  variant: PlanVariant,
  launches: readonly Launch<{ readonly buffers: readonly { readonly name: string }[] }>[],
  shapes: ReadonlyMap<ValueId, readonly Dim[]>,
): ReadonlyMap<ValueId, number> {
  const narrow = new Map<ValueId, { readonly rows: number; readonly from: number; readonly to: number }>();
  /** The slot of each value that a launch names, or null. */
  const named = (at: number) =>
    (launches[at]?.kernel.buffers ?? []).flatMap(({ name }, b) => {
      const binding = launches[at]?.bind[name];
      const ref = variant.steps[at]?.buffers[b];
      if (binding === undefined || !("value" in binding) || !shapes.has(binding.value)) return [];
      return [{ id: binding.value, slot: ref?.in === "slot" ? ref.index : null }];
    });
  let end = 0;
  for (const { from, to, rows, slots } of variant.chunks ?? []) {
    const fail = (why: string) =>
      new Error(`heddle: internal: plan does not verify: steps ${from} … ${to}: ${why}`);
    if (!(from >= end && from < to && to <= launches.length))
      throw fail("a chunk overlaps another or is empty");
    if (!(Number.isInteger(rows) && rows > 0)) throw fail(`a chunk of ${rows} rows`);
    end = to;
    for (let at = from; at < to; at++) {
      if (JSON.stringify(launches[at]?.scalars) !== ROWWISE)
        throw fail(`'${launches[at]?.title}' does not go row by row`);
      for (const { id, slot } of named(at)) {
        const [first, second] = shapes.get(id) ?? [];
        if (first !== "B" || second !== "N") throw fail(`'${id}' has no row for each token`);
        if (slot !== null && slots.includes(slot)) narrow.set(id, { rows, from, to });
      }
    }
  }
  launches.forEach((launch, at) => {
    for (const { id } of named(at)) {
      const kept = narrow.get(id);
      if (kept !== undefined && (at < kept.from || at >= kept.to))
        throw new Error(
          `heddle: internal: plan does not verify: '${launch.title}' names '${id}', of which one chunk is kept`,
        );
    }
  });
  return new Map([...narrow].map(([id, { rows }]) => [id, rows]));
}
