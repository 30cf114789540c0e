/** Spellings of `map` and `reduce` for a grid of lanes. */
import {
  add,
  eq,
  exchange,
  f32,
  i32,
  let_,
  load,
  max,
  mul,
  op,
  ref,
  select,
  set,
  splat,
  store,
  var_,
} from "../../../src/expr.ts";
import type { Expr, Stmt, Tile } from "../../../src/kernel.ts";
import { ANY, type Access, type Phase } from "./barriers.ts";
import { lifter, OWN, wide } from "./element.ts";
import { ownColumns, ownRows, unrolledFor } from "./frame.ts";
import { partialsPer, rowsPer } from "./grid.ts";
import { lineOf, typeOf, variable, when, type Place, type Site } from "./site.ts";

type Map_ = Extract<Tile, { readonly s: "map" }>;
type Reduce = Extract<Tile, { readonly s: "reduce" }>;

export function map(tile: Map_, site: Site): readonly Phase[] {
  const p = site.place(tile.tile);
  const accesses: Access[] = [];
  const { rows, cols } = p;
  if (p.at === "registers") {
    const vector = typeOf(p) === "f32x4";
    const body = p.vars.flatMap((line, i) =>
      line.map((name, j) => {
        // Past the edge a lane repeats the last row and column, which are another lane's.
        const own =
          (p.style === "quads" || cols === 1) &&
          site.rowInside(rows, i) === null &&
          site.colInside(cols, p.style, j) === null;
        const cell = { row: site.row(rows, i), col: site.col(cols, p.style, j), i, j, own, rows, cols };
        const lifted = lifter(site, { ...cell, width: vector ? 4 : 1 }, accesses)(tile.value);
        return set(name, vector ? wide(lifted) : lifted);
      }),
    );
    return [{ s: "phase", accesses, body }];
  }
  const unrolled = unrolledFor(site, tile.value);
  const body = ownRows(site, rows, unrolled.rows, (row, i) => {
    const lifted = (col: Expr, width: 1 | 4, j: number | null) =>
      lifter(site, { row, col, width, i, j, own: true, rows, cols }, accesses)(tile.value);
    const to = (col: Expr) => add(lineOf(p, row), col);
    return ownColumns(site, 0, cols, unrolled.cols, {
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
  });
  accesses.push({ array: p.tile, verb: "write", by: OWN });
  return [{ s: "phase", accesses, body }];
}

/** Below every number a kernel reduces by `max`. */
const LEAST = f32(-3.4e38);

/**
 * Each lane folds its own columns, and where lanes exchange values four neighbours fold theirs: as a lane's number is y · across + x,
 * they are of one row. What is left of a row meets in shared memory, from where every lane that needs the row folds it in the
 * same order. So all lanes get the same bits: an exchange swaps the operands of a fold, which does not care.
 */
export function reduce(tile: Reduce, site: Site): readonly Phase[] {
  const from = site.place(tile.from);
  const into = site.place(tile.into);
  const { across } = site.grid;
  const meeting = partialsPer(site.grid);
  const { rows } = from;
  const fold = (a: Expr, b: Expr): Expr => (tile.op === "add" ? add(a, b) : max(a, b));
  const lanes = (v: Expr): Expr => op(tile.op === "add" ? "sum" : "most", [v]);
  const neutral = tile.op === "add" ? f32(0) : LEAST;
  const accesses: Access[] = [];

  const partial = (i: number, row: Expr, out: Stmt[]): Expr => {
    if (from.at === "registers") return fromRegisters(i, from);
    const own = site.rowInside(rows, i) === null;
    accesses.push({ array: from.tile, verb: "read", by: own ? OWN : ANY });
    const [sum, line] = [site.fresh("part"), site.fresh("line")];
    out.push(let_(line, lineOf(from, row)), var_(sum, neutral));
    const join = (v: Expr) => set(sum, fold(ref(sum, "f32"), v));
    out.push(
      ...ownColumns(site, 0, from.cols, false, {
        four: (col) => [join(lanes(load(from.array, add(ref(line), col), "f32x4")))],
        tail: (cols) => cols.map((c) => join(load(from.array, add(ref(line), i32(c))))),
      }),
    );
    return ref(sum, "f32");
  };
  const fromRegisters = (i: number, p: Extract<Place, { at: "registers" }>): Expr => {
    const type = typeOf(p);
    const parts = (p.vars[i] ?? []).map((name, j) => {
      const value = variable(name, type);
      const inside = site.colInside(p.cols, p.style, j);
      return inside === null ? value : select(inside, value, type === "f32" ? neutral : splat(neutral));
    });
    const folded = parts.reduce((a, b) => fold(a, b));
    return type === "f32" ? folded : lanes(folded);
  };

  /** Folds the results of up to four lanes. All lanes come by: past the edge they repeat the last row. */
  const among = (value: Expr, out: Stmt[]): Expr => {
    if (!site.grid.exchange) return value;
    return ([1, 2] as const)
      .filter((mask) => mask < across)
      .reduce<Expr>((mine, mask) => {
        const [own, other] = [site.fresh("mine"), site.fresh("theirs")];
        out.push(let_(own, mine), exchange(other, ref(own, "f32"), mask));
        return fold(ref(own, "f32"), ref(other, "f32"));
      }, value);
  };

  const height = rowsPer(site.grid, rows);
  const all = Array.from({ length: height }, (_, i) => i);
  /** Adds a row's result to what `into` holds. */
  const absorb = (i: number, row: Expr, total: Expr): readonly Stmt[] => {
    if (into.at === "registers") {
      const name = into.vars[i]?.[0];
      if (name === undefined) throw new Error("heddle: internal: simt: a reduction has no row to go to");
      return [set(name, fold(ref(name, "f32"), total))];
    }
    const index = lineOf(into, row);
    return when(
      [site.rowInside(rows, i), site.colInside(1, "singles", 0)],
      [store(into.array, index, fold(load(into.array, index), total))],
    );
  };
  const intoAccesses: readonly Access[] =
    into.at === "registers"
      ? []
      : [
          { array: into.tile, verb: "read", by: OWN },
          { array: into.tile, verb: "write", by: OWN },
        ];

  if (meeting === 1) {
    const body = all.flatMap((i) => {
      const out: Stmt[] = [];
      const row = site.row(rows, i);
      const total = among(partial(i, row, out), out);
      return [...out, ...absorb(i, row, total)];
    });
    return [{ s: "phase", accesses: [...accesses, ...intoAccesses], body }];
  }

  const scratch = site.scratch();
  const spread = all.flatMap((i) => {
    const out: Stmt[] = [];
    const row = site.row(rows, i);
    const value = among(partial(i, row, out), out);
    const four = site.grid.exchange;
    const to = add(mul(row, i32(meeting)), four ? op("shr", [site.x, i32(2)]) : site.x);
    // One lane of four stores what all four know.
    const first = four ? eq(op("and", [site.x, i32(3)]), i32(0)) : null;
    return [...out, ...when([site.rowInside(rows, i), first], [store(scratch, to, value)])];
  });
  const gather = all.flatMap((i) => {
    const row = site.row(rows, i);
    const first = mul(row, i32(meeting));
    const step = meeting % 4 === 0 ? 4 : 1;
    const parts = Array.from({ length: meeting / step }, (_, u) =>
      load(scratch, add(first, i32(u * step)), step === 4 ? "f32x4" : "f32"),
    ).reduce(fold);
    return absorb(i, row, step === 4 ? lanes(parts) : parts);
  });
  return [
    { s: "phase", accesses: [...accesses, { array: scratch, verb: "write", by: ANY }], body: spread },
    {
      s: "phase",
      accesses: [{ array: scratch, verb: "read", by: ANY }, ...intoAccesses],
      body: gather,
    },
  ];
}
