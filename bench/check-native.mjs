// Is the baseline right? Random attentions and linears against plain f64 loops: node bench/check-native.mjs [CASES]
import { openExchange } from "./exchange.mjs";
import { attentionLine, startNative } from "./native.mjs";
import { normal, uniform } from "./random.mjs";

const native = startNative();
const exchange = openExchange();
if (typeof native === "string") throw new Error(native);
const cases = Number(process.argv[2] ?? 200);
const next = uniform(7);
/** @param {number} low @param {number} high inclusive */
const between = (low, high) => low + Math.floor(next() * (high - low + 1));
/** @template T @param {readonly T[]} of @returns {T} */
const pick = (of) => /** @type {T} */ (of[Math.floor(next() * of.length)]);

/** The largest difference over the largest magnitude of the expected values. @param {Float32Array} got @param {Float64Array} want */
function distance(got, want) {
  let [worst, scale] = [0, 1e-30];
  want.forEach((w, i) => {
    if (w === -Infinity && got[i] === -Infinity) return;
    const d = Math.abs((got[i] ?? NaN) - w);
    worst = Number.isNaN(d) ? Infinity : Math.max(worst, d);
    scale = Math.max(scale, Math.abs(w));
  });
  return worst / scale;
}

let worst = 0;
for (let c = 0; c < cases; c++) {
  const nested = next() < 0.5;
  const [heads, headDim, N] = [between(1, 5), pick([8, 16, 24, 48, 64]), between(1, 400)];
  const base = nested ? pick([8, 16, 48, 64]) : between(1, 200);
  const branches = Array.from({ length: between(1, 5) }, (_, b) =>
    nested
      ? { segment: base * 2 ** b, dilation: pick([1, 2, 4, 6, 12]) }
      : { segment: b === 4 ? Infinity : between(1, 300), dilation: between(1, 9) },
  ).map(({ segment, dilation }, b) => ({
    segment,
    dilation: b === 0 && nested ? 1 : Math.min(segment, dilation),
  }));
  const offsets = branches.map(({ dilation }) =>
    Array.from({ length: heads }, (_, h) => (nested ? h % dilation : between(0, dilation - 1))),
  );
  const shape = { heads, headDim, causal: next() < 0.5, branches, offsets };
  const [q, k, v] = [1, 2, 3].map((s) => normal(N * heads * headDim, 10 * c + s));
  if (q === undefined || k === undefined || v === undefined) throw new Error("unreachable");
  const out = new Float64Array(q.length);
  const lse = new Float64Array(heads * N).fill(-Infinity);
  for (let h = 0; h < heads; h++)
    for (let i = 0; i < N; i++) {
      const at = (/** @type {number} */ n) => (n * heads + h) * headDim;
      /** @type {Map<number, number>} key → multiplicity */
      const seen = new Map();
      branches.forEach(({ segment, dilation }, b) => {
        const g = Math.min(segment, N);
        const start = i - (i % g);
        const offset = offsets[b]?.[h] ?? 0;
        if ((i - start - offset) % dilation !== 0 || i - start < offset) return;
        const end = shape.causal ? i + 1 : Math.min(start + g, N);
        for (let j = start + offset; j < end; j += dilation) seen.set(j, (seen.get(j) ?? 0) + 1);
      });
      const scores = [...seen].map(([j, m]) => {
        let s = 0;
        for (let d = 0; d < headDim; d++) s += (q[at(i) + d] ?? 0) * (k[at(j) + d] ?? 0);
        return s / Math.sqrt(headDim) + Math.log(m);
      });
      if (scores.length === 0) continue;
      const top = Math.max(...scores);
      const sum = scores.reduce((t, s) => t + Math.exp(s - top), 0);
      lse[h * N + i] = top + Math.log(sum);
      [...seen.keys()].forEach((j, n) => {
        const p = Math.exp((scores[n] ?? 0) - top) / sum;
        for (let d = 0; d < headDim; d++) out[at(i) + d] = (out[at(i) + d] ?? 0) + p * (v[at(j) + d] ?? 0);
      });
    }
  const files = { q: exchange.put("q", q), k: exchange.put("k", k), v: exchange.put("v", v) };
  for (const fold of [false, true]) {
    await native.ask(attentionLine("case", shape, N, fold, files));
    await native.ask(`run case ${between(1, 2)}`);
    await native.ask(`write case ${exchange.path("out")} ${exchange.path("lse")}`);
    const d = Math.max(
      distance(exchange.get("out", out.length), out),
      distance(exchange.get("lse", lse.length), lse),
    );
    if (!(d < 2e-5))
      throw new Error(`attention case ${c} fold ${fold}: ${d} at ${JSON.stringify({ N, ...shape })}`);
    worst = Math.max(worst, d);
  }
}
console.log(
  `attention: ${cases} random cases, with and without folding; worst difference ${worst.toExponential(1)} of scale`,
);

worst = 0;
for (let c = 0; c < cases; c++) {
  const [M, K, C] = [between(1, 130), between(1, 600), between(1, 90)];
  const [x, w, bias] = [normal(M * K, 3 * c), normal(C * K, 3 * c + 1), normal(C, 3 * c + 2)];
  const want = new Float64Array(M * C);
  for (let m = 0; m < M; m++)
    for (let n = 0; n < C; n++) {
      let s = bias[n] ?? 0;
      for (let i = 0; i < K; i++) s += (x[m * K + i] ?? 0) * (w[n * K + i] ?? 0);
      want[m * C + n] = s;
    }
  await native.ask(
    `linear case ${M} ${K} ${C} ${exchange.put("x", x)} ${exchange.put("w", w)} ${exchange.put("bias", bias)}`,
  );
  await native.ask(`run case ${between(1, 2)}`);
  await native.ask(`write case ${exchange.path("out")}`);
  const d = distance(exchange.get("out", want.length), want);
  if (!(d < 2e-5)) throw new Error(`linear case ${c}: ${d} at ${M} × ${K} × ${C}`);
  worst = Math.max(worst, d);
}
console.log(`linear: ${cases} random cases; worst difference ${worst.toExponential(1)} of scale`);
native.end();
