/**
 * Where the tiles of a kernel lie in the memory of one thread. The uses of a tile decide:
 *
 * - `panels`, `turned`: the right operand of an `mma`, as panels of P columns of the logical [depth, cols] matrix, so
 *   that the inner loop reads it contiguously: element (k, j) at floor(j/P)·depth·P + k·P + j mod P. P is 8 with four lanes.
 *   For `turned` the logical matrix is the transpose of the tile (keys, in Q·Kᵀ).
 * - `rows`: everything else, row-major with rows `ld` apart.
 *
 * Only `mma` reads padding: whole register blocks. Whatever defines a tile that an `mma` reads
 * therefore writes its padding too: zeros, or for `fill` of an accumulator the value. All other statements look at real
 * elements only, so no padding ever reaches a result.
 */
import type { Expr, Shared, Stmt, TileKernel, Width } from "../../../src/kernel.ts";
import type { Fresh, Site } from "../../distribute.ts";
import { tilesIn } from "../../distribute.ts";
import { add, i32, mul, op, ref, store, var_ } from "../../../src/expr.ts";

/** What registers a target has. */
export type SimdShape = {
  readonly lanes: Width;
  /** Rows of the register block of `mma`; tiles it touches are padded to a multiple. */
  readonly rows: number;
  /** Vectors of a line of the register block, an even number: the columns of a panel, which are a power of two. */
  readonly vectors: number;
};
/** WebAssembly: 16 registers at most, one of which V8 keeps. */
export const FOUR_LANES: SimdShape = { lanes: 4, rows: 4, vectors: 2 };
export const panelOf = ({ lanes, vectors }: SimdShape): number => lanes * vectors;

export type Place = {
  /** Of the shared array. */
  readonly name: string;
  readonly rows: number;
  readonly cols: number;
  readonly kind: "rows" | "panels" | "turned";
  /** Columns of a panel. */
  readonly panel: number;
  /** Rows and columns with padding; for panels the padding is on the side of the panels only. */
  readonly height: number;
  readonly ld: number;
  /** Read by an `mma`: padding must be defined. */
  readonly padded: boolean;
  /** Name of the variable that holds how many rows of a copied left operand are not zero. */
  readonly live: string | undefined;
};

export type SimdSite = Site & {
  readonly shape: SimdShape;
  readonly lanes: Width;
  readonly place: (tile: string) => Place;
  readonly fresh: Fresh;
};

export const ceilTo = (x: number, unit: number): number => Math.ceil(x / unit) * unit;

export function simdSite(kernel: TileKernel, fresh: Fresh, shape: SimdShape): SimdSite {
  const { lanes } = shape;
  const panel = panelOf(shape);
  const uses = tilesIn(kernel.body);
  const left = new Set<string>();
  const acc = new Set<string>();
  const right = new Map<string, "panels" | "turned">();
  const defined = new Set<string>();
  for (const use of uses) {
    if (use.s === "fill" || use.s === "map") defined.add(use.tile);
    if (use.s === "reduce") defined.add(use.into);
    if (use.s !== "mma") continue;
    left.add(use.a);
    acc.add(use.acc);
    defined.add(use.acc);
    if (typeof use.b !== "string") continue;
    const kind = use.transposed === true ? "turned" : "panels";
    if ((right.get(use.b) ?? kind) !== kind) fail(`tile '${use.b}' is read both plain and transposed`);
    right.set(use.b, kind);
  }
  // Tiles of equal width share one row distance, so that a `map` over several of them needs one index.
  const wide = new Set(kernel.tiles.filter((t) => acc.has(t.name)).map((t) => t.cols));
  // Tiles have a name space of their own; in the kernel they share one with everything else.
  const others = new Set(
    [kernel.buffers, kernel.scalars, kernel.tables, kernel.shared].flatMap((parts) =>
      parts.map((p) => p.name),
    ),
  );
  const places = new Map<string, Place>();
  for (const { name: tile, rows, cols } of kernel.tiles) {
    const name = others.has(tile) ? fresh(tile) : tile;
    const kind = right.get(tile);
    if (kind !== undefined) {
      if (left.has(tile) || acc.has(tile)) fail(`tile '${tile}' is a right operand and something else`);
      const height = kind === "turned" ? ceilTo(rows, panel) : rows;
      const ld = kind === "turned" ? cols : ceilTo(cols, panel);
      places.set(tile, { name, rows, cols, kind, panel, height, ld, padded: true, live: undefined });
      continue;
    }
    const padded = left.has(tile) || acc.has(tile);
    const ld = wide.has(cols) ? ceilTo(cols, panel) : cols === 1 ? 1 : ceilTo(cols, lanes);
    const height = padded ? ceilTo(rows, shape.rows) : rows;
    const live = left.has(tile) && !defined.has(tile) ? fresh(`live_${tile}`) : undefined;
    places.set(tile, { name, rows, cols, kind: "rows", panel, height, ld, padded, live });
  }
  const shared = [...places.values()].map((p): Shared => ({
    name: p.name,
    type: "f32",
    length: ceilTo(p.height * p.ld, lanes),
  }));
  const begin = [...places.values()].flatMap((p): Stmt[] =>
    p.live === undefined ? [] : [var_(p.live, i32(p.rows))],
  );
  const place = (tile: string): Place => places.get(tile) ?? fail(`no tile '${tile}' in '${kernel.name}'`);
  return { shared, workgroup: 1, begin, place, fresh, shape, lanes };
}

export const fail = (why: string): never => {
  throw new Error(`heddle: internal: simd: ${why}`);
};

/** Elements from one panel to the next. */
export const panelSize = (p: Place): number => p.panel * (p.kind === "turned" ? p.cols : p.rows);

/** A multiple of a panel's columns known only at run time plus a constant: how column loops are written. */
export type Column = { readonly base: Expr; readonly plus: number };
export const columnAt = (plus: number): Column => ({ base: i32(0), plus });
export const columnIndex = (c: Column): Expr => sum(c.base, i32(c.plus));

/** Sum of indices with the constant outermost, where an emitter can make it part of the instruction. */
export function sum(...terms: readonly Expr[]): Expr {
  let constant = 0;
  let rest: Expr = i32(0);
  const take = (e: Expr): void => {
    if (e.e === "const") constant += e.value;
    else if (e.e === "op" && e.op === "add" && e.type === "i32") e.args.forEach(take);
    else rest = add(rest, e);
  };
  terms.forEach(take);
  return add(rest, i32(constant));
}

/** Where a line (a row) of a tile begins. */
export function lineBase(p: Place, line: Expr): Expr {
  if (p.kind !== "turned") return mul(line, i32(p.kind === "rows" ? p.ld : p.panel));
  if (line.e === "const")
    return i32(Math.floor(line.value / p.panel) * panelSize(p) + (line.value % p.panel));
  return inPanels(p, line);
}

const inPanels = (p: Place, j: Expr): Expr =>
  add(
    mul(op("shr", [j, i32(31 - Math.clz32(p.panel))]), i32(panelSize(p))),
    op("and", [j, i32(p.panel - 1)]),
  );

/** Where a column of a tile lies after the beginning of its line. */
export function columnOffset(p: Place, { base, plus }: Column): Expr {
  switch (p.kind) {
    case "rows":
      return sum(base, i32(plus));
    case "turned":
      return sum(mul(base, i32(p.panel)), i32(plus * p.panel));
    case "panels": {
      const inside = Math.floor(plus / p.panel) * panelSize(p) + (plus % p.panel);
      return sum(mul(base, i32(panelSize(p) / p.panel)), i32(inside));
    }
  }
}

/** The same for any column, known only at run time. */
export function anyColumnOffset(p: Place, j: Expr): Expr {
  if (p.kind !== "panels") return columnOffset(p, { base: j, plus: 0 });
  return inPanels(p, j);
}

/** Zeros in the padding of a tile that an `mma` reads. */
export function clearPadding(p: Place, fresh: Fresh): readonly Stmt[] {
  if (!p.padded) return [];
  const zero: Expr = { e: "const", type: "f32", value: 0 };
  const each = (from: number, to: number, body: (i: Expr) => readonly Stmt[]): readonly Stmt[] => {
    if (from >= to) return [];
    const name = fresh("pad");
    return [{ s: "for", name, from: i32(from), to: i32(to), step: 1, body: body(ref(name)) }];
  };
  const columns = Array.from({ length: p.ld - p.cols }, (_, j) => columnAt(p.cols + j));
  const beside = each(0, p.rows, (i) =>
    columns.map((c) => store(p.name, sum(lineBase(p, i), columnOffset(p, c)), zero)),
  );
  if (p.kind === "turned") {
    const below = each(0, p.cols, (k) =>
      Array.from({ length: p.height - p.rows }, (_, r) => {
        return store(p.name, sum(mul(k, i32(p.panel)), lineBase(p, i32(p.rows + r))), zero);
      }),
    );
    return p.height > p.rows ? below : [];
  }
  const below = each(p.rows * p.ld, p.height * p.ld, (i) => [store(p.name, i, zero)]);
  return [...(columns.length > 0 ? beside : []), ...(p.kind === "rows" ? below : [])];
}
