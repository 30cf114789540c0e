/**
 * What the compiler knows of CUDA devices from sm_80 on, and which machine runs a kernel: the matrix units where operands have 16
 * bits and whole pieces of 16 bytes, lanes with f32 arithmetic otherwise.
 */
import type { Dtype, Kernel, TileKernel } from "../../src/kernel.ts";
import type { Figures, Target } from "../../src/planner.ts";
import type { ScheduleKind } from "../../src/schedule.ts";
import type { AttentionShape } from "../../src/spec.ts";
import { storedAs } from "../../src/storage.ts";
import type { Warp } from "../../src/warp.ts";
import { partsOf } from "../lower/decode/merge.ts";
import type { AttentionTiling, Tilings } from "../lower/tilings.ts";
import { attentionBytesBy } from "../attention-bytes.ts";
import { fragment, fragmentBytes, unfit } from "../machine/fragment.ts";
import { fitted, fittedBytes } from "../machine/simt/fitted.ts";

/** Shared memory of a block on every device from sm_80 on, once it is allowed. */
export const MOST_SHARED = 101376;
/** Of a block of lanes: two or more then share a multiprocessor. */
export const SHARED_BYTES = 49152;
/** Lanes of a group: eight warps, or sixteen where tiles would not fit in fewer; then 128 registers are left to each lane. */
const LANES = 256;
const MOST_LANES = 512;
/** f32 values of an accumulator that a lane keeps in registers: twice as many spill beside the scores (ptxas of CUDA 13, sm_80 and sm_90). */
const ACCUMULATED = 32;

/** Whether the matrix units read queries, keys and values of this width. */
const onMatrixUnits = (headDim: number, stored: Dtype): boolean =>
  (stored === "f16" || stored === "bf16") && headDim % 8 === 0 && headDim >= 16 && headDim <= 256;
const storedOf = ({ dtype, headDim }: AttentionShape): Dtype => storedAs(dtype, headDim);

const slices = (headDim: number): AttentionTiling => ({
  depth: 32,
  // A piece of values of about 8 KiB, but no less than the four rows that a product takes at a time.
  values: 2 ** Math.max(2, Math.min(6, Math.floor(Math.log2(2048 / headDim)))),
});

/**
 * Keys of a tile of 128 rows, by the width up to which they leave registers for everything else: no schedule `branch` or `dense`
 * spills (ptxas of CUDA 13, sm_80, sm_90 and sm_100). Wider heads have tiles of 64 × 64.
 */
const TALL: readonly (readonly [headDim: number, keys: number])[] = [
  [24, 128],
  [32, 112],
  [56, 128],
  [64, 112],
  [80, 96],
  [88, 80],
  [96, 64],
  [104, 48],
  [128, 32],
];

/** The same for schedule `annulus`, whose rows and keys also hold what they count, of the published branch lists. */
const TALL_COUNTING: typeof TALL = [
  [32, 64],
  [56, 48],
  [128, 32],
];

/**
 * Widest heads beside which a schedule's counts and passes stay in registers, for GigaPath's branch list (ptxas of CUDA 13): `annulus` spills
 * 88 to 296 bytes a lane at 192 to 256, `class` 24 to 100 at 256, with tiles of any height.
 */
const WIDEST: { readonly [K in ScheduleKind]?: number } = { annulus: 160, annulus_list: 160, class: 200 };

function tilesFor(
  spec: AttentionShape,
  kind: ScheduleKind,
): readonly (readonly [rows: number, keys: number])[] {
  const { headDim } = spec;
  if (onMatrixUnits(headDim, storedOf(spec))) {
    if (kind === "annulus" || kind === "annulus_list") {
      const keys = TALL_COUNTING.find(([width]) => headDim <= width)?.[1];
      return keys === undefined
        ? [[64, 16]]
        : [128, 64, 32, 16].map((rows) => [rows, Math.min(keys, 2 * rows)] as const);
    }
    if (kind === "class" && headDim > 160) return [[64, 16]];
    const keys = TALL.find(([width]) => headDim <= width)?.[1];
    // Beside wider heads 64 keys spill up to 144 bytes a lane.
    const small = (headDim > 128 ? [32] : [64, 32]).map((k) => [64, k] as const);
    return [...(keys === undefined ? [] : [[128, keys] as const]), ...small, [32, 32], [16, 32]];
  }
  const held = [128, 64, 32, 16].filter((rows) => rows * headDim <= LANES * ACCUMULATED);
  const rows = held.length === 0 ? [16] : held;
  return [64, 32, 16].flatMap((keys) => rows.map((r) => [r, keys] as const));
}

/** Of a device as a whole (an H100, half its peaks): groups that run side by side share the fixed costs. */
const LANE_FIGURES: Figures = {
  macs: 15000,
  copies: 1200,
  exps: 2000,
  ops: 28000,
  sharing: 32,
  keyTile: 0.1,
  group: 0.5,
  launch: 3000,
  // One on each of 132 multiprocessors: tall tiles leave registers for no second one (ptxas of CUDA 13).
  atOnce: 132,
  narrow: true,
};
/** `mma.sync` reaches about a third of the peak of 494,000 (kernels.md 2.1); elements of 16 bits are copied twice as fast; groups are half as large. */
const MATRIX_FIGURES: Figures = { ...LANE_FIGURES, macs: 160000, copies: 2400, atOnce: 264 };

export const cudaTarget: Target = {
  name: "cuda",
  limits: {
    sharedBytes: MOST_SHARED,
    workgroup: 1024,
    rowStep: 16,
    keyStep: 16,
    attentionBytes: (spec, choice) => attentionBytes(spec, choice),
  },
  figures: (spec) => (onMatrixUnits(spec.headDim, storedOf(spec)) ? MATRIX_FIGURES : LANE_FIGURES),
  tiles: tilesFor,
  against: (spec, kind) => {
    const widest = WIDEST[kind] ?? Infinity;
    return spec.headDim > widest && onMatrixUnits(spec.headDim, storedOf(spec))
      ? `what it counts leaves heads over ${widest} too few registers`
      : null;
  },
};

export const CUDA_TILINGS: Tilings = {
  attention: (headDim, stored) => (onMatrixUnits(headDim, stored) ? undefined : slices(headDim)),
  linear: { rows: 128, cols: 64, depth: 32 },
  // Many groups: what counts is that weights come from memory in many places at once.
  step: { rows: 4, cols: 64, depth: 128 },
  decodeParts: partsOf,
  // As many rows as the registers of a group hold, as a power of two.
  rows: (op, width) => {
    const held = (LANES * ACCUMULATED) / Math.max(1, width) / (op === "xpos" ? 4 : 1);
    return 2 ** Math.max(0, Math.min(5, Math.floor(Math.log2(held))));
  },
};

const inBlock = { lanes: LANES, most: MOST_LANES, sharedBytes: SHARED_BYTES, exchange: true };

export const cudaMachine = (kernel: TileKernel): Kernel<Warp> =>
  unfit(kernel) === null ? fragment(kernel) : fitted(inBlock)(kernel);

/** Bytes of shared memory that the kernels of an attention declare; more than any block has where lanes would leave room for one block only. */
const attentionBytes = attentionBytesBy(CUDA_TILINGS, (kernel) => {
  if (unfit(kernel) === null) return fragmentBytes(kernel);
  const bytes = fittedBytes(inBlock)(kernel);
  return bytes <= SHARED_BYTES ? bytes : MOST_SHARED + bytes;
});
