/** Tiles of the schedule `class`: its lattice of rows, the keys of its passes, and how duplicates fold. */
import type { AttentionShape } from "../spec.ts";
import { ALL, ceilDiv, segmentOf, termsBelow, type Integers } from "./integers.ts";

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

/** What of a class schedule is known without N: the lattice of rows, the cells, and which branch's keys fold into which. */
export type ClassShape = {
  /** Branch indices in the order of their passes: by dilation, then longer segments first. */
  readonly order: readonly number[];
  /** lcm of the dilations: distance of neighbouring rows of a tile. */
  readonly lattice: number;
  /** Shortest segment: length of a cell. */
  readonly cell: number;
  /** Branches (pass numbers) whose segments begin inside cells, where a cell must be cut. */
  readonly cuts: readonly number[];
  /** parents[p]: earlier passes whose grid holds pass p's grid wherever both cover a row: their dilation divides. */
  readonly parents: readonly (readonly number[])[];
};

export function classShape(spec: AttentionShape): ClassShape {
  const order = spec.branches
    .map((_, index) => index)
    .sort((x, y) => {
      const [a, b] = [spec.branches[x], spec.branches[y]];
      return a === undefined || b === undefined
        ? 0
        : a.dilation - b.dilation || segmentOf(b.segment) - segmentOf(a.segment) || x - y;
    });
  const branches = order.map((index) => spec.branches[index]).filter((b) => b !== undefined);
  const lattice = branches.reduce((l, b) => (l / gcd(l, b.dilation)) * b.dilation, 1);
  const cell = Math.min(...branches.map((b) => segmentOf(b.segment)));
  return {
    order,
    lattice,
    cell,
    cuts: branches.flatMap((b, p) =>
      segmentOf(b.segment) % cell !== 0 && segmentOf(b.segment) < ALL ? [p] : [],
    ),
    parents: branches.map((b, p) =>
      branches.flatMap((c, earlier) => (earlier < p && b.dilation % c.dilation === 0 ? [earlier] : [])),
    ),
  };
}

export type Pass<T, C> = {
  /** Whether the branch holds the rows of this tile. */
  readonly covers: C;
  /** The branch's segment around the tile, [start, end), end ≤ N. */
  readonly start: T;
  readonly end: T;
  readonly offset: T;
};

export type ClassTile<T, C> = {
  readonly batch: T;
  readonly head: T;
  /** Token position of the tile's first row; rows are `lattice` apart. */
  readonly first: T;
  readonly rows: T;
  /** By pass number. */
  readonly passes: readonly Pass<T, C>[];
};

/**
 * Schedule `class`: rows equal modulo the lattice inside a piece of a cell in which no segment of any branch begins, so
 * that all rows of a tile lie in the same segments and the same branches.
 */
export function classTile<T, C>(
  I: Integers<T, C>,
  spec: AttentionShape,
  shape: ClassShape,
  at: { readonly group: T; readonly N: T; readonly rows: number },
): ClassTile<T, C> {
  const { N } = at;
  const cell = I.share("cell", I.min(I.of(shape.cell), N));
  const cells = I.share("cells", ceilDiv(I, N, cell));
  const tiles = I.share("tiles", ceilDiv(I, ceilDiv(I, cell, I.of(shape.lattice)), I.of(at.rows)));
  const pieces = shape.cuts.length + 1;
  let rest = at.group;
  const digit = (name: string, base: T): T => {
    const value = I.share(name, I.rem(rest, base));
    rest = I.share(`after_${name}`, I.div(rest, base));
    return value;
  };
  const tile = digit("tile", tiles);
  const residue = digit("residue", I.of(shape.lattice));
  const piece = digit("piece", I.of(pieces));
  const cellIndex = digit("cell_index", cells);
  const head = digit("head", I.of(spec.heads));
  const batch = rest;

  const cellStart = I.share("cell_start", I.mul(cellIndex, cell));
  const cellEnd = I.share("cell_end", I.min(I.add(cellStart, cell), N));
  const segments = shape.order.map((index) => segmentOf(spec.branches[index]?.segment ?? ALL));
  const dilations = shape.order.map((index) => spec.branches[index]?.dilation ?? 1);

  // Piece 0 starts with the cell; piece c starts where the c-th cutting branch begins a segment inside the cell. As no
  // segment is shorter than a cell, there is at most one such place per branch.
  const cutAt = shape.cuts.map((p, c) => {
    const w = I.of(segments[p] ?? ALL);
    return I.share(`cut_${c}`, I.mul(I.add(I.div(cellStart, w), I.of(1)), w));
  });
  let from = cellStart;
  cutAt.forEach((cut, c) => {
    const twice = cutAt.slice(0, c).reduce((any, other) => I.select(I.eq(other, cut), I.of(1), any), I.of(0));
    const here = I.select(I.eq(twice, I.of(0)), cut, cellEnd);
    from = I.select(I.eq(piece, I.of(c + 1)), I.min(here, cellEnd), from);
  });
  from = I.share("from", from);
  const to = I.share(
    "to",
    cutAt.reduce((end, cut) => I.select(I.lt(from, cut), I.min(end, cut), end), cellEnd),
  );

  const first = I.share("first", I.add(I.add(from, residue), I.mul(tile, I.of(at.rows * shape.lattice))));
  const rows = I.share("rows", I.min(I.of(at.rows), termsBelow(I, I.sub(to, first), I.of(shape.lattice))));
  const passes = shape.order.map((branch, p): Pass<T, C> => {
    const w = segments[p] ?? ALL;
    const r = I.of(dilations[p] ?? 1);
    const start = w >= ALL ? I.of(0) : I.share(`start_${p}`, I.mul(I.div(from, I.of(w)), I.of(w)));
    const end = w >= ALL ? N : I.share(`end_${p}`, I.min(I.add(start, I.of(w)), N));
    const offset = I.share(`offset_${p}`, I.offset(I.of(branch), head));
    const covers =
      dilations[p] === 1
        ? I.truth(true)
        : I.shareCondition(`covers_${p}`, I.eq(I.rem(I.sub(first, start), r), offset));
    return { covers, start, end, offset };
  });
  return { batch, head, first, rows, passes };
}

/** The keys of one pass: slots [0, before) and [after, real) of the branch's segment; those between belong to parents' passes. */
export type PassKeys<T> = {
  /** Token position of slot 0. */
  readonly base: T;
  readonly before: T;
  readonly after: T;
  /** Slots that some row of the tile may see. */
  readonly real: T;
};

/**
 * Parents' segments all hold the tile, so their union is one interval [low, high): the keys of pass p are its own slots
 * outside it. Keys inside are on a covering parent's grid too (its dilation divides) and are folded there.
 */
export function passKeys<T, C>(
  I: Integers<T, C>,
  spec: AttentionShape,
  shape: ClassShape,
  tile: ClassTile<T, C>,
  p: number,
): PassKeys<T> {
  const pass = tile.passes[p];
  const branch = spec.branches[shape.order[p] ?? 0];
  if (pass === undefined || branch === undefined) throw new Error(`heddle: internal: no pass ${p}`);
  const r = I.of(branch.dilation);
  const base = I.share(`base_${p}`, I.add(pass.start, pass.offset));
  // The last row is a token, so keys up to it are inside N; for causal rows later keys are invisible to the whole tile.
  const last = I.add(tile.first, I.mul(I.sub(tile.rows, I.of(1)), I.of(shape.lattice)));
  const visible = spec.causal ? I.min(pass.end, I.add(last, I.of(1))) : pass.end;
  const real = I.share(`real_${p}`, termsBelow(I, I.sub(visible, base), r));
  let low = pass.start;
  let high = pass.start;
  const parents = shape.parents[p] ?? [];
  for (const parent of parents) {
    const q = tile.passes[parent];
    if (q === undefined) continue;
    const none = I.eq(low, high);
    const lower = I.select(none, q.start, I.min(low, q.start));
    const higher = I.select(none, q.end, I.max(high, q.end));
    const [was, wasHigh] = [low, high];
    low = I.share(`low_${p}_${parent}`, I.select(q.covers, lower, was));
    high = I.share(`high_${p}_${parent}`, I.select(q.covers, higher, wasHigh));
  }
  const before = parents.length === 0 ? I.of(0) : I.min(real, termsBelow(I, I.sub(low, base), r));
  const after = parents.length === 0 ? I.of(0) : I.min(real, termsBelow(I, I.sub(high, base), r));
  return {
    base,
    before: I.share(`before_${p}`, before),
    after: I.share(`after_${p}`, I.max(before, after)),
    real,
  };
}

/** Slots of pass p that also lie on the grid of a later branch and are counted there: every `period`-th from `phase`, inside [from, to). */
export type Fold<T, C> = {
  readonly active: C;
  readonly period: number;
  readonly phase: T;
  readonly from: T;
  readonly to: T;
  /** Slots in these intervals are folded by an earlier parent instead. */
  readonly except: readonly { readonly active: C; readonly from: T; readonly to: T }[];
};

/**
 * How the keys of branch pass `child` fold into pass p (a parent of it): a key of both is counted in the first covering
 * parent of the child whose segment holds it, and that pass does emit it (its own parents would be earlier parents of
 * the child by transitivity).
 */
export function foldInto<T, C>(
  I: Integers<T, C>,
  spec: AttentionShape,
  shape: ClassShape,
  tile: ClassTile<T, C>,
  p: number,
  child: number,
): Fold<T, C> | null {
  const parents = shape.parents[child] ?? [];
  if (!parents.includes(p)) return null;
  const [own, other] = [tile.passes[p], tile.passes[child]];
  const [branch, childBranch] = [spec.branches[shape.order[p] ?? 0], spec.branches[shape.order[child] ?? 0]];
  if (own === undefined || other === undefined || branch === undefined || childBranch === undefined)
    return null;
  const r = I.of(branch.dilation);
  const base = I.add(own.start, own.offset);
  const slotOf = (position: T): T => termsBelow(I, I.sub(position, base), r);
  const period = childBranch.dilation / branch.dilation;
  // Both grids hold the tile's rows, so they agree modulo r: the child's first key at or after `base` is a slot of p. The tile
  // begins in the segment, so less than an offset, and less than R, before `base`.
  const R = I.of(childBranch.dilation);
  const distance = I.rem(I.add(I.sub(tile.first, base), R), R);
  const phase = I.rem(I.div(distance, r), I.of(period));
  const ownParents = shape.parents[p] ?? [];
  const except = parents
    .filter((earlier) => earlier < p && !ownParents.includes(earlier))
    .flatMap((earlier) => {
      const q = tile.passes[earlier];
      return q === undefined ? [] : [{ active: q.covers, from: slotOf(q.start), to: slotOf(q.end) }];
    });
  return { active: other.covers, period, phase, from: slotOf(other.start), to: slotOf(other.end), except };
}

/** Padded slots of a pass's segment, seen as keys of score 0 by every row (bidirectional, padding `zero`). */
export function passPhantoms<T, C>(
  I: Integers<T, C>,
  spec: AttentionShape,
  shape: ClassShape,
  tile: ClassTile<T, C>,
  p: number,
  N: T,
): T {
  const pass = tile.passes[p];
  const branch = spec.branches[shape.order[p] ?? 0];
  if (pass === undefined || branch === undefined) return I.of(0);
  const r = I.of(branch.dilation);
  const slots = ceilDiv(I, I.min(I.of(segmentOf(branch.segment)), N), r);
  const real = termsBelow(I, I.sub(pass.end, I.add(pass.start, pass.offset)), r);
  return I.select(pass.covers, I.sub(slots, real), I.of(0));
}
