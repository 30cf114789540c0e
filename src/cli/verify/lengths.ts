/** Which lengths to verify at: where tiles, segments and schedules end, and one row on either side. */
import type { Plan } from "../../../runtime/plan.ts";
import type { Graph } from "../../graph.ts";
import { countPairs } from "../../planner.ts";
import type { AttentionSpec } from "../../spec.ts";

/** Multiply-adds of the reference for one sequence of N tokens. */
export function workOf(graph: Graph, attention: AttentionSpec, N: number): number {
  const shape = new Map(graph.weights.map((w) => [w.id, w.shape]));
  const attentions = graph.nodes.filter((n) => n.op === "attention").length;
  const pairs = Number(countPairs(attention, N).total);
  const linear = graph.nodes.reduce(
    (sum, n) => (n.op === "linear" ? sum + (shape.get(n.weight) ?? []).reduce((a, b) => a * b, 1) : sum),
    0,
  );
  return attentions * pairs * 2 * attention.headDim + N * linear;
}

const MOST = 8;
const LONGEST = 4200;

/** At most eight lengths, the longest whose reference takes at most `budget` multiply-adds; at least one. */
export function edgeLengths(
  graph: Graph,
  attention: AttentionSpec,
  plans: readonly Plan[],
  budget: number,
  pick: () => number,
): readonly number[] {
  let most = LONGEST;
  while (most > 1 && workOf(graph, attention, most) > budget) most = Math.floor(most * 0.9);
  const variants = plans.flatMap((p) => p.variants);
  const tiles = variants.flatMap(({ schedule }) => {
    const [, rows, keys] = /(\d+)x(\d+)/.exec(schedule) ?? [];
    return rows === undefined ? [] : [Number(rows), Number(keys)];
  });
  const finite = attention.branches.filter((b) => Number.isFinite(b.segment));
  const edges = [
    ...[...tiles, ...finite.map((b) => b.segment)].flatMap((n) => [n - 1, n, n + 1]),
    ...tiles.map((n) => 2 * n + 3),
    ...finite.map(({ segment, dilation }) => 2 * segment + dilation + 1),
    ...variants.flatMap(({ upTo }) => (upTo === null ? [] : [upTo, upTo + 1])),
  ];
  const inside = [1, 1 + Math.floor(pick() * most), most, ...edges].filter((n) => n >= 1 && n <= most);
  const all = [...new Set(inside)].sort((a, b) => a - b);
  // The last and, evenly, those before it.
  return all.length <= MOST
    ? all
    : Array.from({ length: MOST }, (_, i) => all[Math.round((i * (all.length - 1)) / (MOST - 1))] ?? 1);
}
