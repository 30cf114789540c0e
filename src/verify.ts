/**
 * What every IR promises, checked between the passes. A problem found here is our bug, never the user's: each is a
 * sentence that begins with its place.
 *
 * Kernels
 * - Names. Buffers, scalars, tables, shared arrays and tiles have names of their own. `let`, `var` and loop counters are
 *   defined before use and seen to the end of their block; nothing visible is declared again (blocks beside each other may
 *   share names). `set` changes a `var`, to a value of the same type.
 * - Types. Every operation obeys its row in `rules` of src/expr.ts and says its own type. Constants are of their type, and
 *   never NaN. Indices and loop bounds are i32, conditions bool. Arrays are loaded and stored as what they hold.
 * - Memory. Loads name a known array, stores one that may be written: not a table, not a buffer that is only read. (A buffer
 *   with access `write` may be read back; that an element was written before is for the interpreter to see.)
 * - Control flow. A step is a positive integer. `unroll` stands on constant bounds only. A barrier stands where all lanes
 *   come: see src/verify/uniform.ts.
 * - Limits. The workgroup has at least one lane; shared bytes and lanes stay within the target's limits where given.
 *
 * Warp statements, besides
 * - Places and values are those of the operation's row in `warpOps` of src/warp.ts, of its types; 16-bit buffers are of its dtype.
 * - A workgroup is made of whole warps; what a warp does together stands where all lanes come.
 *
 * Tile kernels, besides
 * - Tiles are declared, with positive sizes, and filled by an earlier statement before they are read.
 * - `at`, `row` and `col` stand in `map` and `write` only. A tile in an expression has the shape of the result, or one row or
 *   column for it; `pick` asks for an even number of columns.
 * - Rows are of a known f32 buffer (writable for `write`), fit the tile, and gather by an i32 array.
 * - `mma`: acc [r, c], a [r, d], b [d, c] or transposed [c, d], and acc is neither a nor b. Panels are not transposed; columns
 *   start at multiples of 8. `reduce` goes into another tile, one column, as many rows.
 *
 * Graphs
 * - Every value is defined once, before it is used, has one shape, and obeys the shape rule of its operation.
 * - Checkpoint names are distinct; aliases name a weight.
 *
 * Plans
 * - Kernels, slots, inputs, weights and tables that a step names exist; as many buffers and scalars as the kernel takes;
 *   dtypes of inputs and outputs agree; only slots and outputs are written; what is written is bound once in its step.
 * - Nothing reads a slot or an output that no earlier step of the variant wrote; every output is written.
 * - Variants cover growing lengths; every formula is a whole number ≥ 0 at sample lengths and batches.
 */
import type { Kernel, TileKernel } from "./kernel.ts";
import type { Warp } from "./warp.ts";
import { verifyKernel, verifyTileKernel } from "./verify/kernel.ts";
import type { Limits } from "./verify/kernel.ts";

export { verifyGraph } from "./verify/graph.ts";
export { verifyKernel, verifyTileKernel } from "./verify/kernel.ts";
export type { Limits } from "./verify/kernel.ts";
export { verifyPlan } from "./verify/plan.ts";

/** Refuses to go on with problems, listing all of them. */
export function sound(what: string, problems: readonly string[]): void {
  if (problems.length > 0)
    throw new Error(`heddle: internal: ${what} is not sound:\n${problems.map((p) => `  ${p}`).join("\n")}`);
}

/** The kernel itself, checked. */
export function verified<X extends Warp = never>(kernel: Kernel<X>, limits?: Limits): Kernel<X> {
  sound(`kernel '${kernel.name}'`, verifyKernel(kernel, limits));
  return kernel;
}

/** The tile kernel itself, checked. */
export function verifiedTiles(kernel: TileKernel, limits?: Limits): TileKernel {
  sound(`tile kernel '${kernel.name}'`, verifyTileKernel(kernel, limits));
  return kernel;
}
