/** Learned positions of one token for each sequence: out[b] = x[b] + weight[position_b + first]. */
import type { Graph, Node } from "../../../src/graph.ts";
import type { Element, TileKernel } from "../../../src/kernel.ts";
import { add, at, group, i32, let_, mul } from "../../../src/expr.ts";
import type { Launch } from "../launch.ts";
import { ceilDivOf, denseRows, int, integer, reads, widthOf, writes } from "../shape.ts";
import type { Tilings } from "../tilings.ts";

export function lowerPlace(
  node: Extract<Node, { readonly op: "place" }>,
  graph: Graph,
  tilings: Tilings,
): readonly Launch<TileKernel>[] {
  const width = widthOf(graph, node.x);
  const height = tilings.rows("pointwise", width);
  const rows = (buffer: string) => denseRows(buffer, width, int("m0"), int("M"));
  const learned = {
    ...rows("weight"),
    base: i32(node.first * width),
    gather: { buffer: "place", base: int("m0") },
  };
  const kernel: TileKernel = {
    name: `place_${width}_${node.first}`,
    buffers: [reads("x"), reads("weight"), reads("place", "i32"), writes("out")],
    scalars: [integer("M")],
    tables: [],
    shared: [],
    workgroup: 1,
    tiles: [
      { name: "x_tile", rows: height, cols: width },
      { name: "learned", rows: height, cols: width },
    ],
    body: [
      let_("m0", mul(group, i32(height))),
      { s: "copy", tile: "x_tile", rows: rows("x") },
      { s: "copy", tile: "learned", rows: learned },
      { s: "write", tile: "x_tile", rows: rows("out"), value: add<Element>(at("x_tile"), at("learned")) },
    ],
  };
  return [
    {
      title: `place ${node.out}`,
      kernel,
      bind: {
        x: { value: node.x },
        weight: { value: node.weight },
        place: { value: node.place },
        out: { value: node.out },
      },
      scalars: { M: "B" },
      grid: ceilDivOf("B", height),
    },
  ];
}
