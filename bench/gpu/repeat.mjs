// The same bits a hundred times, by launches and by graphs.
import { createHash } from "node:crypto";
import { compiled, inputsOf, openDevice } from "./works.mjs";

const quick = process.argv.includes("--quick");
const runs = quick ? 5 : 100;
const work = {
  text: "heads 4 head_dim 64 branch segment 256 dilation 1 branch segment 512 dilation 2",
  length: quick ? 100 : 3000,
};
for (const dtype of ["f32", "f16", "bf16"]) {
  const { program, attention } = compiled({ ...work, dtype, causal: true });
  const inputs = inputsOf(attention, work.length);
  const seen = new Set();
  for (const graph of [false, true]) {
    const device = await openDevice({ graph });
    const executable = await device.compile(program);
    for (let i = 0; i < runs; i++) {
      const { out, lse } = await executable.run(inputs, { N: work.length, B: 1 });
      seen.add(createHash("sha256").update(out).update(lse).digest("hex"));
    }
    await device.dispose();
  }
  console.log(`${dtype}: ${seen.size} different of ${2 * runs} results`);
  if (seen.size !== 1) process.exitCode = 1;
}
