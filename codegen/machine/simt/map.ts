/** Spelling of `map` for a grid of lanes. */
import { add, i32, let_, ref, set, store } from "../../../src/expr.ts";
import type { Expr, Stmt, Tile } from "../../../src/kernel.ts";
import type { Access, Phase } from "./barriers.ts";
import { columnsAt, lifter, OWN, quad, wide } from "./element.ts";
import { ownBlocks, ownColumns, ownedRows, ownRows, unrolledFor } from "./frame.ts";
import { lineOf, typeOf, type OwnerPlace, type SharedPlace } from "./place.ts";
import type { Site } from "./site.ts";

type Map_ = Extract<Tile, { readonly s: "map" }>;

export function map(tile: Map_, site: Site): readonly Phase[] {
  const p = site.place(tile.tile);
  const accesses: Access[] = [];
  const { rows, cols } = p;
  if (p.at === "owners") return [{ s: "phase", accesses, body: mapOwned(tile, p, site, accesses) }];
  if (p.at === "registers") {
    const vector = typeOf(p) === "f32x4";
    const body = p.vars.flatMap((line, i) => {
      const { before, columns } = columnsAt(site, tile.value, site.row(rows, i), accesses);
      const sets = line.map((name, j) => {
        // Past the edge a lane repeats the last row and column, which are another lane's.
        const own =
          (p.style === "quads" || cols === 1) &&
          site.rowInside(rows, i) === null &&
          site.colInside(cols, p.style, j) === null;
        const cell = {
          row: site.row(rows, i),
          col: site.col(cols, p.style, j),
          i,
          j,
          own,
          columns,
          rows,
          cols,
        };
        const lifted = lifter(site, { ...cell, width: vector ? 4 : 1 }, accesses)(tile.value);
        return set(name, vector ? wide(lifted) : lifted);
      });
      return [...before, ...sets];
    });
    return [{ s: "phase", accesses, body }];
  }
  if (p.order === "columns") return [{ s: "phase", accesses, body: mapByColumns(tile, p, site, accesses) }];
  const unrolled = unrolledFor(site, tile.value);
  const body = ownRows(site, rows, unrolled.rows, (row, i) => {
    const { before, columns } = columnsAt(site, tile.value, row, accesses);
    const lifted = (col: Expr, width: 1 | 4, j: number | null) =>
      lifter(site, { row, col, width, i, j, own: true, columns, rows, cols }, accesses)(tile.value);
    const to = (col: Expr) => add(lineOf(p, row), col);
    const inRow = ownColumns(site, 0, cols, unrolled.cols, {
      four: (col, j) => [store(p.array, to(col), wide(lifted(col, 4, j)))],
      // All are computed before one is stored: a value may look at its neighbour.
      tail: (tail) => {
        const names = tail.map(() => site.fresh("x"));
        return [
          ...names.map((name, u) => let_(name, lifted(i32(tail[u] ?? 0), 1, null))),
          ...names.map((name, u) => store(p.array, to(i32(tail[u] ?? 0)), ref(name, "f32"))),
        ];
      },
    });
    return [...before, ...inRow];
  });
  accesses.push({ array: p.tile, verb: "write", by: OWN });
  return [{ s: "phase", accesses, body }];
}

/** Each lane computes the rows that it owns. */
function mapOwned(tile: Map_, p: OwnerPlace, site: Site, accesses: Access[]): readonly Stmt[] {
  return ownedRows(site, p.rows, (row, owner) => {
    const cell = {
      row,
      col: i32(0),
      width: 1,
      i: null,
      j: null,
      own: false,
      owner,
      rows: p.rows,
      cols: 1,
    } as const;
    return [set(p.vars[owner] ?? "", lifter(site, cell, accesses)(tile.value))];
  });
}

/** Four neighbouring rows of a column are one vector in memory. */
function mapByColumns(tile: Map_, p: SharedPlace, site: Site, accesses: Access[]): readonly Stmt[] {
  const { rows, cols } = p;
  accesses.push({ array: p.tile, verb: "write", by: OWN });
  return ownBlocks(site, rows, cols, (row, first, count) =>
    Array.from({ length: count }, (_, c): readonly Stmt[] => {
      const col = add(first, i32(c));
      const parts = Array.from({ length: 4 }, (_part, u) => {
        const cell = {
          row: add(row, i32(u)),
          col,
          width: 1,
          i: null,
          j: null,
          own: true,
          rows,
          cols,
        } as const;
        return let_(site.fresh("x"), lifter(site, cell, accesses)(tile.value));
      });
      const vector = quad(parts.map((part) => ref(part.s === "let" ? part.name : "", "f32")));
      return [...parts, store(p.array, add(lineOf(p, col), row), vector)];
    }).flat(),
  );
}
