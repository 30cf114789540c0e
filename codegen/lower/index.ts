/** Every operation of the graph as launches of tile kernels; a new operation is a type error here until it is lowered. */
import type { Graph, GraphOp, Node } from "../../src/graph.ts";
import type { TileKernel } from "../../src/kernel.ts";
import type { Schedule } from "../../src/schedule.ts";
import { lowerAttention } from "./attention/index.ts";
import { lowerEmbed } from "./embed.ts";
import type { Launch } from "./launch.ts";
import { lowerLinear } from "./linear.ts";
import { lowerNorm } from "./norm.ts";
import { lowerActivate, lowerAdd, lowerPosition } from "./pointwise.ts";
import { lowerXpos } from "./xpos.ts";

type Lower<O extends GraphOp> = (
  node: Extract<Node, { readonly op: O }>,
  graph: Graph,
  schedule: (node: Extract<Node, { readonly op: "attention" }>) => Schedule,
) => readonly Launch<TileKernel>[];

const lowerings: { readonly [O in GraphOp]: Lower<O> } = {
  embed: lowerEmbed,
  position: lowerPosition,
  norm: lowerNorm,
  linear: (node, graph) => lowerLinear(node, graph),
  activate: lowerActivate,
  add: lowerAdd,
  xpos: lowerXpos,
  attention: (node, _, schedule) => lowerAttention(node, schedule(node)),
};

/** The launches of one node, in order. `schedule` answers for attention nodes only. */
export function lower<O extends GraphOp>(
  node: Extract<Node, { readonly op: O }>,
  graph: Graph,
  schedule: (node: Extract<Node, { readonly op: "attention" }>) => Schedule,
): readonly Launch<TileKernel>[] {
  const byOp: Lower<O> = lowerings[node.op as O];
  return byOp(node, graph, schedule);
}
