/**
 * Schedule `class`: a tile's rows lie in the same segments and branches, so one launch walks all branches of a tile with
 * one state, and a key that several branches hold is scored once, with its multiplicity as a weight of its column.
 */
import { add, at, bool, eq, group, i32, lt, mul, ref, select, sub } from "../../../src/expr.ts";
import {
  classShape,
  classTile,
  foldInto,
  hasPhantoms,
  passKeys,
  passPhantoms,
} from "../../../src/geometry.ts";
import type { Dtype, Expr, TileKernel } from "../../../src/kernel.ts";
import { gridSize } from "../../../src/planner.ts";
import type { Schedule } from "../../../src/schedule.ts";
import type { Launch } from "../launch.ts";
import { decayTables, rowsTogether } from "./decay.ts";
import { chosen, countFolds, dilationTable, shareFold, type KeyRange, type PassRange } from "./folds.ts";
import { expressions, newBlock, offsetTable } from "./integers.ts";
import { absorbZeros, empty, finish } from "./state.ts";
import {
  attentionTiles,
  headColumn,
  headRows,
  kernelName,
  N,
  readQueries,
  scoreKeys,
  type AttentionWork,
  type Queries,
} from "./tiles.ts";

function classKernel(node: AttentionWork, schedule: Schedule, taken: number): TileKernel {
  const { spec } = node;
  const { rows, keys } = schedule;
  const shape = classShape(spec);
  const b = newBlock();
  const I = expressions(b, spec);
  const tile = classTile(I, spec, shape, { group, N, rows: taken });
  const { batch, head, first } = tile;
  const step = i32(shape.lattice);
  const rowsAt = { batch, head, position: first, step, count: tile.rows };

  let queries: Queries = { ...rowsAt, block: i32(0) };
  const keyRange = ({ dilation, base, folds }: KeyRange, from: Expr, to: Expr): void => {
    const j0 = ref("j0");
    const loop = b.nested(() => {
      const key = b.bind("key", add(base, mul(j0, dilation)));
      const count = b.bind("width", I.min(i32(keys), sub(to, j0)));
      scoreKeys(b, node, {
        batch,
        head,
        tokens: { position: key, step: dilation, count },
        queries,
        width: keys,
        causal: spec.causal
          ? { keyStep: dilation, rowStep: shape.lattice, lead: b.bind("lead", sub(first, key)) }
          : null,
        multiplicity: folds.length === 0 ? null : { fill: countFolds(b, folds, j0), times: at("mult") },
      });
    });
    b.push({ s: "for", name: "j0", from, to, step: keys, body: loop });
  };
  const passes = shape.order.length;
  const compact = node.tiling !== undefined && passes > 1;
  const lines = shape.order.map((branch): string => {
    const { segment = Infinity, dilation = 1 } = spec.branches[branch] ?? {};
    return `branch ${branch}: segment ${Number.isFinite(segment) ? segment : "all"}, dilation ${dilation}`;
  });

  const body = b.nested(() => {
    queries = readQueries(b, node, rowsAt);
    b.push(...empty);
    const ranges = shape.order.map((branch, p): (() => PassRange) => () => {
      const slots = passKeys(I, spec, shape, tile, p);
      const folds = shape.order.flatMap((_, child) => {
        const fold = foldInto(I, spec, shape, tile, p, child);
        return fold === null ? [] : [shareFold(b, fold)];
      });
      return { dilation: i32(spec.branches[branch]?.dilation ?? 1), base: slots.base, folds, slots };
    });
    if (compact) {
      // One loop body for all passes: a shader that is several times shorter compiles several times faster.
      const all = ranges.map((range, p) => ({ ...range(), covers: tile.passes[p]?.covers ?? bool(true) }));
      for (const text of lines) b.push({ s: "comment", text });
      const turn = ref("turn");
      const turns = b.nested(() => {
        const { range, from, to } = chosen(b, all, turn);
        keyRange(range, from, to);
      });
      b.push({ s: "for", name: "turn", from: i32(0), to: i32(2 * passes), step: 1, body: turns });
    } else
      ranges.forEach((range, p) => {
        const pass = tile.passes[p];
        if (pass === undefined) return;
        const statements = b.nested(() => {
          const own = range();
          const { slots } = own;
          if ((shape.parents[p] ?? []).length === 0) {
            keyRange(own, i32(0), slots.real);
          } else {
            // Slots before and after what the parents hold: one loop body serves both sides.
            const side = ref("side");
            const sides = b.nested(() => {
              const from = b.bind("side_from", select(eq(side, i32(0)), i32(0), slots.after));
              const to = b.bind("side_to", select(eq(side, i32(0)), slots.before, slots.real));
              keyRange(own, from, to);
            });
            b.push({ s: "for", name: "side", from: i32(0), to: i32(2), step: 1, body: sides });
          }
        });
        b.push({ s: "comment", text: lines[p] ?? "" });
        if (pass.covers.e === "const") b.push(...statements);
        else b.push({ s: "if", cond: pass.covers, then: statements });
      });
    if (hasPhantoms(spec) && !spec.causal) {
      const zeros = shape.order.map((_, p) => passPhantoms(I, spec, shape, tile, p, N));
      b.push(
        ...absorbZeros(
          b.bind(
            "zeros",
            zeros.reduce((x, y) => add(x, y), i32(0)),
          ),
        ),
      );
    }
    b.push(
      ...finish(headRows("out", spec.heads, spec.headDim, rowsAt), headColumn("lse", spec.heads, rowsAt)),
    );
  });
  b.push({ s: "if", cond: lt(i32(0), tile.rows), then: body });

  return {
    name: `${kernelName(node)}_class_${rows}x${keys}`,
    buffers: [
      { name: "q", dtype: "f32", access: "read" },
      { name: "k", dtype: "f32", access: "read" },
      { name: "v", dtype: "f32", access: "read" },
      { name: "out", dtype: "f32", access: "write" },
      { name: "lse", dtype: "f32", access: "write" },
    ],
    scalars: [{ name: "N", type: "i32" }],
    tables: [
      offsetTable(spec),
      ...decayTables(node),
      ...(compact ? [dilationTable(shape.order.map((branch) => spec.branches[branch]?.dilation ?? 1))] : []),
    ],
    shared: [],
    workgroup: 1,
    tiles: [...attentionTiles(node, rows, keys), { name: "mult", rows: 1, cols: keys }],
    body: b.out,
  };
}

/** The single launch of a `class` schedule; `stored` is the storage of queries and keys. */
export function lowerClass(
  node: AttentionWork,
  schedule: Schedule,
  stored: Dtype = "f32",
): readonly Launch<TileKernel>[] {
  const { spec } = node;
  const rows = rowsTogether(node, stored, schedule.rows, classShape(spec).lattice);
  return [
    {
      title: `${spec.name}: class`,
      kernel: classKernel(node, schedule, rows),
      bind: {
        q: { value: node.q },
        k: { value: node.k },
        v: { value: node.v },
        out: { value: node.out },
        lse: { value: node.lse },
      },
      scalars: { N: "N" },
      grid: gridSize(spec, { kind: "class", rows }, 0),
    },
  ];
}
