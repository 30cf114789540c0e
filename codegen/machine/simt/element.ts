/** Values of `map` and `write` at one element, or at four neighbouring columns of a row at once. */
import { add, i32, isVector, let_, load, ne, op, ref, select, splat } from "../../../src/expr.ts";
import type { Element, Expr, Stmt } from "../../../src/kernel.ts";
import { ANY, type Access } from "./barriers.ts";
import { lineOf, typeOf, variable, type Place } from "./place.ts";
import { referencesOf } from "./residence.ts";
import type { Site } from "./site.ts";

/** By this mapping each element belongs to one lane (see grid.ts); by the other, each row does. */
export const OWN = "own";
export const OWNERS = "owners";

/** Where a value is computed. */
export type Cell = {
  readonly row: Expr;
  /** The column, of `width` 4 the first of four. */
  readonly col: Expr;
  readonly width: 1 | 4;
  /** Which of its quad's columns a cell of width 1 is, where it is part of one in registers. */
  readonly part?: number;
  /** Row and column of the lane's block, where the cell lies in registers of that block. */
  readonly i: number | null;
  readonly j: number | null;
  /** Whether the lane that computes the cell is the one that owns it. */
  readonly own: boolean;
  /** Which of the rows that the lane owns the cell is, where its owner computes it. */
  readonly owner?: number;
  /** Columns of owners in this row, read already. */
  readonly columns?: ReadonlyMap<string, Expr>;
  /** Shape of the tile the cell is part of. */
  readonly rows: number;
  readonly cols: number;
};

/** f32x4 of four f32. */
export const quad = (parts: readonly Expr[]): Expr => {
  const [a, b, c, d] = parts;
  if (a === undefined || b === undefined || c === undefined || d === undefined)
    throw new Error("heddle: internal: simt: a vector has four parts");
  const pair = (u: Expr, v: Expr) => op("shuffle", [splat(u), splat(v)], [0, 4, 0, 4]);
  return op("shuffle", [pair(a, b), pair(c, d)], [0, 1, 4, 5]);
};

/** The value as a vector; what is the same in all four columns may come as a scalar. */
export function wide(e: Expr): Expr {
  if (isVector(e.type)) return e;
  if (e.type !== "bool") return splat(e);
  return ne(splat(select(e, i32(1), i32(0))), splat(i32(0)));
}

const picks = { flip: [1, 0, 3, 2], even: [0, 0, 2, 2], odd: [1, 1, 3, 3] } as const;

/** Whether `e` is the column plus something that is the same for all columns: then four of them are neighbours. */
function followsColumn(e: Expr<Element>): boolean {
  if (e.e === "col") return true;
  if (e.e !== "op" || e.op !== "add") return false;
  const [a, b] = e.args;
  if (a === undefined || b === undefined) return false;
  return (followsColumn(a) && !usesColumn(b)) || (followsColumn(b) && !usesColumn(a));
}
function usesColumn(e: Expr<Element>): boolean {
  if (e.e === "col" || e.e === "at") return true;
  if (e.e === "op") return e.args.some(usesColumn);
  return e.e === "load" && usesColumn(e.index);
}

/** Lifts values into a cell; `accesses` collects what they read of memory that lanes share. */
export function lifter(site: Site, cell: Cell, accesses: Access[]): (e: Expr<Element>) => Expr {
  const known = new Map<Expr<Element>, Expr>();
  const lift = (e: Expr<Element>): Expr => {
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
        return cell.width === 4 ? op("iota", [cell.col]) : cell.col;
      case "at":
        return cell.columns?.get(e.tile) ?? elementOf(site.place(e.tile), cell, e.pick, accesses);
      case "load":
        return loaded(e);
      case "op": {
        const args = e.args.map(lift);
        if (!args.some((a) => isVector(a.type))) return op(e.op, args, e.imm);
        const keep = (a: Expr, n: number) =>
          e.op === "select" && n === 0 && a.type === "bool" ? a : wide(a);
        return op(e.op, args.map(keep), e.imm);
      }
    }
  };
  const loaded = (e: Extract<Expr<Element>, { e: "load" }>): Expr => {
    accesses.push(...site.touch(e.from, "read"));
    if (cell.width === 1 || !usesColumn(e.index)) return load(e.from, lift(e.index), e.type);
    const single = (u: number) =>
      lifter(site, { ...cell, width: 1, col: add(cell.col, i32(u)), part: u, own: false }, accesses);
    if (isVector(e.type)) throw new Error(`heddle: internal: simt: '${e.from}' is read by vectors`);
    if (followsColumn(e.index)) return load(e.from, single(0)(e.index), `${e.type}x4`);
    if (e.type !== "f32") throw new Error(`heddle: internal: simt: integers of '${e.from}' far apart`);
    return quad([0, 1, 2, 3].map((u) => single(u)(e)));
  };
  return lift;
}

/** The element of a tile that goes with a cell. */
export function elementOf(
  p: Place,
  cell: Cell,
  pick: keyof typeof picks | undefined,
  accesses: Access[],
): Expr {
  if (p.at === "owners") {
    if (cell.owner !== undefined) return variable(p.vars[cell.owner], "f32");
    if (p.shadow === null) throw new Error("heddle: internal: simt: a column has no copy to read");
    return elementOf(p.shadow, { ...cell, own: false }, pick, accesses);
  }
  if (p.at === "registers") {
    const [i, j] = [p.rows === 1 ? 0 : cell.i, p.cols === 1 ? 0 : cell.j];
    if (i === null || j === null || pick !== undefined)
      throw new Error("heddle: internal: simt: a register is read by another lane");
    const whole = variable(p.vars[i]?.[j], typeOf(p));
    if (typeOf(p) === "f32" || cell.width === 4) return whole;
    if (cell.part === undefined)
      throw new Error("heddle: internal: simt: one column of a vector in registers");
    return op("lane", [whole], [cell.part]);
  }
  const own = cell.own && (p.rows > 1 || cell.rows === 1) && (p.cols > 1 || cell.cols === 1);
  accesses.push({ array: p.tile, verb: "read", by: own ? OWN : ANY });
  if (p.order === "columns") return load(p.array, add(lineOf(p, cell.col), cell.row));
  const line = lineOf(p, cell.row);
  if (p.cols === 1) return load(p.array, line);
  if (cell.width === 4) {
    const whole = load(p.array, add(line, cell.col), "f32x4");
    return pick === undefined ? whole : op("shuffle", [whole, whole], picks[pick]);
  }
  const col = pick === undefined ? cell.col : picked(cell.col, pick);
  return load(p.array, add(line, col));
}

/** Reads the columns of owners that a value takes, once for a row. */
export function columnsAt(
  site: Site,
  value: Expr<Element>,
  row: Expr,
  accesses: Access[],
): { readonly before: readonly Stmt[]; readonly columns: ReadonlyMap<string, Expr> } {
  const before: Stmt[] = [];
  const columns = new Map<string, Expr>();
  for (const { tile } of referencesOf(value)) {
    const p = site.place(tile);
    if (p.at !== "owners" || columns.has(tile)) continue;
    const name = site.fresh(tile);
    const cell = { row, col: i32(0), width: 1, i: null, j: null, own: false, rows: p.rows, cols: 1 } as const;
    before.push(let_(name, elementOf(p, cell, undefined, accesses)));
    columns.set(tile, ref(name, "f32"));
  }
  return { before, columns };
}

function picked(col: Expr, pick: keyof typeof picks): Expr {
  if (col.e === "const")
    return i32(pick === "flip" ? col.value ^ 1 : pick === "even" ? col.value & ~1 : col.value | 1);
  if (pick === "flip") return op("xor", [col, i32(1)]);
  return pick === "even" ? op("and", [col, i32(~1)]) : op("or", [col, i32(1)]);
}
