/** xPos past the length where torchscale's f32 factors overflow (72,521 tokens), and across a block of local scales. */
import { plainModel } from "../plain-model.ts";
import { describe, expect, it } from "vitest";
import { modelDefinition } from "../../codegen/ts/definition.ts";
import { model } from "../../runtime/index.ts";
import { memorySource, writeSafetensors } from "../../runtime/safetensors.ts";
import { compileSpec } from "../../src/compile.ts";
import { xposBlock } from "../../src/graph.ts";
import { modelGraph } from "../../src/model.ts";
import { runReference } from "../../src/reference.ts";
import { seal, type AttentionShape, type ModelShape, type ModelSpec } from "../../src/spec.ts";
import { compare } from "../../src/tolerance.ts";
import { normal } from "../attention/run.ts";

// 300 does not divide the block of 16384 tokens, so a segment and its tiles straddle it.
const attention = seal<AttentionShape>({
  name: "far",
  heads: 2,
  headDim: 4,
  kvHeads: 2,
  causal: true,
  branches: [
    { segment: 300, dilation: 1 },
    { segment: 1200, dilation: 8 },
  ],
  offsets: [
    [0, 0],
    [0, 1],
  ],
  padding: "masked",
  align: "segment",
  combine: "softmax",
  gradient: "full",
  scale: 0.5,
  dtype: "f32",
});
const spec: ModelSpec = seal<ModelShape>({
  name: "far",
  kind: "decoder",
  input: "tokens",
  vocab: 16,
  dim: 8,
  layers: 1,
  ffn: { dim: 8, activation: "gelu" },
  attention,
  xpos: { base: 512 },
  positions: null,
  norm: "sub_ln",
  embedScale: 1,
  embedNorm: false,
  head: "separate",
  finalNorm: true,
  eps: 1e-5,
  ...plainModel,
});
const graph = modelGraph(spec);
const weights = graph.weights.map((w, i) => {
  const count = w.shape.reduce((n, d) => n * d, 1);
  return { name: w.name, shape: w.shape, data: normal(count, i + 1) };
});
const tokensOf = (N: number) => Int32Array.from(normal(N, 99), (x) => Math.abs(Math.floor(x * 1000)) % 16);

async function forward(N: number, kind: "branch" | "class") {
  const [compiled] = compileSpec(seal({ attentions: [], models: [spec], schedules: [] }), {
    target: "wasm",
    schedule: kind,
  });
  if (compiled === undefined) throw new Error("nothing compiled");
  const file = writeSafetensors(
    weights.map(({ name, shape, data }) => ({ name, dtype: "F32" as const, shape, data })),
  );
  const session = await model({ ...modelDefinition(spec), program: compiled.program }).create({
    weights: memorySource(file),
  });
  const result = (await session.forward(tokensOf(N))) as { logits: Float32Array };
  session.dispose();
  return result.logits;
}

describe("xPos at any length", () => {
  it.each(["branch", "class"] as const)(
    "equals the reference across a block of local scales, %s",
    async (kind) => {
      const N = xposBlock(512, "f32") + 700;
      const logits = await forward(N, kind);
      const stored = new Map(weights.map((w) => [w.name, w.data]));
      const expected = runReference(graph, { tokens: tokensOf(N) }, stored, { N, B: 1 }).outputs["logits"];
      expect(compare(logits, expected ?? [], { dtype: "f32", terms: 300 })).toMatchObject({ ok: true });
    },
  );

  it("stays finite and shift-free at 80,000 tokens, where torchscale's factors are infinite", async () => {
    const N = 80_000;
    const logits = await forward(N, "branch");
    expect(logits.every((x) => Number.isFinite(x))).toBe(true);
    // Relative positions alone matter and branches see 1200 tokens at most: equal texts far apart in equal places of
    // their segments get equal logits, whatever their absolute position.
    const period = 1200;
    const text = tokensOf(period);
    const repeated = Int32Array.from({ length: N }, (_, i) => text[i % period] ?? 0);
    const [compiled] = compileSpec(seal({ attentions: [], models: [spec], schedules: [] }), {
      target: "wasm",
    });
    if (compiled === undefined) throw new Error("nothing compiled");
    const file = writeSafetensors(
      weights.map(({ name, shape, data }) => ({ name, dtype: "F32" as const, shape, data })),
    );
    const session = await model({ ...modelDefinition(spec), program: compiled.program }).create({
      weights: memorySource(file),
    });
    const far = ((await session.forward(repeated)) as { logits: Float32Array }).logits;
    session.dispose();
    const near = far.slice(0, period * 16);
    const late = far.slice(65 * period * 16, 66 * period * 16);
    // Angles carry torch's f32 rounding, which at position 78,000 is 4e-3 rad for the fastest pair that is not exact.
    const { worst, scale } = compare(late, near, { dtype: "f32", terms: 300 });
    expect(worst / scale).toBeLessThan(2e-2);
  });
});
