/** Spellings of `write` and `fill` for one thread with vectors of four. */
import type { Stmt, Tile } from "../../../src/kernel.ts";
import type { Expr } from "../../../src/kernel.ts";
import { at, i32, let_, ref, splat, store } from "../../../src/expr.ts";
import type { Column, SimdSite } from "./layout.ts";
import { ceilTo, clearPadding, columnAt, sum } from "./layout.ts";
import { countOf, floor4, isUnitColumn, loop, source, vectors } from "./lines.ts";
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
    const whole = floor4(n);
    const first = to.start(i32(0));
    const part = (lanes: 1 | 4) => (i: Expr) => {
      const out: Stmt[] = [];
      const x = lift({ base: i, plus: 0 }, lanes, out);
      return [...out, store(rows.buffer, sum(first, i), x)];
    };
    const body = [...loop(site, "i", i32(0), whole, 4, part(4)), ...loop(site, "i", whole, n, 1, part(1))];
    return [...pre, ...to.pre, ...before, ...perLine, ...body];
  }
  const line = site.fresh("i");
  const dst = site.fresh("dst");
  const lifted = lifter(site, value, "col", ref(line));
  const part = (lanes: 1 | 4) => (c: Column) => {
    const out: Stmt[] = [];
    const x = lifted.value(c, lanes, out);
    return [...out, store(rows.buffer, sum(ref(dst), c.base, i32(c.plus)), x)];
  };
  const full = Math.floor(rows.cols / 4);
  const tail = Array.from({ length: rows.cols % 4 }, (_, j) => columnAt(full * 4 + j));
  const columns = [...vectors(site, full, 4, part(4)), ...tail.flatMap(part(1))];
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
  const count = ceilTo(p.height * p.ld, 4) / 4;
  return [
    let_(name, splat(tile.value)),
    ...vectors(site, count, 8, (c) => [store(p.name, sum(c.base, i32(c.plus)), ref(name, "f32x4"))]),
    ...(p.kind === "rows" ? [] : clearPadding(p, site.fresh)),
  ];
}
