/** Values of `map` and `write` at one element of a lane. */
import { add, i32, load, madd, mul, neg, op } from "../../../src/expr.ts";
import type { Element, Expr } from "../../../src/kernel.ts";
import { factorOf } from "./flow.ts";
import { fragmentIndex, type Site } from "./site.ts";

/** Where a value is computed: band r and column eight j with its element e, as far as the tile has them. */
export type Cell = {
  readonly r?: Expr;
  readonly j?: Expr;
  readonly e?: 0 | 1;
  readonly row: Expr;
  readonly col: Expr;
  /** The element of an operand in shared memory, which is taken out before and put back after. */
  readonly taken?: Expr;
};

export const cellOf = (site: Site, r: Expr, j: Expr, e: 0 | 1): Cell => ({
  r,
  j,
  e,
  row: site.lane.row(r),
  col: add(site.lane.col(j), i32(e)),
});

/** A tile's number at a cell, as it is stored: without the factor that may stand before it. */
export function storedAt(site: Site, tile: string, cell: Cell): Expr {
  const p = site.place(tile);
  const { r, j, e } = cell;
  if (p.at === "column" && r !== undefined) return load(p.array, r);
  if (p.at === "line" && j !== undefined && e !== undefined)
    return load(p.array, add(mul(j, i32(2)), i32(e)));
  if (p.at === "fragment" && r !== undefined && j !== undefined && e !== undefined)
    return load(p.array, fragmentIndex(p.cols / 8, r, j, e));
  if (p.at === "operand" && cell.taken !== undefined) return cell.taken;
  throw new Error(`heddle: internal: fragment: '${tile}' is read where no lane holds it`);
}

/** A value at a cell. A factor before a tile's numbers joins a difference: f·s − m is one fused operation. */
export function lift(site: Site, cell: Cell, value: Expr<Element>): Expr {
  const known = new Map<Expr<Element>, Expr>();
  const scaleOf = (e: Expr<Element>): Expr | undefined =>
    e.e === "at" && site.place(e.tile).at === "fragment" ? factorOf(site.flow, e.tile) : undefined;
  const visit = (e: Expr<Element>): Expr => {
    const before = known.get(e);
    if (before !== undefined) return before;
    const made = fresh(e);
    known.set(e, made);
    return made;
  };
  const fresh = (e: Expr<Element>): Expr => {
    switch (e.e) {
      case "const":
      case "ref":
      case "builtin":
        return e;
      case "row":
        return cell.row;
      case "col":
        return cell.col;
      case "at": {
        const factor = scaleOf(e);
        const stored = storedAt(site, e.tile, cell);
        return factor === undefined ? stored : mul(stored, factor);
      }
      case "load":
        return load(e.from, visit(e.index), e.type);
      case "op": {
        const [a, b] = e.args;
        const factor = a === undefined ? undefined : scaleOf(a);
        if (e.op === "sub" && a?.e === "at" && b !== undefined && factor !== undefined)
          return madd(storedAt(site, a.tile, cell), factor, neg(visit(b)));
        return op(e.op, e.args.map(visit), e.imm);
      }
    }
  };
  return visit(value);
}
