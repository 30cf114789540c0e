/**
 * What native code may use of a processor: the variants of a program, widest first. A host takes the first whose vectors it has; the
 * last one runs anywhere, since compilers spell vectors that a processor lacks with what it has.
 */
import type { NativeVectors } from "../../runtime/plan.ts";
import type { Figures, Target } from "../../src/planner.ts";
import type { Tilings } from "../lower/tilings.ts";
import type { SimdShape } from "../machine/simd/layout.ts";
import { panelOf } from "../machine/simd/layout.ts";

export type NativeVariant = {
  readonly vectors: NativeVectors;
  readonly shape: SimdShape;
  /** Rows of a tile of queries worth trying, multiples of the register block's. */
  readonly rows: readonly number[];
  /** Rows of x that a linear works on. */
  readonly linearRows: number;
  readonly figures: Figures;
};

/**
 * The register block takes rows × vectors accumulators, one line of the right operand, and a broadcast that processors fold into the
 * multiply-add: with 32 registers 8 × 2, enough of them to hide the latency of an addition in two units; with 16 registers 6 × 2.
 */
export const NATIVE_VARIANTS: readonly NativeVariant[] = [
  {
    vectors: "avx512",
    shape: { lanes: 16, rows: 8, vectors: 2 },
    rows: [16, 32, 64, 128],
    linearRows: 64,
    figures: { macs: 80, copies: 8, exps: 6, ops: 80, sharing: 1, keyTile: 40, group: 150, launch: 3000 },
  },
  {
    vectors: "avx2",
    shape: { lanes: 8, rows: 6, vectors: 2 },
    rows: [12, 24, 48, 96],
    linearRows: 48,
    figures: { macs: 45, copies: 5, exps: 4, ops: 40, sharing: 1, keyTile: 40, group: 150, launch: 3000 },
  },
  {
    vectors: "neon",
    shape: { lanes: 4, rows: 8, vectors: 2 },
    rows: [16, 32, 64],
    linearRows: 32,
    figures: { macs: 25, copies: 3, exps: 2, ops: 25, sharing: 1, keyTile: 40, group: 150, launch: 3000 },
  },
  {
    vectors: "sse",
    shape: { lanes: 4, rows: 4, vectors: 2 },
    rows: [16, 32, 64],
    linearRows: 32,
    figures: { macs: 21, copies: 2.5, exps: 1.6, ops: 22, sharing: 1, keyTile: 40, group: 150, launch: 3000 },
  },
];

export const nativeTarget = ({ shape, rows, figures }: NativeVariant): Target => ({
  name: "native",
  // Tiles stay in a second-level cache, as on WebAssembly.
  limits: {
    sharedBytes: 384 * 1024,
    workgroup: 1,
    rowStep: shape.rows,
    keyStep: 8,
    attentionBytes: ({ headDim }, { rows, keys }) => {
      const panel = panelOf(shape);
      const up = (x: number, unit: number) => Math.ceil(x / unit) * unit;
      const [depth, wide] = [up(headDim, panel), up(keys, panel)];
      return 4 * (2 * rows * depth + wide * headDim + keys * depth + rows * wide + 4 * up(rows, 16) + wide);
    },
  },
  // As on WebAssembly.
  unplanned: ["annulus_list"],
  figures: () => figures,
  tiles: () => rows.flatMap((r) => [32, 64, 128].map((keys) => [r, keys] as const)),
});

export const nativeTilings = ({ shape, linearRows }: NativeVariant): Tilings => ({
  linear: { rows: linearRows, cols: 128, depth: 256, panel: panelOf(shape) },
  step: { rows: shape.rows, cols: 32, depth: 3072, panel: panelOf(shape) },
  rows: (op) => (op === "norm" ? 8 : 16),
});
