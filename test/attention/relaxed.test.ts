/** The same kernels with relaxed SIMD, which Node 20 has behind a flag: torchscale's outputs and a model. */
import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { afterAll, describe, expect, it } from "vitest";
import { modelDefinition } from "../../codegen/ts/definition.ts";
import { model } from "../../runtime/index.ts";
import { memorySource } from "../../runtime/safetensors.ts";
import { wasmDevice } from "../../runtime/wasm.ts";
import { compileSpec } from "../../src/compile.ts";
import { seal } from "../../src/spec.ts";
import { compare } from "../../src/tolerance.ts";
import { attentionCases, goldenPath, modelCases } from "../golden.ts";

// Newer hosts have it without a flag, and then the flag may be unknown: V8 says so on stderr and goes on.
if (!wasmDevice({ threads: 1 }).detail.includes("relaxed"))
  setFlagsFromString("--experimental-wasm-relaxed-simd");
const device = wasmDevice({ threads: 1, poison: true });
afterAll(() => device.dispose());

const attentions = await attentionCases();
const models = await modelCases();

describe("relaxed SIMD", () => {
  it("is on", () => expect(device.detail).toContain("relaxed SIMD"));

  it.each(attentions)("$id", async (c) => {
    const program = seal({ attentions: [c.spec], models: [], schedules: [] });
    const compiled = compileSpec(program, { target: "wasm", length: c.N })[0];
    if (compiled === undefined) throw new Error("nothing compiled");
    const executable = await device.compile(compiled.program);
    const { out, lse } = await executable.run({ q: c.q, k: c.k, v: c.v }, { N: c.N, B: c.B });
    await executable.dispose();
    expect(compare(out ?? [], c.out, { dtype: "f32", terms: c.N })).toMatchObject({ ok: true });
    expect(compare(lse ?? [], c.lseUnion, { dtype: "f32", terms: c.N, atLeast: 1 })).toMatchObject({
      ok: true,
    });
  });

  it.each(models)("$id", async (c) => {
    const compiled = compileSpec(seal({ attentions: [], models: [c.spec], schedules: [] }), {
      target: "wasm",
    })[0];
    if (compiled === undefined) throw new Error("nothing compiled");
    const weights = memorySource(readFileSync(goldenPath(c.weightsFile)), c.weightsFile);
    const session = await model({ ...modelDefinition(c.spec), program: compiled.program }).create({
      weights,
      threads: 1,
    });
    expect(session.device).toContain("relaxed SIMD");
    const { logits } = (await session.forward(c.tokens, {
      batch: c.B,
      length: c.N,
      paddingMask: c.paddingMask,
    })) as {
      logits: Float32Array;
    };
    session.dispose();
    const terms = c.spec.layers * c.spec.ffn.dim;
    expect(compare(logits, c.logits, { dtype: "f32", terms })).toMatchObject({ ok: true });
  });
});
