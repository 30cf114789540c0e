/** How many groups the launches of a schedule have, and the tiles of keys that each of them walks. */
import { sizeOf, type Size } from "../../runtime/plan.ts";
import {
  alikeCells,
  annulusShape,
  annulusTile,
  branchTile,
  classShape,
  classTile,
  hasWork,
  listTurn,
  longestKeys,
  mergeShape,
  mergeTile,
  numbers,
  passKeys,
  ringOf,
  roomOf,
  segmentOf,
  sizes,
  type AnnulusPass,
  type ClassShape,
  type ListPass,
} from "../geometry.ts";
import type { ScheduleChoice } from "../schedule.ts";
import type { AttentionShape } from "../spec.ts";

const size = (op: Exclude<Size, number | string>["op"], a: Size, b: Size): Size => ({ op, args: [a, b] });
const more = (a: Size, b: number): Size => (b === 0 ? a : size("add", a, b));
const product = (...sizes: readonly Size[]): Size =>
  sizes.reduce((a, b) => (a === 1 ? b : b === 1 ? a : size("mul", a, b)), 1);

/** Groups of a launch whose rows are those of a class schedule's shape. */
function classGrid(spec: AttentionShape, shape: ClassShape, rows: number): Size {
  const cell = size("min", shape.cell, "N");
  const tiles = size("ceilDiv", size("ceilDiv", cell, shape.lattice), rows);
  return product("B", spec.heads, size("ceilDiv", "N", cell), shape.cuts.length + 1, shape.lattice, tiles);
}

/** Groups of a pass of an `annulus` or `annulus_list` schedule for one head of one sequence: cells, and tiles of each. */
function passGrid(spec: AttentionShape, pass: AnnulusPass, rows: number): readonly [Size, Size] {
  const { dilation } = spec.branches[pass.branch] ?? { dilation: 1 };
  const room = roomOf(spec, pass);
  const cell = size("min", pass.cell, "N");
  const slots = more(size("ceilDiv", cell, dilation), room.slots);
  const tiles = more(size("ceilDiv", slots, rows), room.tiles);
  return [size("ceilDiv", "N", cell), tiles];
}

/** The passes of an `annulus_list` schedule as formulas of N. */
export const listPasses = (
  spec: AttentionShape,
  { rows, keys }: Pick<ScheduleChoice, "rows" | "keys">,
): readonly ListPass<Size>[] => {
  const shape = annulusShape(spec, rows);
  return shape.passes.map((pass) => ({
    groups: product(...passGrid(spec, pass, rows)),
    longest: longestKeys(sizes, spec, shape, pass, keys, "N"),
    alike: alikeCells(sizes, spec, pass, "N"),
  }));
};

export const listPassesAt = (
  spec: AttentionShape,
  choice: Pick<ScheduleChoice, "rows" | "keys">,
  at: { readonly N: number; readonly B: number },
): readonly ListPass<number>[] =>
  listPasses(spec, choice).map(({ groups, longest, alike }) => ({
    groups: sizeOf(groups, at),
    longest: sizeOf(longest, at),
    alike: sizeOf(alike, at),
  }));

/** Rows of a tile of the merge of an `annulus_list` schedule: enough loads at a time, and few lanes idle where dilations are many. */
export const mergeRows = (rows: number): number => Math.min(rows, 32);
/** Groups of the merge. */
export const mergeGrid = (spec: AttentionShape, rows: number): Size =>
  classGrid(spec, mergeShape(spec), mergeRows(rows));

/** Groups of one launch as a formula of N and B; `branch` is the branch of a `branch` or `annulus` schedule's launch. */
export function gridSize(
  spec: AttentionShape,
  schedule: Pick<ScheduleChoice, "kind" | "rows">,
  branch: number,
): Size {
  if (schedule.kind === "class") return classGrid(spec, classShape(spec), schedule.rows);
  if (schedule.kind === "annulus_list") {
    const { passes } = annulusShape(spec, schedule.rows);
    const all = passes.map((pass) => product(...passGrid(spec, pass, schedule.rows)));
    return product(
      "B",
      spec.heads,
      all.reduce((a, b) => size("add", a, b)),
    );
  }
  const { segment, dilation } = spec.branches[branch] ?? { segment: Infinity, dilation: 1 };
  const pass =
    schedule.kind === "annulus"
      ? annulusShape(spec, schedule.rows).passes.find((p) => p.branch === branch)
      : undefined;
  if (pass !== undefined) return product("B", spec.heads, ...passGrid(spec, pass, schedule.rows));
  const g = size("min", segmentOf(segment), "N");
  const tiles = size("ceilDiv", size("ceilDiv", g, dilation), schedule.rows);
  return product("B", spec.heads, size("ceilDiv", "N", g), tiles);
}

export const gridOf = (
  spec: AttentionShape,
  schedule: Pick<ScheduleChoice, "kind" | "rows">,
  branch: number,
  at: { readonly N: number; readonly B: number },
): number => sizeOf(gridSize(spec, schedule, branch), at);

/**
 * Tiles of keys that a group walks, rows that it computes, and rows of parts that it merges; a group without rows returns at once. Work
 * is an average over groups too, so these need not be whole.
 */
export type GroupWork = { readonly keyTiles: number; readonly rows: number; readonly parts?: number };
const IDLE: GroupWork = { keyTiles: 0, rows: 0 };

export type LaunchWork = {
  readonly groups: number;
  readonly of: (group: number) => GroupWork;
  /** Whether the launch begins states of queries, goes on with those that earlier ones left in memory, or only writes states. */
  readonly state: "begun" | "resumed" | "written";
  /** Whether its groups run from the longest to the shortest. */
  readonly longestFirst: boolean;
  /** Parts that all of its groups together are, each of a kind. */
  readonly parts?: readonly Pick<LaunchWork, "groups" | "of">[];
  /**
   * Operations on single numbers that a tile of keys takes beside those of every schedule: weighing with multiplicities, and finding
   * those of its keys, which each of the lanes that share keys does for itself.
   */
  readonly counting: Counting;
};
export type Counting = { readonly weighing: number; readonly finding: number };
const NONE: Counting = { weighing: 0, finding: 0 };

/** Operations that tell whether an element is on a grid inside a segment. */
const ON_GRID = 12;

/** The launches of a schedule over one sequence of N tokens; `apart`: a state in memory is not that of the result, which has 16 bits. */
export function launchesOf(
  spec: AttentionShape,
  choice: ScheduleChoice,
  N: number,
  apart = false,
): readonly LaunchWork[] {
  const passes = passesOf(spec, choice, N);
  if (choice.kind === "class" || choice.kind === "annulus_list") return passes;
  const mean = spec.combine === "mean" && spec.branches.length > 1;
  // A branch of dilation 1 has all rows, so its pass starts the state of each.
  const started = !mean && spec.branches.some((b) => b.dilation === 1);
  const rows = (parts: number): LaunchWork => ({
    groups: spec.heads * Math.ceil(N / choice.rows),
    of: (group) => {
      const tile = Math.min(choice.rows, N - choice.rows * (group % Math.ceil(N / choice.rows)));
      return { keyTiles: 0, rows: tile, parts: parts * tile };
    },
    state: "written",
    longestFirst: false,
    counting: NONE,
  });
  const rounded = mean || (apart && (passes.length > 1 || !started));
  return [...(started ? [] : [rows(0)]), ...passes, ...(rounded ? [rows(1)] : [])];
}

function passesOf(spec: AttentionShape, choice: ScheduleChoice, N: number): readonly LaunchWork[] {
  const I = numbers(spec);
  const at = { N, B: 1 };
  const { rows, keys } = choice;
  const tilesOf = (...ranges: readonly number[]) => ranges.reduce((sum, n) => sum + Math.ceil(n / keys), 0);
  if (choice.kind === "class") {
    const shape = classShape(spec);
    const of = (group: number): GroupWork => {
      const tile = classTile(I, spec, shape, { group, N, rows });
      if (tile.rows === 0) return IDLE;
      let keyTiles = 0;
      tile.passes.forEach((pass, p) => {
        if (!pass.covers) return;
        const k = passKeys(I, spec, shape, tile, p);
        keyTiles += tilesOf(k.before, k.real - k.after);
      });
      return { keyTiles, rows: tile.rows };
    };
    const folds = shape.parents.reduce((sum, p) => sum + p.length, 0) / shape.parents.length;
    const counting = folds === 0 ? NONE : { weighing: rows * keys, finding: folds * ON_GRID * keys };
    return [
      { groups: gridOf(spec, choice, 0, at), of, state: "begun" as const, longestFirst: false, counting },
    ];
  }
  if (choice.kind === "annulus") return annulusPasses(spec, choice, N);
  if (choice.kind === "annulus_list") {
    const each = annulusPasses(spec, choice, N, true);
    const passes = listPassesAt(spec, choice, at);
    const of = (group: number): GroupWork => {
      const turn = listTurn(I, spec, { group, sequences: spec.heads, passes });
      return each[turn.pass]?.of(turn.group) ?? IDLE;
    };
    const most = (counting: keyof Counting) => Math.max(...each.map((p) => p.counting[counting]));
    const counting = { weighing: most("weighing"), finding: most("finding") };
    const list = { groups: gridOf(spec, choice, 0, at), of, state: "begun" as const, counting };
    return [{ ...list, longestFirst: true, parts: each }, mergeWork(spec, rows, N)];
  }
  return spec.branches.map(({ segment, dilation }, branch) => {
    const of = (group: number): GroupWork => {
      const tile = branchTile(I, spec, { group, N, branch, segment: segmentOf(segment), dilation, rows });
      return tile.rows === 0 ? IDLE : { keyTiles: tilesOf(tile.keys), rows: tile.rows };
    };
    const first = spec.branches.findIndex((b) => b.dilation === 1);
    const state = branch === first && spec.combine !== "mean" ? ("begun" as const) : ("resumed" as const);
    return { groups: gridOf(spec, choice, branch, at), of, state, longestFirst: false, counting: NONE };
  });
}

/** The merge of an `annulus_list` schedule. */
function mergeWork(spec: AttentionShape, rows: number, N: number): LaunchWork {
  const I = numbers(spec);
  const shape = mergeShape(spec);
  const of = (group: number): GroupWork => {
    const tile = mergeTile(I, spec, shape, { group, N, rows: mergeRows(rows) });
    const parts = tile.parts.filter((p) => p.covers).length * tile.rows;
    return { keyTiles: 0, rows: tile.rows, parts };
  };
  const groups = sizeOf(mergeGrid(spec, rows), { N, B: 1 });
  return { groups, of, state: "written", longestFirst: false, counting: NONE };
}

/** The passes of an annulus schedule, each with its own groups; `all`: tiles without keys have rows to write too. */
function annulusPasses(
  spec: AttentionShape,
  { rows, keys }: ScheduleChoice,
  N: number,
  all = false,
): readonly LaunchWork[] {
  const I = numbers(spec);
  const tilesOf = (...ranges: readonly number[]) => ranges.reduce((sum, n) => sum + Math.ceil(n / keys), 0);
  const shape = annulusShape(spec, rows);
  return shape.passes.map((pass, index) => {
    const { branch, cell, cuts } = pass;
    const { segment, dilation } = spec.branches[branch] ?? { segment: Infinity, dilation: 1 };
    const room = roomOf(spec, pass);
    const place = { N, branch, segment: segmentOf(segment), dilation, cell, cuts, room, rows };
    const of = (group: number): GroupWork => {
      const tile = annulusTile(I, spec, shape, { ...place, group });
      if (tile.rows === 0) return IDLE;
      const { before, middle, after, ...ring } = ringOf(I, spec, shape, tile, branch);
      if (!hasWork(I, spec, tile, { before, middle, after, ...ring }))
        return all ? { keyTiles: 0, rows: tile.rows } : IDLE;
      return { keyTiles: tilesOf(before, middle - before, tile.keys - after), rows: tile.rows };
    };
    // What keys count stays from tile to tile where every period divides them.
    const steady = pass.periods.every((period) => keys % period === 0);
    const finding = steady ? 0 : shape.terms * shape.depth * ON_GRID * keys;
    const counting = pass.folds ? { weighing: (2 * shape.terms + 1) * rows * keys, finding } : NONE;
    const groups = gridOf(spec, { kind: "annulus", rows }, branch, { N, B: 1 });
    const state = index === 0 && dilation === 1 ? ("begun" as const) : ("resumed" as const);
    return { groups, of, state, longestFirst: false, counting };
  });
}
