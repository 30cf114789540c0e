/** out[m] = weight[tokens[m]] · scale. */
import type { Graph, Node } from "../../src/graph.ts";
import type { TileKernel } from "../../src/kernel.ts";
import { f32, group, i32, let_, mul } from "../../src/expr.ts";
import type { Launch } from "./launch.ts";
import { CPU_TILINGS } from "./tilings.ts";
import type { Tilings } from "./tilings.ts";
import {
  ceilDivOf,
  denseRows,
  int,
  integer,
  named,
  productOf,
  reads,
  shapeOf,
  widthOf,
  writes,
} from "./shape.ts";

export type EmbedNode = Extract<Node, { readonly op: "embed" }>;

/** Tokens lie in [0, vocab): whoever runs the plan checks its inputs. */
export function lowerEmbed(
  node: EmbedNode,
  graph: Graph,
  tilings: Tilings = CPU_TILINGS,
): readonly Launch<TileKernel>[] {
  const width = widthOf(graph, node.weight);
  const height = tilings.rows("embed", width);
  const M = productOf(shapeOf(graph, node.tokens));
  return [
    {
      title: `embed ${node.out}`,
      kernel: embedKernel(width, height, node.scale),
      bind: { tokens: { value: node.tokens }, weight: { value: node.weight }, out: { value: node.out } },
      scalars: { M },
      grid: ceilDivOf(M, height),
    },
  ];
}

function embedKernel(width: number, height: number, scale: number): TileKernel {
  const to = denseRows("out", width, int("m0"), int("M"));
  const from = { ...to, buffer: "weight", base: i32(0), gather: { buffer: "tokens", base: int("m0") } };
  return {
    name: `embed_${width}${scale === 1 ? "" : `_times${named(scale)}`}`,
    buffers: [reads("tokens", "i32"), reads("weight"), writes("out")],
    scalars: [integer("M")],
    tables: [],
    shared: [],
    workgroup: 1,
    tiles: [{ name: "rows", rows: height, cols: width }],
    body: [
      let_("m0", mul(group, i32(height))),
      { s: "copy", tile: "rows", rows: from, ...(scale === 1 ? {} : { scale: f32(scale) }) },
      { s: "write", tile: "rows", rows: to },
    ],
  };
}
