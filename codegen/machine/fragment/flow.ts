/** What is true of tiles where the walk over a kernel stands. */
import type { Expr } from "../../../src/kernel.ts";

export type Flow = {
  /** Factors that stand before the numbers of a tile: scores are scaled within exp2, not one by one. Null: it depends on the way here. */
  readonly factor: Map<string, Expr | null>;
  /** Accumulators that hold zeros. */
  readonly zero: Set<string>;
  /** Columns whose value is the sum over the four lanes of a row. */
  readonly parted: Set<string>;
  /** Tiles whose copies have not been waited for. */
  readonly awaited: Set<string>;
  /** Where the current stage of an operand starts, in words. */
  readonly stage: Map<string, Expr>;
};

export const newFlow = (): Flow => ({
  factor: new Map(),
  zero: new Set(),
  parted: new Set(),
  awaited: new Set(),
  stage: new Map(),
});

/** The factor before a tile's numbers. @throws where it depends on the way here. */
export function factorOf(f: Flow, tile: string): Expr | undefined {
  const factor = f.factor.get(tile);
  if (factor === null)
    throw new Error(`heddle: internal: fragment: '${tile}' is read and its scale depends on a condition`);
  return factor;
}

/** A copy that later changes leave alone. */
export const snapshot = (f: Flow): Flow => ({
  factor: new Map(f.factor),
  zero: new Set(f.zero),
  parted: new Set(f.parted),
  awaited: new Set(f.awaited),
  stage: new Map(f.stage),
});

const assign = <T>(to: Set<T>, from: Iterable<T>): void => {
  const all = [...from];
  to.clear();
  all.forEach((x) => to.add(x));
};

export function restore(f: Flow, to: Flow): void {
  f.factor.clear();
  to.factor.forEach((v, k) => f.factor.set(k, v));
  f.stage.clear();
  to.stage.forEach((v, k) => f.stage.set(k, v));
  for (const name of ["zero", "parted", "awaited"] as const) assign(f[name], to[name]);
}

/** What is true whether the walk came from `f` or from `other`. @throws where a spelling after them would depend on which. */
export function meetFlows(f: Flow, other: Flow): void {
  const text = (x: Expr | null | undefined) => JSON.stringify(x);
  for (const tile of new Set([...f.factor.keys(), ...other.factor.keys()]))
    if (text(f.factor.get(tile)) !== text(other.factor.get(tile))) f.factor.set(tile, null);
  const parted = (x: Flow) => [...x.parted].sort().join();
  if (parted(f) !== parted(other))
    throw new Error("heddle: internal: fragment: whether a column holds parts depends on a condition");
  assign(
    f.zero,
    [...f.zero].filter((t) => other.zero.has(t)),
  );
  assign(f.awaited, [...f.awaited, ...other.awaited]);
}
