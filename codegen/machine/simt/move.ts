/** Spellings of `fill` and `write` for a grid of lanes, and of stores that show others what a lane holds. */
import { add, at, i32, let_, ref, set, splat, store } from "../../../src/expr.ts";
import type { Expr, Stmt, Tile } from "../../../src/kernel.ts";
import { ANY, type Access, type Phase } from "./barriers.ts";
import { source } from "./copy.ts";
import { columnsAt, lifter, OWN, OWNERS, wide, type Cell } from "./element.ts";
import { mappingOf, ownBlocks, ownColumns, ownedRows, ownRows, unrolledFor, width4 } from "./frame.ts";
import { lineOf, typeOf, variable, type Place } from "./place.ts";
import { when, type Site } from "./site.ts";

type Fill = Extract<Tile, { readonly s: "fill" }>;
type Write = Extract<Tile, { readonly s: "write" }>;

export function fill(tile: Fill, site: Site): readonly Phase[] {
  const p = site.place(tile.tile);
  if (p.at === "owners")
    return [{ s: "phase", accesses: [], body: p.vars.map((name) => set(name, tile.value)) }];
  if (p.at === "registers") {
    const value = typeOf(p) === "f32" ? tile.value : splat(tile.value);
    return [{ s: "phase", accesses: [], body: p.vars.flat().map((name) => set(name, value)) }];
  }
  const name = site.fresh("fill");
  const value = ref(name, "f32");
  const line = (row: Expr) => lineOf(p, row);
  const body =
    p.order === "columns"
      ? ownBlocks(site, p.rows, p.cols, (row, col, count) =>
          Array.from({ length: count }, (_, c) =>
            store(p.array, add(line(add(col, i32(c))), row), splat(value)),
          ),
        )
      : ownRows(site, p.rows, false, (row) =>
          ownColumns(site, 0, width4(p.cols), false, {
            four: (col) => [store(p.array, add(line(row), col), splat(value))],
            tail: (cols) => cols.map((c) => store(p.array, add(line(row), i32(c)), value)),
          }),
        );
  return [
    {
      s: "phase",
      accesses: [{ array: p.tile, verb: "write", by: OWN }],
      body: [let_(name, tile.value), ...body],
    },
  ];
}

/** Stores a tile in registers where statements read it in memory. */
export function shadow(p: Place, site: Site): readonly Phase[] {
  if (p.at === "shared" || p.shadow === null)
    throw new Error("heddle: internal: simt: nobody reads this tile in memory");
  const to = p.shadow;
  if (p.at === "owners") {
    const body = ownedRows(site, p.rows, (row, i) =>
      when([site.ownInside(p.rows, i)], [store(to.array, lineOf(to, row), ref(p.vars[i] ?? "", "f32"))]),
    );
    return [{ s: "phase", accesses: [{ array: to.tile, verb: "write", by: OWNERS }], body }];
  }
  const body = p.vars.flatMap((line, i) => {
    const stores = line.flatMap((name, j) => {
      const index = add(lineOf(to, site.row(p.rows, i)), site.col(p.cols, p.style, j));
      return when([site.colInside(p.cols, p.style, j)], [store(to.array, index, variable(name, typeOf(p)))]);
    });
    return when([site.rowInside(p.rows, i)], stores);
  });
  // The mapping differs from the grid's, but stores of the same registers go to the same places.
  return [{ s: "phase", accesses: [{ array: to.tile, verb: "write", by: `registers ${p.style}` }], body }];
}

export function write(tile: Write, site: Site): readonly Phase[] {
  const p = site.place(tile.tile);
  const { rows } = tile;
  const value = tile.value ?? at(tile.tile);
  const to = source(site, rows, p.rows);
  const accesses: Access[] = [...to.accesses];
  const lifted = (cell: Omit<Cell, "rows" | "cols" | "part">): Expr =>
    lifter(site, { ...cell, rows: p.rows, cols: rows.cols }, accesses)(value);
  const put = (dst: string, col: Expr, v: Expr) => store(rows.buffer, add(ref(dst), col), v);
  if (p.at === "owners") {
    const col = i32(0);
    const body = ownedRows(site, p.rows, (row, owner) => {
      const dst = site.fresh("dst");
      const v = lifted({ row, col, width: 1, i: null, j: null, own: false, owner });
      const within = [site.ownInside(p.rows, owner), to.inside(row)];
      return when(within, [let_(dst, to.start(row)), put(dst, col, v)]);
    });
    accesses.push(...site.touch(rows.buffer, "write", mappingOf(site, rows, OWNERS)));
    return [{ s: "phase", accesses, body: [...to.pre, ...body] }];
  }

  const singles = p.at === "registers" && p.style === "singles" && p.cols > 1;
  const unrolled = unrolledFor(site, value);
  const inRow = (row: Expr, body: readonly Stmt[], dst: string) =>
    when([to.inside(row)], [let_(dst, to.start(row)), ...body]);
  const body = ownRows(site, p.rows, unrolled.rows || singles, (row, i) => {
    const dst = site.fresh("dst");
    const { before, columns } = columnsAt(site, value, row, accesses);
    if (singles) {
      const stores = (p.vars[0] ?? []).flatMap((_, j) => {
        const col = site.col(p.cols, "singles", j);
        const v = lifted({ row, col, width: 1, i, j, own: false, columns });
        return when([site.colInside(p.cols, "singles", j)], [put(dst, col, v)]);
      });
      return inRow(row, [...before, ...stores], dst);
    }
    const cells = ownColumns(site, 0, rows.cols, unrolled.cols && rows.cols > 1, {
      four: (col, j) => [put(dst, col, wide(lifted({ row, col, width: 4, i, j, own: true, columns })))],
      tail: (cols) =>
        cols.map((c) => {
          const col = i32(c);
          return put(dst, col, lifted({ row, col, width: 1, i, j: null, own: true, columns }));
        }),
    });
    return inRow(row, [...before, ...cells], dst);
  });
  accesses.push(...site.touch(rows.buffer, "write", singles ? ANY : mappingOf(site, rows)));
  return [{ s: "phase", accesses, body: [...to.pre, ...body] }];
}
