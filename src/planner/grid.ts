/** How many groups the launches of a schedule have, and the tiles of keys that each of them walks. */
import { sizeOf, type Size } from "../../runtime/plan.ts";
import {
  annulusShape,
  annulusTile,
  branchTile,
  classShape,
  classTile,
  hasWork,
  numbers,
  passKeys,
  ringOf,
  roomOf,
  segmentOf,
} from "../geometry.ts";
import type { ScheduleChoice } from "../schedule.ts";
import type { AttentionShape } from "../spec.ts";

const size = (op: Exclude<Size, number | string>["op"], a: Size, b: Size): Size => ({ op, args: [a, b] });
const more = (a: Size, b: number): Size => (b === 0 ? a : size("add", a, b));
const product = (...sizes: readonly Size[]): Size =>
  sizes.reduce((a, b) => (a === 1 ? b : b === 1 ? a : size("mul", a, b)), 1);

/** Groups of one launch as a formula of N and B; `branch` is the branch of a `branch` or `annulus` schedule's launch. */
export function gridSize(
  spec: AttentionShape,
  schedule: Pick<ScheduleChoice, "kind" | "rows">,
  branch: number,
): Size {
  if (schedule.kind === "class") {
    const shape = classShape(spec);
    const cell = size("min", shape.cell, "N");
    const tiles = size("ceilDiv", size("ceilDiv", cell, shape.lattice), schedule.rows);
    return product("B", spec.heads, size("ceilDiv", "N", cell), shape.cuts.length + 1, shape.lattice, tiles);
  }
  const { segment, dilation } = spec.branches[branch] ?? { segment: Infinity, dilation: 1 };
  const pass =
    schedule.kind === "annulus"
      ? annulusShape(spec, schedule.rows).passes.find((p) => p.branch === branch)
      : undefined;
  if (pass !== undefined) {
    const room = roomOf(spec, pass);
    const cell = size("min", pass.cell, "N");
    const slots = more(size("ceilDiv", cell, dilation), room.slots);
    const tiles = more(size("ceilDiv", slots, schedule.rows), room.tiles);
    return product("B", spec.heads, size("ceilDiv", "N", cell), tiles);
  }
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

/** Tiles of keys that a group walks and rows that it computes; a group without work returns at once. */
export type GroupWork = { readonly keyTiles: number; readonly rows: number };
const IDLE: GroupWork = { keyTiles: 0, rows: 0 };

export type LaunchWork = {
  readonly groups: number;
  readonly of: (group: number) => GroupWork;
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

/** The launches of a schedule over one sequence of N tokens, without those that only start or finish a state. */
export function launchesOf(spec: AttentionShape, choice: ScheduleChoice, N: number): readonly LaunchWork[] {
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
    return [{ groups: gridOf(spec, choice, 0, at), of, counting }];
  }
  if (choice.kind === "annulus") {
    const shape = annulusShape(spec, rows);
    return shape.passes.map((pass) => {
      const { branch, cell, cuts } = pass;
      const { segment, dilation } = spec.branches[branch] ?? { segment: Infinity, dilation: 1 };
      const room = roomOf(spec, pass);
      const place = { N, branch, segment: segmentOf(segment), dilation, cell, cuts, room, rows };
      const of = (group: number): GroupWork => {
        const tile = annulusTile(I, spec, shape, { ...place, group });
        if (tile.rows === 0) return IDLE;
        const { before, middle, after, ...ring } = ringOf(I, spec, shape, tile, branch);
        if (!hasWork(I, spec, tile, { before, middle, after, ...ring })) return IDLE;
        return { keyTiles: tilesOf(before, middle - before, tile.keys - after), rows: tile.rows };
      };
      // What keys count stays from tile to tile where every period divides them.
      const steady = pass.periods.every((period) => keys % period === 0);
      const finding = steady ? 0 : shape.terms * shape.depth * ON_GRID * keys;
      const counting = pass.folds ? { weighing: (2 * shape.terms + 1) * rows * keys, finding } : NONE;
      return { groups: gridOf(spec, choice, branch, at), of, counting };
    });
  }
  return spec.branches.map(({ segment, dilation }, branch) => {
    const of = (group: number): GroupWork => {
      const tile = branchTile(I, spec, { group, N, branch, segment: segmentOf(segment), dilation, rows });
      return tile.rows === 0 ? IDLE : { keyTiles: tilesOf(tile.keys), rows: tile.rows };
    };
    return { groups: gridOf(spec, choice, branch, at), of, counting: NONE };
  });
}
