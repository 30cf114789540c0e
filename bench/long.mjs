// One attention at a length at which the reference of the whole would take hours: time, memory, and sampled rows held to f64.
//   node bench/long.mjs examples/paper.heddle paper_32k --length 262144 --device webgpu --rows 200
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { attentionDefinition, attentionRow, compileSpec, countPairs, readSpec } from "../dist/src/index.js";
import { tolerance } from "../dist/src/tolerance.js";
import { attention } from "../dist/runtime/index.js";
import { vulkanDrivers } from "../dist/runtime/node.js";
import { uniform } from "./random.mjs";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    length: { type: "string", default: "262144" },
    device: { type: "string", default: "webgpu" },
    rows: { type: "string", default: "200" },
    seed: { type: "string", default: "1" },
  },
});
const [path = "examples/paper.heddle", name = "paper_32k"] = positionals;
const [N, rows, seed] = [options.length, options.rows, options.seed].map(Number);
const { spec } = readSpec(readFileSync(path, "utf8"), path);
const shape = spec?.attentions.find((a) => a.name === name);
if (spec === null || shape === undefined) throw new Error(`${path} has no attention '${name}'`);

const numbers = (/** @type {number} */ count, /** @type {number} */ from) => {
  const next = uniform(seed * 1000 + from);
  const all = new Float32Array(count);
  // Uniform of deviation 1.
  for (let i = 0; i < count; i++) all[i] = (next() - 0.5) * Math.sqrt(12);
  return all;
};
const { heads, kvHeads, headDim } = shape;
const [q, k, v] = [heads, kvHeads, kvHeads].map((h, i) => numbers(N * h * headDim, i));

const [compiled] = compileSpec(spec, {
  target: options.device === "wasm" ? "wasm" : "wgsl",
  names: [name],
  length: N,
});
const session = await attention({ ...attentionDefinition(shape), program: compiled.program }).create({
  device: /** @type {"wasm" | "webgpu"} */ (options.device),
  webgpu: { drivers: vulkanDrivers },
});
const start = performance.now();
const { out, lse } = await session.run({ q, k, v, batch: 1, length: N });
const seconds = (performance.now() - start) / 1000;
const device = session.device;
session.dispose();

const status = readFileSync("/proc/self/status", "utf8");
const peak = Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? NaN) * 1024;
const pairs = Number(countPairs(shape, N).total);
const flops = 4 * headDim * pairs;

const pick = uniform(seed + 7);
let [worst, scale] = [0, 1];
for (let i = 0; i < rows; i++) {
  // The last rows see the longest segments; the others are drawn.
  const row = i < 4 ? N - 1 - i : Math.floor(pick() * N);
  const head = Math.floor(pick() * heads);
  const meant = attentionRow(shape, { q, k, v, N }, { batch: 0, head, row });
  const from = (row * heads + head) * headDim;
  meant.out.forEach((x, d) => {
    scale = Math.max(scale, Math.abs(x));
    const error = Math.abs(x - out[from + d]);
    worst = Number.isNaN(error) ? Infinity : Math.max(worst, error);
  });
  const error = Math.abs(meant.lse - lse[head * N + row]) / Math.max(1, Math.abs(meant.lse));
  worst = Number.isNaN(error) ? Infinity : Math.max(worst, error);
}
const most = Math.max(...shape.branches.map((b) => Math.min(b.segment, N) / b.dilation));
const allowed = tolerance("f32", headDim + shape.branches.length * most) * scale;
const ok = worst <= allowed;
console.log(
  [
    `${name} at N = ${N} on ${device}`,
    `${seconds.toFixed(1)} s, ${(flops / seconds / 1e9).toFixed(2)} GFLOP/s of useful work (${pairs} pairs)`,
    `peak resident memory ${(peak / 2 ** 30).toFixed(2)} GiB, q + k + v + out are ${((4 * 4 * N * heads * headDim) / 2 ** 30).toFixed(2)} GiB on each side`,
    `${rows} rows against the f64 reference: worst ${worst.toExponential(1)}, allowed ${allowed.toExponential(1)}: ${ok ? "ok" : "MISS"}`,
  ].join("\n"),
);
process.exitCode = ok ? 0 : 1;
