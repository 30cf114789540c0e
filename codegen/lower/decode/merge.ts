/**
 * Attention of one query split over several groups, where a device has more of them than heads: each part leaves its own O/l and lse, and
 * a part is to the whole what a key is to a part, with its lse for a score and its output for a value.
 */
import { at, f32, group, i32, max, mul } from "../../../src/expr.ts";
import type { Value, ValueId } from "../../../src/graph.ts";
import type { Element, Expr, Rows, Size, TileKernel } from "../../../src/kernel.ts";
import { MASKED } from "../../../src/kernel.ts";
import type { AttentionSpec } from "../../../src/spec.ts";
import { absorb, empty, finish, LOG2E, map, stateTiles } from "../attention/state.ts";
import type { Launch } from "../launch.ts";
import { timesOf } from "../shape.ts";
import { newBlock } from "./cache.ts";

/** Keys that are worth a group of their own, and the most groups of a query. */
const KEYS = 128;
const MOST = 16;

/** Groups for each query: by the keys that it sees on average, w/2r in a branch of which every r-th query is a member. */
export function partsOf({ branches, combine }: AttentionSpec): number {
  // The branches' own softmaxes would have to be split one by one.
  if (combine === "mean" && branches.length > 1) return 1;
  const seen = branches.reduce((sum, { segment: w, dilation: r }) => sum + w / (2 * r * r), 0);
  return Math.max(1, Math.min(MOST, Math.round(seen / KEYS)));
}

/** Where parts leave O/l [B, heads, parts, headDim] and lse [B, heads, parts]. */
export const partValues = (out: ValueId, spec: AttentionSpec, parts: number): readonly Value[] => [
  { id: `${out}.parts`, dtype: "f32", shape: ["B", spec.heads * parts * spec.headDim] },
  { id: `${out}.part_lse`, dtype: "f32", shape: ["B", spec.heads * parts] },
];

/** Rows `first` … of the parts' outputs, and one of their lse. */
export const partRows = (first: Expr, count: number, headDim: number): Rows => ({
  buffer: "parts",
  base: mul(first, i32(headDim)),
  stride: i32(headDim),
  count: i32(count),
  cols: headDim,
});
export const partLse = (first: Expr, count: number): Rows => ({
  buffer: "part_lse",
  base: first,
  stride: i32(count),
  count: i32(1),
  cols: count,
});

export function mergeLaunch(out: ValueId, spec: AttentionSpec, parts: number): Launch<TileKernel> {
  const grid: Size = timesOf("B", spec.heads);
  return {
    title: `${spec.name}: merge ${out}`,
    kernel: mergeKernel(spec, parts),
    bind: {
      parts: { value: `${out}.parts` },
      part_lse: { value: `${out}.part_lse` },
      out: { value: out },
    },
    scalars: {},
    grid,
    temporaries: partValues(out, spec, parts),
  };
}

function mergeKernel({ headDim }: AttentionSpec, parts: number): TileKernel {
  const b = newBlock();
  const first = b.bind("first", mul(group, i32(parts)));
  const out: Rows = {
    buffer: "out",
    base: mul(group, i32(headDim)),
    stride: i32(headDim),
    count: i32(1),
    cols: headDim,
  };
  // An empty part has −∞.
  const score = max<Element>(mul<Element>(at("S"), f32(LOG2E)), f32(MASKED));
  b.push(
    ...empty,
    { s: "copy", tile: "S", rows: partLse(first, parts) },
    map("S", score),
    { s: "copy", tile: "V", rows: partRows(first, parts, headDim) },
    ...absorb(null, [], [{ s: "mma", acc: "O", a: "S", b: "V" }]),
    ...finish(out, null),
  );
  return {
    name: `merge_${headDim}_${parts}`,
    buffers: [
      { name: "parts", dtype: "f32", access: "read" },
      { name: "part_lse", dtype: "f32", access: "read" },
      { name: "out", dtype: "f32", access: "write" },
    ],
    scalars: [],
    tables: [],
    shared: [],
    workgroup: 1,
    tiles: [{ name: "V", rows: parts, cols: headDim }, ...stateTiles(1, parts, headDim)],
    body: b.out,
  };
}
