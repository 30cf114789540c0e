/** Activations as expressions of one element. */
import type { Activation } from "../../src/graph.ts";
import type { Element, Expr } from "../../src/kernel.ts";
import { abs, add, div, exp2, f32, madd, max, min, mul, sub } from "../../src/expr.ts";

type Value = Expr<Element>;

/**
 * Φ(−t)·e^{t²/2} ≈ u·(g₀ + g₁u + … + g₈u⁸) with u = 1/(1 + GELU_P·t), t in [0, GELU_END]: the scaled complementary
 * error function, smooth where erf itself is not. Fitted here to the least relative error (2.3e-8).
 */
const GELU_P = 0.34;
const GELU_END = 13;
const GELU_G = [
  0.13561809062957764, 0.13615617156028748, 0.11486339569091797, 0.11674293875694275, -0.04813998565077782,
  0.20737256109714508, -0.27786388993263245, 0.1418769508600235, -0.026626234874129295,
] as const;

/** Σ cᵢ xⁱ by Horner's chain; splitting it (Estrin) measured the same. */
const series = (x: Value, c: readonly number[]): Value =>
  c.slice(0, -1).reduceRight<Value>((sum, k) => madd(sum, x, f32(k)), f32(c.at(-1) ?? 0));

/**
 * gelu(x) = x·Φ(x) = max(x, 0) − |x|·Φ(−|x|), exact-erf form, without cancellation on either side. In f32 the largest
 * error over [−10, 10] is 2.4e-7 (half a unit in the last place of the result from 2 on), 8e-8 on the negative side;
 * relative 5e-7 in [−1, 1] and 5e-6 at −10, where the rounding of t²/2 in the exponent shows. Past t = 13 the second
 * term is held at its value there, 8e-38, so that no exponent leaves the range of f32.
 */
function gelu(x: Value): Value {
  const t = min(abs(x), f32(GELU_END));
  const u = div(f32(1), madd(t, f32(GELU_P), f32(1)));
  const scaled = mul(series(u, GELU_G), u);
  const bell = exp2(mul(mul(t, t), f32(-0.5 * Math.LOG2E)));
  return sub(max(x, f32(0)), mul(mul(t, scaled), bell));
}

/** x / (1 + e^(−x)); held below −87, where it is −1e-36, so that no exponent leaves the range of f32. */
function swish(x: Value): Value {
  const t = max(x, f32(-87));
  return div(t, add(f32(1), exp2(max(mul(t, f32(-Math.LOG2E)), f32(-126)))));
}

const relu = (x: Value): Value => max(x, f32(0));

export const activations: { readonly [A in Activation]: (x: Value) => Value } = { gelu, relu, swish };
