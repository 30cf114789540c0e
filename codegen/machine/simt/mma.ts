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
import { OWN, quad } from "./element.ts";
import { colsPer, rowsPer, type Style } from "./grid.ts";
import { lineOf, typeOf, variable, when, type RegisterPlace, type SharedPlace, type Site } from "./site.ts";

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
  const turned = tile.transposed === true;
  let depth = a.cols;
  /** The right operand at depth k, for column (or quad) j. `turned` vectors run along the depth, others along the columns. */
  let right: (k: Expr, j: number, type: "f32" | "f32x4", part: number) => Expr;
  if (typeof tile.b === "string") {
    const b = operand(site, tile.b);
    accesses.push({ array: b.tile, verb: "read", by: ANY });
    if (turned) {
      depth = b.cols;
      const parts = acc.type === "f32x4" ? 4 : 1;
      const starts = cols.map((c) =>
        Array.from({ length: parts }, (_, u) => {
          // Four neighbours of the accumulator's columns lie a fixed number of lines apart.
          const line = b.quads === null || parts === 1 ? lineOf(b, add(c, i32(u))) : quadLine(b, c, u);
          return bind("b_row", line);
        }),
      );
      right = (k, j, type, part) => load(b.array, add(starts[j]?.[part] ?? i32(0), k), type);
    } else {
      depth = b.rows;
      right = (k, j, type) => load(b.array, add(lineOf(b, k), cols[j] ?? i32(0)), type);
    }
  } else {
    const { buffer, base, depth: height, row, col } = tile.b;
    accesses.push(...site.touch(buffer, "read"));
    const starts = cols.map((c) => {
      const j = bind("column", add(col, c));
      const panel = mul(div(j, i32(8)), i32(height * 8));
      return bind("panel", add(add(base, mul(row, i32(8))), add(panel, rem(j, i32(8)))));
    });
    right = (k, j, type) => load(buffer, add(starts[j] ?? i32(0), mul(k, i32(8))), type);
  }

  // Four dot products make one vector of the accumulator: they are summed apart and joined once.
  const dots = turned && acc.type === "f32x4";
  const sums: readonly (readonly (readonly string[])[])[] = acc.vars.map((line) =>
    line.map((name) => (dots ? [0, 1, 2, 3].map(() => site.fresh("sum")) : [name])),
  );
  if (dots) body.push(...sums.flat(2).map((name) => var_(name, f32(0))));
  const sumType = dots ? "f32" : acc.type;

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
    cols.forEach((_, j) => {
      // Transposed, one vector along the depth for each column; otherwise one value (vector of columns) for each step.
      const rights = turned
        ? Array.from({ length: dots ? 4 : 1 }, (_part, part) =>
            vector("b", right(k, j, count === 4 ? "f32x4" : "f32", part)),
          )
        : Array.from({ length: count }, (_step, u) => vector("b", right(add(k, i32(u)), j, acc.type, 0)));
      left.forEach((l, i) =>
        (sums[i]?.[j] ?? []).forEach((name, part) => {
          let sum = variable(name, sumType);
          for (let u = 0; u < count; u++) {
            const x = step(l, u);
            const r = turned ? rights[part] : rights[u];
            if (r === undefined) throw new Error("heddle: internal: simt: a step has no right side");
            const y = turned ? step(r, u) : r;
            sum = madd(sumType === "f32x4" ? splat(x) : x, y, sum);
          }
          out.push(set(name, sum));
        }),
      );
    });
    return out;
  };
  if (whole > 0) {
    const k = site.fresh("k");
    body.push({ s: "for", name: k, from: i32(0), to: i32(whole), step: 4, body: steps(ref(k), 4) });
  }
  for (let k = whole; k < depth; k++) body.push(...steps(i32(k), 1));
  if (dots)
    acc.vars.forEach((line, i) =>
      line.forEach((name, j) => {
        const parts = (sums[i]?.[j] ?? []).map((sum) => ref(sum, "f32"));
        body.push(set(name, add(variable(name, "f32x4"), quad(parts))));
      }),
    );
  return [{ s: "phase", accesses, body: [...body, ...acc.after] }];
}

/** The line of row 4q + u where quads are apart, from the first column 4q of a quad. */
function quadLine(b: SharedPlace, firstColumn: Expr, u: number): Expr {
  const q = op("shr", [firstColumn, i32(2)]);
  return add(mul(add(q, i32(u * (b.quads ?? 0))), i32(b.ld)), i32(b.base));
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
  const style: Style = p.cols % 4 === 0 ? "quads" : "singles";
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

/** Stores the registers of an accumulator where products read it as their left operand. */
export function shadow(p: RegisterPlace, site: Site): readonly Phase[] {
  const to = p.shadow;
  if (to === null) throw new Error("heddle: internal: simt: no product reads this tile");
  const body = p.vars.flatMap((line, i) => {
    const stores = line.flatMap((name, j) => {
      const index = add(lineOf(to, site.row(p.rows, i)), site.col(p.cols, p.style, j));
      return when([site.colInside(p.cols, p.style, j)], [store(to.array, index, variable(name, typeOf(p)))]);
    });
    return when([site.rowInside(p.rows, i)], stores);
  });
  // The mapping differs from the grid's, but stores of the same registers go to the same places.
  return [{ s: "phase", accesses: [{ array: to.tile, verb: "write", by: `registers ${p.style}` }], body }];
}
