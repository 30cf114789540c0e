/**
 * Launches that continue one state in memory, so that the softmaxes of their branches become one: the first starts from the empty
 * state, later ones resume from out and lse. What all such schedules need besides their passes is here.
 */
import { add, at, div, f32, group, i32, max, mul, sub } from "../../../src/expr.ts";
import type { Integers } from "../../../src/geometry.ts";
import type { Value } from "../../../src/graph.ts";
import type { Dtype, Element, Expr, Size, TileKernel } from "../../../src/kernel.ts";
import type { Branch } from "../../../src/spec.ts";
import type { Binding, Launch } from "../launch.ts";
import { expressions, newBlock } from "./integers.ts";
import { fill, stateTiles } from "./state.ts";
import { headColumn, headRows, N, type AttentionNode } from "./tiles.ts";

export const chainBuffers = (mean: boolean): TileKernel["buffers"] => [
  { name: "q", dtype: "f32", access: "read" },
  { name: "k", dtype: "f32", access: "read" },
  { name: "v", dtype: "f32", access: "read" },
  { name: "out", dtype: "f32", access: "readwrite" },
  { name: "lse", dtype: "f32", access: "readwrite" },
  ...(mean ? [{ name: "count", dtype: "f32", access: "readwrite" } as const] : []),
];

/** Rows that no branch covers: out 0, lse −∞ (and count 0), before the branches' launches. */
function emptyKernel(node: AttentionNode, rows: number, mean: boolean): TileKernel {
  const { spec } = node;
  const b = newBlock();
  const I = expressions(b, spec);
  const place = rowPlace(b, spec.heads, rows, I);
  const out = headRows("out", spec.heads, spec.headDim, place);
  const lse = headColumn("lse", spec.heads, place);
  b.push(
    fill("O", 0),
    fill("m", -Infinity),
    { s: "write", tile: "O", rows: out },
    { s: "write", tile: "m", rows: lse },
  );
  if (mean) b.push(fill("m", 0), { s: "write", tile: "m", rows: headColumn("count", spec.heads, place) });
  return {
    name: `attention_${spec.name}_empty`,
    buffers: chainBuffers(mean)
      .slice(3)
      .map((x) => ({ ...x, access: "write" as const })),
    scalars: [{ name: "N", type: "i32" }],
    tables: [],
    shared: [],
    workgroup: 1,
    tiles: stateTiles(rows, rows, spec.headDim).filter((t) => t.name === "O" || t.name === "m"),
    body: b.out,
  };
}

/**
 * The last pass over all rows: `combine mean` divides the sum of the branches' outputs by their number; a state that lies apart from
 * out, in f32, is rounded into it.
 */
function lastKernel(node: AttentionNode, rows: number, mean: boolean, apart: boolean): TileKernel {
  const { spec } = node;
  const b = newBlock();
  const I = expressions(b, spec);
  const place = rowPlace(b, spec.heads, rows, I);
  const within = (buffer: string) => headRows(buffer, spec.heads, spec.headDim, place);
  b.push({ s: "copy", tile: "O", rows: within(apart ? "state" : "out") });
  if (mean) b.push({ s: "copy", tile: "m", rows: headColumn("count", spec.heads, place) });
  const value = mean ? { value: div<Element>(at("O"), max<Element>(at("m"), f32(1))) } : {};
  b.push({ s: "write", tile: "O", rows: within("out"), ...value });
  return {
    name: `attention_${spec.name}${mean ? "_mean" : ""}${apart ? "_out" : ""}`,
    buffers: [
      ...(apart ? [{ name: "state", dtype: "f32", access: "read" } as const] : []),
      { name: "out", dtype: "f32", access: apart ? "write" : "readwrite" },
      ...(mean ? [{ name: "count", dtype: "f32", access: "read" } as const] : []),
    ],
    scalars: [{ name: "N", type: "i32" }],
    tables: [],
    shared: [],
    workgroup: 1,
    tiles: stateTiles(rows, rows, spec.headDim).filter((t) => t.name === "O" || (mean && t.name === "m")),
    body: b.out,
  };
}

/** A tile of `rows` consecutive tokens of one head, by group. */
function rowPlace(b: ReturnType<typeof newBlock>, heads: number, rows: number, I: Integers<Expr, Expr>) {
  const tiles = b.bind("tiles", I.div(add(N, i32(rows - 1)), i32(rows)));
  const position = b.bind("position", mul(I.rem(group, tiles), i32(rows)));
  const batchHead = b.bind("batch_head", I.div(group, tiles));
  return {
    batch: b.bind("batch", I.div(batchHead, i32(heads))),
    head: b.bind("head", I.rem(batchHead, i32(heads))),
    position,
    step: i32(1),
    count: b.bind("rows", I.min(i32(rows), sub(N, position))),
  };
}

export type ChainPass = {
  readonly title: string;
  readonly kernel: TileKernel;
  readonly scalars: { readonly [name: string]: Size };
  readonly grid: Size;
};

export const branchTitle = (branch: number, { segment, dilation }: Branch): string =>
  `branch ${branch} (segment ${Number.isFinite(segment) ? segment : "all"}, dilation ${dilation})`;

export type Chain = {
  /** Whether the branches' outputs are averaged: each pass adds its own to the sum in out. */
  readonly mean: boolean;
  /** The first pass starts the state of all rows, so that none is left without one. */
  readonly started: boolean;
  readonly passes: readonly ChainPass[];
};

/** The launches of a chain with all that comes before and after; `stored` is the storage of out. */
export function launchesOf(
  node: AttentionNode,
  rows: number,
  stored: Dtype,
  { mean, started, passes }: Chain,
): readonly Launch<TileKernel>[] {
  const { spec } = node;
  // A state of 16 bits would be rounded once by every pass.
  const apart = stored !== "f32" && (passes.length > 1 || !started);
  const state = `${node.out}.state`;
  const count = `${node.out}.count`;
  const bind: { readonly [buffer: string]: Binding } = {
    q: { value: node.q },
    k: { value: node.k },
    v: { value: node.v },
    out: { value: apart ? state : node.out },
    lse: { value: node.lse },
    ...(mean ? { count: { value: count } } : {}),
  };
  const temporaries: readonly Value[] = [
    ...(mean ? [{ id: count, dtype: "f32" as const, shape: ["B", spec.heads, "N"] as const }] : []),
    ...(apart
      ? [{ id: state, dtype: "f32" as const, shape: ["B", "N", spec.heads * spec.headDim] as const }]
      : []),
  ];
  const all: Size = {
    op: "mul",
    args: [
      { op: "mul", args: ["B", spec.heads] },
      { op: "ceilDiv", args: ["N", rows] },
    ],
  };
  const launch = ({ title, kernel, scalars, grid }: ChainPass, from = bind): Launch<TileKernel> => ({
    title: `${spec.name}: ${title}`,
    kernel,
    bind: Object.fromEntries(
      Object.entries(from).filter(([name]) => kernel.buffers.some((x) => x.name === name)),
    ),
    scalars: { N: "N", ...scalars },
    grid,
    ...(temporaries.length > 0 ? { temporaries } : {}),
  });
  const around = (title: string, kernel: TileKernel): ChainPass => ({
    title,
    kernel,
    scalars: {},
    grid: all,
  });
  return [
    ...(started ? [] : [launch(around("empty state", emptyKernel(node, rows, mean)))]),
    ...passes.map((pass) => launch(pass)),
    ...(mean || apart
      ? [
          launch(around(mean ? "mean" : "out", lastKernel(node, rows, mean, apart)), {
            ...bind,
            state: { value: state },
            out: { value: node.out },
          }),
        ]
      : []),
  ];
}
