/**
 * A small generator of pseudo-random numbers, the same on every host: xoshiro128** of Blackman and Vigna (period 2^128 − 1), its state
 * filled from a seed by splitmix32. States are values, so that a draw can be repeated and a run be saved.
 */

export type RandomState = readonly [number, number, number, number];

const rotated = (x: number, by: number): number => (x << by) | (x >>> (32 - by));

/** The state of a seed, any number from 0 to 2^53 − 1. Different seeds give unrelated sequences. */
export function seeded(seed: number): RandomState {
  // Both halves of the seed enter; splitmix32 never gives four zeros, of which xoshiro would not get away.
  let at = (seed | 0) ^ Math.imul(Math.floor(seed / 2 ** 32) | 0, 0x85ebca6b);
  const next = (): number => {
    at = (at + 0x9e3779b9) | 0;
    let z = at ^ (at >>> 16);
    z = Math.imul(z, 0x21f0aaad);
    z ^= z >>> 15;
    z = Math.imul(z, 0x735a2d97);
    return z ^ (z >>> 15);
  };
  return [next(), next(), next(), next()];
}

/** 32 random bits as an unsigned integer, and the state after them. */
function bits([a, b, c, d]: RandomState): readonly [number, RandomState] {
  const value = Math.imul(rotated(Math.imul(b, 5), 7), 9) >>> 0;
  const [x, y] = [c ^ a, d ^ b];
  return [value, [a ^ y, b ^ x, x ^ (b << 9), rotated(y, 11)]];
}

/** A number in [0, 1), a multiple of 2^−53, and the state after it. */
export function uniform(state: RandomState): readonly [number, RandomState] {
  const [high, between] = bits(state);
  const [low, after] = bits(between);
  return [((high >>> 5) * 2 ** 26 + (low >>> 6)) / 2 ** 53, after];
}
