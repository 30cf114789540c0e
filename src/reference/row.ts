/** One row of an attention in f64, for lengths at which the whole reference would take hours: only the keys it sees are visited. */
import { logSumExp } from "./attention.ts";
import type { AttentionMeaning } from "./attention.ts";

type Numbers = Float64Array | Float32Array;

export type RowInputs = {
  /** [B, N, heads, headDim] */
  readonly q: Numbers;
  /** [B, N, kvHeads, headDim] */
  readonly k: Numbers;
  readonly v: Numbers;
  readonly N: number;
};
export type RowPlace = { readonly batch: number; readonly head: number; readonly row: number };

/** out [headDim], and the natural lse: −∞ (and out 0) where no branch covers the row. Equals `attention` at that row. */
export function attentionRow(
  spec: AttentionMeaning,
  inputs: RowInputs,
  place: RowPlace,
): { readonly out: Float64Array; readonly lse: number } {
  const parts = spec.branches.flatMap((_, b) => branchRow(spec, b, inputs, place) ?? []);
  const out = new Float64Array(spec.headDim);
  const lse = logSumExp(parts.map((p) => p.lse));
  for (const part of parts) {
    const weight = spec.combine === "mean" ? 1 / parts.length : Math.exp(part.lse - lse);
    part.out.forEach((x, d) => (out[d] = (out[d] ?? 0) + weight * x));
  }
  return { out, lse };
}

/** A branch's own softmax for a row; null where the branch does not cover it. See `segmentSlots` for slots and their rows. */
function branchRow(
  spec: AttentionMeaning,
  b: number,
  { q, k, v, N }: RowInputs,
  { batch, head, row }: RowPlace,
): { readonly out: Float64Array; readonly lse: number } | null {
  const { heads, headDim, kvHeads, scale } = spec;
  const { segment, dilation: r } = spec.branches[b] ?? { segment: 1, dilation: 1 };
  const offset = spec.offsets[b]?.[head] ?? 0;
  const g = Math.min(segment, N);
  const slots = Math.ceil(g / r);
  const stride = spec.align === "ceil" ? slots * r : g;
  const s = Math.floor(row / stride);
  const own = (row - s * stride - offset) / r;
  if (!Number.isInteger(own) || own < 0 || own >= slots) return null;
  /** The token in slot m; −1 for a phantom of zeros. */
  const tokenOf = (m: number): number => {
    const t = m * r + offset;
    return t < g && s * g + t < N ? s * g + t : -1;
  };
  const query = tokenOf(own);
  if (query < 0 && spec.align !== "ceil") return null;

  const kv = Math.floor(head / (heads / kvHeads));
  const from = ((batch * N + query) * heads + head) * headDim;
  const at = (token: number) => ((batch * N + token) * kvHeads + kv) * headDim;
  const seen = spec.causal ? own + 1 : slots;
  const scores = new Float64Array(seen);
  for (let m = 0; m < seen; m++) {
    const key = tokenOf(m);
    if (key < 0) scores[m] = spec.padding === "zero" ? 0 : -Infinity;
    else if (query >= 0) {
      let sum = 0;
      for (let d = 0; d < headDim; d++) sum += (q[from + d] ?? NaN) * (k[at(key) + d] ?? NaN);
      scores[m] = scale * sum;
    }
  }
  const most = scores.reduce((x, y) => Math.max(x, y), -Infinity);
  if (most === -Infinity) return null;
  const out = new Float64Array(headDim);
  let sum = 0;
  for (let m = 0; m < seen; m++) {
    const weight = Math.exp((scores[m] ?? NaN) - most);
    sum += weight;
    const key = tokenOf(m);
    if (key >= 0) for (let d = 0; d < headDim; d++) out[d] = (out[d] ?? 0) + weight * (v[at(key) + d] ?? NaN);
  }
  return { out: out.map((x) => x / sum), lse: most + Math.log(sum) };
}
