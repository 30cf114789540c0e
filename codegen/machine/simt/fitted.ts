/** Attention kernels that read their operands in slices, and the `simt` machine with as many lanes as their tiles take. */
import type { Kernel, TileKernel } from "../../../src/kernel.ts";
import type { AttentionShape } from "../../../src/spec.ts";
import { pieces } from "../../lower/linear.ts";
import type { AttentionTiling } from "../../lower/tilings.ts";
import { simt, simtSharedBytes, type SimtOptions } from "../simt.ts";
import { ceil4, PARTIALS_PAD } from "./grid.ts";

/**
 * Bytes of the tiles of an attention kernel, at most: slices of Q and K make room for the weights and a piece of V; beside them a
 * reduction of the lanes of a row, and two columns that lanes show each other. Where a last slice is shorter, tiles of several sizes
 * take turns and leave gaps.
 */
export const slicedBytes =
  (tilingOf: (headDim: number) => AttentionTiling, lanes: number) =>
  ({ headDim }: AttentionShape, rows: number, keys: number): number => {
    const tiling = tilingOf(headDim);
    const depth = pieces(headDim, tiling.depth);
    const rest = depth.rest === 0 ? 0 : ceil4(depth.rest) + 4;
    // Keys lie by columns, without the pad that rows of queries have.
    const scores = rows * (ceil4(depth.size) + 4 + rest) + keys * (ceil4(depth.size) + rest);
    // The wider a row, the more lanes side by side does the grid give it.
    const across = Math.max(headDim > 384 ? 32 : headDim > 128 ? 16 : 8, lanes / rows);
    const values = rows * (ceil4(keys) + 4) + Math.min(tiling.values, keys) * ceil4(headDim);
    return 4 * (Math.max(scores, values) + keys + 2 * rows + (rows + PARTIALS_PAD) * across);
  };

/** The machine with as few lanes, from `lanes` to `most`, as hold the tiles of a kernel: what does not fit in registers fits in more of them. */
export const fitted =
  ({ most, ...options }: SimtOptions & { readonly most: number }) =>
  (kernel: TileKernel): Kernel => {
    let { lanes } = options;
    while (lanes < most && simtSharedBytes(kernel, lanes, options.exchange) > options.sharedBytes) lanes *= 2;
    return simt({ ...options, lanes })(kernel);
  };
