/** Layer norm over rows: mean, then variance about it (two passes, so that nothing cancels), then the affine part. */
import type { Graph, Node } from "../../src/graph.ts";
import type { Element, Expr, TileKernel } from "../../src/kernel.ts";
import { at, col, div, f32, group, i32, let_, load, madd, mul, sqrt, sub } from "../../src/expr.ts";
import type { Launch } from "./launch.ts";
import { CPU_TILINGS } from "./tilings.ts";
import type { Tilings } from "./tilings.ts";
import { ceilDivOf, denseRows, int, integer, named, reads, rowsOf, widthOf, writes } from "./shape.ts";

export type NormNode = Extract<Node, { readonly op: "norm" }>;

export function lowerNorm(
  node: NormNode,
  graph: Graph,
  tilings: Tilings = CPU_TILINGS,
): readonly Launch<TileKernel>[] {
  const width = widthOf(graph, node.x);
  const M = rowsOf(graph, node.x);
  const height = tilings.rows("norm", width);
  return [
    {
      title: `norm ${node.out}`,
      kernel: normKernel(width, height, node.eps),
      bind: {
        x: { value: node.x },
        weight: { value: node.weight },
        bias: { value: node.bias },
        out: { value: node.out },
      },
      scalars: { M },
      grid: ceilDivOf(M, height),
    },
  ];
}

function normKernel(width: number, height: number, eps: number): TileKernel {
  const rows = (buffer: string) => denseRows(buffer, width, int("m0"), int("M"));
  const centred: Expr<Element> = sub(at("x_tile"), at("mean"));
  const spread = sqrt(madd<Element>(at("scale"), f32(1 / width), f32(eps)));
  const value = madd<Element>(
    mul(centred, at("scale")),
    load<Element>("weight", col),
    load<Element>("bias", col),
  );
  return {
    name: `norm_${width}_${named(eps)}`,
    buffers: [reads("x"), reads("weight"), reads("bias"), writes("out")],
    scalars: [integer("M")],
    tables: [],
    shared: [],
    workgroup: 1,
    tiles: [
      { name: "x_tile", rows: height, cols: width },
      { name: "squares", rows: height, cols: width },
      { name: "mean", rows: height, cols: 1 },
      { name: "scale", rows: height, cols: 1 },
    ],
    body: [
      let_("m0", mul(group, i32(height))),
      { s: "copy", tile: "x_tile", rows: rows("x") },
      { s: "fill", tile: "mean", value: f32(0) },
      { s: "reduce", into: "mean", from: "x_tile", op: "add" },
      { s: "map", tile: "mean", value: mul<Element>(at("mean"), f32(1 / width)) },
      { s: "map", tile: "squares", value: mul(centred, centred) },
      { s: "fill", tile: "scale", value: f32(0) },
      { s: "reduce", into: "scale", from: "squares", op: "add" },
      { s: "map", tile: "scale", value: div<Element>(f32(1), spread) },
      { s: "write", tile: "x_tile", rows: rows("out"), value },
    ],
  };
}
