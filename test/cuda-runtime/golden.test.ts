/** torchscale's own outputs through the whole CUDA path, on the executing stub: attentions and models. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cudaDevice } from "../../runtime/cuda.ts";
import type { OpenCudaDevice } from "../../runtime/cuda.ts";
import { compare } from "../../src/tolerance.ts";
import { attentionCases, modelCases } from "../golden.ts";
import { stub, turns } from "../native/stub.ts";
import { weightsOf } from "../webgpu/programs.ts";
import { attentionProgram, modelProgram } from "./programs.ts";
import { executing } from "./stub.ts";

const driver = stub();
const parts = await executing();
const attentions = await attentionCases();
const models = await modelCases();
let device: OpenCudaDevice;
let worst = 0;

describe.skipIf(parts === null)("golden files on CUDA", () => {
  beforeAll(async () => {
    device = await cudaDevice({ ...parts?.options, poison: true });
  });
  afterAll(async () => {
    await device.dispose();
    console.log(`CUDA on the executing stub against torchscale, worst of scale: ${worst.toExponential(1)}`);
  });

  it.each(attentions)("$id", async (c) => {
    const { B, N, q, k, v } = c;
    for (const { spec, out, lse } of [
      { ...c, lse: c.lseUnion },
      { ...c.fixed, lse: null },
    ]) {
      const program = attentionProgram(spec, { length: N });
      if (program === null) throw new Error("planned schedules are legal");
      const executable = await device.compile(program);
      const got = await executable.run({ q, k, v }, { N, B });
      const terms = spec.headDim + spec.branches.length * N;
      const o = compare(got["out"] ?? [], out, { dtype: "f32", terms });
      worst = Math.max(worst, o.worst / o.scale);
      expect(o).toMatchObject({ ok: true });
      if (lse !== null)
        expect(compare(got["lse"] ?? [], lse, { dtype: "f32", terms, atLeast: 1 })).toMatchObject({
          ok: true,
        });
      await executable.dispose();
    }
  });

  it.each(models)("$id", async (c) => {
    const { spec, N, B, inputs, logits } = c;
    const program = modelProgram(spec);
    const executable = await device.compile(program, { weights: weightsOf(program, c).source });
    const [got] = Object.values(await executable.run(inputs, { N, B }));
    const terms = spec.layers * spec.ffn.dim;
    const verdict = compare(got ?? [], logits, { dtype: "f32", terms, of: "model" });
    worst = Math.max(worst, verdict.worst / verdict.scale);
    expect(verdict).toMatchObject({ ok: true });
    await executable.dispose();
  });

  it("left nothing on the device and did nothing that a driver minds", async () => {
    expect(device.bytes()).toEqual({ device: 0, pinned: 0 });
    await turns();
    expect(driver.alive()).toEqual({ context: 1 });
    expect(driver.wrongs()).toEqual([]);
  });
});
