/** What the compiler knows of WebGPU: the least that every device offers, and a rough picture of a present-day GPU. */
import type { Kernel, TileKernel } from "../../src/kernel.ts";
import type { Target } from "../../src/planner.ts";
import { partsOf } from "../lower/decode/merge.ts";
import type { AttentionTiling, Tilings } from "../lower/tilings.ts";
import { attentionBytesBy } from "../attention-bytes.ts";
import { fitted, fittedBytes, type FittedOptions } from "../machine/simt/fitted.ts";

/** What a variant of a program may use of a device. */
export type WgslLimits = {
  /** Bytes of workgroup storage. Every device has 16384. */
  readonly sharedBytes: number;
  readonly features: readonly "subgroups"[];
};

/** Best first; the last one runs on every device. */
export const WGSL_VARIANTS: readonly WgslLimits[] = [
  // Every device that has subgroups of four invocations or more.
  { sharedBytes: 16384, features: ["subgroups"] },
  { sharedBytes: 16384, features: [] },
];

/** Lanes of a group: two or four subgroups on most devices, and enough registers for each on all. */
export const LANES = 64;
/** Every device runs this many invocations in a group. */
export const MOST_LANES = 256;

const attentionTiling = (headDim: number): AttentionTiling => ({
  depth: 32,
  // A piece of values of about 4 KiB, but no less than the four rows that a product takes at a time.
  values: 2 ** Math.max(2, Math.min(5, Math.floor(Math.log2(1024 / headDim)))),
});

/** A uniform of every device holds 64 KiB; what does not grow with heads and branches has the last four. */
const TABLE_BYTES = 61440;

/** f32 values of an accumulator that a lane keeps in registers without spilling them. */
const ACCUMULATED = 64;

export const wgslTarget = ({ sharedBytes, features }: WgslLimits): Target => ({
  name: "wgsl",
  limits: {
    sharedBytes,
    workgroup: MOST_LANES,
    rowStep: 4,
    keyStep: 4,
    tableBytes: TABLE_BYTES,
    attentionBytes: attentionBytesBy(GPU_TILINGS, fittedBytes(optionsFor({ sharedBytes, features }))),
  },
  // Its parts take up to twice the memory of the result, and bindings are short; no GPU has timed it here.
  unplanned: ["annulus_list"],
  // Of a device as a whole, so groups that run side by side share the fixed costs. Only their proportions choose a schedule.
  // What counting takes was fitted to SwiftShader: `annulus` beside `branch` for gigapath and paper_32k at 1024 tokens.
  figures: () => ({
    macs: 1000,
    copies: 150,
    exps: 250,
    ops: 200,
    sharing: 16,
    keyTile: 130,
    group: 4,
    launch: 10000,
    narrow: true,
  }),
  tiles: ({ headDim }) => {
    const held = (rows: number) => rows * headDim <= LANES * ACCUMULATED;
    const tall = [64, 32, 16, 8].filter(held);
    const all = (tall.length === 0 ? [4] : tall).map((rows) => [rows, 32] as const);
    return [...all, ...all.map(([rows]) => [rows, 16] as const)];
  },
});

/** f32 values of a tile that a lane keeps in registers. */
const HELD = 64;

export const GPU_TILINGS: Tilings = {
  attention: attentionTiling,
  // 64 × 64 of the result in registers, 8 × 8 a lane: each number loaded serves eight products. The depth keeps the tile of x below 10 KiB.
  linear: { rows: 64, cols: 64, depth: 32 },
  // Keys and values of a tile take a little more than half of a group's memory.
  // Many small groups: what counts is that weights come from memory in many places at once.
  step: { rows: 4, cols: 32, depth: 128 },
  decodeParts: partsOf,
  decodeKeys: (headDim) => Math.max(4, Math.min(32, 4 * Math.floor(1152 / (4 * headDim)))),
  // As many rows as the registers of a group hold, as a power of two.
  rows: (op, width) => {
    const held = (LANES * HELD) / Math.max(1, width) / (op === "xpos" ? 4 : 1);
    return 2 ** Math.max(0, Math.min(4, Math.floor(Math.log2(held))));
  },
};

const optionsFor = ({ sharedBytes, features }: WgslLimits): FittedOptions => ({
  lanes: LANES,
  most: MOST_LANES,
  sharedBytes,
  exchange: features.includes("subgroups"),
});

export const gpuMachine = (limits: WgslLimits): ((kernel: TileKernel) => Kernel) =>
  fitted(optionsFor(limits));
