// Interleaved rounds: whatever slows the machine down for a while slows every contender, and shows as spread, not as a winner.

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
 * Warms every contender up, then runs each once per round, starting one further each time so that none always follows the
 * same neighbour.
 * @param {readonly Contender[]} contenders
 * @param {{ rounds: number, warmNs: number }} options warmNs: least time spent warming each (at least two runs)
 * @returns {Promise<Measured[]>}
 */
export async function measure(contenders, { rounds, warmNs }) {
  for (const c of contenders) {
    let spent = 0;
    for (let n = 0; n < 2 || (spent < warmNs && n < 50); n++) spent += await c.run();
  }
  const measured = contenders.map(({ name, threads }) => ({
    name,
    threads,
    gflops: /** @type {number[]} */ ([]),
    ms: /** @type {number[]} */ ([]),
  }));
  for (let round = 0; round < rounds; round++)
    for (let i = 0; i < contenders.length; i++) {
      const at = (i + round) % contenders.length;
      const contender = contenders[at];
      const result = measured[at];
      if (contender === undefined || result === undefined) throw new Error("unreachable");
      const ns = await contender.run();
      result.gflops.push(contender.flops / ns);
      result.ms.push(ns / 1e6);
    }
  return measured;
}

/** @param {readonly number[]} values */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[half] ?? NaN)
    : ((sorted[half - 1] ?? NaN) + (sorted[half] ?? NaN)) / 2;
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
