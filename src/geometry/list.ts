/**
 * Schedule `annulus_list`: the tiles of all passes of an `annulus` schedule in one list, the longest first, where each leaves its rows of
 * the result until all are there, and how those of a row are found again.
 *
 * A branch's part of the result has, for each head of each sequence, a row for each slot of the branch's segments, one segment after
 * another: 1/dilation of the sequence's rows, and up to one more for each segment that its dilation does not divide.
 */
import type { AttentionShape } from "../spec.ts";
import { annulusTile, roomOf, type AnnulusTile } from "./annulus.ts";
import { classTile, type ClassShape } from "./class.ts";
import { ALL, ceilDiv, segmentOf, type Integers, type Lookup } from "./integers.ts";
import type { AnnulusPass, AnnulusShape } from "./links.ts";

const branchOf = (spec: AttentionShape, branch: number) => {
  const { segment, dilation } = spec.branches[branch] ?? { segment: Infinity, dilation: 1 };
  return { segment: segmentOf(segment), dilation };
};

/** Whether the rows of a branch begin anew in each segment, not a whole number of dilations after those of the last one. */
const irregular = (spec: AttentionShape, branch: number): boolean => {
  const { segment, dilation } = branchOf(spec, branch);
  return spec.align !== "ceil" && segment < ALL && segment % dilation !== 0;
};

/** Rows of a branch's part of one head of one sequence: as many as the head with the most has. */
export function partRows<T, C>(I: Integers<T, C>, spec: AttentionShape, branch: number, N: T): T {
  const { segment, dilation } = branchOf(spec, branch);
  const r = I.of(dilation);
  if (!irregular(spec, branch)) return ceilDiv(I, N, r);
  const full = I.div(N, I.of(segment));
  const rest = I.sub(N, I.mul(full, I.of(segment)));
  return I.add(I.mul(full, I.of(Math.ceil(segment / dilation))), ceilDiv(I, rest, r));
}

/** Where a branch's part begins among those of one head of one sequence; `branches.length`: where they end. */
export const partBase = <T, C>(I: Integers<T, C>, spec: AttentionShape, branch: number, N: T): T =>
  spec.branches
    .slice(0, branch)
    .reduce((sum, _, b) => I.add(sum, I.share("part_rows", partRows(I, spec, b, N))), I.of(0));

/** Tiles of keys that the longest tile of a pass has, by the head whose pass holds the most. */
export function longestKeys<T, C>(
  I: Integers<T, C>,
  spec: AttentionShape,
  shape: AnnulusShape,
  { branch }: AnnulusPass,
  keys: number,
  N: T,
): T {
  const { segment, dilation } = branchOf(spec, branch);
  const slots = (length: number): T => ceilDiv(I, I.min(I.of(length), N), I.of(dilation));
  let held = ALL;
  for (let regime = 0; regime <= shape.bounds.length; regime++)
    for (let head = 0; head < spec.heads; head++) {
      const parent = shape.parent(regime, branch, head);
      held = Math.min(held, parent === null ? 0 : branchOf(spec, parent).segment);
    }
  const own = held === 0 ? slots(segment) : I.max(I.of(0), I.sub(slots(segment), slots(held)));
  return ceilDiv(I, own, I.of(keys));
}

/** A pass as `listTurn` counts it. */
export type ListPass<T> = {
  /** Groups of one head of one sequence. */
  readonly groups: T;
  /** As in `longestKeys`. */
  readonly longest: T;
  /** Segments that the groups of one head of one sequence are dealt out to, or 1 where segments have parts of several lengths. */
  readonly alike: T;
};

/** Cells of a pass that hold a segment each, so that tiles at the same place in them see about as many keys. */
export const alikeCells = <T, C>(I: Integers<T, C>, spec: AttentionShape, pass: AnnulusPass, N: T): T =>
  pass.cell === branchOf(spec, pass.branch).segment ? ceilDiv(I, N, I.min(I.of(pass.cell), N)) : I.of(1);

/**
 * The pass of a group of the list, and which of the pass's own groups it is. Passes with the longest tiles come first. In a causal pass
 * later rows of a segment see more keys: its tiles go from the end of segments to their start, those of all heads and sequences at one
 * place before those at the next. Elsewhere the tiles of a pass are as long as each other, and those of one head, which share its keys,
 * follow each other.
 */
export function listTurn<T, C>(
  I: Integers<T, C>,
  spec: AttentionShape,
  at: {
    readonly group: T;
    /** Heads of all sequences. */
    readonly sequences: T;
    readonly passes: readonly ListPass<T>[];
  },
): { readonly pass: T; readonly group: T } {
  const before = at.passes.map(() => I.of(0));
  const move = (p: number, by: T) => {
    before[p] = I.add(before[p] ?? I.of(0), by);
  };
  at.passes.forEach((a, p) =>
    at.passes.slice(p + 1).forEach((b, i) => {
      const later = I.shareCondition("later", I.lt(a.longest, b.longest));
      move(p, I.select(later, b.groups, I.of(0)));
      move(p + 1 + i, I.select(later, I.of(0), a.groups));
    }),
  );
  const turn = I.share("turn_of", I.div(at.group, at.sequences));
  const [first] = at.passes;
  if (first === undefined) throw new Error("heddle: internal: a list without passes");
  let [pass, begins, groups, alike] = [I.of(0), before[0] ?? I.of(0), first.groups, first.alike];
  at.passes.forEach((each, p) => {
    if (p === 0) return;
    const begin = I.share("begins", before[p] ?? I.of(0));
    const inside = I.and(I.not(I.lt(turn, begin)), I.lt(turn, I.add(begin, each.groups)));
    const here = I.shareCondition("here", inside);
    pass = I.select(here, I.of(p), pass);
    begins = I.select(here, begin, begins);
    groups = I.select(here, each.groups, groups);
    alike = I.select(here, each.alike, alike);
  });
  pass = I.share("pass", pass);
  begins = I.share("begins", begins);
  if (!spec.causal) return { pass, group: I.share("of_pass", I.sub(at.group, I.mul(begins, at.sequences))) };
  const own = I.share("groups", groups);
  const cells = I.share("alike", alike);
  const place = I.share("place_of", I.sub(I.sub(own, I.of(1)), I.sub(turn, begins)));
  const inCell = I.add(I.mul(I.rem(place, cells), I.div(own, cells)), I.div(place, cells));
  const sequence = I.rem(at.group, at.sequences);
  return { pass, group: I.share("of_pass", I.add(I.mul(sequence, own), inCell)) };
}

/** Numbers of a pass in `listPlaces`, before its cuts. */
const PLACE = 4;

const cutsOf = ({ passes }: AnnulusShape): number => Math.max(0, ...passes.map((p) => p.cuts.length));

/** What the groups of a list look up of their passes: branch, cell, room for slots and tiles, cuts. */
export const listPlaces = (spec: AttentionShape, shape: AnnulusShape): Lookup => ({
  name: "places",
  values: shape.passes.flatMap((pass) => {
    const { slots, tiles } = roomOf(spec, pass);
    const cuts = Array.from({ length: cutsOf(shape) }, (_, i) => pass.cuts[i] ?? ALL);
    return [pass.branch, pass.cell, slots, tiles, ...cuts];
  }),
});

export type ListTile<T> = AnnulusTile<T> & { readonly branch: T };

/** The tile of a group of the list. */
export function listTile<T, C>(
  I: Integers<T, C>,
  spec: AttentionShape,
  shape: AnnulusShape,
  at: Parameters<typeof listTurn<T, C>>[2] & { readonly N: T; readonly rows: number },
): ListTile<T> {
  const { pass, group } = listTurn(I, spec, at);
  const places = listPlaces(spec, shape);
  const cuts = cutsOf(shape);
  const from = I.share("place", I.mul(pass, I.of(PLACE + cuts)));
  const look = (name: string, i: number): T => I.share(name, I.look(places, I.add(from, I.of(i))));
  const branch = look("branch", 0);
  const tile = annulusTile(I, spec, shape, {
    group,
    N: at.N,
    branch,
    segment: I.share("segment", I.look(shape.tables.segments, branch)),
    dilation: I.share("dilation", I.look(shape.tables.dilations, branch)),
    cell: look("cell", 1),
    room: { slots: look("room_slots", 2), tiles: look("room_tiles", 3) },
    cuts: Array.from({ length: cuts }, (_, i) => look(`cut_${i}`, PLACE + i)),
    rows: at.rows,
  });
  return { ...tile, branch };
}

/** The first row of a tile in the parts of its head of its sequence. */
export function partRow<T, C>(I: Integers<T, C>, spec: AttentionShape, tile: ListTile<T>, N: T): T {
  let [base, own] = [I.of(0), I.of(0)];
  spec.branches.forEach((_, b) => {
    base = I.select(I.eq(tile.branch, I.of(b)), own, base);
    own = I.share("parts_to", I.add(own, partRows(I, spec, b, N)));
  });
  return I.share("part_row", I.add(base, I.add(I.mul(tile.segment, tile.slots), tile.slot)));
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

/**
 * How the rows of the result are cut into tiles of the merge: rows of a tile are equal modulo all dilations, and of a branch whose rows
 * begin anew in each segment they lie in one. So every branch has all of them or none, at equal distances.
 */
export function mergeShape(spec: AttentionShape): ClassShape {
  const anew = spec.branches.map((_, b) => b).filter((b) => irregular(spec, b));
  const lengths = anew.map((b) => branchOf(spec, b).segment);
  const cell = Math.min(ALL, ...lengths);
  return {
    order: spec.branches.map((_, b) => b),
    lattice: spec.branches.reduce((l, b) => (l / gcd(l, b.dilation)) * b.dilation, 1),
    cell,
    cuts: anew.filter((_, i) => (lengths[i] ?? cell) % cell !== 0),
    parents: [],
  };
}

/** What a branch has of the rows of a tile, where it `covers` them: rows `row`, `row + step`, … of its part. */
export type MergePart<T, C> = { readonly covers: C; readonly row: T; readonly step: number };

export type MergeTile<T, C> = {
  readonly batch: T;
  readonly head: T;
  /** Token position of the tile's first row; rows are `lattice` apart. */
  readonly first: T;
  readonly rows: T;
  /** By branch. */
  readonly parts: readonly MergePart<T, C>[];
};

export function mergeTile<T, C>(
  I: Integers<T, C>,
  spec: AttentionShape,
  shape: ClassShape,
  at: { readonly group: T; readonly N: T; readonly rows: number },
): MergeTile<T, C> {
  const { batch, head, first, rows, passes } = classTile(I, spec, shape, at);
  const parts = passes.map(({ covers, start, offset }, branch): MergePart<T, C> => {
    const { segment, dilation } = branchOf(spec, branch);
    const slotFrom = (begin: T): T => I.div(I.sub(I.sub(first, begin), offset), I.of(dilation));
    // Segments of a whole number of dilations, and rows of `align ceil`, leave no gap between one segment's slots and the next one's.
    const row = irregular(spec, branch)
      ? I.add(I.mul(I.div(start, I.of(segment)), I.of(Math.ceil(segment / dilation))), slotFrom(start))
      : slotFrom(I.of(0));
    return { covers, row, step: shape.lattice / dilation };
  });
  return { batch, head, first, rows, parts };
}
