/**
 * xPos, as torchscale's XPOS(head_dim, scale_base): the same f32 roundings where torch computes in f32 (the angles and
 * the buffer ζ), f64 elsewhere. Derived here on its own; `runtime/tables.ts` holds the device's version.
 */

/** ζ_i = (2i + 0.4 D) / (1.4 D), each step rounded to f32: the checkpoint's buffer `xpos.scale`. i < D/2. */
export function xposScale(headDim: number): Float64Array {
  return Float64Array.from({ length: headDim / 2 }, (_pair, i) =>
    Math.fround(Math.fround(2 * i + Math.fround(0.4 * headDim)) / Math.fround(1.4 * headDim)),
  );
}

/** The angle of pair i at position n: fl(n · fl(1 / fl(10000^fl(i / (D/2))))), each fl a rounding to f32. */
function angle(headDim: number, n: number, i: number): number {
  const power = Math.fround(10000 ** Math.fround(i / (headDim / 2)));
  return Math.fround(n * Math.fround(1 / power));
}

const decays = new Map<string, Float64Array>();

/** ζ_i^(blocks·block/base) for each pair i: what the local scales of `rotate` leave out of q·k. */
export function blockDecay(
  headDim: number,
  { base, block }: { readonly base: number; readonly block: number },
  blocks: number,
): Float64Array {
  const key = `${headDim} ${base} ${block} ${blocks}`;
  const known = decays.get(key);
  if (known !== undefined) return known;
  const made = xposScale(headDim).map((zeta) => zeta ** ((blocks * block) / base));
  decays.set(key, made);
  return made;
}

/** Rotates x [B, N, heads, headDim] by its positions and scales by ζ_i^(sign · (n mod block) / base). */
export function rotate(
  x: Float64Array,
  shape: {
    readonly B: number;
    readonly N: number;
    readonly heads: number;
    readonly headDim: number;
    readonly base: number;
    readonly block: number;
    readonly sign: 1 | -1;
  },
): Float64Array {
  const { B, N, heads, headDim, base, block, sign } = shape;
  const zeta = xposScale(headDim);
  const out = new Float64Array(x.length);
  for (let n = 0; n < N; n++)
    zeta.forEach((z, i) => {
      const factor = z ** ((sign * (n % block)) / base);
      const cos = Math.cos(angle(headDim, n, i)) * factor;
      const sin = Math.sin(angle(headDim, n, i)) * factor;
      for (let b = 0; b < B; b++)
        for (let h = 0; h < heads; h++) {
          const from = ((b * N + n) * heads + h) * headDim + 2 * i;
          const even = x[from] ?? NaN;
          const odd = x[from + 1] ?? NaN;
          out[from] = even * cos - odd * sin;
          out[from + 1] = odd * cos + even * sin;
        }
    });
  return out;
}
