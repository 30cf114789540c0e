/** Loops over the columns and rows of a tile, and where the rows of a buffer begin. */
import type { Expr, Rows, Stmt, Width } from "../../../src/kernel.ts";
import { i32, let_, load, max, min, mul, op, ref } from "../../../src/expr.ts";
import type { Column, SimdSite } from "./layout.ts";
import { sum } from "./layout.ts";

/** A loop over a fresh variable. */
export function loop(
  site: SimdSite,
  hint: string,
  from: Expr,
  to: Expr,
  step: number,
  body: (i: Expr) => readonly Stmt[],
): readonly Stmt[] {
  if (from.e === "const" && to.e === "const" && from.value >= to.value) return [];
  const name = site.fresh(hint);
  return [{ s: "for", name, from, to, step, body: body(ref(name)) }];
}

/** Widths of vectors, and single elements. */
export type Lanes = 1 | Width;

/** Whole vectors of a line of `length` columns. */
export const wholeIn = (site: SimdSite, length: number): number => Math.floor(length / site.lanes);

/** What a line of `length` columns has past its whole vectors: narrower ones and at last single elements. */
export function tailOf(
  site: SimdSite,
  length: number,
): readonly { readonly at: number; readonly lanes: Lanes }[] {
  const found: { readonly at: number; readonly lanes: Lanes }[] = [];
  const narrower = ([8, 4, 1] as const).filter((n) => n < site.lanes);
  let at = length - (length % site.lanes);
  for (const lanes of narrower) for (; at + lanes <= length; at += lanes) found.push({ at, lanes });
  return found;
}

/**
 * Statements for `count` whole vectors of columns from column 0: written out where they are few, else in a loop of
 * `unroll` vectors (a multiple of the vectors of a panel).
 */
export function vectors(
  site: SimdSite,
  count: number,
  unroll: number,
  body: (c: Column) => readonly Stmt[],
): readonly Stmt[] {
  const { lanes } = site;
  const flat = (base: Expr, from: number, n: number) =>
    Array.from({ length: n }, (_, v) => body({ base, plus: from + lanes * v })).flat();
  if (count <= unroll * 2) return flat(i32(0), 0, count);
  const looped = Math.floor(count / unroll) * unroll;
  return [
    ...loop(site, "c", i32(0), i32(looped * lanes), unroll * lanes, (c) => flat(c, 0, unroll)),
    ...flat(i32(0), looped * lanes, count - looped),
  ];
}

/** Rows that exist, 0 … the rows of the tile; `whole` when that is known to be all of them. */
export function countOf(
  site: SimdSite,
  count: Expr,
  limit: number,
): { readonly pre: readonly Stmt[]; readonly n: Expr } {
  if (count.e === "const") return { pre: [], n: i32(Math.max(0, Math.min(count.value, limit))) };
  const name = site.fresh("n");
  return { pre: [let_(name, max(i32(0), min(count, i32(limit))))], n: ref(name) };
}

/** The buffer index at which row i starts, as statements to stand before the loops and the index itself. */
export function source(
  site: SimdSite,
  rows: Rows,
): { readonly pre: readonly Stmt[]; readonly start: (i: Expr) => Expr } {
  const pre: Stmt[] = [];
  const bind = (e: Expr, hint: string): Expr => {
    if (e.e === "const" || e.e === "ref") return e;
    const name = site.fresh(hint);
    pre.push(let_(name, e));
    return ref(name);
  };
  const base = bind(rows.base, "base");
  const stride = bind(rows.stride, "stride");
  const { gather } = rows;
  if (gather === undefined) return { pre, start: (i) => sum(base, mul(i, stride)) };
  const list = bind(gather.base, "list");
  return { pre, start: (i) => sum(base, mul(load(gather.buffer, sum(list, i), "i32"), stride)) };
}

/** The largest multiple of the lanes that is not above a count. */
export const floored = (site: SimdSite, e: Expr): Expr =>
  e.e === "const" ? i32(e.value & -site.lanes) : op("and", [e, i32(-site.lanes)]);
export const isUnitColumn = (rows: Rows): boolean =>
  rows.cols === 1 && rows.gather === undefined && rows.stride.e === "const" && rows.stride.value === 1;
