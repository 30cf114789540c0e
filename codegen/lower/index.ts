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
import { lowerClassToken, lowerGrid, lowerMask, lowerPool } from "./sequence.ts";
import { withStorage } from "./storage.ts";
import { CPU_TILINGS } from "./tilings.ts";
import type { Tilings } from "./tilings.ts";
import { dtypeOf, shapeOf } from "./shape.ts";
import { lowerDecode } from "./decode/attention.ts";
import { lowerPromote, lowerRemember } from "./decode/keep.ts";
import { lowerPlace } from "./decode/place.ts";
import { lowerRotate, lowerXpos } from "./xpos.ts";

type Lower<O extends GraphOp> = (
  node: Extract<Node, { readonly op: O }>,
  graph: Graph,
  schedule: (node: Extract<Node, { readonly op: "attention" }>) => Schedule,
  tilings: Tilings,
) => readonly Launch<TileKernel>[];

const lowerings: { readonly [O in GraphOp]: Lower<O> } = {
  embed: (node, graph, _, tilings) => lowerEmbed(node, graph, tilings),
  position: (node, graph, _, tilings) => lowerPosition(node, graph, tilings),
  grid: (node, graph, _, tilings) => lowerGrid(node, graph, tilings),
  class_token: (node, graph, _, tilings) => lowerClassToken(node, graph, tilings),
  mask: (node, graph, _, tilings) => lowerMask(node, graph, tilings),
  pool: (node, graph) => lowerPool(node, graph),
  norm: (node, graph, _, tilings) => lowerNorm(node, graph, tilings),
  linear: (node, graph, _, tilings) =>
    lowerLinear(node, graph, (shapeOf(graph, node.x)[1] === 1 ? tilings.step : undefined) ?? tilings.linear),
  activate: (node, graph, _, tilings) => lowerActivate(node, graph, tilings),
  add: (node, graph, _, tilings) => lowerAdd(node, graph, tilings),
  xpos: (node, graph, _, tilings) => lowerXpos(node, graph, tilings),
  rotate: (node, _graph, _, tilings) => lowerRotate(node, tilings),
  place: (node, graph, _, tilings) => lowerPlace(node, graph, tilings),
  decode: (node, _graph, _, tilings) => lowerDecode(node, tilings),
  remember: (node) => lowerRemember(node),
  promote: (node) => lowerPromote(node),
  attention: (node, graph, schedule, tilings) =>
    lowerAttention(
      node,
      schedule(node),
      dtypeOf(graph, node.out),
      tilings.attention?.(node.spec.headDim, dtypeOf(graph, node.q)),
    ),
};

/** The launches of one node, in order. `schedule` answers for attention nodes only. */
export function lower<O extends GraphOp>(
  node: Extract<Node, { readonly op: O }>,
  graph: Graph,
  schedule: (node: Extract<Node, { readonly op: "attention" }>) => Schedule,
  tilings: Tilings = CPU_TILINGS,
): readonly Launch<TileKernel>[] {
  const byOp: Lower<O> = lowerings[node.op as O];
  return withStorage(byOp(node, graph, schedule, tilings), graph);
}
