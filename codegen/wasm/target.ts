/** What the planner knows of WebAssembly on one thread of a present-day x86-64 server core. */
import type { Target } from "../../src/planner.ts";

export const wasmTarget: Target = {
  name: "wasm",
  // Tiles live in a thread's scratch memory; they should stay in a second-level cache with room for weights and stacks.
  limits: { sharedBytes: 384 * 1024, workgroup: 1, rowStep: 4, keyStep: 8 },
  // Measured by bench/ (mul+add, no relaxed SIMD); only their ratios matter to the choice.
  figures: { macs: 12, copies: 1.2, exps: 0.9, keyTile: 60, group: 250, launch: 8000 },
  tiles: [
    [16, 32],
    [32, 32],
    [32, 64],
    [64, 64],
  ],
};
