/** How far a device may be from the f64 reference, and the comparison that holds it to that. */
import type { FloatDtype } from "./storage.ts";

export type { FloatDtype } from "./storage.ts";

/** Unit roundoff: half the distance from 1 to the next number. */
const roundoff: { readonly [D in FloatDtype]: number } = { f32: 2 ** -24, f16: 2 ** -11, bf16: 2 ** -8 };

/**
 * The allowed error relative to the largest magnitude of the expected output, for a result that sums `terms` products.
 *
 * Arithmetic is f32 whatever the storage. The roundings of a sum of n terms are independent in sign, so their error
 * grows as u·√n (u = 2⁻²⁴); 16 more terms stand for the fixed part (exp2, division, the softmax's running maximum),
 * and 8 is eight standard deviations of that walk. Below 2e-5 for every sum up to 1,700 terms, so for all golden
 * files; torchscale's own f32 run is within 3e-6. Storage in 16 bits adds the rounding of operands, probabilities and
 * result, each at most one unit of that type: 4 units.
 *
 * A model rounds at every step of every layer (`of: "model"`), but into a residual stream of f32 (src/model.ts): each layer's error
 * is a share of what that layer adds, so the relative error of the stream does not grow with the depth. The golden models, their
 * layers repeated to 2 … 24, are within 4.5 units of the f64 model, and within 2.5 in the root mean square: 8 units.
 */
export function tolerance(dtype: FloatDtype, terms: number, of: "operation" | "model" = "operation"): number {
  const sums = 8 * roundoff.f32 * Math.sqrt(Math.max(terms, 0) + 16);
  return dtype === "f32" ? sums : sums + (of === "model" ? 8 : 4) * roundoff[dtype];
}

export type Comparison = {
  /** The largest absolute error; NaN where `actual` is NaN, Infinity where only one side is infinite. */
  readonly worst: number;
  /** Index of the largest error, −1 for empty arrays. */
  readonly at: number;
  /** The largest finite magnitude expected, at least `atLeast`. */
  readonly scale: number;
  /** The absolute error allowed: tolerance · scale. */
  readonly limit: number;
  readonly ok: boolean;
};

/**
 * Compares element by element. −∞ (the lse of an uncovered row) equals only −∞; a NaN on either side is never ok. `atLeast`
 * bounds the scale from below: 1 for an lse, whose absolute error is what weighs.
 */
export function compare(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  {
    dtype,
    terms,
    of = "operation",
    atLeast = 0,
  }: {
    readonly dtype: FloatDtype;
    readonly terms: number;
    readonly of?: "operation" | "model";
    readonly atLeast?: number;
  },
): Comparison {
  if (actual.length !== expected.length)
    throw new Error(`heddle: internal: compared ${actual.length} elements with ${expected.length}`);
  let worst = -1;
  let at = -1;
  let scale = atLeast;
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i] ?? NaN, expected[i] ?? NaN];
    if (Number.isFinite(e)) scale = Math.max(scale, Math.abs(e));
    const error = a === -Infinity && e === -Infinity ? 0 : Math.abs(a - e);
    if (error > worst || (Number.isNaN(error) && !Number.isNaN(worst))) [worst, at] = [error, i];
  }
  worst = at === -1 ? 0 : worst;
  const limit = tolerance(dtype, terms, of) * scale;
  return { worst, at, scale, limit, ok: worst <= limit };
}
