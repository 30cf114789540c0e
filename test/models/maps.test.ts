/** Attention maps against the dense matrices of the f64 reference, which nothing else may hold. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { modelDefinition } from "../../codegen/ts/definition.ts";
import { attentionMaps } from "../../runtime/maps.ts";
import { memorySource, writeSafetensors } from "../../runtime/safetensors.ts";
import { randomInputs, randomWeights } from "../../src/cli/verify/random.ts";
import { compileSpec, readSpec } from "../../src/compile.ts";
import { withMaps } from "../../src/maps.ts";
import { modelGraph } from "../../src/model.ts";
import { attention, runReference } from "../../src/reference.ts";
import { seal } from "../../src/spec.ts";
import type { ModelShape, ModelSpec } from "../../src/spec.ts";
import { xposBlock } from "../../src/graph.ts";
import { atLeast, randomModel } from "../wgsl/models.ts";

const seed = Number(process.env["HEDDLE_SEED"] ?? Date.now() % 1e9);

/** The same model with attention that devices can carry relevance through. */
const symmetric = (model: ModelSpec): ModelSpec => {
  const attention = { ...model.attention, causal: false, combine: "softmax" } as const;
  return seal<ModelShape>({ ...model, kind: "encoder", attention, xpos: null });
};

/** The weights of one layer as [heads][N][N]: values that are rows of the identity come out as columns of them. */
function dense(model: ModelSpec, q: Float64Array, k: Float64Array, N: number): readonly Float64Array[][] {
  const { heads, headDim: D, kvHeads } = model.attention;
  const decay =
    model.xpos === null
      ? undefined
      : { base: model.xpos.base, block: xposBlock(model.xpos.base, model.attention.dtype) };
  const rows = Array.from({ length: heads }, () => Array.from({ length: N }, () => new Float64Array(N)));
  for (let first = 0; first < N; first += D) {
    const v = new Float64Array(N * kvHeads * D);
    for (let j = first; j < Math.min(N, first + D); j++)
      for (let h = 0; h < kvHeads; h++) v[(j * kvHeads + h) * D + j - first] = 1;
    const { out } = attention(model.attention, { q, k, v, B: 1, N, decay });
    rows.forEach((of, h) =>
      of.forEach((row, i) => {
        for (let j = first; j < Math.min(N, first + D); j++)
          row[j] = out[(i * heads + h) * D + j - first] ?? NaN;
      }),
    );
  }
  return rows;
}

async function mapped(
  model: ModelSpec,
  length: number,
  options: { readonly layers?: readonly number[] } = {},
) {
  const { layers } = options;
  const spec = seal({ attentions: [], models: [model], schedules: [] });
  const [compiled] = compileSpec(spec, { target: "wasm", names: [model.name], maps: layers ?? true });
  if (compiled?.maps === undefined) throw new Error("no maps");
  const definition = { ...modelDefinition(model), maps: compiled.maps, program: compiled.program };
  const graph = modelGraph(model);
  const rows = length + (model.classToken ? 1 : 0);
  const at = { N: rows, B: 1 };
  const inputs = randomInputs(graph, (name) => (name === "tokens" ? model.vocab : 1), at, seed);
  const weights = randomWeights(graph, seed);
  const all = Array.from({ length: model.layers }, (_, l) => l);
  const { outputs } = runReference(withMaps(graph, all), Object.fromEntries(inputs), weights, at);
  const matrices = all.map((l) =>
    dense(model, outputs[`q.${l}`] ?? new Float64Array(), outputs[`k.${l}`] ?? new Float64Array(), rows),
  );
  const bytes = writeSafetensors(
    graph.weights.map(({ name, shape }) => ({
      name,
      dtype: "F32",
      shape,
      data: weights.get(name) ?? new Float32Array(),
    })),
  );
  const session = await attentionMaps(definition, {
    weights: memorySource(bytes),
    threads: 1,
    poison: true,
  });
  const [input] = graph.inputs;
  const given = inputs.get(input?.name ?? "");
  if (given === undefined) throw new Error("no input");
  const width = given.length / rows;
  // A row for the class token is the program's own business.
  const own = given.subarray((rows - length) * width);
  const coords = model.grid === null ? undefined : new Float32Array(2 * length);
  const maps = await session.read(own, { length, coords });
  return { session, maps, matrices, rows, relevance: compiled.maps.relevance };
}

/** Relevance through dense matrices. */
function rollout(matrices: readonly (readonly Float64Array[][])[], start: Float64Array, residual: number) {
  let relevance = start;
  for (const heads of [...matrices].reverse()) {
    const next = relevance.map((r) => residual * r);
    for (const rows of heads)
      rows.forEach((row, i) =>
        row.forEach((w, j) => {
          next[j] = (next[j] ?? NaN) + (((1 - residual) * (relevance[i] ?? NaN)) / heads.length) * w;
        }),
      );
    relevance = next;
  }
  return relevance;
}

const close = (actual: ArrayLike<number>, expected: ArrayLike<number>, scale: number): number => {
  expect(actual.length).toBe(expected.length);
  let worst = 0;
  for (let i = 0; i < expected.length; i++)
    worst = Math.max(worst, Math.abs((actual[i] ?? NaN) - (expected[i] ?? NaN)));
  expect(worst).toBeLessThanOrEqual(2e-5 * scale);
  return worst;
};

describe("attention maps", { timeout: 120_000 }, () => {
  it("are the rows and products of the dense matrices, for random models", async () => {
    const counted = { device: 0, host: 0, worst: 0 };
    await fc.assert(
      fc.asyncProperty(
        randomModel,
        fc.boolean(),
        fc.integer({ min: 1, max: 90 }),
        fc.constantFrom(0.5, 0, 0.3),
        async (drawn, even, N, residual) => {
          // LongViT's positions fit one length only.
          const placed = drawn.positions !== null && drawn.checkpoint === "longvit";
          const any = placed ? seal<ModelShape>({ ...drawn, checkpoint: "torchscale" }) : drawn;
          const model = even ? symmetric(any) : any;
          const length = atLeast(model, N);
          const { session, maps, matrices, rows, relevance } = await mapped(model, length);
          const before = rows - length;
          try {
            matrices.forEach((heads, layer) => {
              for (const row of new Set([0, rows >> 1, rows - 1])) {
                const query = row < before ? "class" : row - before;
                const mean = new Float64Array(rows);
                heads.forEach((matrix, h) => {
                  const { tokens, weights, lost } = maps.attentionOf(query, layer, h);
                  const found = new Float64Array(rows);
                  tokens.forEach((t, i) => (found[t + before] = weights[i] ?? NaN));
                  const expected = matrix[row] ?? new Float64Array();
                  counted.worst = Math.max(counted.worst, close(found, expected, 1));
                  close([lost], [1 - expected.reduce((a, b) => a + b, 0)], 1);
                  expected.forEach((w, j) => (mean[j] = (mean[j] ?? NaN) + w / heads.length));
                });
                const { tokens, weights } = maps.attentionOf(query, layer);
                const found = new Float64Array(rows);
                tokens.forEach((t, i) => (found[t + before] = weights[i] ?? NaN));
                close(found, mean, 1);
              }
            });
            const start = new Float64Array(rows);
            const of = model.pool === null ? rows - 1 - before : undefined;
            if (of !== undefined) start[rows - 1] = 1;
            else if (model.pool?.of === "class") start[0] = 1;
            else start.fill(1 / length, before);
            const got = await maps.relevance({ residual, ...(of === undefined ? {} : { of }) });
            const expected = rollout(matrices, start, residual).subarray(before);
            close(got, expected, Math.max(...expected));
            counted[relevance === undefined ? "host" : "device"]++;
          } finally {
            session.dispose();
          }
        },
      ),
      { numRuns: 16, seed },
    );
    expect(counted.device).toBeGreaterThan(0);
    expect(counted.host).toBeGreaterThan(0);
    console.log(
      `attention maps: relevance of ${counted.device} models on the device, of ${counted.host} on the host; worst weight off by ${counted.worst.toExponential(1)}, HEDDLE_SEED=${seed}`,
    );
  });

  const text = `attention a { heads 2 head_dim 8 branch segment 8 dilation 1  branch segment all dilation 2 }
    model slide { kind encoder input features patch_embed 12 dim 16 layers 3 ffn 24 gelu attention a norm pre_ln head none
      class_token true pool class }`;
  const slide = (() => {
    const { spec } = readSpec(text);
    const [model] = spec?.models ?? [];
    if (model === undefined) throw new Error("the spec of this test is wrong");
    return model;
  })();

  it("have torchscale's padded slots, and its moved rows on the host", async () => {
    // 4 does not divide 10, so the rows of later segments are moved; the last segments are ragged.
    const { spec } = readSpec(`attention a { heads 4 head_dim 4 compat torchscale
        branches segments [10, 24] dilations [4, 3] }
      model slide { kind encoder input features dim 16 layers 2 ffn 24 gelu attention a norm pre_ln head none pool mean }`);
    const [moved] = spec?.models ?? [];
    if (moved === undefined) throw new Error("the spec of this test is wrong");
    for (const length of [37, 9]) {
      const { session, maps, matrices, relevance } = await mapped(moved, length);
      let lost = 0;
      matrices.forEach((heads, layer) =>
        heads.forEach((matrix, h) =>
          matrix.forEach((row, query) => {
            const attended = maps.attentionOf(query, layer, h);
            const found = new Float64Array(length);
            attended.tokens.forEach((t, i) => (found[t] = attended.weights[i] ?? NaN));
            close(found, row, 1);
            const sum = row.reduce((a, b) => a + b, 0);
            close([attended.lost], [1 - sum], 1);
            if (sum > 0) lost = Math.max(lost, attended.lost);
          }),
        ),
      );
      expect(lost).toBeGreaterThan(0.01);
      expect(relevance).toBeDefined();
      const start = new Float64Array(length).fill(1 / length);
      const expected = rollout(matrices, start, 0.5);
      close(await maps.relevance(), expected, Math.max(...expected));
      session.dispose();
    }
  });

  it("of some layers only have those, and follow the relevance through them", async () => {
    const { session, maps, matrices } = await mapped(slide, 21, { layers: [2, 0] });
    const start = new Float64Array(22);
    start[0] = 1;
    const [first, , last] = matrices;
    if (first === undefined || last === undefined) throw new Error("a layer is missing");
    close(await maps.relevance(), rollout([first, last], start, 0.5).subarray(1), 1);
    close(await maps.relevance({ layers: [2] }), rollout([last], start, 0.5).subarray(1), 1);
    expect(() => maps.attentionOf(0, 1)).toThrow(
      "no map of layer 1: model 'slide' was compiled for layers 0, 2",
    );
    session.dispose();
  });

  it("refuse what is not there, and say what is", async () => {
    const { session, maps } = await mapped(slide, 21);
    expect(() => maps.attentionOf(21, 0)).toThrow("there is no token 21: the sequence has 21");
    expect(() => maps.attentionOf(-1, 0)).toThrow("there is no token -1");
    expect(() => maps.attentionOf(0, 0, 2)).toThrow("there is no head 2: there are 2, from 0 on");
    expect(() => maps.attentionOf(0, 3)).toThrow(
      "no map of layer 3: model 'slide' was compiled for its layers 0 … 2",
    );
    await expect(maps.relevance({ residual: 2 })).rejects.toThrow("from 0 to 1, found 2");
    await expect(session.read(new Float32Array(13))).rejects.toThrow("length must be a whole number");
    session.dispose();
    await expect(maps.relevance()).rejects.toThrow("has been disposed");

    const plain = modelDefinition(slide);
    const [compiled] = compileSpec(seal({ attentions: [], models: [slide], schedules: [] }), {
      target: "wasm",
    });
    if (compiled === undefined) throw new Error("nothing was compiled");
    const weights = memorySource(new Uint8Array());
    await expect(attentionMaps({ ...plain, program: compiled.program }, { weights })).rejects.toThrow(
      "was not compiled for attention maps (`heddle compile --maps`)",
    );
  });
});
