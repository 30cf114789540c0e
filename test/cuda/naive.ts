/**
 * FlashAttention's rule: a kernel may be off by twice what the plain evaluation in the same precision is off by, both against f64.
 * The plain one stores scores, weights and result in 16 bits, as unfused code does.
 */
import { attention } from "../../src/reference.ts";
import type { AttentionSpec } from "../../src/spec.ts";
import { rounding, type FloatDtype } from "../../src/storage.ts";
import type { Inputs } from "../attention/run.ts";
import { pairOf, pairsOfSpec } from "../schedule/pairs.ts";

type At = { readonly N: number; readonly B: number };

/** The attention of a spec with `padding masked` and rows in place, rounded where unfused code stores. */
export function naive(
  spec: AttentionSpec,
  { q, k, v }: Inputs,
  { N, B }: At,
  dtype: FloatDtype,
): Float32Array {
  const { heads, kvHeads, headDim, scale } = spec;
  const round = rounding[dtype];
  const out = new Float32Array(q.length);
  const keysOf = new Map<string, Map<number, number>>();
  for (const [pair, times] of pairsOfSpec(spec, N).counts) {
    const { head, row, key } = pairOf(pair);
    const id = `${head} ${row}`;
    const keys = keysOf.get(id) ?? new Map<number, number>();
    keys.set(key, times);
    keysOf.set(id, keys);
  }
  for (let b = 0; b < B; b++)
    for (const [id, keys] of keysOf) {
      const [head = 0, query = 0] = id.split(" ").map(Number);
      const at = (token: number, h: number, of: number) => ((b * N + token) * of + h) * headDim;
      const kv = Math.floor(head / (heads / kvHeads));
      const scores = [...keys].map(([key, times]) => {
        let sum = 0;
        for (let i = 0; i < headDim; i++)
          sum = Math.fround(sum + (q[at(query, head, heads) + i] ?? 0) * (k[at(key, kv, kvHeads) + i] ?? 0));
        return { key, times, score: round(Math.fround(round(sum) * scale)) };
      });
      const most = Math.max(...scores.map((s) => s.score));
      const total = scores.reduce((sum, s) => sum + s.times * Math.exp(s.score - most), 0);
      for (let i = 0; i < headDim; i++) {
        let sum = 0;
        for (const { key, times, score } of scores)
          sum = Math.fround(
            sum + round((times * Math.exp(score - most)) / total) * (v[at(key, kv, kvHeads) + i] ?? 0),
          );
        out[at(query, head, heads) + i] = round(sum);
      }
    }
  return out;
}

/** The largest error of the kernel's result and of the plain one. */
export function errors(
  spec: AttentionSpec,
  inputs: Inputs,
  at: At,
  dtype: FloatDtype,
  got: ArrayLike<number>,
): { readonly kernel: number; readonly plain: number } {
  const wide = (x: Float32Array) => Float64Array.from(x);
  const meant = attention(spec, { q: wide(inputs.q), k: wide(inputs.k), v: wide(inputs.v), ...at }).out;
  const plain = naive(spec, inputs, at, dtype);
  const worst = (x: ArrayLike<number>) =>
    meant.reduce((most, m, i) => Math.max(most, Math.abs((x[i] ?? NaN) - m)), 0);
  return { kernel: worst(got), plain: worst(plain) };
}
