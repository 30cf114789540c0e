/** Which keys a pass of a class schedule reads, and how often each of them counts. */
import {
  add,
  and,
  at,
  bool,
  col,
  div,
  eq,
  f32,
  float,
  floor,
  ge,
  i32,
  load,
  lt,
  mul,
  not,
  op,
  rem,
  select,
  sub,
  type AnyExpr,
} from "../../../src/expr.ts";
import type { Fold as AnyFold, PassKeys } from "../../../src/geometry.ts";
import type { Element, Expr, Stmt, Table, Tile } from "../../../src/kernel.ts";
import type { Block } from "./integers.ts";
import { fill, map } from "./state.ts";

/** A fold whose period may be chosen while the kernel runs. */
export type Fold = Omit<AnyFold<Expr, Expr>, "period"> & { readonly period: Expr };
/** Keys base, base + dilation, … */
export type KeyRange = { readonly dilation: Expr; readonly base: Expr; readonly folds: readonly Fold[] };
/** Those of a pass: slots [0, before) and [after, real). */
export type PassRange = KeyRange & { readonly slots: PassKeys<Expr> };

export const shareFold = (b: Block, fold: AnyFold<Expr, Expr>): Fold => ({
  ...fold,
  period: i32(fold.period),
  phase: b.bind("phase", fold.phase),
  from: b.bind("from_slot", fold.from),
  to: b.bind("to_slot", fold.to),
});

/**
 * Whether 0 ≤ x < 2²⁰ is a multiple of a whole number. The half keeps ⌊x / length⌋ off the edge between two integers, where it would
 * hang on the last bit of a division, which GPUs do not round as they should.
 */
export function multipleOf(x: AnyExpr, length: Expr): AnyExpr {
  const value: AnyExpr = float(x);
  const times = floor(op<Element>("div", [add<Element>(value, f32(0.5)), length]));
  return eq<Element>(value, mul<Element>(times, length));
}

/** Fills mult for slots j0 … of a pass. */
export const countFolds = (b: Block, folds: readonly Fold[], j0: Expr): readonly Stmt<Tile>[] =>
  b.nested(() => {
    b.push(fill("mult", 1));
    for (const fold of folds) {
      const counted = b.nested(() => b.push(countFold(b, fold, j0)));
      if (fold.active.e === "const") b.push(...(fold.active.value === 0 ? [] : counted));
      else b.push({ s: "if", cond: fold.active, then: counted });
    }
  });

/** mult[0, j] += 1 where slot j0 + j of the pass is folded from a later branch. */
function countFold(b: Block, fold: Fold, j0: Expr): Stmt<Tile> {
  const start = b.bind("fold_from", sub(fold.from, j0));
  const end = b.bind("fold_to", sub(fold.to, j0));
  let inside: AnyExpr = and<Element>(ge<Element>(col, start), lt<Element>(col, end));
  for (const x of fold.except) {
    const within = and<Element>(
      ge<Element>(col, b.bind("except_from", sub(x.from, j0))),
      lt<Element>(col, b.bind("except_to", sub(x.to, j0))),
    );
    inside = and<Element>(inside, not<Element>(and<Element>(within, x.active)));
  }
  const { period } = fold;
  if (period.e !== "const" || period.value > 1) {
    const residue = b.bind("residue_0", rem(add(rem(j0, period), sub(period, fold.phase)), period));
    const length = period.e === "const" ? f32(period.value) : b.bind("period", float(period));
    const onGrid = multipleOf(add<Element>(col, residue), length);
    inside = and<Element>(inside, onGrid);
  }
  return map("mult", add<Element>(at("mult"), select<Element>(inside, f32(1), f32(0))));
}

const DILATIONS = "dilations";
/** Dilations by pass, for `chosen`. */
export const dilationTable = (dilations: readonly number[]): Table => ({
  name: DILATIONS,
  type: "i32",
  values: dilations,
});

/** The keys of turn 2p + side: those of pass p before (side 0) or after what its parents hold; none where the pass does not cover the rows. */
export function chosen(
  b: Block,
  passes: readonly (PassRange & { readonly covers: Expr })[],
  turn: Expr,
): { readonly range: KeyRange; readonly from: Expr; readonly to: Expr } {
  const pass = b.bind("pass", div(turn, i32(2)));
  const first = eq(rem(turn, i32(2)), i32(0));
  /** The value of the current pass. */
  const pick = (hint: string, values: readonly Expr[]): Expr => {
    const [head, ...others] = values;
    if (head === undefined) throw new Error("heddle: internal: a class schedule without passes");
    if (values.every((v) => same(v, head))) return head;
    return b.bind(
      hint,
      others.reduce((sum: Expr, v, i) => select(eq(pass, i32(i + 1)), v, sum), head),
    );
  };
  const covered = pick(
    "covered",
    passes.map((p) => p.covers),
  );
  const from = pick(
    "range_from",
    passes.map((p) => select(first, i32(0), p.slots.after)),
  );
  const end = pick(
    "range_end",
    passes.map((p) => select(first, p.slots.before, p.slots.real)),
  );
  const to = b.bind("range_to", select(covered, end, from));
  const count = Math.max(...passes.map((p) => p.folds.length));
  const folds = Array.from({ length: count }, (_, k): Fold => {
    const each = passes.map((p) => p.folds[k]);
    const of = (hint: string, value: (fold: Fold) => Expr, none: Expr) =>
      pick(
        hint,
        each.map((fold) => (fold === undefined ? none : value(fold))),
      );
    const exceptions = Math.max(...each.map((fold) => fold?.except.length ?? 0));
    return {
      active: of("fold_active", (f) => f.active, bool(false)),
      period: of("fold_period", (f) => f.period, i32(1)),
      phase: of("fold_phase", (f) => f.phase, i32(0)),
      from: of("fold_first", (f) => f.from, i32(0)),
      to: of("fold_last", (f) => f.to, i32(0)),
      except: Array.from({ length: exceptions }, (_x, e) => ({
        active: of("except_active", (f) => f.except[e]?.active ?? bool(false), bool(false)),
        from: of("except_first", (f) => f.except[e]?.from ?? i32(0), i32(0)),
        to: of("except_last", (f) => f.except[e]?.to ?? i32(0), i32(0)),
      })),
    };
  });
  const range = {
    dilation: b.bind("dilation", load(DILATIONS, pass, "i32")),
    base: pick(
      "keys_base",
      passes.map((p) => p.base),
    ),
    folds,
  };
  return { range, from, to };
}

const same = (a: Expr, b: Expr): boolean => a === b || JSON.stringify(a) === JSON.stringify(b);
