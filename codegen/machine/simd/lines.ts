/** Loops over the columns and rows of a tile, and where the rows of a buffer begin. */
import type { Expr, Rows, Stmt } from "../../../src/kernel.ts";
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

/**
 * Statements for `count` vectors of four columns from column 0: written out where they are few, else in a loop of
 * `unroll` vectors (an even number, since panels hold two).
 */
export function vectors(
  site: SimdSite,
  count: number,
  unroll: number,
  body: (c: Column) => readonly Stmt[],
): readonly Stmt[] {
  const flat = (base: Expr, from: number, n: number) =>
    Array.from({ length: n }, (_, v) => body({ base, plus: from + 4 * v })).flat();
  if (count <= unroll * 2) return flat(i32(0), 0, count);
  const looped = Math.floor(count / unroll) * unroll;
  return [
    ...loop(site, "c", i32(0), i32(looped * 4), unroll * 4, (c) => flat(c, 0, unroll)),
    ...flat(i32(0), looped * 4, count - looped),
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

export const floor4 = (e: Expr): Expr => (e.e === "const" ? i32(e.value & ~3) : op("and", [e, i32(~3)]));
export const isUnitColumn = (rows: Rows): boolean =>
  rows.cols === 1 && rows.gather === undefined && rows.stride.e === "const" && rows.stride.value === 1;
