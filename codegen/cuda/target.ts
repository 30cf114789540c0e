/** What the compiler knows of CUDA devices from sm_80 on, for the `simt` machine: f32 arithmetic on any storage. */
import type { Kernel, TileKernel } from "../../src/kernel.ts";
import type { Target } from "../../src/planner.ts";
import type { AttentionTiling, Tilings } from "../lower/tilings.ts";
import { fitted, slicedBytes } from "../machine/simt/fitted.ts";

/** Shared memory that every block of every device may use without being allowed more, and then two or more share a multiprocessor. */
export const SHARED_BYTES = 49152;
/** Lanes of a group: eight warps, or sixteen where tiles would not fit in fewer; then 128 registers are left to each lane. */
const LANES = 256;
const MOST_LANES = 512;
/** f32 values of an accumulator that a lane keeps in registers: twice as many spill beside the scores (ptxas of CUDA 13, sm_80 and sm_90). */
const ACCUMULATED = 32;

const attentionTiling = (headDim: number): AttentionTiling => ({
  depth: 32,
  // A piece of values of about 8 KiB.
  values: 2 ** Math.max(0, Math.min(6, Math.floor(Math.log2(2048 / headDim)))),
});

export const cudaTarget: Target = {
  name: "cuda",
  limits: {
    sharedBytes: SHARED_BYTES,
    workgroup: MOST_LANES,
    rowStep: 4,
    keyStep: 4,
    attentionBytes: slicedBytes(attentionTiling, LANES),
  },
  // Of a device as a whole (an H100 in f32, half its peaks): groups that run side by side share the fixed costs.
  figures: { macs: 15000, copies: 1200, exps: 2000, keyTile: 0.1, group: 0.5, launch: 3000 },
  tiles: ({ headDim }) => {
    const held = [128, 64, 32, 16, 8].filter((rows) => rows * headDim <= LANES * ACCUMULATED);
    const rows = held.length === 0 ? [4] : held;
    return [64, 32, 16].flatMap((keys) => rows.map((r) => [r, keys] as const));
  },
};

export const CUDA_TILINGS: Tilings = {
  attention: attentionTiling,
  linear: { rows: 128, cols: 64, depth: 32 },
  // As many rows as the registers of a group hold, as a power of two.
  rows: (op, width) => {
    const held = (LANES * ACCUMULATED) / Math.max(1, width) / (op === "xpos" ? 4 : 1);
    return 2 ** Math.max(0, Math.min(5, Math.floor(Math.log2(held))));
  },
};

export const cudaMachine: (kernel: TileKernel) => Kernel = fitted({
  lanes: LANES,
  most: MOST_LANES,
  sharedBytes: SHARED_BYTES,
  exchange: true,
});
