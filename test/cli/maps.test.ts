/** `heddle maps`, and models compiled with maps, as a stranger would use them. */
import { readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { memorySource, readHeader, readTensor, writeSafetensors } from "../../runtime/safetensors.ts";
import { randomInputs, randomWeights } from "../../src/cli/verify/random.ts";
import { readSpec } from "../../src/compile.ts";
import { modelGraph } from "../../src/model.ts";
import { compare } from "../../src/tolerance.ts";
import { goldenPath, goldenTensors, manifest } from "../golden.ts";
import { slideInputs, slideSpec } from "../slides.ts";
import { testDevice } from "../webgpu/gpu.ts";
import { folder, heddle } from "./session.ts";

const here = folder();
afterAll(here.remove);
const [slide] = [...manifest.gigapath].sort((a, b) => a.n_tiles - b.n_tiles);
if (slide === undefined) throw new Error("no golden slide");
const [spec, inputs] = [here.at("slide.heddle"), here.at("slide.in")];
const maps = (...more: readonly string[]) =>
  heddle(["maps", spec, "slide", "--weights", goldenPath(slide.weights), "--inputs", inputs, ...more]);
async function numbers(path: string, name: string): Promise<readonly number[]> {
  const source = memorySource(readFileSync(path), path);
  const entry = (await readHeader(source)).tensors.get(name);
  if (entry === undefined) throw new Error(`${path} has no '${name}'`);
  return [...(await readTensor(source, entry))];
}
const sum = (all: readonly number[]) => all.reduce((a, b) => a + b, 0);

beforeAll(async () => {
  writeFileSync(spec, slideSpec(slide, "class"));
  writeFileSync(inputs, slideInputs(slide, await goldenTensors(slide.io)));
});

describe("heddle maps", { timeout: 120_000 }, () => {
  it("prints what a query attends, and writes it whole", async () => {
    const output = here.at("attended.safetensors");
    const all = await maps(
      "--query",
      "class",
      "--head",
      "0",
      "--device",
      "wasm",
      "--json",
      "--output",
      output,
    );
    expect(all.code, all.err).toBe(0);
    const found = JSON.parse(all.out) as { tokens: number[]; weights: number[]; rest: number; title: string };
    expect(found.title).toContain(`the class token in layer ${slide.encoder.layers - 1}, head 0`);
    // Head 0 starts at row 0 in every branch, so it covers the class token, which sees itself.
    expect(found.tokens[0]).toBe(-1);
    expect(sum(found.weights) + found.rest).toBeCloseTo(1, 6);
    expect(await numbers(output, "tokens")).toEqual(found.tokens);
    expect(await numbers(output, "weights")).toEqual(found.weights.map(Math.fround));

    const read = await maps("--query", "0", "--layer", "0", "--device", "wasm", "--top", "3");
    expect(read.code, read.err).toBe(0);
    expect(read.out).toMatch(
      /^token 0 in layer 0, mean of all heads: \d+ tokens attended\n(.*%.*\n){3}    others/,
    );
  });

  it("gives the relevance of every tile for the slide", async () => {
    const output = (device: string) => here.at(`${device}.relevance`);
    const plain = await maps("--device", "wasm", "--output", output("wasm"));
    expect(plain.code, plain.err).toBe(0);
    const found = await numbers(output("wasm"), "relevance");
    expect(found).toHaveLength(slide.n_tiles);
    expect(Math.min(...found)).toBeGreaterThan(0);
    expect(sum(found)).toBeLessThan(1);
    expect(plain.out).toContain(`for the pooled result, through all ${slide.encoder.layers} layers`);
  });

  it("gives the same from queries and keys that WebGPU stores in 16 bits", async ({ skip }) => {
    const device = await testDevice();
    if (device === null) return skip("no WebGPU here");
    await device.dispose();
    const text = `attention a { heads 2 head_dim 8 dtype f16 branch segment 8 dilation 1 branch segment 24 dilation 2 }
      model small { kind encoder input features dim 16 layers 1 ffn 16 gelu attention a norm pre_ln head none pool mean }`;
    const [small, weights, tiles] = [here.at("small.heddle"), here.at("small.weights"), here.at("small.in")];
    writeFileSync(small, text);
    const model = readSpec(text).spec?.models[0];
    if (model === undefined) throw new Error("the spec of this test is wrong");
    const graph = modelGraph(model);
    const made = randomWeights(graph, 5);
    const f32 = (name: string, shape: readonly number[], data: Float32Array) =>
      ({ name, dtype: "F32", shape, data }) as const;
    writeFileSync(
      weights,
      writeSafetensors(
        graph.weights.map((w) => f32(w.name, w.shape, made.get(w.name) ?? new Float32Array())),
      ),
    );
    const [features] = randomInputs(graph, () => 1, { N: 37, B: 1 }, 6).values();
    writeFileSync(tiles, writeSafetensors([f32("features", [1, 37, 16], Float32Array.from(features ?? []))]));
    const of = async (name: string) => {
      const output = here.at(`${name}.relevance`);
      const ran = await heddle(
        ["maps", small, "small", "--weights", weights, "--inputs", tiles].concat([
          "--device",
          name,
          "--output",
          output,
        ]),
      );
      expect(ran.code, ran.err).toBe(0);
      return numbers(output, "relevance");
    };
    const [wide, narrow] = [await of("wasm"), await of("webgpu")];
    expect(wide).toHaveLength(37);
    expect(compare(narrow, wide, { dtype: "f16", terms: 16, of: "model" })).toMatchObject({ ok: true });
    expect(narrow).not.toEqual(wide);
  });

  it("refuses what cannot be asked", async () => {
    const said = async (...more: readonly string[]) => (await maps("--device", "wasm", ...more)).err;
    expect(await said("--head", "0")).toContain("relevance follows the mean of all heads");
    expect(await said("--layer", "99")).toContain(
      `--layer 99: model 'slide' has ${slide.encoder.layers}, from 0 on`,
    );
    expect(await said("--query", `${slide.n_tiles}`)).toContain(`the sequence has ${slide.n_tiles}`);
    expect(await said("--query", "first")).toContain("`class` or a whole number");
    const compiled = await heddle(["compile", spec, "--maps", "0,99"]);
    expect(compiled.err).toContain("--maps 99: no model of the spec has such a layer");
  });
});
