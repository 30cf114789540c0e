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
import { attentionRow } from "../../src/reference/row.ts";
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

const stored = new Map(weights.map((w) => [w.name, w.data]));

/**
 * The logits of one row in f64. Segments of 1200 hold those of 300, so a row sees nothing before its own of 1200: the graph up to the
 * rotations runs on that, they are xPos as it is defined (no blocks; from the segment's start on, since only differences count), and the
 * rest of the graph runs on the row. `late` adds to the row's position, which must then not fit.
 */
function referenceRow(tokens: Int32Array, row: number, late = 0): Float64Array {
  const start = row - (row % 1200);
  const window = tokens.subarray(start, Math.min(tokens.length, start + 1200));
  const first = graph.nodes.findIndex((n) => n.op === "xpos");
  const at = graph.nodes.findIndex((n) => n.op === "attention");
  const node = graph.nodes[at];
  if (node?.op !== "attention") throw new Error("no attention");
  const { values } = runReference(
    { ...graph, nodes: graph.nodes.slice(0, first), outputs: [], hidden: [] },
    { tokens: window },
    stored,
    { N: window.length, B: 1 },
  );
  const made = (id: string) => values.get(id) ?? new Float64Array();
  const { heads, headDim } = attention;
  const turned = (out: string): Float64Array => {
    const xpos = graph.nodes.find((n) => n.op === "xpos" && n.out === out);
    if (xpos?.op !== "xpos") throw new Error(`'${out}' is not rotated`);
    const x = made(xpos.x);
    return x.map((value, i) => {
      const n = Math.floor(i / (heads * headDim));
      const pair = Math.floor((i % headDim) / 2);
      const place = start + n + (xpos.sign === 1 ? late : 0);
      const angle = Math.fround(
        place * Math.fround(1 / Math.fround(10000 ** Math.fround(pair / (headDim / 2)))),
      );
      const zeta = (2 * pair + 0.4 * headDim) / (1.4 * headDim);
      const other = x[i % 2 === 0 ? i + 1 : i - 1] ?? NaN;
      const rotated = value * Math.cos(angle) + (i % 2 === 0 ? -other : other) * Math.sin(angle);
      return rotated * zeta ** ((xpos.sign * n) / 512);
    });
  };
  const given = { q: turned(node.q), k: turned(node.k), v: made(node.v), N: window.length };
  const rest = graph.nodes.slice(at + 1);
  const inputs: Record<string, ArrayLike<number>> = {
    [node.out]: Array.from({ length: heads }, (_, head) => [
      ...attentionRow(attention, given, { batch: 0, head, row: row - start }).out,
    ]).flat(),
  };
  for (const [id, value] of values) {
    const width = value.length / window.length;
    if (graph.values.some((v) => v.id === id))
      inputs[id] = value.subarray((row - start) * width, (row - start + 1) * width);
  }
  const named = graph.values.filter((v) => v.id in inputs).map((v) => ({ ...v, name: v.id }));
  const tail = { ...graph, inputs: named, nodes: rest, hidden: [] };
  return runReference(tail, inputs, stored, { N: 1, B: 1 }).outputs["logits"] ?? new Float64Array();
}

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

describe("xPos at any length", { timeout: 60_000 }, () => {
  it.each(["branch", "class"] as const)(
    "equals the reference across a block of local scales, %s",
    async (kind) => {
      const N = xposBlock(512, "f32") + 700;
      const logits = await forward(N, kind);
      const expected = runReference(graph, { tokens: tokensOf(N) }, stored, { N, B: 1 }).outputs["logits"];
      expect(compare(logits, expected ?? [], { dtype: "f32", terms: 300 })).toMatchObject({ ok: true });
    },
  );

  it("equals the reference at 1,000,000 tokens, on rows of either side of blocks and in between", async () => {
    const N = 1_000_000;
    const tokens = tokensOf(N);
    const logits = await forward(N, "branch");
    const block = xposBlock(512, "f32");
    const rows = [5, 72_521, 500_000, 60 * block - 1, 60 * block, 61 * block + 7, 876_543, N - 1];
    const found = rows.flatMap((row) => [...logits.subarray(row * 16, (row + 1) * 16)]);
    const meant = rows.flatMap((row) => [...referenceRow(tokens, row)]);
    const verdict = compare(found, meant, { dtype: "f32", terms: 300 });
    console.log(`1,000,000 tokens: worst ${(verdict.worst / verdict.scale).toExponential(1)} of scale`);
    expect(verdict).toMatchObject({ ok: true });
    // The same text without its place gives other logits: positions count.
    const elsewhere = referenceRow(tokens, N - 1, 1);
    expect(compare(found.slice(-16), elsewhere, { dtype: "f32", terms: 300 }).ok).toBe(false);
  });

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
