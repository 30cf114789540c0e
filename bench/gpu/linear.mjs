// Linear layers on the GPU by heddle's own kernels and by cuBLASLt: two layers of the paper's 125M model on numbers of no meaning, time
// of each step by CUDA events, medians. Neither is faster a priori; what this says decides which of them should be the default.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { weightLength } from "../../dist/runtime/memory.js";
import { compileSpec, readSpec } from "../../dist/src/index.js";
import { noise, openDevice } from "./works.mjs";

const { values } = parseArgs({
  options: { out: { type: "string" }, quick: { type: "boolean", default: false } },
});
const [rounds, lengths, dtypes] = values.quick
  ? [3, [200], ["bf16"]]
  : [15, [1, 2048, 16384, 131072], ["f32", "f16", "bf16"]];
const [dim, ffn, heads] = values.quick ? [64, 128, 2] : [768, 3072, 12];
/** @param {number[]} list */
const median = (list) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? NaN;

const results = [];
for (const dtype of dtypes) {
  const text = `attention timed { heads ${heads} head_dim ${dim / heads} dtype ${dtype} causal true branch segment 2048 dilation 1 }
    model two { kind decoder vocab 256 dim ${dim} layers 2 ffn ${ffn} gelu attention timed position xpos norm sub_ln }`;
  const { spec, diagnostics } = readSpec(text);
  if (spec === null) throw new Error(diagnostics.map((d) => d.message).join("\n"));
  const [compiled] = compileSpec(spec, { target: "cuda", names: ["two"] });
  if (compiled === undefined) throw new Error("nothing was compiled");
  const { program } = compiled;
  for (const linear of ["own", "cublaslt"]) {
    const device = await openDevice({ profile: true, linear });
    const executable = await device.compile(program, {
      weights: async (set) => {
        for (const [i, weight] of program.plan.weights.entries())
          await set(
            i,
            noise(weightLength(weight), i).map((x) => x / 8),
          );
      },
    });
    for (const use of executable.linears()) console.log(JSON.stringify({ dtype, linear, ...use }));
    for (const N of lengths) {
      const tokens = Int32Array.from({ length: N }, (_, i) => (i * 37) % 256);
      /** @type {Map<string, number[]>} */
      const times = new Map();
      for (let i = 0; i < rounds + 2; i++) {
        await executable.runInto({ tokens }, { N, B: 1 }, {});
        if (i >= 2)
          for (const { title, ms } of executable.profile())
            if (title.startsWith("linear ")) times.set(title, [...(times.get(title) ?? []), ms]);
      }
      const steps = Object.fromEntries([...times].map(([title, all]) => [title, median(all)]));
      const ms = Object.values(steps).reduce((sum, each) => sum + each, 0);
      results.push({ dtype, linear, tokens: N, ms, steps });
      console.log(JSON.stringify({ dtype, linear, tokens: N, ms }));
    }
    await device.dispose();
  }
}
if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify(results, null, 2)}\n`);
