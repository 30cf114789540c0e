// What an output should be, in f64, at some of its places: plain loops over the branches' keys, written for nobody's speed.

/** @typedef {import("./compile.mjs").Work} Work */
/** @typedef {import("./contenders.mjs").Arrays} Arrays */
/** Places of an output and their values. @typedef {{ name: string, at: readonly number[], want: readonly number[] }} Sample */

/** Rows that samples take, spread over the length, the first and the last among them. @param {number} length */
const rowsOf = (length, count = 24) => [
  ...new Set(Array.from({ length: count }, (_, i) => Math.round((i * (length - 1)) / (count - 1)))),
];

/** @param {Work} work @param {Arrays} inputs @returns {Sample[]} */
export function samples(work, inputs) {
  const of = (/** @type {string} */ name) => inputs[name] ?? new Float32Array();
  if (work.kind === "linear") {
    const { rows, depth, cols } = work;
    const [x, w, bias] = [of("x"), of("weight"), of("bias")];
    /** @type {number[]} */
    const at = [];
    const want = rowsOf(rows).flatMap((m) =>
      Array.from({ length: cols }, (_, n) => {
        at.push(m * cols + n);
        let sum = bias[n] ?? NaN;
        for (let i = 0; i < depth; i++) sum += (x[m * depth + i] ?? NaN) * (w[n * depth + i] ?? NaN);
        return sum;
      }),
    );
    return [{ name: "out", at, want }];
  }
  const { length, shape } = work;
  const { heads, headDim, causal, branches, offsets, scale } = shape;
  const [q, k, v] = [of("q"), of("k"), of("v")];
  /** @type {{ at: number[], want: number[] }[]} */
  const [out, lse] = [
    { at: [], want: [] },
    { at: [], want: [] },
  ];
  if (out === undefined || lse === undefined) throw new Error("unreachable");
  for (const i of rowsOf(length))
    for (let h = 0; h < heads; h++) {
      const place = (/** @type {number} */ n) => (n * heads + h) * headDim;
      /** @type {number[]} keys of the multiset */
      const keys = [];
      branches.forEach(({ segment, dilation }, b) => {
        const start = i - (i % segment) + (offsets[b]?.[h] ?? 0);
        if (i < start || (i - start) % dilation !== 0) return;
        const end = causal ? i + 1 : Math.min(i - (i % segment) + segment, length);
        for (let j = start; j < end; j += dilation) keys.push(j);
      });
      const scores = keys.map((j) => {
        let s = 0;
        for (let d = 0; d < headDim; d++) s += (q[place(i) + d] ?? NaN) * (k[place(j) + d] ?? NaN);
        return s * scale;
      });
      const top = scores.reduce((a, b) => Math.max(a, b), -Infinity);
      const weights = scores.map((s) => Math.exp(s - top));
      const sum = weights.reduce((a, b) => a + b, 0);
      lse.at.push(h * length + i);
      lse.want.push(top + Math.log(sum));
      for (let d = 0; d < headDim; d++) {
        let o = 0;
        keys.forEach((j, n) => (o += (weights[n] ?? NaN) * (v[place(j) + d] ?? NaN)));
        out.at.push(place(i) + d);
        out.want.push(o / sum);
      }
    }
  return [
    { name: "out", ...out },
    { name: "lse", ...lse },
  ];
}
