/**
 * Sequences in chunks of rows, so that what is wide inside a layer (the FFN's hidden rows, norms) never exists for all tokens at once:
 * the length is then bounded by the residual stream, q, k, v and the attention's result.
 *
 * Launches that compute row by row, one after another, may run chunk by chunk. A value that only they mention needs room for the rows
 * of one chunk. Rows are independent of each other, so results are the same bits whatever the chunk.
 */
import { sizeOf } from "../runtime/plan.ts";
import type { PlanChunk } from "../runtime/plan.ts";
import type { Value, ValueId } from "../src/graph.ts";
import type { Size } from "../src/kernel.ts";
import type { Launch } from "./lower/launch.ts";
import { productOf } from "./lower/shape.ts";

const ALL = JSON.stringify(productOf(["B", "N"]));

/** The graph's values that a launch names, without weights and tables. */
export const valuesIn = (launch: Launch<unknown>): readonly ValueId[] =>
  Object.values(launch.bind).flatMap((b) => ("value" in b && b.layout === undefined ? [b.value] : []));

/** Whether a launch knows of its rows nothing but their number, and all it reads and writes has a row for each token. */
function rowwise(launch: Launch<unknown>, known: ReadonlyMap<ValueId, Pick<Value, "shape">>): boolean {
  const [[name, M] = ["", 0], ...more] = Object.entries(launch.scalars);
  if (name !== "M" || more.length > 0 || JSON.stringify(M) !== ALL) return false;
  return valuesIn(launch).every((id) => {
    const shape = known.get(id)?.shape;
    // What is no value is a weight, read whole by every chunk.
    return shape === undefined || (shape[0] === "B" && shape[1] === "N");
  });
}

export type Run = {
  /** Launches from … to − 1. */
  readonly from: number;
  readonly to: number;
  /** Values that nothing outside mentions. */
  readonly inside: ReadonlySet<ValueId>;
};

/**
 * The longest runs of row by row launches that have a value of their own. `values`: all that the launches may name besides weights;
 * `kept`: inputs, outputs, states.
 */
export function runsOf(
  launches: readonly Launch<unknown>[],
  values: ReadonlyMap<ValueId, Pick<Value, "shape">>,
  kept: (id: ValueId) => boolean,
): readonly Run[] {
  const mentions = new Map<ValueId, { first: number; last: number }>();
  launches.forEach((launch, at) => {
    for (const id of valuesIn(launch)) {
      const known = mentions.get(id);
      if (known === undefined) mentions.set(id, { first: at, last: at });
      else known.last = at;
    }
  });
  const runs: Run[] = [];
  for (let from = 0; from < launches.length; from++) {
    let to = from;
    for (let next = launches[to]; next !== undefined && rowwise(next, values); next = launches[to]) to++;
    const inside = [...mentions].flatMap(([id, { first, last }]) =>
      values.has(id) && !kept(id) && first >= from && last < to ? [id] : [],
    );
    if (inside.length > 0) runs.push({ from, to, inside: new Set(inside) });
    from = Math.max(from, to - 1);
  }
  return runs;
}

/** Words of a slot that holds at most `rows` rows of a value of that many words. */
export function chunkWords(words: Size, rows: number): Size {
  return { op: "min", args: [words, sizeOf(words, { N: rows, B: 1 })] };
}

export const chunkOf = ({ from, to }: Run, rows: number, slots: readonly number[]): PlanChunk => ({
  from,
  to,
  rows,
  slots,
});
