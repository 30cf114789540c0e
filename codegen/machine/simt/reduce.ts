/** Spelling of `reduce` for a grid of lanes. */
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
import { OWN } from "./element.ts";
import { ownColumns, ownedRows } from "./frame.ts";
import { PARTIALS_PAD, partialsPer, rowsPer } from "./grid.ts";
import { lineOf, typeOf, variable, type OwnerPlace, type Place } from "./place.ts";
import { when, type Site } from "./site.ts";

type Reduce = Extract<Tile, { readonly s: "reduce" }>;

/** Below every number a kernel reduces by `max`. */
const LEAST = f32(-3.4e38);

/**
 * Each lane folds its own columns, and where lanes exchange values four neighbours fold theirs: as a lane's number is y · across + x,
 * they are of one row. What is left of a row meets in shared memory, from where every lane that needs the row folds it in the
 * same order. So all lanes get the same bits: an exchange swaps the operands of a fold, which does not care. A row with an owner is
 * folded by it alone, from memory, which takes fewer operations than exchanges of many rows.
 */
export function reduce(tile: Reduce, site: Site): readonly Phase[] {
  const from = site.place(tile.from);
  const into = site.place(tile.into);
  if (from.at === "owners") throw new Error("heddle: internal: simt: a column is reduced");
  const { across } = site.grid;
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
  const absorb = (p: Exclude<Place, OwnerPlace>, i: number, row: Expr, total: Expr): readonly Stmt[] => {
    if (p.at === "registers") {
      const name = p.vars[i]?.[0];
      if (name === undefined) throw new Error("heddle: internal: simt: a reduction has no row to go to");
      return [set(name, fold(ref(name, "f32"), total))];
    }
    const index = lineOf(p, row);
    return when(
      [site.rowInside(rows, i), site.colInside(1, "singles", 0)],
      [store(p.array, index, fold(load(p.array, index), total))],
    );
  };
  const intoAccesses: readonly Access[] =
    into.at !== "shared"
      ? []
      : [
          { array: into.tile, verb: "read", by: OWN },
          { array: into.tile, verb: "write", by: OWN },
        ];

  /** What lanes know of their rows, stored for those that fold it. */
  const spread = (scratch: string, known: typeof among, to: (row: Expr) => Expr, who: Expr | null): Phase => {
    const body = all.flatMap((i) => {
      const out: Stmt[] = [];
      const row = site.row(rows, i);
      const value = known(partial(i, row, out), out);
      return [...out, ...when([site.rowInside(rows, i), who], [store(scratch, to(row), value)])];
    });
    return { s: "phase", accesses: [...accesses, { array: scratch, verb: "write", by: ANY }], body };
  };
  const gather = (scratch: string, body: readonly Stmt[]): Phase => ({
    s: "phase",
    accesses: [{ array: scratch, verb: "read", by: ANY }, ...intoAccesses],
    body,
  });

  if (into.at === "owners") {
    const scratch = site.scratch();
    // A part's rows lie side by side, as do their owners.
    const line = rows + PARTIALS_PAD;
    const body = ownedRows(site, rows, (row, k) => {
      const parts = Array.from({ length: across }, (_, u) => load(scratch, add(row, i32(u * line))));
      const name = into.vars[k] ?? "";
      return [set(name, fold(ref(name, "f32"), parts.reduce(fold)))];
    });
    const own = spread(
      scratch,
      (value) => value,
      (row) => add(mul(site.x, i32(line)), row),
      null,
    );
    return [own, gather(scratch, body)];
  }
  const meeting = partialsPer(site.grid);
  if (meeting === 1) {
    const body = all.flatMap((i) => {
      const out: Stmt[] = [];
      const row = site.row(rows, i);
      const total = among(partial(i, row, out), out);
      return [...out, ...absorb(into, i, row, total)];
    });
    return [{ s: "phase", accesses: [...accesses, ...intoAccesses], body }];
  }
  const scratch = site.scratch();
  const four = site.grid.exchange;
  const part = four ? op("shr", [site.x, i32(2)]) : site.x;
  // One lane of four stores what all four know.
  const who = four ? eq(op("and", [site.x, i32(3)]), i32(0)) : null;
  const body = all.flatMap((i) => {
    const row = site.row(rows, i);
    const first = mul(row, i32(meeting));
    const step = meeting % 4 === 0 ? 4 : 1;
    const parts = Array.from({ length: meeting / step }, (_, u) =>
      load(scratch, add(first, i32(u * step)), step === 4 ? "f32x4" : "f32"),
    ).reduce(fold);
    return absorb(into, i, row, step === 4 ? lanes(parts) : parts);
  });
  return [spread(scratch, among, (row) => add(mul(row, i32(meeting)), part), who), gather(scratch, body)];
}
