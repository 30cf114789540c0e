/**
 * Schedule `annulus_list`: the tiles of `annulus` in one launch, each of which leaves its rows of O/l and lse apart, and a launch that
 * merges what the branches have of each row, in their order. No tile waits for another one, and the last ones to run are the shortest.
 *
 * Parts are f32, [B, heads, Σ rows of a branch's part, headDim] and the same without headDim; every row of theirs that lies in the
 * sequence is written by one tile and read by one.
 */
import { add, group, i32, lt, mul, ref } from "../../../src/expr.ts";
import {
  annulusShape,
  listPlaces,
  listTile,
  mergeShape,
  mergeTile,
  partBase,
  partRow,
  ringOf,
  sizes,
  type AnnulusShape,
} from "../../../src/geometry.ts";
import type { Dtype, Expr, Rows, Size, TileKernel } from "../../../src/kernel.ts";
import { gridSize, listPasses, mergeGrid, mergeRows } from "../../../src/planner.ts";
import type { Schedule } from "../../../src/schedule.ts";
import type { AttentionSpec } from "../../../src/spec.ts";
import type { Launch, Temporary } from "../launch.ts";
import { rowsTogether } from "./decay.ts";
import { annulusParts, attendAnnulus, integers, kindOf } from "./annulus.ts";
import { expressions, newBlock, offsetTable, type Block } from "./integers.ts";
import { empty, finish, merge, stateTiles } from "./state.ts";
import { headColumn, headRows, kernelName, N, type AttentionNode, type AttentionWork } from "./tiles.ts";

const COUNTED = ["groups", "longest", "alike"] as const;
/** The scalar that holds one of a pass's counts. */
const countName = (what: (typeof COUNTED)[number], pass: number): string => `${what}_${pass}`;
/** What is counted for the order of the list, of a causal one also which cells are alike. */
const countedBy = (spec: AttentionSpec) => (spec.causal ? COUNTED : COUNTED.slice(0, 2));

/** `count` rows of the parts of a head of a sequence, `row` and every `step`-th after it. */
function rowsOfParts(
  b: Block,
  spec: AttentionSpec,
  at: {
    readonly batch: Expr;
    readonly head: Expr;
    readonly row: Expr;
    readonly step: number;
    readonly count: Expr;
  },
): { readonly out: Rows; readonly lse: Rows } {
  const all = partBase(expressions(b, spec), spec, spec.branches.length, N);
  const { batch, head, count } = at;
  const base = b.bind("part_at", add(mul(add(mul(batch, i32(spec.heads)), head), all), at.row));
  const { headDim } = spec;
  return {
    out: {
      buffer: "parts",
      base: mul(base, i32(headDim)),
      stride: i32(at.step * headDim),
      count,
      cols: headDim,
    },
    lse: { buffer: "part_lse", base, stride: i32(at.step), count, cols: 1 },
  };
}

/** `taken` is how many of its rows a tile takes. */
function listKernel(node: AttentionWork, schedule: Schedule, taken: number, shape: AnnulusShape): TileKernel {
  const { spec } = node;
  const { rows, keys } = schedule;
  const { passes } = shape;
  const kind = kindOf(passes, shape.linked, keys);
  const b = newBlock();
  const I = expressions(b, spec);
  const tile = listTile(I, spec, shape, {
    group,
    N,
    sequences: ref("sequences"),
    passes: passes.map((_, p) => ({
      groups: ref(countName("groups", p)),
      longest: ref(countName("longest", p)),
      alike: ref(countName("alike", p)),
    })),
    rows: taken,
  });
  const body = b.nested(() => {
    const ring = ringOf(I, spec, shape, tile, tile.branch);
    const { batch, head } = tile;
    const row = partRow(I, spec, tile, N);
    const left = rowsOfParts(b, spec, { batch, head, row, step: 1, count: tile.rows });
    // A tile without keys leaves empty states: the merge need not know which they are.
    attendAnnulus(b, I, {
      node,
      schedule,
      shape,
      kind,
      tile,
      branch: tile.branch,
      ring,
      begin: empty,
      ...left,
    });
  });
  b.push({ s: "if", cond: lt(i32(0), tile.rows), then: body });
  const { tables, tiles } = annulusParts(node, schedule, shape, kind);
  const extra = kind.folds ? [listPlaces(spec, shape)] : [shape.tables.dilations, listPlaces(spec, shape)];
  const names = [
    "N",
    "sequences",
    ...passes.flatMap((_, p) => countedBy(spec).map((what) => countName(what, p))),
  ];
  return {
    name: `${kernelName(node)}_annulus_list_${rows}x${keys}`,
    buffers: [
      ...(["q", "k", "v"] as const).map((name) => ({ name, dtype: "f32" as const, access: "read" as const })),
      ...["parts", "part_lse"].map((name) => ({ name, dtype: "f32" as const, access: "write" as const })),
    ],
    scalars: names.map((name) => ({ name, type: "i32" })),
    tables: [...tables, ...extra.map(integers)],
    shared: [],
    workgroup: 1,
    tiles,
    body: b.out,
  };
}

/** Merges the branches' parts of rows that are equal modulo all dilations; a row without any is 0, its lse −∞. */
function mergeKernel(node: AttentionNode, rows: number): TileKernel {
  const { spec } = node;
  const { heads, headDim } = spec;
  const b = newBlock();
  const I = expressions(b, spec);
  const shape = mergeShape(spec);
  const { batch, head, first, rows: count, parts } = mergeTile(I, spec, shape, { group, N, rows });
  const body = b.nested(() => {
    b.push(...empty);
    parts.forEach(({ covers, row, step }, branch) => {
      const absorbed = b.nested(() => {
        const base = partBase(I, spec, branch, N);
        const part = rowsOfParts(b, spec, { batch, head, row: add(base, row), step, count });
        b.push({ s: "copy", tile: "part", rows: part.out }, { s: "copy", tile: "weight", rows: part.lse });
        b.push(...merge("part", "weight"));
      });
      if (covers.e === "const") b.push(...(covers.value === 0 ? [] : absorbed));
      else b.push({ s: "if", cond: covers, then: absorbed });
    });
    const place = { batch, head, position: first, step: i32(shape.lattice), count };
    b.push(...finish(headRows("out", heads, headDim, place), headColumn("lse", heads, place)));
  });
  b.push({ s: "if", cond: lt(i32(0), count), then: body });
  return {
    name: `attention_${spec.name}_merge_${rows}`,
    buffers: [
      ...["parts", "part_lse"].map((name) => ({ name, dtype: "f32" as const, access: "read" as const })),
      ...["out", "lse"].map((name) => ({ name, dtype: "f32" as const, access: "write" as const })),
    ],
    scalars: [{ name: "N", type: "i32" }],
    tables: [offsetTable(spec)],
    shared: [],
    workgroup: 1,
    tiles: [
      ...stateTiles(rows, rows, headDim).filter((t) => t.name !== "S"),
      { name: "part", rows, cols: headDim },
      { name: "weight", rows, cols: 1 },
    ],
    body: b.out,
  };
}

/** What the tiles leave for the merge. */
function partValues(node: AttentionNode): readonly [Temporary, Temporary] {
  const { spec, out } = node;
  const { heads, headDim, branches } = spec;
  const all = partBase(sizes, spec, branches.length, "N");
  const rows = sizes.mul(sizes.mul("B", heads), all);
  return [
    { id: `${out}.parts`, dtype: "f32", shape: [], elements: sizes.mul(rows, headDim) },
    { id: `${out}.part_lse`, dtype: "f32", shape: [], elements: rows },
  ];
}

/** The two launches of an `annulus_list` schedule. */
export function lowerList(
  node: AttentionWork,
  schedule: Schedule,
  stored: Dtype,
): readonly Launch<TileKernel>[] {
  const { spec } = node;
  const rows = Math.min(
    ...spec.branches.map(({ dilation }) => rowsTogether(node, stored, schedule.rows, dilation)),
  );
  const list = { kind: schedule.kind, rows, keys: schedule.keys };
  const shape = annulusShape(spec, rows);
  const temporaries = partValues(node);
  const [parts, partLse] = temporaries;
  const bind = { parts: { value: parts.id }, part_lse: { value: partLse.id } };
  const passes = listPasses(spec, list).flatMap((pass, p): readonly (readonly [string, Size])[] =>
    countedBy(spec).map((what) => [countName(what, p), pass[what]] as const),
  );
  return [
    {
      title: `${spec.name}: all branches, longest tiles first`,
      kernel: listKernel(node, schedule, rows, shape),
      bind: { q: { value: node.q }, k: { value: node.k }, v: { value: node.v }, ...bind },
      scalars: { N: "N", sequences: sizes.mul("B", spec.heads), ...Object.fromEntries(passes) },
      grid: gridSize(spec, list, 0),
      temporaries,
    },
    {
      title: `${spec.name}: merge`,
      kernel: mergeKernel(node, mergeRows(schedule.rows)),
      bind: { ...bind, out: { value: node.out }, lse: { value: node.lse } },
      scalars: { N: "N" },
      grid: mergeGrid(spec, schedule.rows),
      temporaries,
    },
  ];
}
