// Rates of contenders in the interleaved rounds of `heddle bench` (src/bench/rounds.ts), and how far outputs are apart.
import { measure as measureTimes, median } from "../dist/src/bench/rounds.js";

export { median };

/**
 * @typedef {object} Contender
 * @property {string} name
 * @property {number} threads
 * @property {number} flops floating-point operations of one run
 * @property {() => Promise<number>} run one run; its wall time in ns
 */

/**
 * @typedef {object} Measured
 * @property {string} name
 * @property {number} threads
 * @property {number[]} gflops by round
 * @property {number[]} ms by round
 */

/**
 * @param {readonly Contender[]} contenders
 * @param {{ rounds: number, warmNs: number }} options warmNs: least time spent warming each (at least two runs)
 * @returns {Promise<Measured[]>}
 */
export async function measure(contenders, { rounds, warmNs }) {
  const times = await measureTimes(contenders, { rounds, warmMs: warmNs / 1e6 });
  return contenders.map(({ name, threads, flops }, i) => {
    const ms = [...(times[i]?.ms ?? [])];
    return { name, threads, ms, gflops: ms.map((t) => flops / (t * 1e6)) };
  });
}

/**
 * Median over the rounds of a's rate divided by b's in the same round: steadier than the ratio of medians when the machine is not.
 * @param {Measured} a @param {Measured} b
 */
export const ratio = (a, b) => median(a.gflops.map((x, i) => x / (b.gflops[i] ?? NaN)));

/**
 * The largest difference relative to the largest magnitude of `want`; Infinity where a number is missing or not one.
 * @param {Float32Array} got @param {Float32Array} want
 */
export function distance(got, want) {
  if (got.length !== want.length) return Infinity;
  let [worst, scale] = [0, 0];
  for (let i = 0; i < want.length; i++) {
    const [g, w] = [got[i] ?? NaN, want[i] ?? NaN];
    if (g === w) continue;
    const d = Math.abs(g - w);
    if (Number.isNaN(d)) return Infinity;
    if (d > worst) worst = d;
    if (Math.abs(w) > scale) scale = Math.abs(w);
  }
  return worst === 0 ? 0 : worst / scale;
}
