/** The meanings, in f64, of what stands before and behind the layers of a slide or image encoder. Rows are contiguous. */

/**
 * x + (T[rows], T[columns]): 2-D sin-cos positions, E/2 numbers for each side. x [B, N, E], rows and columns [B, N]. One number of
 * T: sin, in the second half cos, of p · 10000^(−4k/E), rounded to f32 like Prov-GigaPath's table (its pos_embed.py).
 */
export function placed(
  x: Float64Array,
  rows: Float64Array,
  columns: Float64Array,
  dim: number,
  cells: number,
): Float64Array {
  const quarter = dim / 4;
  return x.map((value, at) => {
    const [token, d] = [Math.floor(at / dim), at % dim];
    const p = (d < dim / 2 ? rows : columns)[token] ?? NaN;
    if (!Number.isInteger(p) || p < 0 || p >= cells)
      throw new Error(`heddle: token ${token} lies in cell ${p} of a grid of ${cells}`);
    const k = d % quarter;
    const angle = p * 10000 ** (-k / quarter);
    return value + Math.fround(d % (dim / 2) < quarter ? Math.sin(angle) : Math.cos(angle));
  });
}

/** x with the row `weight` in place of the first of each sequence; x [B, N, E]. */
export function classToken(x: Float64Array, weight: Float64Array, N: number): Float64Array {
  const dim = weight.length;
  return x.map((value, at) => (at % (N * dim) < dim ? (weight[at % dim] ?? NaN) : value));
}

/** x with zeros for every token whose mask is not 0; x [B, N, E], mask [B, N]. torchscale: x · (1 − encoder_padding_mask). */
export const masked = (x: Float64Array, mask: Float64Array, dim: number): Float64Array =>
  x.map((value, at) => (mask[Math.floor(at / dim)] === 0 ? value : 0));

/** [B, N, E] → [B, E]: row 0, or the mean over the rows from `from` on. */
export function pool(
  x: Float64Array,
  N: number,
  dim: number,
  { of, from }: { readonly of: "class" | "mean"; readonly from: number },
): Float64Array {
  const out = new Float64Array(x.length / N);
  for (let at = 0; at < out.length; at++) {
    const [sequence, d] = [Math.floor(at / dim), at % dim];
    const row = (n: number) => x[(sequence * N + n) * dim + d] ?? NaN;
    if (of === "class") out[at] = row(0);
    else {
      let sum = 0;
      for (let n = from; n < N; n++) sum += row(n);
      out[at] = sum / (N - from);
    }
  }
  return out;
}
