/**
 * The error function in f64. Below 2.5 Kummer's series erf x = 2/√π · e^{−x²} · Σ 2ⁿ x^{2n+1} / (2n+1)!!, whose terms are all
 * positive, so nothing cancels; above, 1 − erfc by its continued fraction, where erfc < 5e-4 makes its own
 * relative error harmless. Absolute error below 1e-15.
 */
export function erf(x: number): number {
  if (Number.isNaN(x)) return NaN;
  const a = Math.abs(x);
  const value = a < 2.5 ? series(a) : a < 6 ? 1 - complement(a) : 1;
  return x < 0 ? -value : value;
}

function series(a: number): number {
  let term = a;
  let sum = a;
  for (let n = 1; term > sum * 1e-17; n++) {
    term *= (2 * a * a) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-a * a) * sum;
}

/** erfc a = e^{−a²}/√π · 1/(a + (1/2)/(a + 1/(a + (3/2)/(a + …)))), evaluated from the tail; 60 terms suffice for a ≥ 2.5. */
function complement(a: number): number {
  let tail = a;
  for (let n = 60; n > 0; n--) tail = a + n / 2 / tail;
  return Math.exp(-a * a) / (Math.sqrt(Math.PI) * tail);
}
