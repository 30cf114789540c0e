/**
 * The lanes of a group as a grid of `down` × `across`. One mapping serves every tile: element (i, j) belongs to the lane
 * (i mod down, ⌊j / 4⌋ mod across), so that lanes side by side read 16 bytes each of one row, and whatever a lane made
 * it may read again without a barrier. Tiles whose columns are no multiple of four, and those of dot products (`singles`), give
 * column j to lane j mod across instead.
 */
import type { TileDecl, TileKernel } from "../../../src/kernel.ts";
import { tilesIn } from "../../distribute.ts";

export type Grid = {
  readonly lanes: number;
  readonly down: number;
  readonly across: number;
  /** Whether neighbouring lanes may exchange values without memory (the IR's `exchange`). */
  readonly exchange: boolean;
};
export type Style = "quads" | "singles";

export const ceil4 = (n: number): number => Math.ceil(n / 4) * 4;
/** Rows of a tile that a lane holds. One row is held by all. */
export const rowsPer = (g: Grid, rows: number): number => (rows === 1 ? 1 : Math.ceil(rows / g.down));
/** Columns (`singles`) or vectors of four columns (`quads`) that a lane holds. */
export const colsPer = (g: Grid, cols: number, style: Style): number =>
  cols === 1 ? 1 : Math.ceil((style === "quads" ? cols / 4 : cols) / g.across);

/**
 * Partial results of a row that meet in shared memory when it is reduced: one of every lane, or of every four lanes that have
 * exchanged theirs. 1 where nothing is left to meet.
 */
export const partialsPer = (g: Grid): number => (g.exchange ? Math.ceil(g.across / 4) : g.across);

/** Rows by which a line of partial results that owners read is longer than the tile: lanes side by side then use different banks. */
export const PARTIALS_PAD = 4;
/** Elements of memory that the partial results of a reduction take. */
export const partialsFor = (g: Grid, rows: number, owned: boolean): number => {
  if (owned) return (rows + PARTIALS_PAD) * g.across;
  return partialsPer(g) === 1 ? 0 : rows * partialsPer(g);
};
/** Rows of columns that a lane holds as copies of what others hold too: from so many on each row has one owner. */
const COPIES = 4;
/** Parts that an owner folds alone: where more lanes share a row there are few owners, and the others would wait for them. */
const PARTS = 16;
/** Whether columns of so many rows, which lanes reduce, are worth an owner for each row. */
export const worthOwners = (g: Grid, rows: number): boolean =>
  partialsPer(g) > 1 && g.across <= PARTS && rowsPer(g, rows) >= COPIES;

/** A lane's operations where partial results of so many rows meet: stores, and loads of what others stored; an exchange is one. */
function meetings(g: Grid, rows: number): number {
  const height = Math.ceil(rows / g.down);
  if (worthOwners(g, rows)) return height + g.across * Math.ceil(rows / g.lanes);
  const swaps = g.exchange ? Math.min(2, Math.log2(g.across)) : 0;
  const meet = partialsPer(g) === 1 && g.exchange ? 0 : partialsPer(g);
  return height * (swaps + meet);
}

/**
 * The grid on which a kernel's products, and after them its copies and maps, cost the fewest operations: a lane's block
 * of an accumulator costs its area and, for each step of depth, the loads of its sides.
 */
export function gridFor(kernel: TileKernel, lanes: number, exchange: boolean): Grid {
  const decls = new Map(kernel.tiles.map((t) => [t.name, t]));
  const decl = (name: string): TileDecl => {
    const found = decls.get(name);
    if (found === undefined) throw new Error(`heddle: internal: simt: no tile '${name}' in '${kernel.name}'`);
    return found;
  };
  const cost = (g: Grid): number => {
    let total = 0;
    for (const s of tilesIn(kernel.body)) {
      if (s.s === "mma") {
        const acc = decl(s.acc);
        const quads = acc.cols % 4 === 0;
        const height = Math.ceil(acc.rows / g.down);
        const width = quads ? 4 * Math.ceil(acc.cols / 4 / g.across) : Math.ceil(acc.cols / g.across);
        total += decl(s.a).cols * (height * width + height + width);
      } else {
        const tile = decl(s.s === "reduce" ? s.from : s.tile);
        const quads = Math.ceil(tile.rows / g.down) * Math.ceil(Math.ceil(tile.cols / 4) / g.across);
        // Fewer than eight lanes side by side leave parts of a memory line unused.
        const apart = (s.s === "copy" || s.s === "write") && g.across < 8 && tile.cols > 1 ? 2 : 1;
        total += 8 * quads * apart + (s.s === "reduce" ? meetings(g, tile.rows) : 0);
      }
    }
    return total;
  };
  let best: Grid | null = null;
  for (let across = 1; across <= lanes; across *= 2) {
    // Four lanes exchange at a time, so there must be four.
    const grid: Grid = { lanes, down: lanes / across, across, exchange: exchange && lanes >= 4 };
    if (best === null || cost(grid) < cost(best)) best = grid;
  }
  if (best === null) throw new Error("heddle: internal: simt: a group has no lanes");
  return best;
}
