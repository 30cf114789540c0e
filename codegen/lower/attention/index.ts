/** Attention of a graph node under a schedule, as launches of tile kernels. */
import type { Dtype, TileKernel } from "../../../src/kernel.ts";
import type { Schedule } from "../../../src/schedule.ts";
import type { Launch } from "../launch.ts";
import type { AttentionTiling } from "../tilings.ts";
import { lowerAnnulus } from "./annulus.ts";
import { lowerBranch } from "./branch.ts";
import { lowerClass } from "./class.ts";
import { lowerList } from "./list.ts";
import type { AttentionNode } from "./tiles.ts";

export type { AttentionNode } from "./tiles.ts";

/**
 * In the order in which they must run: later launches may resume the state that earlier ones left in out and lse. `stored` is the
 * storage of q, k, v and out; where it has 16 bits, a state that launches resume lies in f32 beside it and is rounded once, at the end.
 */
export function lowerAttention(
  node: AttentionNode,
  schedule: Schedule,
  stored: Dtype = "f32",
  tiling?: AttentionTiling,
): readonly Launch<TileKernel>[] {
  const work = tiling === undefined ? node : { ...node, tiling };
  switch (schedule.kind) {
    case "branch":
    case "dense":
      return lowerBranch(work, schedule, stored);
    case "class":
      return lowerClass(work, schedule, stored);
    case "annulus":
      return lowerAnnulus(work, schedule, stored);
    case "annulus_list":
      return lowerList(work, schedule, stored);
  }
}
