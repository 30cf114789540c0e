/** Spellings of `write` and `fill` for one thread with vectors of four. */
import type { Stmt, Tile } from "../../../src/kernel.ts";
import type { Expr } from "../../../src/kernel.ts";
import { at, i32, let_, ref, splat, store, vectorOf } from "../../../src/expr.ts";
import type { Column, SimdSite } from "./layout.ts";
import { ceilTo, clearPadding, columnAt, sum } from "./layout.ts";
import { countOf, floored, isUnitColumn, loop, source, tailOf, vectors, wholeIn } from "./lines.ts";
import type { Lanes } from "./lines.ts";
import { lifter } from "./vector.ts";

type Write = Extract<Tile, { readonly s: "write" }>;
type Fill = Extract<Tile, { readonly s: "fill" }>;

export function write(tile: Write, site: SimdSite): readonly Stmt[] {
  const p = site.place(tile.tile);
  const { rows } = tile;
  const { pre, n } = countOf(site, rows.count, p.rows);
  const to = source(site, rows);
  const value = tile.value ?? at(tile.tile);
  if (isUnitColumn(rows)) {
    const { before, perLine, value: lift } = lifter(site, value, "row", i32(0));
    const whole = floored(site, n);
    const first = to.start(i32(0));
    const part = (lanes: Lanes) => (i: Expr) => {
      const out: Stmt[] = [];
      const x = lift({ base: i, plus: 0 }, lanes, out);
      return [...out, store(rows.buffer, sum(first, i), x)];
    };
    const { lanes } = site;
    const body = [
      ...loop(site, "i", i32(0), whole, lanes, part(lanes)),
      ...loop(site, "i", whole, n, 1, part(1)),
    ];
    return [...pre, ...to.pre, ...before, ...perLine, ...body];
  }
  const line = site.fresh("i");
  const dst = site.fresh("dst");
  const lifted = lifter(site, value, "col", ref(line));
  const part = (lanes: Lanes) => (c: Column) => {
    const out: Stmt[] = [];
    const x = lifted.value(c, lanes, out);
    return [...out, store(rows.buffer, sum(ref(dst), c.base, i32(c.plus)), x)];
  };
  const tail = tailOf(site, rows.cols).flatMap(({ at: c, lanes }) => part(lanes)(columnAt(c)));
  const columns = [...vectors(site, wholeIn(site, rows.cols), 4, part(site.lanes)), ...tail];
  const each: Stmt = {
    s: "for",
    name: line,
    from: i32(0),
    to: n,
    step: 1,
    body: [let_(dst, to.start(ref(line))), ...lifted.perLine, ...columns],
  };
  return [...pre, ...to.pre, ...lifted.before, each];
}

export function fill(tile: Fill, site: SimdSite): readonly Stmt[] {
  const p = site.place(tile.tile);
  const name = site.fresh("fill");
  const { lanes } = site;
  const count = ceilTo(p.height * p.ld, lanes) / lanes;
  const wide = ref(name, vectorOf("f32", lanes));
  return [
    let_(name, splat(tile.value, lanes)),
    ...vectors(site, count, 8, (c) => [store(p.name, sum(c.base, i32(c.plus)), wide)]),
    ...(p.kind === "rows" ? [] : clearPadding(p, site.fresh)),
  ];
}
