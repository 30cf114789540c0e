/**
 * The online softmax state (m, l, O) of a row tile, in base 2: Σ over absorbed keys of 2^s·(1, v) = 2^m·(l, O). It is a
 * commutative monoid (FlashInfer's state.cuh): any branches, in any order, may be absorbed into one state, and that is
 * why a mixture of branches is one softmax.
 *
 * m starts at the finite LOW; masked scores lie below LOW, so 2^(masked − m) is exactly 0 even in an empty state.
 */
import {
  add,
  at,
  exp2,
  f32,
  float,
  gt,
  i32,
  log2,
  max,
  min,
  mul,
  op,
  select,
  sub,
  type AnyExpr,
} from "../../../src/expr.ts";
import {
  LOW,
  MASKED,
  type Element,
  type Expr,
  type Rows,
  type Stmt,
  type Tile,
  type TileDecl,
} from "../../../src/kernel.ts";

export const LN2 = Math.LN2;
export const LOG2E = Math.LOG2E;

const e = <T extends Expr | Element>(x: T): AnyExpr => x;
const n = (value: number): AnyExpr => f32(value);

/** Scores of a tile of keys, and the state of its rows. */
export const stateTiles = (rows: number, keys: number, depth: number): readonly TileDecl[] => [
  { name: "S", rows, cols: keys },
  { name: "O", rows, cols: depth },
  { name: "m", rows, cols: 1 },
  { name: "l", rows, cols: 1 },
  { name: "top", rows, cols: 1 },
  { name: "fade", rows, cols: 1 },
];

export const map = (tile: string, value: AnyExpr): Stmt<Tile> => ({ s: "map", tile, value });
export const fill = (tile: string, value: number): Stmt<Tile> => ({ s: "fill", tile, value: f32(value) });

/** The state that has absorbed nothing. */
export const empty: readonly Stmt<Tile>[] = [fill("m", LOW), fill("l", 0), fill("O", 0)];

/** The state left in memory by earlier passes: out is O/l and lse its natural logarithm, so it resumes with l = 1. */
export const resume = (out: Rows, lse: Rows): readonly Stmt<Tile>[] => [
  { s: "copy", tile: "O", rows: out },
  { s: "copy", tile: "m", rows: lse },
  map("m", max(mul(e(at("m")), n(LOG2E)), n(LOW))),
  map("l", select(gt(e(at("m")), n(LOW)), n(1), n(0))),
];

/** Moves the state's maximum up to `top`, which must be ≥ m: everything summed so far fades by 2^(m − top). */
const rescale: readonly Stmt<Tile>[] = [
  map("fade", exp2(sub(e(at("m")), e(at("top"))))),
  map("m", e(at("top"))),
];

/**
 * Absorbs a tile of base-2 scores S and its values: `multiply` adds their product with the weights that S becomes to O. `between` runs
 * when the scores are final. `times` says how often a row counts a key; null: once.
 */
export const absorb = (
  times: AnyExpr | null,
  between: readonly Stmt<Tile>[],
  multiply: readonly Stmt<Tile>[],
): readonly Stmt<Tile>[] => {
  // Scores enter the maximum without their multiplicity: it is at most the number of branches, so nothing overflows.
  const weight = exp2(sub(e(at("S")), e(at("m"))));
  return [
    map("top", e(at("m"))),
    { s: "reduce", into: "top", from: "S", op: "max" },
    ...between,
    ...rescale,
    map("S", times === null ? weight : mul(weight, times)),
    map("l", mul(e(at("l")), e(at("fade")))),
    { s: "reduce", into: "l", from: "S", op: "add" },
    map("O", mul(e(at("O")), e(at("fade")))),
    ...multiply,
  ];
};

/** Absorbs `count` keys of score 0 and value 0 in each row (torchscale's zero padding, semantics.md 1.1); count may depend on `row`. */
export const absorbZeros = (count: AnyExpr): readonly Stmt<Tile>[] => [
  map("top", select(gt(count, i32(0)), max(e(at("m")), n(0)), e(at("m")))),
  ...rescale,
  // Where count > 0 the maximum is ≥ 0, so max(m, 0) = m; elsewhere it keeps 2^(−m) finite.
  map(
    "l",
    op("madd", [e(at("l")), e(at("fade")), mul(float(count), exp2(sub(n(0), max(e(at("m")), n(0)))))]),
  ),
  map("O", mul(e(at("O")), e(at("fade")))),
];

/** Absorbs a state that was finished apart: `part` is its O/l and `weight` its natural lse, 0 and −∞ for an empty one. */
export const merge = (part: string, weight: string): readonly Stmt<Tile>[] => [
  map(weight, max(mul(e(at(weight)), n(LOG2E)), n(LOW))),
  map("top", max(e(at("m")), e(at(weight)))),
  ...rescale,
  // An empty part in an empty state weighs 1, but what it weighs is 0, and a maximum of LOW is empty whatever l is.
  map(weight, exp2(sub(e(at(weight)), e(at("m"))))),
  map("l", op("madd", [e(at("l")), e(at("fade")), e(at(weight))])),
  map("O", op("madd", [e(at(part)), e(at(weight)), mul(e(at("O")), e(at("fade")))])),
];

/** log2 of the state's sum, LOW where it is empty. */
const logSum: AnyExpr = select(
  gt(e(at("l")), n(0)),
  add(e(at("m")), log2(max(e(at("l")), n(1e-37)))),
  n(LOW),
);
const inverse: AnyExpr = select(gt(e(at("l")), n(0)), op("div", [n(1), max(e(at("l")), n(1e-37))]), n(0));
const natural = (value: AnyExpr): AnyExpr => select(gt(value, n(LOW)), mul(value, n(LN2)), n(-Infinity));

/** Writes O/l and, where somebody wants it, the natural lse: 0 and −∞ for an empty state. */
export const finish = (out: Rows, lse: Rows | null): readonly Stmt<Tile>[] => [
  map("fade", inverse),
  { s: "write", tile: "O", rows: out, value: mul(e(at("O")), e(at("fade"))) },
  ...(lse === null ? [] : [{ s: "write" as const, tile: "m", rows: lse, value: natural(logSum) }]),
];

/** `combine mean`: adds this branch's own O/l to the sum in out, 1 to count, and its sum to the union's lse. */
export const finishMean = (out: Rows, lse: Rows, count: Rows): readonly Stmt<Tile>[] => {
  const older = max(mul(e(at("older")), n(LOG2E)), n(LOW));
  const higher = max(e(at("top")), older);
  const lower = min(e(at("top")), older);
  return [
    map("top", logSum),
    map("fade", inverse),
    { s: "copy", tile: "before", rows: out },
    { s: "copy", tile: "older", rows: lse },
    { s: "copy", tile: "covered", rows: count },
    { s: "write", tile: "O", rows: out, value: op("madd", [e(at("O")), e(at("fade")), e(at("before"))]) },
    {
      s: "write",
      tile: "covered",
      rows: count,
      value: add(e(at("covered")), select(gt(e(at("l")), n(0)), n(1), n(0))),
    },
    {
      s: "write",
      tile: "m",
      rows: lse,
      value: natural(
        select(gt(lower, n(LOW)), add(higher, log2(add(n(1), exp2(sub(lower, higher))))), higher),
      ),
    },
  ];
};

/** Keeps S[i, j] where `keep`, else a score below every state's maximum. */
export const mask = (keep: AnyExpr): Stmt<Tile> => map("S", select(keep, e(at("S")), n(MASKED)));
