/**
 * The machine of one thread with vectors: four lanes on WebAssembly, as many as the processor has in native code. A group is one
 * lane; tiles are arrays in the thread's scratch memory, small enough to stay in the caches, and all work goes a vector at a time.
 */
import type { Machine } from "../distribute.ts";
import { map, reduce } from "./simd/compute.ts";
import { copy } from "./simd/copy.ts";
import type { SimdShape, SimdSite } from "./simd/layout.ts";
import { FOUR_LANES, simdSite } from "./simd/layout.ts";
import { mma } from "./simd/mma.ts";
import { fill, write } from "./simd/write.ts";

export const simdMachine = (shape: SimdShape): Machine<SimdSite> => ({
  name: shape.lanes === 4 ? "simd" : `simd${shape.lanes}`,
  site: (kernel, fresh) => simdSite(kernel, fresh, shape),
  spell: { copy, write, fill, mma, map, reduce },
});

export const simd = simdMachine(FOUR_LANES);
