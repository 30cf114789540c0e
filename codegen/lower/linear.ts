/** out = act(x Wᵀ + bias) + alpha · residual, blocked over rows, columns and depth. */
import type { PlanLinear } from "../../runtime/plan.ts";
import type { Graph, Node } from "../../src/graph.ts";
import type { Element, Expr, Stmt, Tile, TileDecl, TileKernel } from "../../src/kernel.ts";
import { add, at, col, div, f32, group, i32, let_, load, lt, madd, mul, rem, row } from "../../src/expr.ts";
import { activations } from "./activation.ts";
import type { Binding, Launch } from "./launch.ts";
import { CPU_TILINGS } from "./tilings.ts";
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

export type LinearNode = Extract<Node, { readonly op: "linear" }>;
export type LinearTiling = {
  /** Rows of x and columns of the result that a group computes; columns a multiple of 8. */
  readonly rows: number;
  readonly cols: number;
  /** Largest depth multiplied at once; a multiple of 8. */
  readonly depth: number;
  /** Columns of a panel of weights, where a target has wider ones than of 8. */
  readonly panel?: number;
};

/** Pieces of `whole` of at most `most`, equal but for the last, each but the last a multiple of `unit`. */
export function pieces(
  whole: number,
  most: number,
  unit = 8,
): { readonly size: number; readonly full: number; readonly rest: number } {
  const size = whole <= most ? whole : Math.ceil(whole / Math.ceil(whole / most) / unit) * unit;
  const full = Math.floor(whole / size);
  return { size, full, rest: whole - full * size };
}

/** Binds `weight` [out, in] in panels; scalar M is the number of rows. */
export function lowerLinear(
  node: LinearNode,
  graph: Graph,
  tiling: LinearTiling = CPU_TILINGS.linear,
): readonly Launch<TileKernel>[] {
  const [outs, ins] = shapeOf(graph, node.weight);
  if (typeof outs !== "number" || typeof ins !== "number" || widthOf(graph, node.x) !== ins)
    throw new Error(`heddle: internal: the weight of '${node.out}' is not a matrix that fits '${node.x}'`);
  const kernel = linearKernel(
    { ins, outs, bias: node.bias !== undefined, activation: node.activation, alpha: node.residual?.alpha },
    tiling,
  );
  const M = rowsOf(graph, node.x);
  const blocks = Math.ceil(outs / pieces(outs, tiling.cols, tiling.panel).size);
  const bind: Record<string, Binding> = {
    x: { value: node.x },
    weight: { value: node.weight, layout: "panels" },
    ...(node.bias === undefined ? {} : { bias: { value: node.bias } }),
    ...(node.residual === undefined ? {} : { residual: { value: node.residual.x } }),
    out: { value: node.out },
  };
  const grid = timesOf(ceilDivOf(M, tiling.rows), blocks);
  const linear: PlanLinear = {
    ins,
    outs,
    ...(node.activation === undefined ? {} : { activation: node.activation }),
    ...(node.residual === undefined ? {} : { alpha: node.residual.alpha }),
  };
  return [{ title: `linear ${node.out}`, kernel, bind, scalars: { M }, grid, linear }];
}

type LinearShape = {
  readonly ins: number;
  readonly outs: number;
  readonly bias: boolean;
  readonly activation: LinearNode["activation"] | undefined;
  readonly alpha: number | undefined;
};

function linearKernel(shape: LinearShape, tiling: LinearTiling): TileKernel {
  const { ins, outs, bias, activation, alpha } = shape;
  const depth = pieces(ins, tiling.depth);
  const cols = pieces(outs, tiling.cols, tiling.panel);
  const tiles: TileDecl[] = [];
  const tile = (name: string, rows: number, width: number): string => {
    tiles.push({ name, rows, cols: width });
    return name;
  };
  const x = depth.full > 0 ? tile("x_tile", tiling.rows, depth.size) : "";
  const xRest = depth.rest > 0 ? tile("x_rest", tiling.rows, depth.rest) : "";

  /** The block of `width` columns from `from`, in tiles of its own. */
  const block = (suffix: string, width: number, from: Expr): readonly Stmt<Tile>[] => {
    const acc = tile(`acc${suffix}`, tiling.rows, width);
    const multiply = (a: string, size: number, k: Expr): readonly Tile[] => [
      { s: "copy", tile: a, rows: denseRows("x", ins, int("m0"), int("M"), { col: k, cols: size }) },
      { s: "mma", acc, a, b: { buffer: "weight", base: i32(0), depth: ins, row: k, col: from } },
    ];
    const start = (): readonly Tile[] => {
      if (!bias) return [{ s: "fill", tile: acc, value: f32(0) }];
      const line = tile(`bias_tile${suffix}`, 1, width);
      const rows = { buffer: "bias", base: from, stride: i32(outs), count: i32(1), cols: width };
      return [
        { s: "copy", tile: line, rows },
        { s: "map", tile: acc, value: at(line) },
      ];
    };
    const active: Expr<Element> = activation === undefined ? at(acc) : activations[activation](at(acc));
    const value = (): Expr<Element> => {
      if (alpha === undefined) return active;
      const index = add<Element>(
        add<Element>(mul<Element>(row, i32(outs)), col),
        add(mul(int("m0"), i32(outs)), from),
      );
      const residual = load<Element>("residual", index);
      return alpha === 1 ? add(active, residual) : madd<Element>(f32(alpha), residual, active);
    };
    const whole: readonly Stmt<Tile>[] =
      depth.full === 0
        ? []
        : depth.full === 1
          ? multiply(x, depth.size, i32(0))
          : [
              {
                s: "for",
                name: `k${suffix}`,
                from: i32(0),
                to: i32(depth.full * depth.size),
                step: depth.size,
                body: multiply(x, depth.size, int(`k${suffix}`)),
              },
            ];
    const rest = depth.rest > 0 ? multiply(xRest, depth.rest, i32(depth.full * depth.size)) : [];
    const to = denseRows("out", outs, int("m0"), int("M"), { col: from, cols: width });
    return [...start(), ...whole, ...rest, { s: "write", tile: acc, rows: to, value: value() }];
  };

  const blocks = cols.full + (cols.rest > 0 ? 1 : 0);
  const m0 = let_("m0", mul(div(group, i32(blocks)), i32(tiling.rows)));
  const columns = (): readonly Stmt<Tile>[] => {
    if (blocks === 1) return block("", cols.size, i32(0));
    const n0 = let_("n0", mul(rem(group, i32(blocks)), i32(cols.size)));
    if (cols.rest === 0) return [n0, ...block("", cols.size, int("n0"))];
    const last = i32(cols.full * cols.size);
    const then = block("", cols.size, int("n0"));
    // oxlint-disable-next-line unicorn/no-thenable
    return [n0, { s: "if", cond: lt(int("n0"), last), then, else: block("_rest", cols.rest, last) }];
  };
  const body = [m0, ...columns()];
  const parts = [
    `linear_${ins}_${outs}`,
    ...(bias ? ["bias"] : []),
    ...(activation === undefined ? [] : [activation]),
    ...(alpha === undefined ? [] : [`add${named(alpha)}`]),
  ];
  return {
    name: parts.join("_"),
    buffers: [
      reads("x"),
      reads("weight"),
      ...(bias ? [reads("bias")] : []),
      ...(alpha === undefined ? [] : [reads("residual")]),
      writes("out"),
    ],
    scalars: [integer("M")],
    tables: [],
    shared: [],
    workgroup: 1,
    tiles,
    body,
  };
}
