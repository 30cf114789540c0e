/** Schedules `branch` and `dense`: one launch for each branch, its rows read in place by stride, each continuing the state of the last. */
import { add, eq, group, i32, mul, ref, row, sub } from "../../../src/expr.ts";
import { branchPhantoms, branchTile, hasPhantoms, segmentOf } from "../../../src/geometry.ts";
import type { Dtype, TileKernel } from "../../../src/kernel.ts";
import { gridSize } from "../../../src/planner.ts";
import type { Schedule } from "../../../src/schedule.ts";
import type { Branch } from "../../../src/spec.ts";
import type { Launch } from "../launch.ts";
import { branchTitle, chainBuffers, launchesOf, type ChainPass } from "./chain.ts";
import { decayTables, rowsTogether } from "./decay.ts";
import { elementExpressions, expressions, newBlock, offsetTable } from "./integers.ts";
import { absorbZeros, empty, finish, finishMean, resume } from "./state.ts";
import {
  attentionTiles,
  headColumn,
  headRows,
  kernelName,
  N,
  readQueries,
  scoreKeys,
  type AttentionWork,
} from "./tiles.ts";

/** The kernel of all branches, or of the only one; a tile takes `taken` rows, or as many as a scalar says (null). */
function branchKernel(
  node: AttentionWork,
  schedule: Schedule,
  single: boolean,
  taken: number | null,
): TileKernel {
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
    rows: taken === null ? ref(TAKEN) : i32(taken),
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
    buffers: chainBuffers(mean),
    scalars: [
      { name: "N", type: "i32" },
      ...(constant
        ? []
        : ["branch", "segment", "dilation", "first", ...(taken === null ? [TAKEN] : [])].map((name) => ({
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

const TAKEN = "rows_taken";

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
  const taken = (branch: Branch | undefined) =>
    rowsTogether(node, stored, schedule.rows, branch?.dilation ?? 1);
  const [only] = spec.branches;
  if (spec.branches.length === 1 && covering === 0) {
    const rows = taken(only);
    const kernel = branchKernel(node, schedule, true, rows);
    const pass = {
      title: schedule.kind,
      kernel,
      scalars: {},
      grid: gridSize(spec, { kind: "branch", rows }, 0),
    };
    return launchesOf(node, schedule.rows, stored, { mean, started: true, passes: [pass] });
  }
  const whole = spec.branches.every((branch) => taken(branch) === schedule.rows);
  const kernel = branchKernel(node, schedule, false, whole ? schedule.rows : null);
  const order = [...spec.branches.keys()].sort(
    (x, y) => Number(y === covering) - Number(x === covering) || x - y,
  );
  const passes = order.map((branch): ChainPass => {
    const { segment, dilation } = spec.branches[branch] ?? { segment: Infinity, dilation: 1 };
    const rows = taken(spec.branches[branch]);
    return {
      title: branchTitle(branch, { segment, dilation }),
      kernel,
      scalars: {
        branch,
        segment: segmentOf(segment),
        dilation,
        first: branch === covering ? 1 : 0,
        ...(whole ? {} : { [TAKEN]: rows }),
      },
      grid: gridSize(spec, { kind: "branch", rows }, branch),
    };
  });
  return launchesOf(node, schedule.rows, stored, { mean, started: covering >= 0, passes });
}
