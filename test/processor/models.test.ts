/** torchscale's models, random ones, chunks and decoding through native code. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { modelDefinition } from "../../codegen/ts/definition.ts";
import { model } from "../../runtime/index.ts";
import { variantFor } from "../../runtime/plan.ts";
import type { NativeVectors } from "../../runtime/plan.ts";
import { memorySource } from "../../runtime/safetensors.ts";
import { wasmDevice } from "../../runtime/wasm.ts";
import { weightsOf } from "../../src/cli/verify/devices.ts";
import { randomInputs, randomWeights } from "../../src/cli/verify/random.ts";
import { compileSpec } from "../../src/compile.ts";
import { modelGraph } from "../../src/model.ts";
import { seal } from "../../src/spec.ts";
import type { ModelShape } from "../../src/spec.ts";
import { compare } from "../../src/tolerance.ts";
import { decodeBeside, modelOf, saveAndRestore } from "../decode/parity.ts";
import { goldenPath, modelCases } from "../golden.ts";
import { sameBits } from "../webgpu/programs.ts";
import { atLeast, randomModel } from "../wgsl/models.ts";
import { compiled, device, shapes } from "./devices.ts";

const seed = Number(process.env["HEDDLE_SEED"] ?? Date.now() % 1e9);
const cases = await modelCases();
const found: string[] = [];
afterAll(() => {
  if (found.length > 0) console.log(`models through native code, worst of scale: ${found.join(", ")}`);
});
const shapeAt = (i: number): NativeVectors => shapes[i % Math.max(1, shapes.length)] ?? "sse";

describe.skipIf(shapes.length === 0)("torchscale's models", () => {
  it.each(cases.map((c, i) => ({ ...c, vectors: shapeAt(i) })))("$id, $vectors", async (c) => {
    const made = compiled({ model: c.spec }, c.vectors, { length: c.N, hidden: true });
    const source = memorySource(readFileSync(goldenPath(c.weightsFile)), c.weightsFile);
    const definition = { ...modelDefinition(c.spec, made.hidden), program: made.program };
    // As it is compiled for a user; the session ends its device, so it gets one of its own.
    const session = await model(definition).create({
      weights: source,
      device: "native",
      native: () => device(c.vectors, 2, []).then((d) => ({ ...d, dispose: () => Promise.resolve() })),
    });
    expect(session.device).toMatch(/^native code for .*, 2 threads/);
    // First less: its memory, and in a short text its tables, are too small for what comes then.
    if (c.spec.kind === "decoder") {
      await session.forward(c.tokens.slice(0, 3), { batch: 1, length: 3 });
      await session.forward(c.tokens.slice(0, c.N), { batch: 1, length: c.N });
    }
    const got = await session.forward(c.tokens, { batch: c.B, length: c.N, paddingMask: c.paddingMask });
    session.dispose();
    // Every layer adds the roundings of its sums; the widest is the FFN's.
    const terms = c.spec.layers * c.spec.ffn.dim;
    const logits = compare((got as { logits: Float32Array }).logits, c.logits, { dtype: "f32", terms });
    const hidden = compare(got.hidden ?? [], c.hidden, { dtype: "f32", terms });
    found.push(`${c.id} ${c.vectors} ${(logits.worst / logits.scale).toExponential(1)}`);
    expect(logits, "logits").toMatchObject({ ok: true });
    expect(hidden, "hidden").toMatchObject({ ok: true });
  });
});

describe.skipIf(shapes.length === 0)("random models", { timeout: 120_000 }, () => {
  it("equal WebAssembly's, and in chunks of rows give the bits of the whole, on 1 and 2 threads", async () => {
    const wasm = wasmDevice({ threads: 1, poison: true, relaxed: false });
    await fc.assert(
      fc.asyncProperty(
        // Half of them so wide that linears go in several pieces of columns.
        fc
          .tuple(randomModel, fc.constantFrom(null, 200, 264))
          .map(([m, dim]) => (dim === null ? m : seal<ModelShape>({ ...m, ffn: { ...m.ffn, dim } }))),
        fc.constantFrom(...shapes),
        fc.integer({ min: 1, max: 70 }),
        fc.constantFrom(1, 3),
        fc.constantFrom(1, 7, 16, 33, 64),
        async (spec, vectors, length, B, rows) => {
          const at = { N: atLeast(spec, length), B };
          const graph = modelGraph(spec);
          const below = (name: string) =>
            name === "tokens" ? spec.vocab : name === "padding_mask" ? 2 : (spec.grid?.cells ?? 1);
          const inputs = Object.fromEntries(randomInputs(graph, below, at, seed));
          const weights = randomWeights(graph, seed);
          const [there] = compileSpec(seal({ attentions: [], models: [spec], schedules: [] }), {
            target: "wasm",
          });
          if (there === undefined) throw new Error("nothing compiled");
          const on = async (chunk: number | null, threads: number | null) => {
            const { program } =
              threads === null ? there : compiled({ model: spec }, vectors, { chunk, length: at.N });
            const on = threads === null ? wasm : await device(vectors, threads);
            const executable = await on.compile(program);
            for (const [i, data] of weightsOf(program.plan, weights).entries())
              await executable.setWeight(i, data);
            const outputs = await executable.run(inputs, at);
            await executable.dispose();
            return { plan: executable.plan, outputs };
          };
          const [whole, parts] = [await on(null, 1), await on(rows, 2)];
          expect(sameBits(parts.outputs, whole.outputs)).toBe(true);
          expect(variantFor(parts.plan, at.N).chunks?.length).toBeGreaterThan(0);
          const expected = (await on(null, null)).outputs;
          const terms = spec.layers * (spec.ffn.dim + spec.dim + at.N);
          for (const [name, values] of Object.entries(expected)) {
            const close = compare(whole.outputs[name] ?? [], values, { dtype: "f32", terms, atLeast: 1 });
            expect(close, name).toMatchObject({ ok: true });
          }
        },
      ),
      { numRuns: 4, seed },
    );
    await wasm.dispose();
  });
});

describe.skipIf(shapes.length === 0)("decoding", () => {
  it("equals the forward pass in every row after a prompt, and its states come back bit for bit", async () => {
    const { spec } = modelOf("nested");
    const vectors = shapeAt(0);
    const { program } = compiled({ model: spec }, vectors, { generate: true });
    const on = await device(vectors, 2);
    const { worst, scale } = await decodeBeside(on, program, spec);
    expect(worst).toBeLessThan(2e-5 * scale);
    const { same, early, short } = await saveAndRestore(on, program, spec);
    expect(early).toMatchObject({ name: "DeviceError", code: "DEVICE_LOST" });
    expect(same).toBe(true);
    expect(short).toMatchObject({ message: expect.stringMatching(/bytes, found 4/) as string });
  });
});
