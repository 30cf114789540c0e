// Reproducible inputs: a counter hash, so that every run and every contender sees the same numbers.

/** @param {number} seed @returns {() => number} uniform in [0, 1) */
export function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let x = state;
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return ((x ^ (x >>> 15)) >>> 0) / 2 ** 32;
  };
}

/**
 * Standard normal numbers (Box–Muller).
 * @param {number} count @param {number} seed @param {number} [scale] their standard deviation
 */
export function normal(count, seed, scale = 1) {
  const next = uniform(seed);
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++)
    values[i] = scale * Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
  return values;
}
