/** torchscale's decoders and encoders as whole plans of CUDA kernels on the host: logits against the golden files. */
import { afterAll, describe, expect, it } from "vitest";
import { cudaTarget } from "../../codegen/cuda/target.ts";
import { modelGraph } from "../../src/model.ts";
import { choose } from "../../src/planner.ts";
import { seal } from "../../src/spec.ts";
import { NARROW, type FloatDtype } from "../../src/storage.ts";
import { compare } from "../../src/tolerance.ts";
import { modelCases } from "../golden.ts";
import { missing } from "../webgpu/require.ts";
import { compiler, COMPILER_MISSING } from "./host/build.ts";
import { programOf, runProgram } from "./program.ts";

const c = compiler();
if (c === null) missing("c++", COMPILER_MISSING);
const cases = await modelCases();
const worst: string[] = [];
afterAll(() => console.log(`models on the host, worst of scale: ${worst.join(", ")}`));

/** Every model in f32 by each schedule; by one of them in 16 bits too. */
const runs = cases.flatMap((example, i) => {
  const kinds = choose(example.spec.attention, example.N, cudaTarget).candidates.filter(
    (x) => x.schedule !== null,
  );
  const wide = kinds.map(({ kind, schedule }) => ({ example, kind, schedule, dtype: "f32" as FloatDtype }));
  const half = kinds
    .slice(0, 1)
    .map((k) => ({ example, ...k, dtype: i % 2 === 0 ? ("f16" as const) : ("bf16" as const) }));
  return [...wide, ...half].map((r) => ({ ...r, title: `${example.id} ${r.kind} ${r.dtype}` }));
});

describe.skipIf(c === null)("a model on the host", () => {
  it.each(runs)("$title", async ({ example, schedule, dtype, title }) => {
    if (c === null) return;
    const { spec, inputs, N, B, weights, logits } = example;
    const stored = seal({ ...spec, attention: seal({ ...spec.attention, dtype }) });
    const program = programOf(modelGraph(stored, NARROW), schedule);
    const got = await runProgram(c, program, inputs, { N, B }, { weights });
    const name = program.plan.outputs[0]?.name ?? "";
    const terms = spec.layers * spec.ffn.dim;
    const verdict = compare(got[name] ?? [], logits, { dtype, terms, of: "model" });
    worst.push(`${title} ${(verdict.worst / verdict.scale).toExponential(1)}`);
    expect(verdict).toMatchObject({ ok: true });
  });
});
