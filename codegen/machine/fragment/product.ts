/**
 * Spelling of `mma`: each warp multiplies its bands by the whole right operand, 16 steps of depth at a time and 8 at the end where
 * the depth asks for it. Weights of attention go from accumulators to the left operand within a lane's registers: the two layouts
 * differ only in that pairs are rounded to 16 bits.
 */
import { add, i32, load, mul, ref } from "../../../src/expr.ts";
import type { Expr, Stmt, Tile } from "../../../src/kernel.ts";
import type { Warp } from "../../../src/warp.ts";
import { factorOf } from "./flow.ts";
import { reading } from "./landing.ts";
import { anew, known, matrixPiece, namerOf, type Namer } from "./lanes.ts";
import type { Panels } from "./shape.ts";
import {
  blockIndex,
  fragmentOf,
  loop,
  operandOf,
  phase,
  stageOf,
  warp,
  type Operand,
  type Site,
  type Step,
} from "./site.ts";

type Mma = Extract<Tile, { readonly s: "mma" }>;

/** Depth and columns of a product, and the name under which barriers know its right operand. */
export function rightOf(s: Mma, site: Site): { readonly depth: number; readonly access: string } {
  if (typeof s.b !== "string") return { depth: site.shape.decl(s.a).cols, access: site.panels(0) };
  const b = operandOf(site, s.b);
  return { depth: s.transposed === true ? b.cols : b.rows, access: s.b };
}

export function mma(s: Mma, site: Site): readonly Step[] {
  const acc = fragmentOf(site, s.acc);
  const left = site.place(s.a);
  const { tall } = site.shape;
  const eights = acc.cols / 8;
  const { depth, access } = rightOf(s, site);
  scale(s, site);

  const dtype = dtypeOf(s, site);
  const namer = namerOf(site.shape.tight ? anew(site) : known(site), tall);
  const a = site.registers("a", "i32", 4 * tall);
  const b = site.registers("b", "i32", 4);
  const load_ = s.transposed === true ? turnedRight : straightRight;
  /** Matrices of the right operand for `wide` eights from eight 2·jj on, `deep` steps from `k16` · 16 on. */
  const right = (k16: Expr, jj: Expr, deep: 16 | 8, wide: 1 | 2): Stmt<Warp> => {
    const count = ((deep / 8) * wide) as 1 | 2 | 4;
    const turned = s.transposed === true ? "" : "_trans";
    const [array, word] = load_(s, site, namer, depth, k16, jj, deep, wide);
    return warp(`ldmatrix${turned}_${count}` as Warp["op"], [
      [b, i32(0)],
      [array, word],
    ]);
  };
  const multiply = (i: Expr, j: Expr, deep: 16 | 8, part: number): Stmt<Warp> =>
    warp(
      deep === 16 ? "mma_k16" : "mma_k8",
      [
        [acc.array, blockIndex(eights, i, j)],
        [a, mul(i, i32(4))],
        [b, i32(part)],
      ],
      [],
      { dtype },
    );
  /** All of one step of depth. */
  const step = (k16: Expr, deep: 16 | 8): readonly Stmt<Warp>[] => {
    const [i, jj, i2, i3] = [site.fresh("i"), site.fresh("jj"), site.fresh("i"), site.fresh("i")];
    const lefts =
      left.at === "fragment"
        ? packed(s, site, ref(i), k16, a)
        : [leftOf(site, namer, operandOf(site, s.a), ref(i), k16, deep, a)];
    const words = deep / 8;
    const pairs: readonly Stmt<Warp>[] =
      eights < 2
        ? []
        : [
            loop(jj, Math.floor(eights / 2), [
              right(k16, ref(jj), deep, 2),
              loop(
                i2,
                tall,
                [0, 1].map((u) => multiply(ref(i2), add(mul(ref(jj), i32(2)), i32(u)), deep, u * words)),
              ),
            ]),
          ];
    const last: readonly Stmt<Warp>[] =
      eights % 2 === 0
        ? []
        : [
            right(k16, i32((eights - 1) / 2), deep, 1),
            loop(i3, tall, [multiply(ref(i3), i32(eights - 1), deep, 0)]),
          ];
    return [loop(i, tall, lefts), ...pairs, ...last];
  };
  const k = site.fresh("k");
  const whole = Math.floor(depth / 16);
  const body: readonly Stmt<Warp>[] = [
    ...(whole === 0 ? [] : [loop(k, whole, step(ref(k), 16))]),
    ...(depth % 16 === 0 ? [] : step(i32(whole), 8)),
  ];
  const accesses = [...reading(access), ...(left.at === "operand" ? reading(s.a) : [])];
  return [phase(accesses, [...namer.own.pre, ...body])];
}

/** What stands before the left operand's numbers stands before the sums; a sum has one such factor. */
function scale(s: Mma, site: Site): void {
  const { factor, zero } = site.flow;
  const own = factorOf(site.flow, s.a);
  const before = zero.has(s.acc) ? own : factorOf(site.flow, s.acc);
  if (before !== own)
    throw new Error(`heddle: internal: fragment: '${s.acc}' adds up products of different scales`);
  if (own !== undefined && !(own.e === "const" && own.value > 0))
    throw new Error(`heddle: internal: fragment: '${s.a}' is scaled by what is no positive constant`);
  if (own === undefined) factor.delete(s.acc);
  else factor.set(s.acc, own);
  zero.delete(s.acc);
}

function dtypeOf(s: Mma, site: Site): "f16" | "bf16" {
  const found = typeof s.b === "string" ? operandOf(site, s.b).dtype : operandOf(site, s.a).dtype;
  return found;
}

/** Rows 16i … of the warp's left operand in shared memory. */
function leftOf(
  site: Site,
  namer: Namer,
  p: Operand,
  i: Expr,
  k16: Expr,
  deep: 16 | 8,
  a: string,
): Stmt<Warp> {
  const rows = [namer.own.once("left_row", add(namer.warpRow, namer.low16)), mul(i, i32(16))] as const;
  const piece = matrixPiece(namer, p, rows, [deep === 16 ? namer.high : i32(0), k16], stageOf(site, p.tile));
  return warp(deep === 16 ? "ldmatrix_4" : "ldmatrix_2", [
    [a, mul(i, i32(4))],
    [p.array, piece],
  ]);
}

/** Accumulators of columns 16·k16 … as a left operand, rounded. */
function packed(s: Mma, site: Site, i: Expr, k16: Expr, a: string): readonly Stmt<Warp>[] {
  const from = fragmentOf(site, s.a);
  const dtype = dtypeOf(s, site);
  const block = (u: number) => blockIndex(from.cols / 8, i, add(mul(k16, i32(2)), i32(u)));
  const at = (u: number, n: number) => load(from.array, add(block(u), i32(n)));
  // Words: rows g and g + 8 of the first eight columns, then of the second.
  return [0, 1, 2, 3].map((n) =>
    warp("pack", [[a, add(mul(i, i32(4)), i32(n))]], [at(n >> 1, 2 * (n & 1)), at(n >> 1, 2 * (n & 1) + 1)], {
      dtype,
    }),
  );
}

type Right = (
  s: Mma,
  site: Site,
  namer: Namer,
  depth: number,
  k16: Expr,
  jj: Expr,
  deep: 16 | 8,
  wide: 1 | 2,
) => readonly [array: string, word: Expr];

/** Rows of the operand are columns of the product: keys, 16 of them for two eights. */
const turnedRight: Right = (s, site, lane, _, k16, jj, deep) => {
  const p = operandOf(site, s.b as string);
  const row = deep === 8 ? lane.low16 : lane.own.once("right_row", add(mul(lane.high, i32(8)), lane.low8));
  const bit = deep === 8 ? i32(0) : lane.eighth;
  return [p.array, matrixPiece(lane, p, [row, mul(jj, i32(16))], [bit, k16], stageOf(site, p.tile))];
};

/** Rows of the operand are steps of depth: values, or weights in panels of eight columns. */
const straightRight: Right = (s, site, lane, depth, k16, jj, deep, wide) => {
  // Two eights of columns: the lanes' upper half for 16 steps, every second eight lanes for 8 steps.
  const second = wide === 1 ? i32(0) : deep === 16 ? lane.high : lane.eighth;
  const row = deep === 16 ? lane.low16 : lane.low8;
  const steps = mul(k16, i32(16));
  if (typeof s.b === "string") {
    const p = operandOf(site, s.b);
    return [p.array, matrixPiece(lane, p, [row, steps], [second, jj], stageOf(site, p.tile))];
  }
  const piece = lane.own.once("panel_piece", add(mul(second, i32(depth)), row));
  const word = mul(add(piece, add(mul(jj, i32(2 * depth)), steps)), i32(4));
  return [site.panels(0), add(word, stageOf(site, panelsName(s.b)))];
};

/** Words of `depth` rows of the panels of `cols` columns. */
export const panelWords = (depth: number, cols: number): number => (depth * cols) / 2;

/** The name by which the stages of a product's panels are known. */
export const panelsName = (b: Panels): string => `panels of ${b.buffer}`;
