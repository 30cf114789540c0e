/**
 * Schedules `branch` and `dense`: one launch for each branch, its rows read in place by stride. The first launch starts
 * from the empty state, later ones resume from out and lse in memory, so the branches' softmaxes become one.
 */
import { add, at, div, eq, f32, group, i32, max, mul, ref, row, sub } from "../../../src/expr.ts";
import { branchPhantoms, branchTile, hasPhantoms, segmentOf, type Integers } from "../../../src/geometry.ts";
import type { Value } from "../../../src/graph.ts";
import type { Dtype, Element, Expr, Size, TileKernel } from "../../../src/kernel.ts";
import { gridSize } from "../../../src/planner.ts";
import type { Schedule } from "../../../src/schedule.ts";
import type { Binding, Launch } from "../launch.ts";
import { elementExpressions, expressions, newBlock, offsetTable } from "./integers.ts";
import { absorbZeros, empty, fill, finish, finishMean, resume, stateTiles } from "./state.ts";
import {
  attentionTiles,
  decayTables,
  headColumn,
  headRows,
  kernelName,
  N,
  readQueries,
  scoreKeys,
  type AttentionNode,
  type AttentionWork,
} from "./tiles.ts";

const buffers = (mean: boolean): TileKernel["buffers"] => [
  { name: "q", dtype: "f32", access: "read" },
  { name: "k", dtype: "f32", access: "read" },
  { name: "v", dtype: "f32", access: "read" },
  { name: "out", dtype: "f32", access: "readwrite" },
  { name: "lse", dtype: "f32", access: "readwrite" },
  ...(mean ? [{ name: "count", dtype: "f32", access: "readwrite" } as const] : []),
];

function branchKernel(node: AttentionWork, schedule: Schedule, single: boolean): TileKernel {
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
    const queries = readQueries(b, node, { batch, head, position, step, count: tile.queries });
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
        queries,
        width: keys,
        // In slots of the segment: key j0 + col is visible to query slot + row where it does not come later.
        causal: spec.causal
          ? { keyStep: i32(1), rowStep: 1, lead: b.bind("lead", sub(tile.slot, j0)) }
          : null,
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
      ...attentionTiles(node, rows, keys),
      ...(mean ? ["older", "covered"].map((name) => ({ name, rows, cols: 1 })) : []),
      ...(mean ? [{ name: "before", rows, cols: spec.headDim }] : []),
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

/** Launches of a `branch` or `dense` schedule; `stored` is the storage of out. */
export function lowerBranch(
  node: AttentionWork,
  schedule: Schedule,
  stored: Dtype = "f32",
): readonly Launch<TileKernel>[] {
  const { spec } = node;
  const mean = spec.combine === "mean" && spec.branches.length > 1;
  // A branch of dilation 1 covers every row (unless rows are moved, and then it is not), so it may start the state.
  const covering = mean ? -1 : spec.branches.findIndex((branch) => branch.dilation === 1);
  const single = spec.branches.length === 1 && covering === 0;
  // A state of 16 bits would be rounded once by every branch.
  const apart = stored !== "f32" && !single;
  const state = `${node.out}.state`;
  const count = `${node.out}.count`;
  const bind = {
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
  const rowGrid: Size = {
    op: "mul",
    args: [
      { op: "mul", args: ["B", spec.heads] },
      { op: "ceilDiv", args: ["N", schedule.rows] },
    ],
  };
  const launches: Launch<TileKernel>[] = [];
  const add_ = (
    title: string,
    kernel: TileKernel,
    scalars: { readonly [name: string]: Size },
    grid: Size,
    from: { readonly [buffer: string]: Binding } = bind,
  ) =>
    launches.push({
      title,
      kernel,
      bind: Object.fromEntries(
        Object.entries(from).filter(([name]) => kernel.buffers.some((x) => x.name === name)),
      ),
      scalars: { N: "N", ...scalars },
      grid,
      ...(temporaries.length > 0 ? { temporaries } : {}),
    });

  if (single) {
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
  if (mean || apart) {
    const title = `${spec.name}: ${mean ? "mean" : "out"}`;
    const ends = { ...bind, state: { value: state }, out: { value: node.out } };
    add_(title, lastKernel(node, schedule.rows, mean, apart), {}, rowGrid, ends);
  }
  return launches;
}
