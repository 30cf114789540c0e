// Attention on the GPU by CUDA events between the steps: copies from and to the host are not in it. Medians.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { cudaTarget } from "../../dist/codegen/cuda/target.js";
import { choose, countPairs } from "../../dist/src/index.js";
import { attentions, compiled, inputsOf, openDevice } from "./works.mjs";

const { values } = parseArgs({
  options: { out: { type: "string" }, quick: { type: "boolean", default: false } },
});
const rounds = values.quick ? 3 : 15;
const device = await openDevice({ profile: true });
/** @param {number[]} list */
const median = (list) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? NaN;
const results = [];
for (const work of attentions(values.quick)) {
  const { name, dtype, causal, length, schedule: asked } = work;
  const about = { name, dtype, causal, length, ...(asked === undefined ? {} : { asked }) };
  try {
    const { program, attention } = compiled(work);
    const executable = await device.compile(program);
    const inputs = inputsOf(attention, length);
    const times = [];
    for (let i = 0; i < rounds + 2; i++) {
      // No output is named, so none is copied.
      await executable.runInto(inputs, { N: length, B: 1 }, {});
      const ms = executable.profile().reduce((sum, step) => sum + step.ms, 0);
      if (i >= 2) times.push(ms);
    }
    await executable.dispose();
    const ms = median(times);
    const flops = 4 * attention.headDim * Number(countPairs(attention, length).total);
    const schedule = program.plan.variants.at(-1)?.schedule;
    // What the tiles compute, their padding included, as the planner counts it.
    const executed = choose(attention, length, cudaTarget).candidates.find(
      (c) => schedule?.split(" ")[0] === c.kind,
    )?.cost;
    const done =
      executed == null ? {} : { executed: (4 * attention.headDim * executed.executedPairs) / ms / 1e9 };
    results.push({ ...about, schedule, ms, least: times[0], tflops: flops / ms / 1e9, ...done });
  } catch (error) {
    results.push({ ...about, error: error instanceof Error ? error.message : String(error) });
  }
  console.log(JSON.stringify(results.at(-1)));
}
if (values.out !== undefined)
  writeFileSync(values.out, `${JSON.stringify({ device: device.detail, rounds, results }, null, 2)}\n`);
await device.dispose();
if (results.some((r) => "error" in r)) process.exitCode = 1;
