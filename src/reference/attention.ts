/**
 * The meaning of dilated attention in f64, branch by branch: gather each segment's slots, softmax, scatter back, then
 * merge the branches by their log-sum-exps. Written from semantics.md 1.1–1.3 and deliberately unlike the fused form,
 * which walks one union of keys: the two must agree.
 */
import type { AttentionShape } from "../spec.ts";
import { blockDecay } from "./xpos.ts";

/** What the meaning depends on; `name`, `dtype` and `gradient` do not change the f64 forward. */
export type AttentionMeaning = Pick<
  AttentionShape,
  | "heads"
  | "headDim"
  | "kvHeads"
  | "causal"
  | "branches"
  | "offsets"
  | "padding"
  | "align"
  | "combine"
  | "scale"
>;

export type Decay = { readonly base: number; readonly block: number };

export type AttentionInputs = {
  /** [B, N, heads, headDim] */
  readonly q: Float64Array;
  /** [B, N, kvHeads, headDim] */
  readonly k: Float64Array;
  /** [B, N, kvHeads, headDim] */
  readonly v: Float64Array;
  readonly B: number;
  readonly N: number;
  readonly decay?: Decay | undefined;
};

/** out [B, N, heads, headDim]; lse [B, heads, N], natural log, −∞ (and out 0) where no branch covers the row. */
export type AttentionResult = { readonly out: Float64Array; readonly lse: Float64Array };

const at = <T>(list: readonly T[], index: number): T => {
  const found = list[index];
  if (found === undefined) throw new Error(`heddle: internal: no entry ${index} of ${list.length}`);
  return found;
};

/** A slot of a segment: the token it holds (−1: none, a phantom of zeros) and the row its output is written to. */
type Slot = { readonly token: number; readonly row: number };

/**
 * The slots of every segment for a head that starts at `offset`. A slot's token lies both in its segment and in the
 * sequence. With `align ceil` a phantom has a row as well, and rows drift by ⌈g/r⌉·r − g per segment (torchscale).
 */
export function segmentSlots(
  branch: { readonly segment: number; readonly dilation: number },
  offset: number,
  align: "segment" | "ceil",
  N: number,
): readonly (readonly Slot[])[] {
  if (N === 0) return [];
  const r = branch.dilation;
  const g = Math.min(branch.segment, N);
  const slots = Math.ceil(g / r);
  const stride = align === "ceil" ? slots * r : g;
  return Array.from({ length: Math.ceil(N / g) }, (_segment, s) =>
    Array.from({ length: slots }, (_slot, m) => {
      const t = m * r + offset;
      const real = t < g && s * g + t < N;
      const row = s * stride + t;
      const written = row < N && (real || align === "ceil");
      return { token: real ? s * g + t : -1, row: written ? row : -1 };
    }),
  );
}

/** One branch alone: its own softmax, scattered; lse −∞ and out 0 where it does not cover a row. */
export function branchAttention(spec: AttentionMeaning, b: number, inputs: AttentionInputs): AttentionResult {
  const { heads, headDim, kvHeads } = spec;
  const { q, k, v, B, N, decay } = inputs;
  const out = new Float64Array(B * N * heads * headDim);
  const lse = new Float64Array(B * heads * N).fill(-Infinity);
  const branch = at(spec.branches, b);

  for (let h = 0; h < heads; h++) {
    const kv = Math.floor(h / (heads / kvHeads));
    const segments = segmentSlots(branch, at(at(spec.offsets, b), h), spec.align, N);
    for (let batch = 0; batch < B; batch++) {
      const queryAt = (token: number) => ((batch * N + token) * heads + h) * headDim;
      const keyAt = (token: number) => ((batch * N + token) * kvHeads + kv) * headDim;
      for (const slots of segments) {
        const scores = new Float64Array(slots.length);
        slots.forEach((query, m) => {
          if (query.row < 0) return;
          const seen = spec.causal ? slots.slice(0, m + 1) : slots;
          seen.forEach((key, n) => {
            // A phantom is the zero vector on either side: its score is exactly 0.
            if (key.token < 0) scores[n] = spec.padding === "zero" ? 0 : -Infinity;
            else if (query.token < 0) scores[n] = 0;
            else
              scores[n] =
                spec.scale *
                product(q, queryAt(query.token), k, keyAt(key.token), headDim, query, key, decay);
          });
          const visible = scores.subarray(0, seen.length);
          const most = visible.reduce((a, b) => Math.max(a, b), -Infinity);
          if (most === -Infinity) return; // no visible key: the row is not covered

          let sum = 0;
          const to = queryAt(query.row);
          seen.forEach((key, n) => {
            const weight = Math.exp(visible[n]! - most);
            sum += weight;
            if (key.token < 0) return; // a value of zeros
            accumulate(out, to, weight, v, keyAt(key.token), headDim);
          });
          for (let d = 0; d < headDim; d++) out[to + d]! /= sum;
          lse[(batch * heads + h) * N + query.row] = most + Math.log(sum);
        });
      }
    }
  }
  return { out, lse };
}

/** q·k of two rows; under xPos pair i is faded by ζ_i to the distance of their blocks (see graph.ts). */
function product(
  q: Float64Array,
  qFrom: number,
  k: Float64Array,
  kFrom: number,
  headDim: number,
  query: Slot,
  key: Slot,
  decay: Decay | undefined,
): number {
  const blocks =
    decay === undefined ? 0 : Math.floor(query.token / decay.block) - Math.floor(key.token / decay.block);
  const fade = decay === undefined || blocks === 0 ? undefined : blockDecay(headDim, decay, blocks);
  let sum = 0;
  if (fade === undefined) for (let d = 0; d < headDim; d++) sum += q[qFrom + d]! * k[kFrom + d]!;
  else for (let d = 0; d < headDim; d++) sum += q[qFrom + d]! * k[kFrom + d]! * fade[d >> 1]!;
  return sum;
}

/** to += weight · from, `count` elements. */
function accumulate(
  to: Float64Array,
  toAt: number,
  weight: number,
  from: Float64Array,
  fromAt: number,
  count: number,
): void {
  for (let d = 0; d < count; d++) to[toAt + d]! += weight * from[fromAt + d]!;
}

/** All branches, merged: weights softmax(lse) over the branches (Eq. 10), or the plain mean of those that cover a row. */
export function attention(spec: AttentionMeaning, inputs: AttentionInputs): AttentionResult {
  const { heads, headDim } = spec;
  const { B, N } = inputs;
  const parts = spec.branches.map((_branch, b) => branchAttention(spec, b, inputs));
  const out = new Float64Array(B * N * heads * headDim);
  const lse = new Float64Array(B * heads * N).fill(-Infinity);

  for (let batch = 0; batch < B; batch++)
    for (let h = 0; h < heads; h++)
      for (let row = 0; row < N; row++) {
        const place = (batch * heads + h) * N + row;
        const covering = parts.filter((part) => (part.lse[place] ?? -Infinity) > -Infinity);
        if (covering.length === 0) continue;
        const union = logSumExp(covering.map((part) => part.lse[place] ?? NaN));
        lse[place] = union;
        const to = ((batch * N + row) * heads + h) * headDim;
        for (const part of covering) {
          const weight =
            spec.combine === "mean" ? 1 / covering.length : Math.exp((part.lse[place] ?? NaN) - union);
          accumulate(out, to, weight, part.out, to, headDim);
        }
      }
  return { out, lse };
}

export function logSumExp(terms: readonly number[]): number {
  const most = Math.max(...terms);
  if (most === -Infinity) return -Infinity;
  return most + Math.log(terms.reduce((sum, term) => sum + Math.exp(term - most), 0));
}
