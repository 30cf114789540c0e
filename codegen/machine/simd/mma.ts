/**
 * The matrix product of one thread: blocks of 4 rows × 8 columns of the accumulator in eight vector registers.
 *
 * Each step of the depth reads two vectors of the right operand and broadcasts four elements of the left one for eight
 * multiply-adds. Panels are the outer loop and row blocks the inner one: a panel (depth × 32 bytes) then stays in the
 * first-level cache while the left operand, half as much per block, streams by. The other order would stream panels.
 */
import type { Expr, Stmt, Tile } from "../../../src/kernel.ts";
import { add, i32, let_, load, madd, mul, op, ref, set, splat, store, var_ } from "../../../src/expr.ts";
import type { SimdSite } from "./layout.ts";
import { MICRO_ROWS, PANEL, ceilTo, fail, panelSize, sum } from "./layout.ts";
import { loop } from "./move.ts";

type Mma = Extract<Tile, { readonly s: "mma" }>;

/** Depth steps written out per round of the inner loop. */
const DEPTH_UNROLL = 4;

export function mma(tile: Mma, site: SimdSite): readonly Stmt[] {
  const acc = site.place(tile.acc);
  const a = site.place(tile.a);
  const depth = a.cols;
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
    const step = (b: Expr, left: Expr, k: number): readonly Stmt[] => {
      const stmts: Stmt[] = [];
      const right = [0, 1].map((h) => bind(stmts, "b", load(from, sum(b, i32(k * PANEL + 4 * h)), "f32x4")));
      rowIndexes.forEach((r) => {
        const x = bind(stmts, "a", splat(load(a.name, sum(left, i32(r * a.ld + k)))));
        accs[r]?.forEach(({ name }, h) => {
          const y = right[h];
          if (y !== undefined) stmts.push(set(name, madd(x, y, ref(name, "f32x4"))));
        });
      });
      return stmts;
    };
    const whole = Math.floor(depth / DEPTH_UNROLL) * DEPTH_UNROLL;
    const rest = depth - whole;
    const left = site.fresh("left");
    out.push(var_(left, mul(i, i32(a.ld))));
    if (whole > 0) {
      const end = sum(panel, i32(whole * PANEL));
      out.push(
        ...loop(site, "k", panel, end, DEPTH_UNROLL * PANEL, (b) => [
          ...Array.from({ length: DEPTH_UNROLL }, (_, k) => step(b, ref(left), k)).flat(),
          set(left, sum(ref(left), i32(DEPTH_UNROLL))),
        ]),
      );
    }
    const last = bind(out, "k", sum(panel, i32(whole * PANEL)));
    for (let k = 0; k < rest; k++) out.push(...step(last, ref(left), k));
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
