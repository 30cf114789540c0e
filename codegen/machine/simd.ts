/**
 * The machine of one thread with four-lane vectors: WebAssembly now, native C later. A group is one lane; tiles are
 * arrays in the thread's scratch memory, small enough to stay in the caches, and all work goes four lanes at a time.
 */
import type { Machine } from "../distribute.ts";
import { map, reduce } from "./simd/compute.ts";
import { copy } from "./simd/copy.ts";
import type { SimdSite } from "./simd/layout.ts";
import { simdSite } from "./simd/layout.ts";
import { mma } from "./simd/mma.ts";
import { fill, write } from "./simd/write.ts";

export const simd: Machine<SimdSite> = {
  name: "simd",
  site: simdSite,
  spell: { copy, write, fill, mma, map, reduce },
};
