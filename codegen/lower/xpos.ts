/** xPos: each pair (2i, 2i+1) of a head is rotated and scaled by its token's row of a host-made table. */
import type { Graph, Node } from "../../src/graph.ts";
import type { Element, TileKernel } from "../../src/kernel.ts";
import { at, col, eq, f32, i32, madd, mul, op, select } from "../../src/expr.ts";
import type { Launch } from "./launch.ts";
import { CPU_TILINGS } from "./tilings.ts";
import type { Tilings } from "./tilings.ts";
import { byPosition, sequencesOf } from "./pointwise.ts";
import { ceilDivOf, denseRows, int, integer, reads, timesOf, writes } from "./shape.ts";

export type XposNode = Extract<Node, { readonly op: "xpos" }>;

export function lowerXpos(
  node: XposNode,
  graph: Graph,
  tilings: Tilings = CPU_TILINGS,
): readonly Launch<TileKernel>[] {
  const { heads, headDim, base, block, sign } = node;
  const height = tilings.rows("xpos", headDim);
  const [N, sequences] = sequencesOf(graph, node.x);
  return [
    {
      title: `xpos ${node.out}`,
      kernel: xposKernel(heads, headDim, height),
      bind: {
        x: { value: node.x },
        // (cos·f, sin·f) of each pair: [N, headDim].
        table: { table: { kind: "xpos", headDim, base, block, sign } },
        out: { value: node.out },
      },
      scalars: { N },
      grid: timesOf(sequences, ceilDivOf(N, height)),
    },
  ];
}

/** The same kernel on one token of each sequence: they stand like the positions of one sequence, each with a row of the table. */
export function lowerRotate(
  node: Extract<Node, { readonly op: "rotate" }>,
  tilings: Tilings = CPU_TILINGS,
): readonly Launch<TileKernel>[] {
  const { heads, headDim } = node;
  const height = tilings.rows("xpos", headDim);
  return [
    {
      title: `rotate ${node.out}`,
      kernel: xposKernel(heads, headDim, height),
      bind: { x: { value: node.x }, table: { value: node.table }, out: { value: node.out } },
      scalars: { N: "B" },
      grid: ceilDivOf("B", height),
    },
  ];
}

function xposKernel(heads: number, headDim: number, height: number): TileKernel {
  const width = heads * headDim;
  const head = (buffer: string) =>
    denseRows(buffer, width, int("m0"), int("end"), { col: mul(int("head"), i32(headDim)), cols: headDim });
  const { base, stride, cols } = denseRows("table", headDim, int("n0"), int("N"));
  const count = head("x").count;
  // y[2i] = x[2i]·c − x[2i+1]·s and y[2i+1] = x[2i+1]·c + x[2i]·s: the sign goes to the table, once for all heads.
  const even = eq<Element>(op<Element>("and", [col, i32(1)]), i32(0));
  const sine = mul<Element>(at("pairs", "odd"), select<Element>(even, f32(-1), f32(1)));
  return {
    name: `xpos_${heads}_${headDim}`,
    buffers: [reads("x"), reads("table"), writes("out")],
    scalars: [integer("N")],
    tables: [],
    shared: [],
    workgroup: 1,
    tiles: ["pairs", "cosine", "sine", "x_tile"].map((name) => ({ name, rows: height, cols: headDim })),
    body: [
      ...byPosition(height),
      { s: "copy", tile: "pairs", rows: { buffer: "table", base, stride, cols, count } },
      { s: "map", tile: "cosine", value: at("pairs", "even") },
      { s: "map", tile: "sine", value: sine },
      {
        s: "for",
        name: "head",
        from: i32(0),
        to: i32(heads),
        step: 1,
        body: [
          { s: "copy", tile: "x_tile", rows: head("x") },
          {
            s: "write",
            tile: "x_tile",
            rows: head("out"),
            value: madd<Element>(at("x_tile"), at("cosine"), mul<Element>(at("x_tile", "flip"), at("sine"))),
          },
        ],
      },
    ],
  };
}
