import { describe, expect, it } from "vitest";
import { CUDA_TILINGS } from "../../codegen/cuda/target.ts";
import { fragment } from "../../codegen/machine/fragment.ts";
import { attentionGraph } from "../../src/model.ts";
import { attention } from "../../src/reference.ts";
import { seal } from "../../src/spec.ts";
import { NARROW, rounding } from "../../src/storage.ts";
import { compare } from "../../src/tolerance.ts";
import { randomInputs, scheduleFor } from "../attention/run.ts";
import { torchscaleShape } from "../golden.ts";
import { compiler } from "./host/build.ts";
import { programOf, runProgram } from "./program.ts";
import { cudaMachine } from "../../codegen/cuda/target.ts";
import { unfit } from "../../codegen/machine/fragment.ts";

const c = compiler();
const { linear, rows } = CUDA_TILINGS;
const tilings = { linear, rows };

describe("fragment", () => {
  it.each([
    [64, 64, 64, "f16"],
    [48, 64, 32, "bf16"],
    [24, 32, 16, "f16"],
  ] as const)("dense %i %i %i %s", async (headDim, rows_, keys, dtype) => {
    if (c === null) return;
    const spec = seal({
      ...torchscaleShape("trial", 2, headDim, [{ segment: Infinity, dilation: 1 }]),
      dtype,
      causal: true,
    });
    const N = 100;
    const schedule = scheduleFor(spec, { kind: "dense", rows: rows_, keys }, N);
    const graph = attentionGraph(spec, NARROW);
    const program = programOf(graph, schedule, {
      tilings,
      machine: (k) => {
        const why = unfit(k);
        if (why !== null) console.log(k.name, why);
        return why === null ? fragment(k) : cudaMachine(k);
      },
    });
    if (process.env["SHOW"] !== undefined) console.log(program.texts[0]?.code);
    const given = randomInputs(spec, N, 1, 3);
    const r = (x: Float32Array) => x.map(rounding[dtype]);
    const inputs = { q: r(given.q), k: r(given.k), v: r(given.v) };
    const got = await runProgram(c, program, inputs, { N, B: 1 });
    const w = (x: Float32Array) => Float64Array.from(x);
    const meant = attention(spec, { q: w(inputs.q), k: w(inputs.k), v: w(inputs.v), N, B: 1 });
    const out = compare(got["out"] ?? [], meant.out, { dtype, terms: N });
    console.log(out);
    expect(out.ok).toBe(true);
    expect(compare(got["lse"] ?? [], meant.lse, { dtype: "f32", terms: N, atLeast: 1 })).toMatchObject({
      ok: true,
    });
  });
});
