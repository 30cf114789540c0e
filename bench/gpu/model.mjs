// A whole model on the GPU, by launches and as a graph: wall time of a forward pass with its copies, and the time of its kernels.
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { memorySource } from "../../dist/runtime/safetensors.js";
import { loadWeights } from "../../dist/runtime/weights.js";
import { compileSpec, readSpec } from "../../dist/src/index.js";
import { openDevice } from "./works.mjs";

const { values } = parseArgs({
  options: { out: { type: "string" }, length: { type: "string", default: "2048" } },
});
const N = Number(values.length);
const { spec } = readSpec(readFileSync("examples/jargon.heddle", "utf8"), "jargon.heddle");
const compiled =
  spec === null ? undefined : compileSpec(spec, { target: "cuda", names: ["jargon"], length: N })[0];
if (compiled === undefined) throw new Error("the jargon model does not compile");
const { program } = compiled;
const checkpoint = readFileSync("examples/jargon/jargon.safetensors");
const tokens = Int32Array.from({ length: N }, (_, i) => (i * 37) % 256);
/** @param {number[]} list */
const median = (list) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? NaN;

const results = [];
for (const [how, options] of Object.entries({
  launches: {},
  graph: { graph: true },
  kernels: { profile: true },
})) {
  const device = await openDevice(options);
  const executable = await device.compile(program, {
    weights: (set) => loadWeights(program.plan, memorySource(checkpoint), (index, data) => set(index, data)),
  });
  const times = [];
  for (let i = 0; i < 23; i++) {
    const start = performance.now();
    await executable.run({ tokens }, { N, B: 1 });
    const wall = performance.now() - start;
    const ms = how === "kernels" ? executable.profile().reduce((sum, step) => sum + step.ms, 0) : wall;
    if (i >= 3) times.push(ms);
  }
  results.push({ how, tokens: N, ms: median(times) });
  console.log(JSON.stringify(results.at(-1)));
  await device.dispose();
}
if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify(results, null, 2)}\n`);
