/**
 * Decoding in f64 over the bounded cache of `geometry/cache.ts`: what a device keeps and reads for one token, written as plainly as
 * that geometry allows. Its meaning is `attention` of the whole prefix; that the two agree is what the tests of the cache show.
 */
import {
  cachePieces,
  cacheShape,
  laneRows,
  moves,
  numbers,
  regionAt,
  regionBase,
  regionRows,
  takesPart,
  type CacheShape,
} from "../geometry.ts";
import type { AttentionShape } from "../spec.ts";
import { logSumExp, type AttentionMeaning, type Decay } from "./attention.ts";
import { blockDecay } from "./xpos.ts";

/** Keys and values of several sequences: [lanes, rows, 2, headDim], rows as `laneRows` counts them. */
export type ReferenceCache = {
  readonly spec: AttentionMeaning;
  readonly shape: CacheShape;
  /** Tokens that a sequence may have. */
  readonly capacity: number;
  readonly data: Float64Array;
  readonly decay?: Decay | undefined;
};

const integers = (spec: AttentionMeaning) => numbers(spec as AttentionShape);

/** Elements of a cache for `lanes` sequences of at most `capacity` tokens. */
export const cacheElements = (spec: AttentionMeaning, lanes: number, capacity: number): number =>
  lanes * laneRows(integers(spec), cacheShape(spec), capacity) * 2 * spec.headDim;

/** An empty cache; `data`, where given, is used as its memory. */
export function referenceCache(
  spec: AttentionMeaning,
  at: { readonly lanes: number; readonly capacity: number },
  decay?: Decay,
  data: Float64Array = new Float64Array(cacheElements(spec, at.lanes, at.capacity)).fill(NaN),
): ReferenceCache {
  return { spec, shape: cacheShape(spec), capacity: at.capacity, data, decay };
}

/** Where row `row` of a stream lies: its key, and its value headDim later. */
function rowAt(cache: ReferenceCache, lane: number, branch: number, stream: number, row: number): number {
  const { spec, shape, capacity } = cache;
  const I = integers(spec);
  const rows = regionRows(I, shape, branch, capacity);
  if (row < 0 || row >= rows)
    throw new Error(`heddle: internal: row ${row} of the ${rows} of branch ${branch} in the cache`);
  const before = regionBase(I, shape, branch, capacity) + stream * rows + row;
  return (lane * laneRows(I, shape, capacity) + before) * 2 * spec.headDim;
}

/** The stream of a region in which a query head of another branch with `offset` finds its tokens. */
function streamFor(cache: ReferenceCache, branch: number, kvHead: number, offset: number): number {
  const { streams, dilation } = regionAt(cache.shape, branch);
  const found = streams.findIndex((s) => s.kvHead === kvHead && s.offset === offset % dilation);
  if (found < 0) throw new Error(`heddle: internal: branch ${branch} stores no offset ${offset}`);
  return found;
}

/** Puts into lane `lane` what a prompt of N tokens leaves visible; k and v [N, kvHeads, headDim]. */
export function remember(
  cache: ReferenceCache,
  lane: number,
  k: Float64Array,
  v: Float64Array,
  N: number,
): void {
  const { spec, shape } = cache;
  const { headDim, kvHeads } = spec;
  for (const region of shape.regions)
    region.streams.forEach(({ kvHead, offset }, stream) => {
      const piece = cachePieces(integers(spec), shape, region.branch, offset, N - 1)[0];
      for (let i = 0; i < (piece?.count ?? 0); i++) {
        const from = (((piece?.token ?? 0) + i * region.dilation) * kvHeads + kvHead) * headDim;
        const to = rowAt(cache, lane, region.branch, stream, i);
        cache.data.set(k.subarray(from, from + headDim), to);
        cache.data.set(v.subarray(from, from + headDim), to + headDim);
      }
    });
}

/** Before the token at t is stored: what a parent's segment that ended at t leaves to its children. */
export function promote(cache: ReferenceCache, lane: number, t: number): void {
  const { spec, shape, data } = cache;
  const I = integers(spec);
  for (const region of shape.regions) {
    if (!moves(I, shape, region.branch, t)) continue;
    region.streams.forEach(({ kvHead, offset }, stream) => {
      for (const piece of cachePieces(I, shape, region.branch, offset, t - 1).slice(1)) {
        const other = streamFor(cache, piece.region, kvHead, offset);
        for (let i = 0; i < piece.count; i++) {
          const from = rowAt(cache, lane, piece.region, other, piece.row + i * piece.step);
          const to = rowAt(cache, lane, region.branch, stream, piece.slot + i);
          data.copyWithin(to, from, from + 2 * spec.headDim);
        }
      }
    });
  }
}

/** Stores the token at t in the regions of the branches without a parent; k and v [kvHeads, headDim]. */
function store(cache: ReferenceCache, lane: number, t: number, k: Float64Array, v: Float64Array): void {
  const { spec, shape, data } = cache;
  const { headDim } = spec;
  for (const region of shape.regions) {
    if (region.parent !== null) continue;
    region.streams.forEach(({ kvHead, offset }, stream) => {
      if (!takesPart(integers(spec), region, offset, t)) return;
      const row = Math.floor((t % region.segment) / region.dilation);
      const to = rowAt(cache, lane, region.branch, stream, row);
      data.set(k.subarray(kvHead * headDim, (kvHead + 1) * headDim), to);
      data.set(v.subarray(kvHead * headDim, (kvHead + 1) * headDim), to + headDim);
    });
  }
}

/**
 * One token of one sequence: stores its key and value, and attends. q [heads, headDim], k and v [kvHeads, headDim] at position t; out
 * like q, lse [heads]: −∞ (and out 0) where no branch covers the query. `promote` must have run for t.
 */
export function decodeToken(
  cache: ReferenceCache,
  lane: number,
  t: number,
  { q, k, v }: { readonly q: Float64Array; readonly k: Float64Array; readonly v: Float64Array },
): { readonly out: Float64Array; readonly lse: Float64Array } {
  const { spec, shape, data, decay } = cache;
  const { heads, headDim, kvHeads, scale, combine } = spec;
  const I = integers(spec);
  store(cache, lane, t, k, v);
  const out = new Float64Array(heads * headDim);
  const lse = new Float64Array(heads).fill(-Infinity);
  for (let h = 0; h < heads; h++) {
    const kvHead = Math.floor(h / (heads / kvHeads));
    const parts: { readonly lse: number; readonly out: Float64Array }[] = [];
    for (const region of shape.regions) {
      const offset = spec.offsets[region.branch]?.[h] ?? 0;
      if (!takesPart(I, region, offset, t)) continue;
      const places: number[] = [];
      const scores: number[] = [];
      for (const piece of cachePieces(I, shape, region.branch, offset, t))
        for (let i = 0; i < piece.count; i++) {
          const stream = streamFor(cache, piece.region, kvHead, offset);
          const at = rowAt(cache, lane, piece.region, stream, piece.row + i * piece.step);
          const token = piece.token + i * region.dilation;
          const fade =
            decay === undefined
              ? undefined
              : blockDecay(headDim, decay, Math.floor(t / decay.block) - Math.floor(token / decay.block));
          let sum = 0;
          for (let d = 0; d < headDim; d++)
            sum += (q[h * headDim + d] ?? NaN) * (data[at + d] ?? NaN) * (fade?.[d >> 1] ?? 1);
          places.push(at);
          scores.push(scale * sum);
        }
      const own = logSumExp(scores);
      const mixed = new Float64Array(headDim);
      places.forEach((at, i) => {
        const weight = Math.exp((scores[i] ?? NaN) - own);
        for (let d = 0; d < headDim; d++)
          mixed[d] = (mixed[d] ?? 0) + weight * (data[at + headDim + d] ?? NaN);
      });
      parts.push({ lse: own, out: mixed });
    }
    const union = logSumExp(parts.map((p) => p.lse));
    lse[h] = parts.length === 0 ? -Infinity : union;
    for (const part of parts) {
      const weight = combine === "mean" ? 1 / parts.length : Math.exp(part.lse - union);
      for (let d = 0; d < headDim; d++)
        out[h * headDim + d] = (out[h * headDim + d] ?? 0) + weight * (part.out[d] ?? 0);
    }
  }
  return { out, lse };
}
