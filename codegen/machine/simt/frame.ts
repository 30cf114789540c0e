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
  return stepped(site, "row", { from: site.y, to: rows, step: site.grid.down }, (row) => body(row, null));
}

/** A loop from a lane's own start; none where each lane has one turn. */
export function stepped(
  site: Site,
  hint: string,
  { from, to, step }: { readonly from: Expr; readonly to: number; readonly step: number },
  body: (at: Expr) => readonly Stmt[],
): readonly Stmt[] {
  if (to === step) return body(from);
  const name = site.fresh(hint);
  return [{ s: "for", name, from, to: i32(to), step, body: body(ref(name)) }];
}

/** Rows of a column that the lane owns. */
export const ownedRows = (
  site: Site,
  rows: number,
  body: (row: Expr, i: number) => readonly Stmt[],
): readonly Stmt[] =>
  Array.from({ length: Math.ceil(rows / site.grid.lanes) }, (_, i) => body(site.ownRow(rows, i), i)).flat();

/**
 * Blocks of four rows and four columns of a tile that lies by columns, `count` columns where fewer are left. Lanes side by side take
 * neighbouring rows, which are neighbours in memory.
 */
export function ownBlocks(
  site: Site,
  rows: number,
  cols: number,
  body: (row: Expr, col: Expr, count: number) => readonly Stmt[],
): readonly Stmt[] {
  const { across, down } = site.grid;
  const whole = Math.floor(cols / 4) * 4;
  const along = (col: Expr, count: number) =>
    stepped(site, "row", { from: mul(site.x, i32(4)), to: rows, step: 4 * across }, (row) =>
      body(row, col, count),
    );
  return [
    ...(whole === 0
      ? []
      : stepped(site, "col", { from: mul(site.y, i32(4)), to: whole, step: 4 * down }, (col) =>
          along(col, 4),
        )),
    ...(whole === cols
      ? []
      : when([down === 1 ? null : eq(site.y, i32((whole / 4) % down))], along(i32(whole), cols - whole))),
  ];
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
  else if (whole > from && from === 0)
    out.push(
      ...stepped(site, "col", { from: mul(site.x, i32(4)), to: whole, step: 4 * across }, (col) =>
        four(col, null),
      ),
    );
  else for (let c = from; c < whole; c += 4) out.push(...when([owner(c)], four(i32(c), null)));
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
export function mappingOf(site: Site, rows: Rows, by: string = OWN): string {
  let fixed = rows.gather === undefined;
  const visit = (e: Expr): void => {
    if (e.e === "ref" && site.varying.has(e.name)) fixed = false;
    else if (e.e === "load") fixed = false;
    else if (e.e === "op") e.args.forEach(visit);
  };
  visit(rows.base);
  visit(rows.stride);
  return fixed ? `${by} ${JSON.stringify([rows.base, rows.stride])}` : ANY;
}

/** Columns of a tile in shared memory, its zeros included. */
export const width4 = (cols: number): number => (cols === 1 ? 1 : ceil4(cols));
