/** Element by element over rows: activations, sums with a residual, learned positions. */
import type { Graph, Node } from "../../src/graph.ts";
import type { Buffer, Element, Expr, Stmt, TileKernel } from "../../src/kernel.ts";
import {
  add,
  at,
  ceilDiv,
  col,
  div,
  f32,
  group,
  i32,
  let_,
  load,
  madd,
  min,
  mul,
  rem,
  row,
} from "../../src/expr.ts";
import { activations } from "./activation.ts";
import type { Launch } from "./launch.ts";
import { CPU_TILINGS } from "./tilings.ts";
import type { Tilings } from "./tilings.ts";
import {
  ceilDivOf,
  denseRows,
  int,
  integer,
  named,
  reads,
  rowsOf,
  shapeOf,
  timesOf,
  widthOf,
  writes,
} from "./shape.ts";
import { productOf } from "./shape.ts";

type NodeOf<O extends Node["op"]> = Extract<Node, { readonly op: O }>;

/** out[i, j] = value(i, j) over the rows m0 … of x; other buffers are read at the same place by `value`. */
export function rowwise(
  name: string,
  width: number,
  height: number,
  others: readonly Buffer[],
  value: Expr<Element>,
): TileKernel {
  const rows = (buffer: string) => denseRows(buffer, width, int("m0"), int("M"));
  return {
    name,
    buffers: [reads("x"), ...others, writes("out")],
    scalars: [integer("M")],
    tables: [],
    shared: [],
    workgroup: 1,
    tiles: [{ name: "x_tile", rows: height, cols: width }],
    body: [
      let_("m0", mul(group, i32(height))),
      { s: "copy", tile: "x_tile", rows: rows("x") },
      { s: "write", tile: "x_tile", rows: rows("out"), value },
    ],
  };
}

export function lowerActivate(
  node: NodeOf<"activate">,
  graph: Graph,
  tilings: Tilings = CPU_TILINGS,
): readonly Launch<TileKernel>[] {
  const width = widthOf(graph, node.x);
  const height = tilings.rows("pointwise", width);
  const M = rowsOf(graph, node.x);
  return [
    {
      title: `${node.activation} ${node.out}`,
      kernel: rowwise(
        `${node.activation}_${width}`,
        width,
        height,
        [],
        activations[node.activation](at("x_tile")),
      ),
      bind: { x: { value: node.x }, out: { value: node.out } },
      scalars: { M },
      grid: ceilDivOf(M, height),
    },
  ];
}

export function lowerAdd(
  node: NodeOf<"add">,
  graph: Graph,
  tilings: Tilings = CPU_TILINGS,
): readonly Launch<TileKernel>[] {
  const width = widthOf(graph, node.x);
  const height = tilings.rows("pointwise", width);
  const M = rowsOf(graph, node.x);
  const index = add<Element>(add<Element>(mul<Element>(row, i32(width)), col), mul(int("m0"), i32(width)));
  const value = madd<Element>(f32(node.alpha), load<Element>("residual", index), at("x_tile"));
  return [
    {
      title: `add ${node.out}`,
      kernel: rowwise(`add${named(node.alpha)}_${width}`, width, height, [reads("residual")], value),
      bind: { x: { value: node.x }, residual: { value: node.residual }, out: { value: node.out } },
      scalars: { M },
      grid: ceilDivOf(M, height),
    },
  ];
}

/**
 * The grid of an operation that must know the token position: sequences × blocks of `rows` tokens. Defines `n0`, the first
 * position, `m0`, its row in [B·N], and `end`, the row after the block, from the scalar N.
 */
export function byPosition(rows: number): readonly Stmt[] {
  return [
    let_("blocks", ceilDiv(int("N"), i32(rows))),
    let_("n0", mul(rem(group, int("blocks")), i32(rows))),
    let_("start", mul(div(group, int("blocks")), int("N"))),
    let_("m0", add(int("start"), int("n0"))),
    let_("end", add(int("start"), min(int("N"), add(int("n0"), i32(rows))))),
  ];
}

/** As `rowwise`, for a `value` that must know the token's position: n0 + row. */
export function placewise(
  name: string,
  width: number,
  height: number,
  others: readonly Buffer[],
  value: Expr<Element>,
): TileKernel {
  const rows = (buffer: string) => denseRows(buffer, width, int("m0"), int("end"));
  return {
    ...rowwise(name, width, height, others, value),
    scalars: [integer("N")],
    body: [
      ...byPosition(height),
      { s: "copy", tile: "x_tile", rows: rows("x") },
      { s: "write", tile: "x_tile", rows: rows("out"), value },
    ],
  };
}

export function lowerPosition(
  node: NodeOf<"position">,
  graph: Graph,
  tilings: Tilings = CPU_TILINGS,
): readonly Launch<TileKernel>[] {
  const width = widthOf(graph, node.x);
  const height = tilings.rows("pointwise", width);
  const first = mul(add(int("n0"), i32(node.first)), i32(width));
  const index = add<Element>(add<Element>(mul<Element>(row, i32(width)), col), first);
  const value = add<Element>(at("x_tile"), load<Element>("weight", index));
  const kernel = placewise(`position${node.first}_${width}`, width, height, [reads("weight")], value);
  const [N, sequences] = sequencesOf(graph, node.x);
  return [
    {
      title: `position ${node.out}`,
      kernel,
      bind: { x: { value: node.x }, weight: { value: node.weight }, out: { value: node.out } },
      scalars: { N },
      grid: timesOf(sequences, ceilDivOf(N, height)),
    },
  ];
}

/** Tokens per sequence and number of sequences of a value [B, N, …]. */
export function sequencesOf(graph: Graph, id: string) {
  const [B, N] = shapeOf(graph, id);
  if (B === undefined || N === undefined)
    throw new Error(`heddle: internal: '${id}' of '${graph.name}' has no tokens`);
  return [productOf([N]), productOf([B])] as const;
}
