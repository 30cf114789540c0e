/** What one query of one head attends, on the host and in f64, over its visible keys only (semantics.md 1). */
import type { AttentionMeaning } from "../definition.ts";
import { xposZeta } from "../tables.ts";

/** Queries [N, heads, headDim] and keys [N, kvHeads, headDim] of a layer, as attention takes them. */
export type LayerRows = { readonly q: Float32Array; readonly k: Float32Array };

/** Tokens that a query sees through one branch: `first`, `first + dilation`, …, then `phantoms` keys of zeros. */
type Seen = {
  /** The token whose query it is; −1 where `align ceil` puts a phantom's output. */
  readonly query: number;
  readonly first: number;
  readonly dilation: number;
  readonly count: number;
  readonly phantoms: number;
};

/** What output row `row` of a head sees through branch `b`; null where the branch does not cover it. */
function seenBy(a: AttentionMeaning, b: number, head: number, row: number, N: number): Seen | null {
  const { segment, dilation } = a.branches[b] ?? { segment: null, dilation: 1 };
  const offset = a.offsets[b]?.[head] ?? 0;
  const g = Math.min(segment ?? N, N);
  const slots = Math.ceil(g / dilation);
  // torchscale's scatter moves segment s to s·⌈g/r⌉·r (semantics.md 1.2).
  const stride = a.align === "ceil" ? slots * dilation : g;
  const start = Math.floor(row / stride) * g;
  const t = row % stride;
  if (t < offset || (t - offset) % dilation !== 0 || start >= N) return null;
  const slot = (t - offset) / dilation;
  const end = Math.min(g, N - start);
  const real = t < end;
  if (!real && a.align === "segment") return null;
  const present = Math.max(0, Math.ceil((end - offset) / dilation));
  const visible = a.causal ? slot + 1 : slots;
  const count = Math.min(present, visible);
  const phantoms = a.padding === "zero" ? visible - count : 0;
  if (count + phantoms === 0) return null;
  return { query: real ? start + t : -1, first: start + offset, dilation, count, phantoms };
}

/**
 * Calls `add` with each token that output row `row` of `head` attends and its weight, a token of several branches once for each. Gives
 * what goes to phantom keys: all weights and this add up to 1, or to 0 where no branch covers the row.
 */
export function attend(
  a: AttentionMeaning,
  rows: LayerRows,
  N: number,
  head: number,
  row: number,
  add: (token: number, weight: number) => void,
): number {
  const branches = a.branches.flatMap((_, b) => {
    const seen = seenBy(a, b, head, row, N);
    return seen === null ? [] : [{ seen, scores: scoresOf(a, rows, head, seen) }];
  });
  const sums = branches.map(({ seen, scores }) => {
    const most = scores.reduce((x, y) => Math.max(x, y), seen.phantoms > 0 ? 0 : -Infinity);
    return { most, sum: scores.reduce((x, y) => x + Math.exp(y - most), ofPhantoms(seen, most)) };
  });
  const mean = a.combine === "mean";
  const top = Math.max(...sums.map(({ most }) => most));
  const union = sums.reduce((x, { most, sum }) => x + sum * Math.exp(most - top), 0);
  let lost = 0;
  branches.forEach(({ seen, scores }, i) => {
    const { most, sum } = sums[i] ?? { most: 0, sum: 1 };
    const [from, whole] = mean ? [most, sum * branches.length] : [top, union];
    scores.forEach((score, n) => add(seen.first + n * seen.dilation, Math.exp(score - from) / whole));
    lost += ofPhantoms(seen, from) / whole;
  });
  return lost;
}

/** What phantom keys, of score 0, add to a sum of weights below `most` ≥ 0; without any the most may lie so far down that e^−most is no number. */
const ofPhantoms = ({ phantoms }: Seen, most: number): number =>
  phantoms === 0 ? 0 : phantoms * Math.exp(-most);

function scoresOf(a: AttentionMeaning, { q, k }: LayerRows, head: number, seen: Seen): Float64Array {
  const scores = new Float64Array(seen.count);
  // The query of a phantom is zero.
  if (seen.query < 0) return scores;
  const { heads, headDim: D, kvHeads } = a;
  const kvHead = Math.floor(head / (heads / kvHeads));
  const from = (seen.query * heads + head) * D;
  const query = Float64Array.from(q.subarray(from, from + D), (x) => x * a.scale);
  const faded = fading(a, query);
  for (let n = 0; n < seen.count; n++) {
    const token = seen.first + n * seen.dilation;
    const own = faded(seen.query, token);
    const at = (token * kvHeads + kvHead) * D;
    let sum = 0;
    for (let d = 0; d < D; d++) sum += (own[d] ?? NaN) * (k[at + d] ?? NaN);
    scores[n] = sum;
  }
  return scores;
}

/** The query as it meets a key: under xPos pair i is faded by ζ_i to the distance of their blocks. */
function fading(
  { decay, headDim }: AttentionMeaning,
  query: Float64Array,
): (query: number, key: number) => Float64Array {
  if (decay === undefined) return () => query;
  const { base, block } = decay;
  const zeta = xposZeta(headDim);
  const known = new Map<number, Float64Array>();
  return (m, n) => {
    const blocks = Math.floor(m / block) - Math.floor(n / block);
    let made = known.get(blocks);
    if (made === undefined) {
      made = query.map((x, d) => x * (zeta[d >> 1] ?? NaN) ** ((blocks * block) / base));
      known.set(blocks, made);
    }
    return made;
  };
}
