/** Spellings of `fill`, `map` and `reduce` for tiles in registers, and of `map` for operands in shared memory. */
import {
  add,
  div,
  exchange,
  f32,
  i32,
  laneId,
  let_,
  load,
  max,
  mul,
  op,
  ref,
  rem,
  select,
  set,
  store,
  var_,
} from "../../../src/expr.ts";
import type { Element, Expr, Stmt, Tile } from "../../../src/kernel.ts";
import type { Warp } from "../../../src/warp.ts";
import { ANY } from "../simt/barriers.ts";
import { referencesOf } from "../simt/residence.ts";
import { cellOf, lift, storedAt } from "./element.ts";
import { factorOf } from "./flow.ts";
import { landed } from "./landing.ts";
import {
  columnOf,
  fragmentIndex,
  fragmentOf,
  loop,
  operandOf,
  phase,
  pieceOf,
  stageOf,
  warp,
  wordsOf,
  type Dwelling,
  type Site,
  type Step,
} from "./site.ts";

type Of<S extends Tile["s"]> = Extract<Tile, { readonly s: S }>;

/** Loops over the lane's elements of a tile in registers. */
function overElements(
  site: Site,
  p: Exclude<Dwelling, { readonly at: "operand" }>,
  body: (r: Expr, j: Expr, e: 0 | 1) => readonly Stmt<Warp>[],
): readonly Stmt<Warp>[] {
  const [r, j] = [site.fresh("r"), site.fresh("j")];
  const both = (rExpr: Expr, jExpr: Expr) => [...body(rExpr, jExpr, 0), ...body(rExpr, jExpr, 1)];
  switch (p.at) {
    case "column":
      return [loop(r, site.lane.bands, body(ref(r), i32(0), 0))];
    case "line":
      return [loop(j, p.cols / 8, both(i32(0), ref(j)))];
    case "fragment":
      return [loop(r, site.lane.bands, [loop(j, p.cols / 8, both(ref(r), ref(j)))])];
  }
}

const indexIn = (p: Exclude<Dwelling, { readonly at: "operand" }>, r: Expr, j: Expr, e: number): Expr =>
  p.at === "column" ? r : p.at === "line" ? add(mul(j, i32(2)), i32(e)) : fragmentIndex(p.cols / 8, r, j, e);

export function fill(s: Of<"fill">, site: Site): readonly Step[] {
  const p = site.place(s.tile);
  if (p.at === "operand") throw new Error("heddle: internal: fragment: an operand is filled");
  site.flow.factor.delete(s.tile);
  site.flow.parted.delete(s.tile);
  if (s.value.e === "const" && s.value.value === 0) site.flow.zero.add(s.tile);
  else site.flow.zero.delete(s.tile);
  return overElements(site, p, (r, j, e) => [store(p.array, indexIn(p, r, j, e), s.value)]);
}

export function map(s: Of<"map">, site: Site): readonly Step[] {
  const p = site.place(s.tile);
  if (p.at === "operand") return mapOperand(s, site);
  const before = settle(
    site,
    referencesOf(s.value)
      .map((x) => x.tile)
      .filter((t) => t !== s.tile || !linear(s)),
  );
  site.flow.zero.delete(s.tile);
  if (!linear(s)) site.flow.parted.delete(s.tile);
  const kept = keptFactor(s, site);
  const value = (r: Expr, j: Expr, e: 0 | 1): Expr => {
    const cell = cellOf(site, r, j, e);
    if (kept === null) return lift(site, cell, s.value);
    // What takes the place of a score stands behind the factor as well.
    return select(lift(site, cell, kept.cond), storedAt(site, s.tile, cell), f32(kept.other / kept.factor));
  };
  // All are values of the same elements, so none is read after it was changed.
  const body = overElements(site, p, (r, j, e) => [store(p.array, indexIn(p, r, j, e), value(r, j, e))]);
  if (kept === null) site.flow.factor.delete(s.tile);
  return [...before, ...body];
}

/** `select(cond, tile, constant)` leaves the factor of a tile where it is. */
function keptFactor(s: Of<"map">, site: Site) {
  const factor = factorOf(site.flow, s.tile);
  const { value } = s;
  if (factor?.e !== "const" || value.e !== "op" || value.op !== "select") return null;
  const [cond, yes, no] = value.args;
  if (cond === undefined || yes?.e !== "at" || yes.tile !== s.tile || no?.e !== "const") return null;
  if (referencesOf(cond).some((x) => x.tile === s.tile)) return null;
  return { cond, other: no.value, factor: factor.value };
}

/** Whether a map multiplies its tile by something that does not read it: what is true of sums is true of their parts. */
export function linear(s: Of<"map">): boolean {
  const { value } = s;
  if (value.e !== "op" || value.op !== "mul") return false;
  const own = (x: Expr<Element> | undefined) => x?.e === "at" && x.tile === s.tile && x.pick === undefined;
  const free = (x: Expr<Element> | undefined) =>
    x !== undefined && !referencesOf(x).some((y) => y.tile === s.tile);
  const [a, b] = value.args;
  return (own(a) && free(b)) || (own(b) && free(a));
}

/** Adds up the parts of columns that are about to be read. */
export function settle(site: Site, tiles: readonly string[]): readonly Step[] {
  return [...new Set(tiles)].flatMap((tile): readonly Step[] => {
    if (!site.flow.parted.has(tile)) return [];
    site.flow.parted.delete(tile);
    const { array } = columnOf(site, tile);
    const r = site.fresh("r");
    const { out, total } = among(site, load(array, ref(r)), add);
    return [loop(r, site.lane.bands, [...out, store(array, ref(r), total)])];
  });
}

/** Makes columns whose sums a loop adds to parts of themselves: all in the first lane of four. */
export function part(site: Site, tiles: readonly string[]): readonly Step[] {
  return tiles.flatMap((tile): readonly Step[] => {
    if (site.flow.parted.has(tile)) return [];
    site.flow.parted.add(tile);
    if (site.flow.zero.has(tile)) return [];
    const { array } = columnOf(site, tile);
    const r = site.fresh("r");
    return [
      loop(r, site.lane.bands, [store(array, ref(r), select(site.lane.first, load(array, ref(r)), f32(0)))]),
    ];
  });
}

/** Folds a value over the four lanes of a row; all get the same bits, since a fold does not care about the order of two. */
function among(site: Site, value: Expr, fold: (a: Expr, b: Expr) => Expr) {
  const out: Stmt<Warp>[] = [];
  const total = ([1, 2] as const).reduce<Expr>((mine, mask) => {
    const [own, other] = [site.fresh("mine"), site.fresh("theirs")];
    out.push(let_(own, mine), exchange(other, ref(own, "f32"), mask));
    return fold(ref(own, "f32"), ref(other, "f32"));
  }, value);
  return { out, total };
}

/** Below every number a kernel reduces by `max`. */
const LEAST = f32(-3.4e38);

export function reduce(s: Of<"reduce">, site: Site): readonly Step[] {
  const from = fragmentOf(site, s.from);
  const into = columnOf(site, s.into);
  const [r, j, sum] = [site.fresh("r"), site.fresh("j"), site.fresh("part")];
  const fold = (a: Expr, b: Expr): Expr => (s.op === "add" ? add(a, b) : max(a, b));
  const at = (e: number) => load(from.array, fragmentIndex(from.cols / 8, ref(r), ref(j), e));
  const factor = factorOf(site.flow, s.from);
  const own = factor === undefined ? ref(sum, "f32") : mul(ref(sum, "f32"), factor);
  const parted = site.flow.parted.has(s.into) && s.op === "add";
  const before = parted ? [] : settle(site, [s.into]);
  const { out, total } = parted ? { out: [], total: own } : among(site, own, fold);
  site.flow.zero.delete(s.into);
  const body = [
    var_(sum, s.op === "add" ? f32(0) : LEAST),
    loop(j, from.cols / 8, [set(sum, fold(ref(sum, "f32"), fold(at(0), at(1))))]),
    ...out,
    store(into.array, ref(r), fold(load(into.array, ref(r)), total)),
  ];
  return [...before, loop(r, site.lane.bands, body)];
}

/** Word by word: two numbers are taken out, mapped, rounded and put back. */
function mapOperand(s: Of<"map">, site: Site): readonly Step[] {
  const p = operandOf(site, s.tile);
  const [id, row, pair, word] = ["id", "row", "pair", "word"].map((hint) => site.fresh(hint)) as [
    string,
    string,
    string,
    string,
  ];
  const perRow = p.cols / 2;
  const taken = site.registers("taken", "f32", 2);
  const put = site.registers("put", "i32", 1);
  const piece = pieceOf(
    p,
    ref(row),
    op("shr", [ref(pair), i32(2)]),
    rem(ref(row), i32(8)),
    stageOf(site, s.tile),
  );
  const value = (e: 0 | 1): Expr =>
    lift(
      site,
      { row: ref(row), col: add(mul(ref(pair), i32(2)), i32(e)), taken: load(taken, i32(e)) },
      s.value,
    );
  const body: readonly Stmt<Warp>[] = [
    let_(row, div(ref(id), i32(perRow))),
    let_(pair, rem(ref(id), i32(perRow))),
    let_(word, add(piece, op("and", [ref(pair), i32(3)]))),
    warp("unpack", [[taken, i32(0)]], [load(p.array, ref(word), "i32")], { dtype: p.dtype }),
    warp("pack", [[put, i32(0)]], [value(0), value(1)], { dtype: p.dtype }),
    store(p.array, ref(word), load(put, i32(0), "i32")),
  ];
  const walk: Stmt<Warp> = {
    s: "for",
    name: id,
    from: laneId,
    to: i32(wordsOf(p)),
    step: site.shape.lanes,
    body,
  };
  return [
    phase(
      [
        { array: landed(s.tile), verb: "read", by: ANY },
        { array: s.tile, verb: "read", by: "words" },
        { array: s.tile, verb: "write", by: "words" },
      ],
      [walk],
    ),
  ];
}
