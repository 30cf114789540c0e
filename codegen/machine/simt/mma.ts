/**
 * Spelling of `mma` for a grid of lanes: each lane owns a block of the accumulator in registers and walks the depth four
 * steps at a time, so that each vector it loads serves a whole side of its block.
 */
import {
  add,
  div,
  f32,
  i32,
  let_,
  load,
  madd,
  mul,
  op,
  ref,
  rem,
  set,
  splat,
  store,
  var_,
} from "../../../src/expr.ts";
import type { Expr, Stmt, Tile } from "../../../src/kernel.ts";
import { ANY, type Access, type Phase } from "./barriers.ts";
import { OWN } from "./element.ts";
import { colsPer, rowsPer, type Style } from "./grid.ts";
import { lineOf, typeOf, variable, type SharedPlace } from "./place.ts";
import { when, type Site } from "./site.ts";

type Mma = Extract<Tile, { readonly s: "mma" }>;
const lane = (v: Expr, u: number): Expr => op("lane", [v], [u]);

export function mma(tile: Mma, site: Site): readonly Phase[] {
  const a = operand(site, tile.a);
  const acc = block(tile, site);
  const accesses: Access[] = [{ array: a.tile, verb: "read", by: ANY }, ...acc.accesses];
  const body: Stmt[] = [...acc.before];
  const bind = (hint: string, value: Expr): Expr => {
    if (value.e === "ref" || value.e === "const") return value;
    const name = site.fresh(hint);
    body.push(let_(name, value));
    return ref(name, value.type);
  };

  const first = i32(tile.from ?? 0);
  const aRows = acc.vars.map((_, i) => bind("a_row", add(lineOf(a, site.row(a.rows, i)), first)));
  const cols = (acc.vars[0] ?? []).map((_, j) => site.col(acc.cols, acc.style, j));
  let depth: number;
  /** What column (or quad) j meets in `count` steps of depth from k; `named` gives a value a name. */
  let right: (k: Expr, j: number, count: 1 | 4, named: (e: Expr) => Expr) => readonly Expr[];
  const each = (count: number, of: (u: number) => Expr) => Array.from({ length: count }, (_, u) => of(u));
  if (typeof tile.b === "string") {
    const b = operand(site, tile.b);
    accesses.push({ array: b.tile, verb: "read", by: ANY });
    if (alongDepth(tile, site)) {
      depth = b.cols;
      const starts = cols.map((c) => bind("b_row", lineOf(b, c)));
      right = (k, j, count, named) => {
        const parts = named(load(b.array, add(starts[j] ?? i32(0), k), count === 4 ? "f32x4" : "f32"));
        return each(count, (u) => (count === 4 ? lane(parts, u) : parts));
      };
    } else {
      depth = b.order === "rows" ? b.rows : b.cols;
      right = (k, j, count, named) =>
        each(count, (u) => named(load(b.array, add(lineOf(b, add(k, i32(u))), cols[j] ?? i32(0)), acc.type)));
    }
  } else {
    const { buffer, base, depth: height, row, col } = tile.b;
    depth = a.cols;
    accesses.push(...site.touch(buffer, "read"));
    const starts = cols.map((c) => {
      const j = bind("column", add(col, c));
      const panel = mul(div(j, i32(8)), i32(height * 8));
      return bind("panel", add(add(base, mul(row, i32(8))), add(panel, rem(j, i32(8)))));
    });
    right = (k, j, count, named) =>
      each(count, (u) =>
        named(load(buffer, add(starts[j] ?? i32(0), mul(add(k, i32(u)), i32(8))), acc.type)),
      );
  }

  const whole = Math.floor(depth / 4) * 4;
  /** `steps` steps of depth from k: four at once with vectors of `a`, or one. */
  const steps = (k: Expr, count: 1 | 4): readonly Stmt[] => {
    const out: Stmt[] = [];
    const named =
      (hint: string) =>
      (e: Expr): Expr => {
        const name = site.fresh(hint);
        out.push(let_(name, e));
        return ref(name, e.type);
      };
    const left = (i: number): Expr =>
      named("a")(load(a.array, add(aRows[i] ?? i32(0), k), count === 4 ? "f32x4" : "f32"));
    const add4 = (x: Expr, rights: readonly Expr[], i: number, j: number): void => {
      const name = acc.vars[i]?.[j];
      const sum = rights.reduce(
        (total, y, u) => {
          const one = count === 4 ? lane(x, u) : x;
          return madd(acc.type === "f32x4" ? splat(one) : one, y, total);
        },
        variable(name, acc.type),
      );
      out.push(set(name ?? "", sum));
    };
    // The side of fewer values waits in registers, the other one passes by.
    if (cols.length * count < aRows.length) {
      const rights = cols.map((_, j) => right(k, j, count, named("b")));
      aRows.forEach((_, i) => {
        const x = left(i);
        rights.forEach((of, j) => add4(x, of, i, j));
      });
    } else {
      const lefts = aRows.map((_, i) => left(i));
      cols.forEach((_, j) => {
        const of = right(k, j, count, named("b"));
        lefts.forEach((x, i) => add4(x, of, i, j));
      });
    }
    return out;
  };
  if (whole > 0) {
    const k = site.fresh("k");
    body.push({ s: "for", name: k, from: i32(0), to: i32(whole), step: 4, body: steps(ref(k), 4) });
  }
  for (let k = whole; k < depth; k++) body.push(...steps(i32(k), 1));
  return [{ s: "phase", accesses, body: [...body, ...acc.after] }];
}

/** Whether vectors of the right operand run along the depth: then every element of the result is a sum of its own. */
function alongDepth(tile: Mma, site: Site): boolean {
  return tile.transposed === true && typeof tile.b === "string" && operand(site, tile.b).order === "rows";
}

/** A left or right operand as an array in shared memory. */
function operand(site: Site, tile: string): SharedPlace {
  const p = site.place(tile);
  const found = p.at === "shared" ? p : p.shadow;
  if (found === null) throw new Error(`heddle: internal: simt: '${tile}' is multiplied but has no memory`);
  return found;
}

/** The lane's block of the accumulator: its registers, or variables that are filled before and stored after. */
function block(tile: Mma, site: Site) {
  const p = site.place(tile.acc);
  if (p.at === "owners") throw new Error(`heddle: internal: simt: '${tile.acc}' is no accumulator`);
  if (p.at === "registers")
    return {
      vars: p.vars,
      cols: p.cols,
      style: p.style,
      type: typeOf(p),
      before: [],
      after: [],
      accesses: [],
    };
  const style: Style = p.cols % 4 === 0 && !alongDepth(tile, site) ? "quads" : "singles";
  const type: "f32" | "f32x4" = style === "quads" ? "f32x4" : "f32";
  const vars = Array.from({ length: rowsPer(site.grid, p.rows) }, () =>
    Array.from({ length: colsPer(site.grid, p.cols, style) }, () => site.fresh("acc")),
  );
  const before: Stmt[] = [];
  const after: Stmt[] = [];
  vars.forEach((line, i) =>
    line.forEach((name, j) => {
      const index = add(lineOf(p, site.row(p.rows, i)), site.col(p.cols, style, j));
      const edges = [site.rowInside(p.rows, i), site.colInside(p.cols, style, j)];
      const loaded = load(p.array, index, type);
      // Past the edge a lane repeats an element of another lane, which it must not touch.
      if (edges.every((e) => e === null)) before.push(var_(name, loaded));
      else
        before.push(var_(name, type === "f32" ? f32(0) : splat(f32(0))), ...when(edges, [set(name, loaded)]));
      after.push(...when(edges, [store(p.array, index, ref(name, type))]));
    }),
  );
  const by = style === "quads" ? OWN : ANY;
  const accesses: readonly Access[] = [
    { array: p.tile, verb: "read", by },
    { array: p.tile, verb: "write", by },
  ];
  return { vars, cols: p.cols, style, type, before, after, accesses };
}
