/**
 * Where each tile lives. A tile stays in registers when every statement that touches it works on it by the owner of each
 * element: accumulators, the columns and rows that scale them, everything but operands of products. An accumulator that
 * later is the left operand of another product (the weights of attention) keeps its registers and gets a copy in
 * shared memory. Rows and columns of one are held by every lane that needs them, or, where lanes would hold many rows of
 * columns that meet in shared memory anyway, each row by one lane, which shows the others what they need.
 *
 * A right operand whose rows are the accumulator's columns (the keys of attention) lies in memory by columns, so that four of
 * those are one vector: its products are outer ones, without a sum across a vector.
 */
import type { Element, Expr, Tile, TileDecl, TileKernel } from "../../../src/kernel.ts";
import { tilesIn } from "../../distribute.ts";
import { colsPer, rowsPer, worthOwners, type Grid, type Style } from "./grid.ts";

/** f32 values of one tile that a lane may hold: an accumulator's, another tile's. */
const MOST = { acc: 128, other: 64 };

export type Order = "rows" | "columns";
export type Residence =
  | { readonly at: "shared"; readonly order: Order }
  | { readonly at: "registers"; readonly style: Style }
  | { readonly at: "owners" };

type Reference = { readonly tile: string; readonly picked: boolean };

/** The tiles that a value reads. */
export function referencesOf(value: Expr<Element>): readonly Reference[] {
  const seen = new Set<Expr<Element>>();
  const found: Reference[] = [];
  const visit = (e: Expr<Element>): void => {
    if (seen.has(e)) return;
    seen.add(e);
    if (e.e === "at") found.push({ tile: e.tile, picked: e.pick !== undefined });
    else if (e.e === "op") e.args.forEach(visit);
    else if (e.e === "load") visit(e.index);
  };
  visit(value);
  return found;
}

const valueOf = (s: Tile): Expr<Element> | undefined =>
  s.s === "map" || s.s === "write" ? s.value : undefined;
const isColumn = (t: TileDecl): boolean => t.cols === 1 && t.rows > 1;

/** Whether a statement reads the copy in memory of a tile that lives in registers, one lane's or several'. */
export function readsCopy(s: Tile, tile: string, owned: (tile: string) => boolean): boolean {
  if (s.s === "mma") return s.a === tile;
  const value = valueOf(s);
  if (value === undefined || !owned(tile) || !("tile" in s) || owned(s.tile)) return false;
  return referencesOf(value).some((r) => r.tile === tile);
}

/** Residences of all tiles of a kernel. */
export function residences(kernel: TileKernel, grid: Grid): ReadonlyMap<string, Residence> {
  const decls = new Map(kernel.tiles.map((t) => [t.name, t]));
  const decl = (name: string): TileDecl => {
    const found = decls.get(name);
    if (found === undefined) throw new Error(`heddle: internal: simt: no tile '${name}' in '${kernel.name}'`);
    return found;
  };
  const statements = tilesIn(kernel.body);
  const products = statements.filter((s) => s.s === "mma");
  const isAcc = (name: string) => products.some((s) => s.acc === name);
  const style = new Map<string, Style>(
    kernel.tiles.map((t) => [t.name, t.cols % 4 === 0 ? "quads" : "singles"]),
  );
  const styleOf = (name: string): Style => style.get(name) ?? "quads";
  const held = new Set(kernel.tiles.map((t) => t.name));

  for (const s of statements) {
    if (s.s === "mma") {
      // Products along the depth make one element at a time.
      if (s.transposed === true && typeof s.b === "string" && !byColumns(kernel, decl(s.b)))
        style.set(s.acc, "singles");
      if (typeof s.b === "string") held.delete(s.b);
      const a = decl(s.a);
      if (!isAcc(s.a) || a.rows === 1 || a.cols === 1) held.delete(s.a);
    }
    if ((s.s === "copy" || s.s === "write") && s.rows.cols !== decl(s.tile).cols) held.delete(s.tile);
    const value = valueOf(s);
    if (value !== undefined)
      for (const { tile, picked } of referencesOf(value)) if (picked) held.delete(tile);
  }

  /** Whether the lane that computes an element of `s` holds what it reads of a tile in registers. */
  const agrees = (s: Tile, name: string): boolean => {
    if (s.s !== "map" && s.s !== "write") return true;
    const target = decl(s.tile);
    const cols = s.s === "write" ? s.rows.cols : target.cols;
    const tile = decl(name);
    if (tile.rows !== 1 && tile.rows !== target.rows) return false;
    if (tile.cols === 1) return true;
    if (tile.cols !== cols) return false;
    if (held.has(s.tile)) return styleOf(name) === styleOf(s.tile);
    return styleOf(name) === "quads" && cols % 4 === 0;
  };

  for (let changed = true; changed;) {
    changed = false;
    for (const t of kernel.tiles) {
      if (!held.has(t.name)) continue;
      const s = styleOf(t.name);
      const floats = rowsPer(grid, t.rows) * colsPer(grid, t.cols, s) * (s === "quads" && t.cols > 1 ? 4 : 1);
      if (floats > (isAcc(t.name) ? MOST.acc : MOST.other)) {
        held.delete(t.name);
        changed = true;
      }
    }
    for (const s of statements) {
      const value = valueOf(s);
      if (value === undefined) continue;
      for (const { tile } of referencesOf(value)) {
        if (!held.has(tile) || !(s.s === "map" || s.s === "write") || agrees(s, tile)) continue;
        changed = true;
        // A tile that goes along with a dot product's accumulator takes its style.
        const follows = held.has(s.tile) && styleOf(s.tile) === "singles" && styleOf(tile) === "quads";
        if (follows && decl(tile).cols === decl(s.tile).cols) style.set(tile, "singles");
        else held.delete(tile);
      }
    }
  }
  /** Whether the columns of so many rows have owners: all of them or none, as they are made from each other. */
  const owned = (rows: number): boolean => {
    const columns = kernel.tiles.filter((t) => isColumn(t) && t.rows === rows);
    return (
      worthOwners(grid, rows) &&
      columns.every((t) => held.has(t.name) && !isAcc(t.name)) &&
      statements.some((s) => s.s === "reduce" && decl(s.into).rows === rows && isColumn(decl(s.into)))
    );
  };
  return new Map(
    kernel.tiles.map((t): [string, Residence] => [
      t.name,
      isColumn(t) && owned(t.rows)
        ? { at: "owners" }
        : held.has(t.name)
          ? { at: "registers", style: styleOf(t.name) }
          : { at: "shared", order: byColumns(kernel, t) ? "columns" : "rows" },
    ]),
  );
}

/** Whether a tile lies by columns: nothing but products with its transpose reads it, and what else it meets can follow. */
function byColumns(kernel: TileKernel, t: TileDecl): boolean {
  if (t.rows % 4 !== 0) return false;
  let turned = false;
  for (const s of tilesIn(kernel.body)) {
    const value = valueOf(s);
    const picked = (r: Reference) => r.tile === t.name && (r.picked || s.s !== "map" || s.tile !== t.name);
    if (value !== undefined && referencesOf(value).some(picked)) return false;
    if (s.s === "write" && s.tile === t.name) return false;
    if (s.s === "reduce" && (s.from === t.name || s.into === t.name)) return false;
    if (s.s !== "mma") continue;
    if (s.a === t.name || s.acc === t.name) return false;
    if (s.b === t.name) {
      if (s.transposed !== true) return false;
      turned = true;
    }
  }
  return turned;
}
