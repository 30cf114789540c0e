import { describe, expect, it } from "vitest";
import type { Graph } from "../../src/graph.ts";
import { attentionGraph, modelGraph } from "../../src/model.ts";
import { runReference } from "../../src/reference.ts";
import { activate, add, linear } from "../../src/reference/pointwise.ts";
import { seal } from "../../src/spec.ts";
import type { ModelSpec } from "../../src/spec.ts";
import { attentionCases, goldenTensors, modelCases, tensor, torchscaleShape } from "../golden.ts";
import type { Tensors } from "../golden.ts";

const data = (tensors: Tensors) => new Map([...tensors].map(([name, { data: values }]) => [name, values]));

/** Largest error relative to the largest expected magnitude. */
function worst(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  const scale = Array.from(expected).reduce((most, e) => Math.max(most, Math.abs(e)), 0);
  return (
    Array.from(expected).reduce((most, e, i) => {
      const error = Math.abs((actual[i] ?? NaN) - e);
      return error <= most ? most : error;
    }, 0) / scale
  );
}

const models = await modelCases();

describe.each(models)("golden $id", ({ spec, weights, B, N, inputs, logits, hidden }) => {
  const graph = modelGraph(spec);
  const result = runReference(graph, inputs, data(weights), { N, B });

  // torchscale itself rounds activations and angles to f32 there.
  it("agrees with torchscale: every hidden state and the logits", () => {
    expect(result.hidden).toHaveLength(spec.layers + 1);
    const size = B * N * spec.dim;
    result.hidden.forEach((state, l) =>
      expect(worst(state, hidden.slice(l * size, (l + 1) * size))).toBeLessThan(1e-6),
    );
    expect(worst(result.outputs["logits"] ?? [], logits)).toBeLessThan(1e-6);
  });

  it("names exactly the tensors of torchscale's state dict, with their shapes", () => {
    const named = new Map<string, readonly number[]>();
    for (const { name, shape } of [...graph.weights, ...graph.ignored]) named.set(name, shape);
    for (const { alias, of } of graph.aliases) named.set(alias, named.get(of) ?? []);
    expect([...named.keys()].sort()).toEqual([...weights.keys()].sort());
    for (const [name, shape] of named) expect([name, shape]).toEqual([name, weights.get(name)?.shape]);
  });

  it("is SSA: every value has one definition, before its uses", () => {
    const defined = new Set([...graph.inputs, ...graph.weights].map(({ id }) => id));
    const shaped = new Set(graph.values.map(({ id }) => id));
    expect(shaped.size).toBe(graph.values.length);
    for (const node of graph.nodes) {
      for (const [key, value] of Object.entries(node))
        if (["tokens", "weight", "bias", "x", "residual", "q", "k", "v"].includes(key))
          expect(defined).toContain(value);
      for (const out of node.op === "attention" ? [node.out, node.lse] : [node.out]) {
        expect(defined).not.toContain(out);
        expect(shaped).toContain(out);
        defined.add(out);
      }
    }
    for (const id of shaped) expect(defined).toContain(id);
  });
});

it("covers d1, d2, d4, e1 and e3", () => {
  expect(models.map(({ id }) => id.slice(0, 2))).toEqual(["d1", "d2", "d4", "e1", "e3"]);
  expect(models.map(({ spec }) => spec.head)).toContain("tied");
});

describe.each([
  { causal: true, name: "out_causal" },
  { causal: false, name: "out_bidir" },
])("golden b1 $name", ({ causal, name }) => {
  it("agrees on a block of projections, xPos, attention and norm", async () => {
    const io = await goldenTensors("models/b1_attention_block.io.safetensors");
    const weights = await goldenTensors("models/b1_attention_block.weights.safetensors");
    const [B, N, dim, heads] = [2, 37, 64, 4];
    const branches = [8, 16, 32].map((segment, b) => ({ segment, dilation: 2 ** b }));
    const spec = seal(torchscaleShape("b1", heads, dim / heads, branches, { causal }));
    const wide = (id: string) => ({ id, dtype: "f32" as const, shape: ["B", "N", dim] as const });
    const weight = (id: string) => ({
      id,
      name: id,
      dtype: "f32" as const,
      shape: weights.get(id)?.shape ?? [],
    });
    const project = (out: string, x: string, of: string) =>
      ({ op: "linear", out, x, weight: `${of}.weight`, bias: `${of}.bias` }) as const;
    const turn = { op: "xpos", heads, headDim: dim / heads, base: 512, block: 16 } as const;
    const graph: Graph = {
      name: "b1",
      inputs: [{ ...wide("x"), name: "x" }],
      weights: ["q_proj", "k_proj", "v_proj", "out_proj", "inner_attn_ln"].flatMap((of) => [
        weight(`${of}.weight`),
        weight(`${of}.bias`),
      ]),
      aliases: [],
      ignored: [],
      values: [
        ...["q", "k", "v", "qx", "kx", "mixed", "normed", "out"].map(wide),
        { id: "lse", dtype: "f32", shape: ["B", heads, "N"] },
      ],
      nodes: [
        project("q", "x", "q_proj"),
        project("k", "x", "k_proj"),
        project("v", "x", "v_proj"),
        { ...turn, out: "qx", x: "q", sign: 1 },
        { ...turn, out: "kx", x: "k", sign: -1 },
        {
          op: "attention",
          out: "mixed",
          lse: "lse",
          q: "qx",
          k: "kx",
          v: "v",
          spec,
          decay: { base: 512, block: 16 },
        },
        {
          op: "norm",
          out: "normed",
          x: "mixed",
          weight: "inner_attn_ln.weight",
          bias: "inner_attn_ln.bias",
          eps: 1e-5,
        },
        project("out", "normed", "out_proj"),
      ],
      outputs: [{ name: "out", value: "out" }],
      hidden: [],
    };
    const { outputs } = runReference(graph, { x: tensor(io, "x") }, data(weights), { N, B });
    expect(worst(outputs["out"] ?? [], tensor(io, name))).toBeLessThan(1e-6);
  });
});

describe("graphs", () => {
  it("of one attention give out and lse", async () => {
    const golden = (await attentionCases())[5];
    if (golden === undefined) throw new Error("no case");
    const { spec, q, k, v, N, B, out, lseUnion } = golden;
    const { outputs } = runReference(attentionGraph(spec), { q, k, v }, new Map(), { N, B });
    expect(worst(outputs["out"] ?? [], out)).toBeLessThan(1e-6);
    expect(worst(outputs["lse"] ?? [], lseUnion)).toBeLessThan(1e-6);
  });

  const [d1] = models;
  if (d1 === undefined) throw new Error("no d1");

  it("of features skip the embedding and scale as torchscale does", () => {
    const { spec, weights, N, B, hidden } = d1;
    const features = hidden.slice(0, B * N * spec.dim).map((x) => x / 4);
    const from: ModelSpec = seal({ ...spec, input: "features", embedScale: 4, head: "none" });
    const { outputs, hidden: states } = runReference(modelGraph(from), { features }, data(weights), { N, B });
    expect(worst(states[3] ?? [], hidden.slice(3 * B * N * spec.dim))).toBeLessThan(2e-6);
    expect(outputs["out"]).toHaveLength(B * N * spec.dim);
    expect(modelGraph(from).weights.map(({ name }) => name)).not.toContain("embed_tokens.weight");
  });

  it("of grouped heads have narrow k and v projections", () => {
    const spec: ModelSpec = seal({
      ...d1.spec,
      attention: seal({ ...d1.spec.attention, kvHeads: 2 }),
    });
    const shape = (name: string) => modelGraph(spec).weights.find((weight) => weight.name === name)?.shape;
    expect(shape("layers.0.self_attn.k_proj.weight")).toEqual([32, 64]);
    expect(shape("layers.0.self_attn.v_proj.bias")).toEqual([32]);
    expect(shape("layers.0.self_attn.q_proj.weight")).toEqual([64, 64]);
  });

  it("of post-norm models differ from DeepNorm by the residual scale alone", () => {
    const deep = modelGraph(seal({ ...d1.spec, norm: "deepnorm" }));
    const post = modelGraph(seal({ ...d1.spec, norm: "post_ln" }));
    const alphas = (graph: Graph) => graph.nodes.flatMap((node) => (node.op === "add" ? [node.alpha] : []));
    expect(new Set(alphas(post))).toEqual(new Set([1]));
    expect(new Set(alphas(deep))).toEqual(new Set([6 ** 0.25]));
    expect(deep.nodes.map(({ op }) => op)).toEqual(post.nodes.map(({ op }) => op));
    expect(deep.weights.map(({ name }) => name).filter((name) => /inner|ffn_layer/.test(name))).toEqual([]);
  });

  it("accept a tied weight under its other name", () => {
    const d2 = models.find(({ spec }) => spec.head === "tied");
    if (d2 === undefined) throw new Error("no d2");
    const weights = data(d2.weights);
    weights.delete("embed_tokens.weight");
    const { outputs } = runReference(modelGraph(d2.spec), { tokens: d2.tokens }, weights, d2);
    expect(worst(outputs["logits"] ?? [], d2.logits)).toBeLessThan(1e-6);
  });

  it("say which tensor is missing, misshapen or out of the vocabulary", () => {
    const { spec, weights, N, B, tokens } = d1;
    const graph = modelGraph(spec);
    const run = (inputs: Record<string, Int32Array>, given = data(weights)) =>
      runReference(graph, inputs, given, { N, B });
    expect(() => run({})).toThrow("input 'tokens' is missing");
    expect(() => run({ tokens: tokens.slice(1) })).toThrow("input 'tokens' has 79 elements, not 2 × 40 = 80");
    expect(() => run({ tokens }, new Map())).toThrow("weight 'embed_tokens.weight' is missing");
    expect(() => run({ tokens: tokens.map((t, i) => (i === 3 ? 101 : t)) })).toThrow(
      "token 101 at index 3 is outside the vocabulary of 101",
    );
    const d2 = models[1];
    if (d2 === undefined) throw new Error("no d2");
    expect(() =>
      runReference(modelGraph(d2.spec), { tokens: new Int32Array(127) }, data(d2.weights), { N: 127, B: 1 }),
    ).toThrow("127 tokens need 129 position rows; the model has 128");
  });
});

describe("linear with activation and residual", () => {
  it("is x Wᵀ + b, then the activation, then alpha · residual", () => {
    const x = { id: "x", name: "x", dtype: "f32" as const, shape: ["B", "N", 2] as const };
    const graph: Graph = {
      name: "fused",
      inputs: [x, { ...x, id: "r", name: "r", shape: ["B", "N", 3] }],
      weights: [
        { id: "w", name: "w", dtype: "f32", shape: [3, 2] },
        { id: "b", name: "b", dtype: "f32", shape: [3] },
      ],
      aliases: [],
      ignored: [],
      values: [{ id: "y", dtype: "f32", shape: ["B", "N", 3] }],
      nodes: [
        {
          op: "linear",
          out: "y",
          x: "x",
          weight: "w",
          bias: "b",
          activation: "relu",
          residual: { x: "r", alpha: 2 },
        },
      ],
      outputs: [{ name: "y", value: "y" }],
      hidden: [],
    };
    const w = [1, 2, 3, 4, -5, -6];
    const { outputs } = runReference(
      graph,
      { x: [1, 10], r: [100, 200, 300] },
      new Map([
        ["w", w],
        ["b", [0.5, 0.25, 0.125]],
      ]),
      { N: 1, B: 1 },
    );
    expect([...(outputs["y"] ?? [])]).toEqual([221.5, 443.25, 600]);
    const f = Float64Array.from.bind(Float64Array);
    expect([...add(activate(linear(f([1, 10]), f(w), undefined, 2, 3), "relu"), f([1, 1, 1]), -1)]).toEqual([
      20, 42, -1,
    ]);
  });
});
