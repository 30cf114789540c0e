/** The cache of an attention as kernels address it: where the rows of a stream lie, by the formulas of geometry/cache.ts. */
import { add, i32, load, mul, ref } from "../../../src/expr.ts";
import { cacheShape, laneRows, regionBase, regionRows, type CacheShape } from "../../../src/geometry.ts";
import type { Expr, Rows, Table, TileKernel } from "../../../src/kernel.ts";
import type { AttentionSpec } from "../../../src/spec.ts";
import { expressions, newBlock, type Block } from "../attention/integers.ts";

export const STREAMS = "streams";
const shapes = new WeakMap<AttentionSpec, CacheShape>();

/** The shape of a spec's cache, made once. */
export function shapeFor(spec: AttentionSpec): CacheShape {
  const known = shapes.get(spec) ?? cacheShape(spec);
  shapes.set(spec, known);
  return known;
}

/** streams[branch][head]: which stream of the branch's region a query head reads, branch-major. */
export const streamTable = (spec: AttentionSpec): Table => ({
  name: STREAMS,
  type: "i32",
  values: shapeFor(spec).regions.flatMap((r) => r.streamOf),
});

/** kvHead and offset of each stream of a region, as tables. */
export const streamTables = (spec: AttentionSpec, branch: number): readonly Table[] => {
  const streams = shapeFor(spec).regions[branch]?.streams ?? [];
  return [
    { name: "stream_head", type: "i32", values: streams.map((s) => s.kvHead) },
    { name: "stream_offset", type: "i32", values: streams.map((s) => s.offset) },
  ];
};

export const PLACE: TileKernel["buffers"][number] = { name: "place", dtype: "i32", access: "read" };

/** Position, lane and room of sequence `sequence`, from `place` [3, B]. */
export function placeOf(
  b: Block,
  sequence: Expr,
): { readonly lane: Expr; readonly capacity: Expr; readonly position: Expr } {
  const at = (row: number) => load("place", add(mul(i32(row), ref("B")), sequence), "i32");
  return {
    position: b.bind("t", at(0)),
    lane: b.bind("cache_lane", at(1)),
    capacity: b.bind("capacity", at(2)),
  };
}

/** Rows of the cache of one sequence, by branch, stream and row. */
export function cacheRows(
  b: Block,
  spec: AttentionSpec,
  where: { readonly lane: Expr; readonly capacity: Expr },
) {
  const I = expressions(b, spec);
  const shape = shapeFor(spec);
  const { headDim } = spec;
  const lane = b.bind("lane_base", mul(where.lane, laneRows(I, shape, where.capacity)));
  const bases = shape.regions.map((r) =>
    b.bind("region", add(lane, regionBase(I, shape, r.branch, where.capacity))),
  );
  const counts = shape.regions.map((r) =>
    b.bind("region_rows", regionRows(I, shape, r.branch, where.capacity)),
  );
  /** A row of the whole cache. */
  const rowOf = (branch: number, stream: Expr, row: Expr): Expr =>
    add(add(bases[branch] ?? i32(0), mul(stream, counts[branch] ?? i32(0))), row);
  /** Keys, or values, from a row on. */
  const rows = (first: Expr, part: "key" | "value", step: Expr, count: Expr): Rows => ({
    buffer: "cache",
    base: add(mul(first, i32(2 * headDim)), i32(part === "key" ? 0 : headDim)),
    stride: mul(step, i32(2 * headDim)),
    count,
    cols: headDim,
  });
  return { rowOf, rows };
}

export { newBlock };
