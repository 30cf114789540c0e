/**
 * What of a causal attention's keys and values must be kept while tokens come one by one, and where each of them lies.
 *
 * A token is read again only by queries on the same grid in the same segment (semantics.md 1.6): branch b holds for head h the tokens
 * s·w + off(b, h) + j·r ≤ t of the segment s of the newest token t, and a query at t sees them if (t mod w) mod r = off(b, h). They lie in
 * the branch's region in grid coordinates: row j = ⌊(t mod w)/r⌋ of the progression that starts at off. A key/value head that serves
 * several query heads has one progression for each of their offsets.
 *
 * Where the grid of a branch c is part of that of a shorter branch b for every head, c's region does not hold the tokens of b's current
 * segment: they are read from b's, in steps of r_c/r_b, and move when that segment ends. Such b is c's parent, and may have one itself.
 */
import type { AttentionShape } from "../spec.ts";
import { ceilDiv, segmentOf, termsBelow, type Integers } from "./integers.ts";

export type CacheRegion = {
  readonly branch: number;
  /** Tokens; ALL for a branch over the whole sequence. */
  readonly segment: number;
  readonly dilation: number;
  /** The branch whose region holds the tokens of its current segment for this one too, or null. */
  readonly parent: number | null;
  /** The progressions that are stored: tokens off, off + r, … of a segment, for a key/value head. */
  readonly streams: readonly { readonly kvHead: number; readonly offset: number }[];
  /** By query head: which of the streams it reads. */
  readonly streamOf: readonly number[];
};

export type CacheShape = {
  /** By branch. */
  readonly regions: readonly CacheRegion[];
  /** chains[b]: the branch, its parent, the parent's parent … */
  readonly chains: readonly (readonly number[])[];
};

type Plain = Pick<AttentionShape, "heads" | "kvHeads" | "branches" | "offsets">;

/** Whether every token of c inside any segment of b lies on b's grid, for every head, and c's segments end where some of b's do. */
function holds(spec: Plain, b: number, c: number): boolean {
  const [x, y] = [spec.branches[b], spec.branches[c]];
  if (x === undefined || y === undefined || b === c) return false;
  // Of branches that hold each other the earlier one is the parent, so that chains end.
  const before =
    x.segment < y.segment ||
    (x.segment === y.segment && (x.dilation < y.dilation || (x.dilation === y.dilation && b < c)));
  if (!before || y.dilation % x.dilation !== 0) return false;
  // Segments of b begin on b's grid of the whole sequence, and none of them reaches across the end of one of c's.
  const aligned =
    x.segment === y.segment ||
    (x.segment % x.dilation === 0 && (y.segment === Infinity || y.segment % x.segment === 0));
  return (
    aligned && (spec.offsets[c] ?? []).every((off, h) => off % x.dilation === (spec.offsets[b]?.[h] ?? 0))
  );
}

/** The parent that leaves the fewest tokens to the branch itself: the longest, of equal ones that with the sparsest grid. */
function parentOf(spec: Plain, c: number): number | null {
  let best: number | null = null;
  for (const [b, branch] of spec.branches.entries()) {
    if (!holds(spec, b, c)) continue;
    const known = best === null ? undefined : spec.branches[best];
    const better =
      known === undefined ||
      branch.segment > known.segment ||
      (branch.segment === known.segment && branch.dilation > known.dilation);
    if (better) best = b;
  }
  return best;
}

/** The regions of an attention. */
export function cacheShape(spec: Plain): CacheShape {
  const perGroup = spec.heads / spec.kvHeads;
  const regions = spec.branches.map((branch, b): CacheRegion => {
    const streams: { kvHead: number; offset: number }[] = [];
    const streamOf = Array.from({ length: spec.heads }, (_, h) => {
      const kvHead = Math.floor(h / perGroup);
      const offset = spec.offsets[b]?.[h] ?? 0;
      const known = streams.findIndex((s) => s.kvHead === kvHead && s.offset === offset);
      return known >= 0 ? known : streams.push({ kvHead, offset }) - 1;
    });
    const parent = parentOf(spec, b);
    return {
      branch: b,
      segment: segmentOf(branch.segment),
      dilation: branch.dilation,
      parent,
      streams,
      streamOf,
    };
  });
  const chains = regions.map(({ branch }) => {
    const chain = [branch];
    for (let at = regions[branch]?.parent ?? null; at !== null; at = regions[at]?.parent ?? null)
      chain.push(at);
    return chain;
  });
  return { regions, chains };
}

export const regionAt = (shape: CacheShape, branch: number): CacheRegion => {
  const found = shape.regions[branch];
  if (found === undefined) throw new Error(`heddle: internal: the cache has no branch ${branch}`);
  return found;
};

/**
 * Rows of each stream of a branch in a cache for sequences of at most `capacity` tokens (≥ 1): every ⌈w/r⌉, without a parent; with one
 * only those before the parent's last segment.
 */
export function regionRows<T, C>(I: Integers<T, C>, shape: CacheShape, branch: number, capacity: T): T {
  const { segment, dilation, parent } = regionAt(shape, branch);
  const most = I.min(I.of(segment), capacity);
  if (parent === null) return ceilDiv(I, most, I.of(dilation));
  const w = I.of(regionAt(shape, parent).segment);
  return ceilDiv(I, I.mul(I.div(I.sub(most, I.of(1)), w), w), I.of(dilation));
}

/** Where a branch's rows begin among those of one sequence; those of the branch after the last one: all of them. */
export function regionBase<T, C>(I: Integers<T, C>, shape: CacheShape, branch: number, capacity: T): T {
  return shape.regions
    .slice(0, branch)
    .reduce(
      (sum, r) => I.add(sum, I.mul(I.of(r.streams.length), regionRows(I, shape, r.branch, capacity))),
      I.of(0),
    );
}

/** Rows of one sequence, each with a key and a value of headDim. */
export const laneRows = <T, C>(I: Integers<T, C>, shape: CacheShape, capacity: T): T =>
  regionBase(I, shape, shape.regions.length, capacity);

/** Keys of a branch that lie in one region: `count` rows of it from `row` on, `step` apart, with their tokens. */
export type CachePiece<T> = {
  /** The branch whose region it is. */
  readonly region: number;
  readonly row: T;
  readonly step: number;
  readonly count: T;
  /** The first one's token; the next is `dilation` of the branch later. */
  readonly token: T;
  /** Which of the branch's own progression the first one is: its row once it lies in the branch's own region. */
  readonly slot: T;
};

/**
 * The tokens before `end` (t + 1 or less) of branch `branch`'s segment at t, on the grid that starts at `offset`, by the region that holds them once t is about to be stored:
 * the branch's own first, then those along its chain. Every piece may be empty.
 */
export function cachePieces<T, C>(
  I: Integers<T, C>,
  shape: CacheShape,
  branch: number,
  offset: T,
  t: T,
  end: T = I.add(t, I.of(1)),
): readonly CachePiece<T>[] {
  const { dilation } = regionAt(shape, branch);
  const chain = shape.chains[branch] ?? [];
  const starts = chain.map((b) => {
    const w = I.of(regionAt(shape, b).segment);
    return I.share("segment_start", I.mul(I.div(t, w), w));
  });
  const own = starts[0] ?? I.of(0);
  const first = I.share("first_token", I.add(own, offset));
  /** Slots of the branch's progression before a token. */
  const slotsBefore = (token: T): T => termsBelow(I, I.sub(token, first), I.of(dilation));
  return chain.map((b, i): CachePiece<T> => {
    const from = starts[i] ?? I.of(0);
    const r = regionAt(shape, b).dilation;
    const slot = i === 0 ? I.of(0) : I.share("slot", slotsBefore(from));
    const slotEnd = slotsBefore(starts[i + 1] ?? end);
    const token = I.share("token", I.add(first, I.mul(slot, I.of(dilation))));
    return {
      region: b,
      // ⌊·⌋ takes away the offset: the token lies on the region's own grid.
      row: i === 0 ? I.of(0) : I.share("row", I.div(I.sub(token, from), I.of(r))),
      step: dilation / r,
      count: I.share("count", I.sub(slotEnd, slot)),
      token,
      slot,
    };
  });
}

/** Whether the query at t takes part in a branch whose grid starts at `offset`. */
export function takesPart<T, C>(I: Integers<T, C>, { segment, dilation }: CacheRegion, offset: T, t: T): C {
  return I.eq(I.rem(I.rem(t, I.of(segment)), I.of(dilation)), offset);
}

/** Whether tokens move into a branch's own region before t is stored: its parent's segment ended, its own goes on. */
export function moves<T, C>(I: Integers<T, C>, shape: CacheShape, branch: number, t: T): C {
  const { segment, parent } = regionAt(shape, branch);
  if (parent === null) return I.truth(false);
  const ended = I.eq(I.rem(t, I.of(regionAt(shape, parent).segment)), I.of(0));
  return I.and(ended, I.not(I.eq(I.rem(t, I.of(segment)), I.of(0))));
}
