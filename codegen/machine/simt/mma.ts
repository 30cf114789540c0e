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
import { typeOf, variable, when, type RegisterPlace, type SharedPlace, type Site } from "./site.ts";

type Mma = Extract<Tile, { readonly s: "mma" }>;
const lane = (v: Expr, u: number): Expr => op("lane", [v], [u]);

export function mma(tile: Mma, site: Site): readonly Phase[] {
  const a = operand(site, tile.a);
  const acc = block(tile, site);
  const accesses: Access[] = [{ array: a.array, verb: "read", by: ANY }, ...acc.accesses];
  const body: Stmt[] = [...acc.before];
  const bind = (hint: string, value: Expr): Expr => {
    if (value.e === "ref" || value.e === "const") return value;
    const name = site.fresh(hint);
    body.push(let_(name, value));
    return ref(name);
  };

  const aRows = acc.vars.map((_, i) => bind("a_row", mul(site.row(a.rows, i), i32(a.ld))));
  const cols = (acc.vars[0] ?? []).map((_, j) => site.col(acc.cols, acc.style, j));
  const width = acc.type === "f32x4" ? 4 : 1;
  const turned = tile.transposed === true;
  let right: (k: Expr, j: number, type: "f32" | "f32x4") => Expr;
  if (typeof tile.b === "string") {
    const b = operand(site, tile.b);
    accesses.push({ array: b.array, verb: "read", by: ANY });
    // Transposed, a vector runs along the depth; otherwise along the accumulator's columns.
    const starts = turned ? cols.map((c) => bind("b_row", mul(c, i32(b.ld)))) : cols;
    right = (k, j, type) =>
      load(b.array, turned ? add(starts[j] ?? i32(0), k) : add(mul(k, i32(b.ld)), starts[j] ?? i32(0)), type);
  } else {
    const { buffer, base, depth, row, col } = tile.b;
    accesses.push(...site.touch(buffer, "read"));
    const starts = cols.map((c) => {
      const j = bind("column", add(col, c));
      const panel = mul(div(j, i32(8)), i32(depth * 8));
      return bind("panel", add(add(base, mul(row, i32(8))), add(panel, rem(j, i32(8)))));
    });
    right = (k, j, type) => load(buffer, add(starts[j] ?? i32(0), mul(k, i32(8))), type);
  }

  const depth = a.cols;
  const whole = Math.floor(depth / 4) * 4;
  /** `steps` steps of depth from k: four at once with vectors of `a`, or one. */
  const steps = (k: Expr, count: 1 | 4): readonly Stmt[] => {
    const out: Stmt[] = [];
    const vector = (hint: string, e: Expr): Expr => {
      const name = site.fresh(hint);
      out.push(let_(name, e));
      return ref(name, e.type);
    };
    const left = aRows.map((r) => vector("a", load(a.array, add(r, k), count === 4 ? "f32x4" : "f32")));
    const step = (v: Expr, u: number): Expr => (count === 4 ? lane(v, u) : v);
    const dot = turned && width === 1;
    // Each column's values: one vector along the depth, or one value (vector of columns) per step.
    const rights = cols.map((_, j) => {
      if (dot) return [vector("b", right(k, j, count === 4 ? "f32x4" : "f32"))];
      return Array.from({ length: count }, (_step, u) => vector("b", right(add(k, i32(u)), j, acc.type)));
    });
    acc.vars.forEach((line, i) =>
      line.forEach((name, j) => {
        const l = left[i];
        const r = rights[j];
        if (l === undefined || r === undefined)
          throw new Error("heddle: internal: simt: a block has no side");
        let sum = variable(name, acc.type);
        for (let u = 0; u < count; u++) {
          const x = step(l, u);
          const first = r[0];
          const y = dot && first !== undefined ? step(first, u) : r[u];
          if (y === undefined) throw new Error("heddle: internal: simt: a step has no right side");
          sum = madd(width === 4 ? splat(x) : x, y, sum);
        }
        out.push(set(name, sum));
      }),
    );
    return out;
  };
  if (whole > 0) {
    const k = site.fresh("k");
    body.push({ s: "for", name: k, from: i32(0), to: i32(whole), step: 4, body: steps(ref(k), 4) });
  }
  for (let k = whole; k < depth; k++) body.push(...steps(i32(k), 1));
  return [{ s: "phase", accesses, body: [...body, ...acc.after] }];
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
  const style: Style = tile.transposed !== true && p.cols % 4 === 0 ? "quads" : "singles";
  const type: "f32" | "f32x4" = style === "quads" ? "f32x4" : "f32";
  const vars = Array.from({ length: rowsPer(site.grid, p.rows) }, () =>
    Array.from({ length: colsPer(site.grid, p.cols, style) }, () => site.fresh("acc")),
  );
  const before: Stmt[] = [];
  const after: Stmt[] = [];
  vars.forEach((line, i) =>
    line.forEach((name, j) => {
      const index = add(mul(site.row(p.rows, i), i32(p.ld)), site.col(p.cols, style, j));
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
    { array: p.array, verb: "read", by },
    { array: p.array, verb: "write", by },
  ];
  return { vars, cols: p.cols, style, type, before, after, accesses };
}

/** Stores the registers of an accumulator where products read it as their left operand. */
export function shadow(p: RegisterPlace, site: Site): readonly Phase[] {
  const to = p.shadow;
  if (to === null) throw new Error("heddle: internal: simt: no product reads this tile");
  const body = p.vars.flatMap((line, i) => {
    const stores = line.flatMap((name, j) => {
      const index = add(mul(site.row(p.rows, i), i32(to.ld)), site.col(p.cols, p.style, j));
      return when([site.colInside(p.cols, p.style, j)], [store(to.array, index, variable(name, typeOf(p)))]);
    });
    return when([site.rowInside(p.rows, i)], stores);
  });
  // The mapping differs from the grid's, but stores of the same registers go to the same places.
  return [{ s: "phase", accesses: [{ array: to.array, verb: "write", by: `registers ${p.style}` }], body }];
}
