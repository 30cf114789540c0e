/**
 * The matrix product of one thread: a block of the accumulator in vector registers, with four lanes 4 rows × 8 columns in eight.
 *
 * Each step of the depth reads the vectors of a line of the right operand and broadcasts an element of the left one for each row.
 * Panels are the outer loop and row blocks the inner one: a panel then stays in the first-level cache while the left operand
 * streams by. The other order would stream panels.
 *
 * One step of the depth is one round of the loop, not more. With four lanes the eight accumulators, two vectors and four broadcasts are
 * 14 of the 15 registers that V8 has. Its scheduler puts the loads of a straight line before the arithmetic, so two
 * steps written out spill (measured: 26 instead of 50 GFLOP/s on one core, 25 instead of 42 without fused
 * multiply-add); it unrolls the loop by itself.
 */
import type { Expr, Stmt, Tile } from "../../../src/kernel.ts";
import {
  add,
  div,
  i32,
  let_,
  load,
  madd,
  mul,
  op,
  ref,
  set,
  splat,
  store,
  var_,
  vectorOf,
} from "../../../src/expr.ts";
import type { SimdSite } from "./layout.ts";
import { ceilTo, fail, panelOf, panelSize, sum } from "./layout.ts";
import { loop } from "./lines.ts";

type Mma = Extract<Tile, { readonly s: "mma" }>;

export function mma(tile: Mma, site: SimdSite): readonly Stmt[] {
  const acc = site.place(tile.acc);
  const a = site.place(tile.a);
  const depth = a.cols;
  const { lanes, shape } = site;
  const panelColumns = panelOf(shape);
  const wide = vectorOf("f32", lanes);
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
    const start = sum(base, mul(col, i32(tile.b.depth)), mul(row, i32(panelColumns)));
    [from, origin, size] = [buffer, bind(pre, "origin", start), tile.b.depth * panelColumns];
  }
  const heightOf = (): Expr => {
    if (a.live === undefined) return i32(acc.height);
    // Rows that a copy left empty add nothing.
    const more = add(ref(a.live), i32(shape.rows - 1));
    const isPower = (shape.rows & (shape.rows - 1)) === 0;
    const up = isPower
      ? op("and", [more, i32(-shape.rows)])
      : mul(div(more, i32(shape.rows)), i32(shape.rows));
    return bind(pre, "rows", up);
  };
  const height = heightOf();
  const panels = ceilTo(acc.cols, panelColumns) / panelColumns;
  // A last panel that is half empty takes half the work; with four lanes the text of another block costs more than it saves.
  const inLast = Math.ceil((acc.cols - (panels - 1) * panelColumns) / lanes);
  const whole = lanes === 4 || inLast === shape.vectors ? panels : panels - 1;
  const rowIndexes = Array.from({ length: shape.rows }, (_, r) => r);

  const block = (panel: Expr, column: Expr, i: Expr, vectors: number): readonly Stmt[] => {
    const across = Array.from({ length: vectors }, (_, h) => h);
    const out: Stmt[] = [];
    const corner = bind(out, "corner", sum(mul(i, i32(acc.ld)), column));
    const accs = rowIndexes.map((r) =>
      across.map((h) => {
        const name = site.fresh("acc");
        const index = sum(corner, i32(r * acc.ld + lanes * h));
        out.push(var_(name, load(acc.name, index, wide)));
        return { name, index };
      }),
    );
    const left = site.fresh("left");
    out.push(var_(left, mul(i, i32(a.ld))));
    const end = bind(out, "end", sum(panel, i32(depth * panelColumns)));
    out.push(
      ...loop(site, "k", panel, end, panelColumns, (b) => {
        const step: Stmt[] = [];
        const right = across.map((h) => bind(step, "b", load(from, sum(b, i32(lanes * h)), wide)));
        rowIndexes.forEach((r) => {
          const x = bind(step, "a", splat(load(a.name, sum(ref(left), i32(r * a.ld))), lanes));
          accs[r]?.forEach(({ name }, h) => {
            const y = right[h];
            if (y !== undefined) step.push(set(name, madd(x, y, ref(name, wide))));
          });
        });
        return [...step, set(left, sum(ref(left), i32(1)))];
      }),
    );
    for (const line of accs)
      for (const { name, index } of line) out.push(store(acc.name, index, ref(name, wide)));
    return out;
  };

  const over = (from: number, to: number, vectors: number) =>
    loop(site, "p", i32(from), i32(to), 1, (p) => {
      const out: Stmt[] = [];
      const panel = bind(out, "panel", sum(origin, mul(p, i32(size))));
      const column = bind(out, "column", mul(p, i32(panelColumns)));
      return [
        ...out,
        ...loop(site, "i", i32(0), height, shape.rows, (i) => block(panel, column, i, vectors)),
      ];
    });
  return [...pre, ...over(0, whole, shape.vectors), ...over(whole, panels, inLast)];
}
