/** Attention of a graph node under a schedule, as launches of tile kernels. */
import type { TileKernel } from "../../../src/kernel.ts";
import type { Schedule } from "../../../src/schedule.ts";
import type { Launch } from "../launch.ts";
import { lowerBranch } from "./branch.ts";
import { lowerClass } from "./class.ts";
import type { AttentionNode } from "./tiles.ts";

export type { AttentionNode } from "./tiles.ts";

/** In the order in which they must run: later launches may resume the state that earlier ones left in out and lse. */
export function lowerAttention(node: AttentionNode, schedule: Schedule): readonly Launch<TileKernel>[] {
  switch (schedule.kind) {
    case "branch":
    case "dense":
      return lowerBranch(node, schedule);
    case "class":
      return lowerClass(node, schedule);
    case "annulus":
      throw new Error("heddle: internal: 'annulus' was accepted by no legality check");
  }
}
