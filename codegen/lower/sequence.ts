/** What stands before and behind the layers of an encoder: places in a grid, a class token, a padding mask, a pool. */
import type { Graph, Node } from "../../src/graph.ts";
import type { Element, Expr, Stmt, Tile, TileKernel } from "../../src/kernel.ts";
import {
  add,
  at,
  col,
  div,
  eq,
  f32,
  float,
  group,
  i32,
  let_,
  load,
  mul,
  ref,
  rem,
  row,
  select,
  sub,
} from "../../src/expr.ts";
import type { Launch } from "./launch.ts";
import { placewise, rowwise, sequencesOf } from "./pointwise.ts";
import { ceilDivOf, denseRows, int, integer, reads, rowsOf, timesOf, widthOf, writes } from "./shape.ts";
import { CPU_TILINGS } from "./tilings.ts";
import type { Tilings } from "./tilings.ts";

type NodeOf<O extends Node["op"]> = Extract<Node, { readonly op: O }>;

/** Half of a row of positions at a time: those of the rows of the grid, then those of its columns. */
export function lowerGrid(
  node: NodeOf<"grid">,
  graph: Graph,
  tilings: Tilings = CPU_TILINGS,
): readonly Launch<TileKernel>[] {
  const width = widthOf(graph, node.x);
  const half = width / 2;
  const height = tilings.rows("pointwise", width);
  const M = rowsOf(graph, node.x);
  const part = (cells: string, from: number): readonly Stmt<Tile>[] => {
    const place = (buffer: string) =>
      denseRows(buffer, width, int("m0"), int("M"), { col: i32(from), cols: half });
    return [
      { s: "copy", tile: "x_tile", rows: place("x") },
      {
        s: "copy",
        tile: "positions",
        rows: {
          buffer: "table",
          base: i32(0),
          stride: i32(half),
          count: sub(int("M"), int("m0")),
          cols: half,
          gather: { buffer: cells, base: int("m0") },
        },
      },
      { s: "write", tile: "x_tile", rows: place("out"), value: add<Element>(at("x_tile"), at("positions")) },
    ];
  };
  const kernel: TileKernel = {
    name: `grid_${width}`,
    buffers: [reads("x"), reads("rows", "i32"), reads("columns", "i32"), reads("table"), writes("out")],
    scalars: [integer("M")],
    tables: [],
    shared: [],
    workgroup: 1,
    tiles: ["x_tile", "positions"].map((name) => ({ name, rows: height, cols: half })),
    body: [let_("m0", mul(group, i32(height))), ...part("rows", 0), ...part("columns", half)],
  };
  return [
    {
      title: `grid ${node.out}`,
      kernel,
      bind: {
        x: { value: node.x },
        rows: { value: node.rows },
        columns: { value: node.columns },
        table: { table: { kind: "sincos", rows: node.cells, width: half } },
        out: { value: node.out },
      },
      scalars: { M },
      grid: ceilDivOf(M, height),
    },
  ];
}

export function lowerClassToken(
  node: NodeOf<"class_token">,
  graph: Graph,
  tilings: Tilings = CPU_TILINGS,
): readonly Launch<TileKernel>[] {
  const width = widthOf(graph, node.x);
  const height = tilings.rows("pointwise", width);
  const first = eq<Element>(add<Element>(row, int("n0")), i32(0));
  const value = select<Element>(first, load<Element>("weight", col), at("x_tile"));
  const kernel = placewise(`class_token_${width}`, width, height, [reads("weight")], value);
  const [N, sequences] = sequencesOf(graph, node.x);
  return [
    {
      title: `class token ${node.out}`,
      kernel,
      bind: { x: { value: node.x }, weight: { value: node.weight }, out: { value: node.out } },
      scalars: { N },
      grid: timesOf(sequences, ceilDivOf(N, height)),
    },
  ];
}

export function lowerMask(
  node: NodeOf<"mask">,
  graph: Graph,
  tilings: Tilings = CPU_TILINGS,
): readonly Launch<TileKernel>[] {
  const width = widthOf(graph, node.x);
  const height = tilings.rows("pointwise", width);
  const M = rowsOf(graph, node.x);
  const there = eq<Element>(load<Element>("mask", add<Element>(row, int("m0")), "i32"), i32(0));
  const value = select<Element>(there, at("x_tile"), f32(0));
  const kernel = rowwise(`mask_${width}`, width, height, [reads("mask", "i32")], value);
  return [
    {
      title: `mask ${node.out}`,
      kernel,
      bind: { x: { value: node.x }, mask: { value: node.mask }, out: { value: node.out } },
      scalars: { M },
      grid: ceilDivOf(M, height),
    },
  ];
}

/** Tokens that are summed before they join the sum of all: errors then grow with N / 16, and a tile fits any target. */
const POOLED = 16;
/** Columns that a group sums, at most. */
const COLUMNS = 64;

/**
 * One group per sequence and block of columns walks all tokens. The sum over the tokens of a tile is a product with a row of ones: tiles
 * know sums along rows only.
 */
export function lowerPool(node: NodeOf<"pool">, graph: Graph): readonly Launch<TileKernel>[] {
  const width = widthOf(graph, node.x);
  const [N, sequences] = sequencesOf(graph, node.x);
  let cols = Math.min(COLUMNS, width);
  while (width % cols !== 0) cols--;
  const blocks = width / cols;
  const start = mul(int("sequence"), int("N"));
  const tokens = (n: Expr, end: Expr) =>
    denseRows("x", width, add(start, n), end, { col: int("column"), cols });
  const to = denseRows("out", width, int("sequence"), add(int("sequence"), i32(1)), {
    col: int("column"),
    cols,
  });
  const first: readonly Stmt<Tile>[] = [
    { s: "copy", tile: "sum", rows: tokens(i32(0), add(start, i32(1))) },
    { s: "write", tile: "sum", rows: to },
  ];
  const mean: readonly Stmt<Tile>[] = [
    { s: "fill", tile: "ones", value: f32(1) },
    { s: "fill", tile: "sum", value: f32(0) },
    {
      s: "for",
      name: "n",
      from: i32(node.from),
      to: int("N"),
      step: POOLED,
      body: [
        { s: "copy", tile: "rows", rows: tokens(int("n"), add(start, int("N"))) },
        { s: "fill", tile: "part", value: f32(0) },
        { s: "mma", acc: "part", a: "ones", b: "rows" },
        { s: "map", tile: "sum", value: add<Element>(at("sum"), at("part")) },
      ],
    },
    let_("scale", div(f32(1), float(sub(int("N"), i32(node.from))))),
    { s: "write", tile: "sum", rows: to, value: mul<Element>(at("sum"), ref("scale", "f32")) },
  ];
  const isMean = node.of === "mean";
  const kernel: TileKernel = {
    name: `pool_${node.of}${isMean ? node.from : ""}_${width}`,
    buffers: [reads("x"), writes("out")],
    scalars: [integer("N")],
    tables: [],
    shared: [],
    workgroup: 1,
    tiles: [
      { name: "sum", rows: 1, cols },
      ...(isMean
        ? [
            { name: "ones", rows: 1, cols: POOLED },
            { name: "part", rows: 1, cols },
            { name: "rows", rows: POOLED, cols },
          ]
        : []),
    ],
    body: [
      let_("column", mul(rem(group, i32(blocks)), i32(cols))),
      let_("sequence", div(group, i32(blocks))),
      ...(isMean ? mean : first),
    ],
  };
  return [
    {
      title: `pool ${node.out}`,
      kernel,
      bind: { x: { value: node.x }, out: { value: node.out } },
      scalars: { N },
      grid: timesOf(sequences, blocks),
    },
  ];
}
