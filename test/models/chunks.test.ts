/** Sequences in chunks of rows: the same bits as whole, in less memory, whatever the chunk. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { memoryOf } from "../../runtime/memory.ts";
import { variantFor } from "../../runtime/plan.ts";
import { wasmDevice } from "../../runtime/wasm.ts";
import { weightsOf } from "../../src/cli/verify/devices.ts";
import { randomInputs, randomWeights } from "../../src/cli/verify/random.ts";
import { runInterpreted } from "../../src/cli/interpreted.ts";
import { compileSpec, readSpec } from "../../src/compile.ts";
import type { CompiledProgram } from "../../src/compile.ts";
import { modelGraph } from "../../src/model.ts";
import { seal } from "../../src/spec.ts";
import type { ModelSpec } from "../../src/spec.ts";
import { sameBits } from "../webgpu/programs.ts";
import { compiledIn as compiledText, inputsOf, NARROW } from "./chunked.ts";
import { atLeast, randomModel } from "../wgsl/models.ts";

const seed = Number(process.env["HEDDLE_SEED"] ?? Date.now() % 1e9);

const compiledIn = (model: ModelSpec, chunk: number | null): CompiledProgram => {
  const spec = seal({ attentions: [], models: [model], schedules: [] });
  const [compiled] = compileSpec(spec, { target: "wasm", names: [model.name], chunk });
  if (compiled === undefined) throw new Error("nothing was compiled");
  return compiled;
};

describe("chunks of rows", { timeout: 120_000 }, () => {
  it("give the bits of the whole", async () => {
    const device = wasmDevice({ poison: true, threads: 2 });
    let [smaller, tested] = [0, 0];
    await fc.assert(
      fc.asyncProperty(
        randomModel,
        fc.integer({ min: 1, max: 70 }),
        fc.constantFrom(1, 3),
        fc.constantFrom(1, 7, 16, 33, 64),
        async (model, length, B, rows) => {
          const at = { N: atLeast(model, length), B };
          const graph = modelGraph(model);
          const below = (name: string) =>
            name === "tokens" ? model.vocab : name === "padding_mask" ? 2 : (model.grid?.cells ?? 1);
          const inputs = Object.fromEntries(randomInputs(graph, below, at, seed));
          const weights = randomWeights(graph, seed);
          const ran = await Promise.all(
            [null, rows].map(async (chunk) => {
              const { program } = compiledIn(model, chunk);
              const executable = await device.compile(program);
              for (const [i, data] of weightsOf(program.plan, weights).entries())
                await executable.setWeight(i, data);
              const outputs = await executable.run(inputs, at);
              await executable.dispose();
              return { plan: program.plan, outputs };
            }),
          );
          const [whole, parts] = ran;
          if (whole === undefined || parts === undefined) throw new Error("nothing ran");
          expect(sameBits(parts.outputs, whole.outputs)).toBe(true);
          // Where nothing is saved nothing is cut.
          const far = { N: 5000, B: 1 };
          const saves = memoryOf(parts.plan, far).activations < memoryOf(whole.plan, far).activations;
          expect(variantFor(parts.plan, far.N).chunks !== undefined).toBe(saves);
          expect(variantFor(whole.plan, far.N).chunks).toBeUndefined();
          tested++;
          if (saves) smaller++;
        },
      ),
      { numRuns: 14, seed },
    );
    await device.dispose();
    console.log(`${smaller} of ${tested} models in less memory, HEDDLE_SEED=${seed}`);
    // A narrow FFN has nothing to save.
    expect(smaller).toBeGreaterThan(0.6 * tested);
  });

  it("are run by the interpreter, which checks every access", () => {
    const models = fc.sample(randomModel, { numRuns: 3, seed });
    for (const model of models) {
      const at = { N: atLeast(model, 21), B: 2 };
      const graph = modelGraph(model);
      const below = (name: string) =>
        name === "tokens" ? model.vocab : name === "padding_mask" ? 2 : (model.grid?.cells ?? 1);
      const inputs = [...randomInputs(graph, below, at, seed).values()];
      const outputs = [null, 8].map((chunk) => {
        const { program, kernels } = compiledIn(model, chunk);
        const weights = weightsOf(program.plan, randomWeights(graph, seed));
        return runInterpreted(program.plan, kernels, inputs, weights, at);
      });
      expect(outputs[1]).toEqual(outputs[0]);
    }
  });

  it("begin where they should in 16 bits, by the interpreter too", () => {
    const at = { N: 131, B: 1 };
    const outputs = [null, 128].map((chunk) => {
      const { program, graph, wgsl } = compiledText(NARROW, "wgsl", chunk);
      const [plan, kernels] = [program.webgpu?.at(-1)?.plan, wgsl?.at(-1)?.kernels];
      if (plan === undefined || kernels === undefined) throw new Error("a program for WebGPU");
      expect(variantFor(plan, at.N).chunks !== undefined).toBe(chunk !== null);
      const weights = weightsOf(plan, randomWeights(graph, seed));
      return runInterpreted(plan, kernels, Object.values(inputsOf({ plan }, at)), weights, at);
    });
    expect(outputs[1]).toEqual(outputs[0]);
  });

  it("halve what Prov-GigaPath's slide encoder takes besides its weights", () => {
    const model = readSpec(readFileSync("examples/gigapath.heddle", "utf8")).spec?.models[0];
    if (model === undefined) throw new Error("no model");
    const at = { N: 100_001, B: 1 };
    const [whole, parts] = [null, 1024].map((chunk) => memoryOf(compiledIn(model, chunk).program.plan, at));
    const gib = (bytes = 0) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
    console.log(`100,000 tiles: activations ${gib(whole?.activations)} whole, ${gib(parts?.activations)} in chunks; ${gib(parts?.total)} in all`); // prettier-ignore
    expect(parts?.activations).toBeLessThan(0.6 * (whole?.activations ?? 0));
    expect(parts?.total).toBeLessThan(4 * 2 ** 30);
  });
});
