/**
 * Where each tile lives. A tile stays in registers when every statement that touches it works on it by the owner of each
 * element: accumulators, the columns and rows that scale them, everything but operands of products. An accumulator that
 * later is the left operand of another product (the weights of attention) keeps its registers and gets a copy in
 * shared memory. Rows and columns of one are held by every lane that needs them.
 */
import type { Element, Expr, Tile, TileDecl, TileKernel } from "../../../src/kernel.ts";
import { tilesIn } from "../../distribute.ts";
import { colsPer, rowsPer, type Grid, type Style } from "./grid.ts";

/** f32 values of one tile that a lane may hold: an accumulator's, another tile's. */
const MOST = { acc: 128, other: 64 };

export type Residence = { readonly at: "shared" } | { readonly at: "registers"; readonly style: Style };

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
  return new Map(
    kernel.tiles.map((t): [string, Residence] => [
      t.name,
      held.has(t.name) ? { at: "registers", style: styleOf(t.name) } : { at: "shared" },
    ]),
  );
}
