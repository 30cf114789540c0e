/** What the planner knows of WebAssembly on one thread of a present-day x86-64 server core. */
import type { Target } from "../../src/planner.ts";

export const wasmTarget: Target = {
  name: "wasm",
  // Tiles live in a thread's scratch memory; they should stay in a second-level cache with room for weights and stacks.
  limits: { sharedBytes: 384 * 1024, workgroup: 1, rowStep: 4, keyStep: 8 },
  // Launches cost a processor nothing, and parts would take memory of their own.
  unplanned: ["annulus_list"],
  // Set by hand against one sweep of 5 works × their tilings on 2026-11-24 (one thread, mul+add, a busy machine): of 44 times 18 are
  // within 10 % and 31 within 25 %, the worst is 43 % off. What the planner then picks measured 1.0 to 1.5 × the best of its
  // sweep. A tuner that times schedules is to replace them.
  figures: () => ({
    macs: 21,
    copies: 2.5,
    exps: 1.6,
    ops: 22,
    sharing: 1,
    keyTile: 40,
    group: 150,
    launch: 5000,
  }),
  tiles: () => [
    [16, 32],
    [32, 32],
    [32, 64],
    [64, 64],
  ],
};
