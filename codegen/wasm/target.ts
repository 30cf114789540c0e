/** What the planner knows of WebAssembly on one thread of a present-day x86-64 server core. */
import type { Target } from "../../src/planner.ts";

export const wasmTarget: Target = {
  name: "wasm",
  // Tiles live in a thread's scratch memory; they should stay in a second-level cache with room for weights and stacks.
  limits: { sharedBytes: 384 * 1024, workgroup: 1, rowStep: 4, keyStep: 8 },
  // Fitted to single-thread times of 4 attentions × 12 tilings on 2026-11-24 (mul+add, no relaxed SIMD): within 10 % for most, and
  // only their ratios matter to the choice.
  figures: { macs: 21, copies: 2.5, exps: 1.6, keyTile: 40, group: 150, launch: 5000 },
  tiles: [
    [16, 32],
    [32, 32],
    [32, 64],
    [64, 64],
  ],
};
