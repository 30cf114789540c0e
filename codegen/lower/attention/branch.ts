/**
 * Schedules `branch` and `dense`: one launch for each branch, its rows read in place by stride. The first launch starts
 * from the empty state, later ones resume from out and lse in memory, so the branches' softmaxes become one.
 */
import { add, at, div, eq, f32, group, i32, max, mul, ref, row, sub } from "../../../src/expr.ts";
import { branchPhantoms, branchTile, hasPhantoms, segmentOf, type Integers } from "../../../src/geometry.ts";
import type { Element, Expr, Size, TileKernel } from "../../../src/kernel.ts";
import { gridSize } from "../../../src/planner.ts";
import type { Schedule } from "../../../src/schedule.ts";
import type { Launch } from "../launch.ts";
import { elementExpressions, expressions, newBlock, offsetTable } from "./integers.ts";
import { absorbZeros, attentionTiles, empty, fill, finish, finishMean, resume } from "./state.ts";
import {
  decayTables,
  headColumn,
  headRows,
  kernelName,
  N,
  readQueries,
  scoreKeys,
  type AttentionNode,
} from "./tiles.ts";

const buffers = (mean: boolean): TileKernel["buffers"] => [
  { name: "q", dtype: "f32", access: "read" },
  { name: "k", dtype: "f32", access: "read" },
  { name: "v", dtype: "f32", access: "read" },
  { name: "out", dtype: "f32", access: "readwrite" },
  { name: "lse", dtype: "f32", access: "readwrite" },
  ...(mean ? [{ name: "count", dtype: "f32", access: "readwrite" } as const] : []),
];

function branchKernel(node: AttentionNode, schedule: Schedule, single: boolean): TileKernel {
  const { spec } = node;
  const { rows, keys } = schedule;
  const mean = spec.combine === "mean" && spec.branches.length > 1;
  const b = newBlock();
  const I = expressions(b, spec);
  const only = spec.branches[0];
  const constant = single && only !== undefined;
  const tile = branchTile(I, spec, {
    group,
    N,
    branch: constant ? i32(0) : ref("branch"),
    segment: constant ? i32(segmentOf(only.segment)) : ref("segment"),
    dilation: constant ? i32(only.dilation) : ref("dilation"),
    rows,
  });
  const { batch, head, dilation: step } = tile;
  const rowsAt = { batch, head, position: add(tile.rowStart, mul(tile.slot, step)), step, count: tile.rows };
  const out = headRows("out", spec.heads, spec.headDim, rowsAt);
  const lse = headColumn("lse", spec.heads, rowsAt);

  const body = b.nested(() => {
    const position = b.bind("query", add(tile.queryStart, mul(tile.slot, step)));
    const queryBlock = readQueries(b, node, { batch, head, position, step, count: tile.queries });
    if (single || mean) b.push(...empty);
    else b.push({ s: "if", cond: eq(ref("first"), i32(1)), then: empty, else: resume(out, lse) });
    const j0 = ref("j0");
    const loop = b.nested(() => {
      const key = b.bind("key", add(tile.queryStart, mul(j0, step)));
      const count = b.bind("width", I.min(i32(keys), sub(tile.keys, j0)));
      scoreKeys(b, node, {
        batch,
        head,
        tokens: { position: key, step, count },
        queryBlock,
        width: keys,
        // In slots of the segment: key j0 + col is visible to query slot + row where it does not come later.
        causal: spec.causal ? { keyStep: 1, rowStep: 1, lead: b.bind("lead", sub(tile.slot, j0)) } : null,
        multiplicity: null,
      });
    });
    b.push({ s: "for", name: "j0", from: i32(0), to: tile.keys, step: keys, body: loop });
    if (hasPhantoms(spec)) {
      const zeros = branchPhantoms(elementExpressions, spec, tile, row);
      b.push(...absorbZeros(zeros));
    }
    b.push(...(mean ? finishMean(out, lse, headColumn("count", spec.heads, rowsAt)) : finish(out, lse)));
  });
  b.push({ s: "if", cond: I.lt(i32(0), tile.rows), then: body });

  return {
    name: `${kernelName(node)}_${schedule.kind}_${rows}x${keys}`,
    buffers: buffers(mean),
    scalars: [
      { name: "N", type: "i32" },
      ...(constant
        ? []
        : (["branch", "segment", "dilation", "first"] as const).map((name) => ({
            name,
            type: "i32" as const,
          }))),
    ],
    tables: [offsetTable(spec), ...decayTables(node)],
    shared: [],
    workgroup: 1,
    tiles: [
      ...attentionTiles(rows, keys, spec.headDim),
      ...(mean ? ["older", "covered"].map((name) => ({ name, rows, cols: 1 })) : []),
    ],
    body: b.out,
  };
}

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
    buffers: buffers(mean)
      .slice(3)
      .map((x) => ({ ...x, access: "write" as const })),
    scalars: [{ name: "N", type: "i32" }],
    tables: [],
    shared: [],
    workgroup: 1,
    tiles: attentionTiles(rows, rows, spec.headDim).filter((t) => t.name === "O" || t.name === "m"),
    body: b.out,
  };
}

/** `combine mean`: divides the sum of the branches' outputs by their number. */
function meanKernel(node: AttentionNode, rows: number): TileKernel {
  const { spec } = node;
  const b = newBlock();
  const I = expressions(b, spec);
  const place = rowPlace(b, spec.heads, rows, I);
  const out = headRows("out", spec.heads, spec.headDim, place);
  b.push(
    { s: "copy", tile: "O", rows: out },
    { s: "copy", tile: "m", rows: headColumn("count", spec.heads, place) },
    { s: "write", tile: "O", rows: out, value: div<Element>(at("O"), max<Element>(at("m"), f32(1))) },
  );
  return {
    name: `attention_${spec.name}_mean`,
    buffers: [
      { name: "out", dtype: "f32", access: "readwrite" },
      { name: "count", dtype: "f32", access: "read" },
    ],
    scalars: [{ name: "N", type: "i32" }],
    tables: [],
    shared: [],
    workgroup: 1,
    tiles: attentionTiles(rows, rows, spec.headDim).filter((t) => t.name === "O" || t.name === "m"),
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

/** Launches of a `branch` or `dense` schedule. */
export function lowerBranch(node: AttentionNode, schedule: Schedule): readonly Launch<TileKernel>[] {
  const { spec } = node;
  const mean = spec.combine === "mean" && spec.branches.length > 1;
  const bind = {
    q: { value: node.q },
    k: { value: node.k },
    v: { value: node.v },
    out: { value: node.out },
    lse: { value: node.lse },
    ...(mean ? { count: { value: `${node.out}.count` } } : {}),
  };
  const pick = (names: readonly string[]) =>
    Object.fromEntries(Object.entries(bind).filter(([name]) => names.includes(name)));
  const rowGrid: Size = {
    op: "mul",
    args: [
      { op: "mul", args: ["B", spec.heads] },
      { op: "ceilDiv", args: ["N", schedule.rows] },
    ],
  };
  const launches: Launch<TileKernel>[] = [];
  const add_ = (title: string, kernel: TileKernel, scalars: { readonly [name: string]: Size }, grid: Size) =>
    launches.push({
      title,
      kernel,
      bind: pick(kernel.buffers.map((x) => x.name)),
      scalars: { N: "N", ...scalars },
      grid,
      ...(mean
        ? {
            temporaries: [
              { id: `${node.out}.count`, dtype: "f32" as const, shape: ["B", spec.heads, "N"] as const },
            ],
          }
        : {}),
    });

  // A branch of dilation 1 covers every row (unless rows are moved, and then it is not), so it may start the state.
  const covering = mean ? -1 : spec.branches.findIndex((branch) => branch.dilation === 1);
  if (spec.branches.length === 1 && covering === 0) {
    const kernel = branchKernel(node, schedule, true);
    add_(`${spec.name}: ${schedule.kind}`, kernel, {}, gridSize(spec, schedule, 0));
    return launches;
  }
  if (covering < 0) add_(`${spec.name}: empty state`, emptyKernel(node, schedule.rows, mean), {}, rowGrid);
  const kernel = branchKernel(node, schedule, false);
  const order = [...spec.branches.keys()].sort(
    (x, y) => Number(y === covering) - Number(x === covering) || x - y,
  );
  for (const branch of order) {
    const { segment, dilation } = spec.branches[branch] ?? { segment: Infinity, dilation: 1 };
    add_(
      `${spec.name}: branch ${branch} (segment ${Number.isFinite(segment) ? segment : "all"}, dilation ${dilation})`,
      kernel,
      { branch, segment: segmentOf(segment), dilation, first: branch === covering ? 1 : 0 },
      gridSize(spec, schedule, branch),
    );
  }
  if (mean) add_(`${spec.name}: mean`, meanKernel(node, schedule.rows), {}, rowGrid);
  return launches;
}
