/**
 * The matrix product of one thread: blocks of 4 rows × 8 columns of the accumulator in eight vector registers.
 *
 * Each step of the depth reads two vectors of the right operand and broadcasts four elements of the left one for eight
 * multiply-adds. Panels are the outer loop and row blocks the inner one: a panel (depth × 32 bytes) then stays in the
 * first-level cache while the left operand, half as much per block, streams by. The other order would stream panels.
 *
 * One step of the depth is one round of the loop, not more: the eight accumulators, two vectors and four broadcasts are
 * 14 of the 15 registers that V8 has. Its scheduler puts the loads of a straight line before the arithmetic, so two
 * steps written out spill (measured: 26 instead of 50 GFLOP/s on one core, 25 instead of 42 without fused
 * multiply-add); it unrolls the loop by itself.
 */
import type { Expr, Stmt, Tile } from "../../../src/kernel.ts";
import { add, i32, let_, load, madd, mul, op, ref, set, splat, store, var_ } from "../../../src/expr.ts";
import type { SimdSite } from "./layout.ts";
import { MICRO_ROWS, PANEL, ceilTo, fail, panelSize, sum } from "./layout.ts";
import { loop } from "./lines.ts";

type Mma = Extract<Tile, { readonly s: "mma" }>;

export function mma(tile: Mma, site: SimdSite): readonly Stmt[] {
  const acc = site.place(tile.acc);
  const a = site.place(tile.a);
  const depth = a.cols;
  if (tile.from !== undefined) fail(`parts of '${tile.a}' are multiplied on other machines only`);
  if (acc.rows !== a.rows) fail(`'${tile.acc}' has ${acc.rows} rows and '${tile.a}' ${a.rows}`);
  const pre: Stmt[] = [];
  const bind = (out: Stmt[], hint: string, e: Expr): Expr => {
    if (e.e === "const" || e.e === "ref") return e;
    const name = site.fresh(hint);
    out.push(let_(name, e));
    return ref(name, e.type);
  };
  let from: string;
  let origin: Expr;
  let size: number;
  if (typeof tile.b === "string") {
    const b = site.place(tile.b);
    const [k, j] = b.kind === "turned" ? [b.cols, b.rows] : [b.rows, b.cols];
    if (k !== depth || j !== acc.cols)
      fail(`'${tile.b}' is ${k} × ${j} for a product of depth ${depth} and width ${acc.cols}`);
    [from, origin, size] = [b.name, i32(0), panelSize(b)];
  } else {
    const { buffer, base, row, col } = tile.b;
    // Panel col/8 begins at col/8 · depth·8 = col · depth.
    const start = sum(base, mul(col, i32(tile.b.depth)), mul(row, i32(PANEL)));
    [from, origin, size] = [buffer, bind(pre, "origin", start), tile.b.depth * PANEL];
  }
  const heightOf = (): Expr => {
    if (a.live === undefined) return i32(acc.height);
    // Rows that a copy left empty add nothing.
    const up = op("and", [add(ref(a.live), i32(MICRO_ROWS - 1)), i32(~(MICRO_ROWS - 1))]);
    return bind(pre, "rows", up);
  };
  const height = heightOf();
  const panels = ceilTo(acc.cols, PANEL) / PANEL;
  const rowIndexes = Array.from({ length: MICRO_ROWS }, (_, r) => r);

  const block = (panel: Expr, column: Expr, i: Expr): readonly Stmt[] => {
    const out: Stmt[] = [];
    const corner = bind(out, "corner", sum(mul(i, i32(acc.ld)), column));
    const accs = rowIndexes.map((r) =>
      [0, 1].map((h) => {
        const name = site.fresh("acc");
        const index = sum(corner, i32(r * acc.ld + 4 * h));
        out.push(var_(name, load(acc.name, index, "f32x4")));
        return { name, index };
      }),
    );
    const left = site.fresh("left");
    out.push(var_(left, mul(i, i32(a.ld))));
    const end = bind(out, "end", sum(panel, i32(depth * PANEL)));
    out.push(
      ...loop(site, "k", panel, end, PANEL, (b) => {
        const step: Stmt[] = [];
        const right = [0, 1].map((h) => bind(step, "b", load(from, sum(b, i32(4 * h)), "f32x4")));
        rowIndexes.forEach((r) => {
          const x = bind(step, "a", splat(load(a.name, sum(ref(left), i32(r * a.ld)))));
          accs[r]?.forEach(({ name }, h) => {
            const y = right[h];
            if (y !== undefined) step.push(set(name, madd(x, y, ref(name, "f32x4"))));
          });
        });
        return [...step, set(left, sum(ref(left), i32(1)))];
      }),
    );
    for (const pair of accs)
      for (const { name, index } of pair) out.push(store(acc.name, index, ref(name, "f32x4")));
    return out;
  };

  return [
    ...pre,
    ...loop(site, "p", i32(0), i32(panels), 1, (p) => {
      const out: Stmt[] = [];
      const panel = bind(out, "panel", sum(origin, mul(p, i32(size))));
      const column = bind(out, "column", mul(p, i32(PANEL)));
      return [...out, ...loop(site, "i", i32(0), height, MICRO_ROWS, (i) => block(panel, column, i))];
    }),
  ];
}
