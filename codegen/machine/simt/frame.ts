/** Walks of the grid over tiles in shared memory and over buffers: each lane goes where it owns the elements. */
import { eq, i32, mul, ref } from "../../../src/expr.ts";
import type { Element, Expr, Rows, Stmt } from "../../../src/kernel.ts";
import { ANY } from "./barriers.ts";
import { OWN } from "./element.ts";
import { ceil4, colsPer, rowsPer } from "./grid.ts";
import { referencesOf } from "./residence.ts";
import { when, type Site } from "./site.ts";

/** Rows of the lane. `unrolled` names each, for tiles in registers. */
export function ownRows(
  site: Site,
  rows: number,
  unrolled: boolean,
  body: (row: Expr, i: number | null) => readonly Stmt[],
): readonly Stmt[] {
  if (rows === 1) return when([site.rowInside(1, 0)], body(i32(0), 0));
  if (unrolled)
    return Array.from({ length: rowsPer(site.grid, rows) }, (_, i) =>
      when([site.rowInside(rows, i)], body(site.row(rows, i), i)),
    ).flat();
  const name = site.fresh("r");
  const inner = body(ref(name), null);
  return [{ s: "for", name, from: site.y, to: i32(rows), step: site.grid.down, body: inner }];
}

export type Columns = {
  /** Four columns from `col`; `j` where they are unrolled. */
  readonly four: (col: Expr, j: number | null) => readonly Stmt[];
  /** The last columns, fewer than four, as numbers: all of one lane. */
  readonly tail: (cols: readonly number[]) => readonly Stmt[];
};

/** Columns `from` … `to` of the lane, `from` a multiple of four. */
export function ownColumns(
  site: Site,
  from: number,
  to: number,
  unrolled: boolean,
  { four, tail }: Columns,
): readonly Stmt[] {
  const { across } = site.grid;
  const whole = Math.floor(to / 4) * 4;
  const out: Stmt[] = [];
  if (unrolled) {
    for (let j = 0; j < colsPer(site.grid, to, "quads"); j++)
      out.push(...when([site.colInside(to, "quads", j)], four(site.col(to, "quads", j), j)));
    return out;
  }
  const owner = (col: number): Expr | null =>
    across === 1 ? null : eq(site.x, i32(Math.floor(col / 4) % across));
  if (whole - from === 4) out.push(...when([owner(from)], four(i32(from), null)));
  else if (whole > from && from === 0) {
    const name = site.fresh("c");
    const inner = four(ref(name), null);
    out.push({ s: "for", name, from: mul(site.x, i32(4)), to: i32(whole), step: 4 * across, body: inner });
  } else for (let c = from; c < whole; c += 4) out.push(...when([owner(c)], four(i32(c), null)));
  if (to > whole)
    out.push(...when([owner(whole)], tail(Array.from({ length: to - whole }, (_, u) => whole + u))));
  return out;
}

/** Which dimensions must be unrolled because a value reads tiles in registers. */
export function unrolledFor(
  site: Site,
  value: Expr<Element>,
): { readonly rows: boolean; readonly cols: boolean } {
  const held = referencesOf(value)
    .map((r) => site.place(r.tile))
    .filter((p) => p.at === "registers");
  return { rows: held.some((p) => p.rows > 1), cols: held.some((p) => p.cols > 1) };
}

/** The mapping of a buffer's elements to lanes when rows are walked by owners; ANY where it changes between walks. */
export function mappingOf(site: Site, rows: Rows): string {
  let fixed = rows.gather === undefined;
  const visit = (e: Expr): void => {
    if (e.e === "ref" && site.varying.has(e.name)) fixed = false;
    else if (e.e === "load") fixed = false;
    else if (e.e === "op") e.args.forEach(visit);
  };
  visit(rows.base);
  visit(rows.stride);
  return fixed ? `${OWN} ${JSON.stringify([rows.base, rows.stride])}` : ANY;
}

/** Columns of a tile in shared memory, its zeros included. */
export const width4 = (cols: number): number => (cols === 1 ? 1 : ceil4(cols));
