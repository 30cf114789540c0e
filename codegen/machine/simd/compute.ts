/** Spellings of `map` and `reduce` for one thread with vectors. */
import type { Expr, Stmt, Tile } from "../../../src/kernel.ts";
import {
  add,
  i32,
  let_,
  load,
  max,
  op,
  ref,
  set,
  store,
  var_,
  vectorOf,
  widened,
} from "../../../src/expr.ts";
import type { Column, SimdSite } from "./layout.ts";
import { clearPadding, columnAt, columnIndex, columnOffset, fail, lineBase, sum } from "./layout.ts";
import { loop, tailOf, vectors, wholeIn } from "./lines.ts";
import type { Lanes } from "./lines.ts";
import { lifter } from "./vector.ts";

type Map_ = Extract<Tile, { readonly s: "map" }>;
type Reduce = Extract<Tile, { readonly s: "reduce" }>;

/** What one operation stands for where a target spells it with others. */
const weight = (e: Map_["value"]): number => (e.e === "op" && (e.op === "exp2" || e.op === "log2") ? 14 : 1);

/**
 * Vectors written out per round of a column loop: few of a long expression, more of a short one. Enough to keep the
 * arithmetic units busy; more only makes functions large, and compilers give large functions less care.
 */
const unrollFor = (value: Map_["value"]): number => {
  const seen = new Set<unknown>();
  let size = 0;
  const visit = (e: Map_["value"]): void => {
    if (seen.has(e)) return;
    seen.add(e);
    size += weight(e);
    if (e.e === "op") e.args.forEach(visit);
    if (e.e === "load") visit(e.index);
  };
  visit(value);
  return size > 12 ? 2 : size > 6 ? 4 : 8;
};

export function map(tile: Map_, site: SimdSite): readonly Stmt[] {
  const p = site.place(tile.tile);
  const unroll = unrollFor(tile.value);
  const line = site.fresh("i");
  if (p.kind === "turned") return mapTurned(tile, site, unroll);
  if (p.ld === 1) {
    // A column vector is one line of lanes along its rows.
    const lifted = lifter(site, tile.value, "row", i32(0));
    const part = (lanes: Lanes) => (c: Column) => {
      const out: Stmt[] = [];
      const x = lifted.value(c, lanes, out);
      return [...out, store(p.name, columnIndex(c), x)];
    };
    const body = alongLine(site, p.rows, unroll, part);
    return [...lifted.before, ...lifted.perLine, ...body, ...clearPadding(p, site.fresh)];
  }
  const base = site.fresh("line");
  const lifted = lifter(site, tile.value, "col", ref(line));
  const target = (c: Column) => sum(ref(base), columnOffset(p, c));
  const vector = (c: Column) => {
    const out: Stmt[] = [];
    const x = lifted.value(c, site.lanes, out);
    return [...out, store(p.name, target(c), x)];
  };
  // Single elements are all computed before any is stored: `pick` may look at a neighbour.
  const computed: Stmt[] = [];
  const stored = tailOf(site, p.cols).map(({ at, lanes }) => {
    const name = site.fresh("x");
    const c = columnAt(at);
    computed.push(let_(name, lifted.value(c, lanes, computed)));
    return store(p.name, target(c), ref(name, widened("f32", lanes)));
  });
  const columns = [...vectors(site, wholeIn(site, p.cols), unroll, vector), ...computed, ...stored];
  const body = [let_(base, lineBase(p, ref(line))), ...lifted.perLine, ...columns];
  return [
    ...lifted.before,
    { s: "for", name: line, from: i32(0), to: i32(p.rows), step: 1, body },
    ...clearPadding(p, site.fresh),
  ];
}

/** Statements for every position of a line: whole vectors, then what is left. */
const alongLine = (
  site: SimdSite,
  length: number,
  unroll: number,
  part: (lanes: Lanes) => (c: Column) => readonly Stmt[],
): readonly Stmt[] => [
  ...vectors(site, wholeIn(site, length), unroll, part(site.lanes)),
  ...tailOf(site, length).flatMap(({ at, lanes }) => part(lanes)(columnAt(at))),
];

/**
 * Lanes along the rows, column by column; where the value looks at the other column of a pair, both columns are
 * computed before either is stored.
 */
function mapTurned(tile: Map_, site: SimdSite, unroll: number): readonly Stmt[] {
  const p = site.place(tile.tile);
  const together = picksOther(tile.value) && p.cols % 2 === 0 ? 2 : 1;
  const line = site.fresh("j");
  const columns = Array.from({ length: together }, (_, k) => sum(ref(line), i32(k)));
  const lifted = columns.map((j) => lifter(site, tile.value, "row", j));
  const part = (lanes: Lanes) => (c: Column) => {
    const out: Stmt[] = [];
    const stored = lifted.map((l, k) => {
      const name = site.fresh("x");
      out.push(let_(name, l.value(c, lanes, out)));
      const column = columnOffset(p, { base: columns[k] ?? i32(0), plus: 0 });
      return store(p.name, sum(lineBase(p, columnIndex(c)), column), ref(name, widened("f32", lanes)));
    });
    return [...out, ...stored];
  };
  const body = alongLine(site, p.rows, unroll, part);
  const inner = [...lifted.flatMap((l) => l.perLine), ...body];
  return [
    ...lifted.flatMap((l) => l.before),
    { s: "for", name: line, from: i32(0), to: i32(p.cols), step: together, body: inner },
    ...clearPadding(p, site.fresh),
  ];
}

function picksOther(value: Map_["value"]): boolean {
  if (value.e === "at") return value.pick !== undefined;
  if (value.e === "op") return value.args.some(picksOther);
  return value.e === "load" && picksOther(value.index);
}

/** Independent accumulators of a reduction: enough to hide the latency of an addition. */
const CHAINS = 4;

export function reduce(tile: Reduce, site: SimdSite): readonly Stmt[] {
  const from = site.place(tile.from);
  const into = site.place(tile.into);
  if (from.kind === "turned")
    return fail(`'${tile.from}' lies transposed and cannot be reduced along its rows`);
  const join = (a: Expr, b: Expr): Expr => (tile.op === "add" ? add(a, b) : max(a, b));
  const foldLanes = (v: Expr): Expr => op(tile.op === "add" ? "sum" : "most", [v]);
  const { lanes: wide } = site;
  const full = wholeIn(site, from.cols);

  const row = (i: Expr): readonly Stmt[] => {
    const out: Stmt[] = [];
    const bind = (hint: string, e: Expr): Expr => {
      const name = site.fresh(hint);
      out.push(let_(name, e));
      return ref(name, e.type);
    };
    const line = bind("line", lineBase(from, i));
    const cell = (c: Column, lanes: Lanes) =>
      load(from.name, sum(line, columnOffset(from, c)), widened("f32", lanes));
    const parts: Expr[] = [];
    const chains = Math.min(CHAINS, full);
    if (full > 0) {
      const accs = Array.from({ length: chains }, (_, k) => {
        const name = site.fresh("part");
        out.push(var_(name, cell(columnAt(wide * k), wide)));
        return ref(name, vectorOf("f32", wide));
      });
      // The first round is in the accumulators; the others go round by round, in a loop where there are many: loads of
      // a straight line all come before its arithmetic in V8, and sixteen of them would spill.
      const absorb = (c: Column, k: number): Stmt => {
        const acc = accs[k % chains];
        if (acc === undefined || acc.e !== "ref") return fail("an accumulator is missing");
        return set(acc.name, join(acc, cell(c, wide)));
      };
      const rounds = full <= 2 * chains ? 1 : Math.floor(full / chains);
      if (rounds > 1)
        out.push(
          ...loop(site, "c", i32(wide * chains), i32(rounds * wide * chains), wide * chains, (c) =>
            accs.map((_, k) => absorb({ base: c, plus: wide * k }, k)),
          ),
        );
      for (let v = rounds * chains; v < full; v++) out.push(absorb(columnAt(wide * v), v));
      let level: readonly Expr[] = accs;
      while (level.length > 1) {
        const next: Expr[] = [];
        for (let k = 0; k < level.length; k += 2) {
          const [a, b] = [level[k], level[k + 1]];
          if (a !== undefined) next.push(b === undefined ? a : join(a, b));
        }
        level = next;
      }
      if (level[0] !== undefined) parts.push(foldLanes(level[0]));
    }
    for (const { at, lanes } of tailOf(site, from.cols)) {
      const rest = cell(columnAt(at), lanes);
      parts.push(lanes === 1 ? rest : foldLanes(rest));
    }
    const total = parts.reduce((a, b) => join(a, b));
    const target = bind("to", sum(lineBase(into, i), columnOffset(into, columnAt(0))));
    return [...out, store(into.name, target, join(load(into.name, target), total))];
  };
  return loop(site, "i", i32(0), i32(from.rows), 1, row);
}
