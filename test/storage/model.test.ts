/** Models whose matrices and inner rows have 16 bits: what is stored how, golden outputs, plans, and xPos over many blocks. */
import { afterAll, describe, expect, it } from "vitest";
import { fuse } from "../../codegen/fuse.ts";
import { arenaBytes, makePlan } from "../../codegen/plan.ts";
import type { PlanInput } from "../../codegen/plan.ts";
import { verifyLaunches } from "../../codegen/verify-launches.ts";
import { memoryOf } from "../../runtime/memory.ts";
import type { Plan } from "../../runtime/plan.ts";
import { xposBlock } from "../../src/graph.ts";
import type { Graph } from "../../src/graph.ts";
import { modelGraph } from "../../src/model.ts";
import { runReference } from "../../src/reference.ts";
import { scheduleKinds } from "../../src/schedule.ts";
import { seal } from "../../src/spec.ts";
import type { ModelSpec } from "../../src/spec.ts";
import { NARROW, rounding, WIDE } from "../../src/storage.ts";
import type { FloatDtype, Storage } from "../../src/storage.ts";
import { compare } from "../../src/tolerance.ts";
import { verifyGraph, verifyPlan } from "../../src/verify.ts";
import { scheduleFor } from "../attention/run.ts";
import { modelCases, torchscaleShape } from "../golden.ts";
import { given, lowered, reachable, reference, run, widened } from "./run.ts";

const half = ["f16", "bf16"] as const;
const cases = await modelCases();
const [d1] = cases;
if (d1 === undefined) throw new Error("no golden model");

const stored = (spec: ModelSpec, dtype: FloatDtype): ModelSpec =>
  seal({ ...spec, attention: seal({ ...spec.attention, dtype }) });
const graphFor = (spec: ModelSpec, storage: Storage = NARROW, hidden = false): Graph => {
  const whole = modelGraph(spec, storage);
  const graph = fuse(hidden ? whole : { ...whole, hidden: [] });
  expect([...verifyGraph(whole), ...verifyGraph(graph)]).toEqual([]);
  return graph;
};
const scheduled = (spec: ModelSpec, N: number, kind: "branch" | "class" = "branch") => {
  const schedule = scheduleFor(spec.attention, { kind, rows: 16, keys: 16 }, N);
  if (schedule === null) throw new Error("no schedule");
  return schedule;
};

describe.each(half)("what a model stores in %s", (dtype) => {
  it("matrices and the inside of layers; not the residual stream, results, vectors, lse", () => {
    const graph = modelGraph(stored(d1.spec, dtype), NARROW);
    const of = (id: string) => [...graph.values, ...graph.weights].find((v) => v.id === id)?.dtype;
    for (const id of [
      "attention_in",
      "q",
      "k",
      "v",
      "q_xpos",
      "attention",
      "attention_norm",
      "active",
      "ffn_norm",
    ])
      expect([id, of(`layers.1.${id}`)]).toEqual([id, dtype]);
    for (const id of ["lse", "attention_out", "attended", "fc2", "out"])
      expect([id, of(`layers.1.${id}`)]).toEqual([id, "f32"]);
    for (const id of ["embed_tokens.weight", "layers.0.ffn.fc1.weight", "final"]) expect(of(id)).toBe(dtype);
    for (const id of ["layers.0.ffn.fc1.bias", "layer_norm.weight", "embedding", "logits"])
      expect(of(id)).toBe("f32");
    for (const id of graph.hidden) expect(of(id)).toBe("f32");
  });

  it("is the f32 model where the target stores f32, xPos' blocks included", () => {
    const spec = stored(d1.spec, dtype);
    expect(modelGraph(spec, WIDE)).toEqual(widened(modelGraph(spec, NARROW)));
    expect(modelGraph(spec)).toEqual(modelGraph(spec, WIDE));
  });

  it("keeps odd widths in f32", () => {
    const odd = stored(seal({ ...d1.spec, ffn: { dim: 10, activation: "gelu" } }), dtype);
    const graph = graphFor(odd);
    const of = (id: string) => [...graph.values, ...graph.weights].find((v) => v.id === id)?.dtype;
    expect(of("layers.0.active")).toBe("f32");
    expect(of("layers.0.ffn.fc2.weight")).toBe("f32");
    expect(of("layers.0.ffn.fc1.weight")).toBe(dtype);
    const launches = lowered(graph, scheduled(odd, 40));
    expect(launches.flatMap((l) => reachable(l.kernel))).toEqual([]);
  });
});

describe("golden models in 16 bits", () => {
  const worst: string[] = [];
  afterAll(() => console.log(`worst of scale, in units of the type: ${worst.join(", ")}`));
  const runs = cases.flatMap((c) => half.map((dtype) => ({ c, dtype, title: `${c.id} ${dtype}` })));

  it.each(runs)("$title", ({ c, dtype }) => {
    const spec = stored(c.spec, dtype);
    const graph = graphFor(spec, NARROW, true);
    const at = { N: Math.min(c.N, 40), B: 1 };
    const tokens = Object.fromEntries(Object.entries(c.inputs).map(([n, x]) => [n, x.subarray(0, at.N)]));
    const kind = scheduleKinds.find(
      (k) => k === "class" && scheduleFor(spec.attention, { kind: k, rows: 16, keys: 16 }, at.N) !== null,
    );
    const launches = lowered(graph, scheduled(spec, at.N, kind === "class" ? "class" : "branch"));
    expect(launches.flatMap((l) => reachable(l.kernel))).toEqual([]);
    const inputs = new Map<string, Float32Array | Int32Array>(Object.entries(tokens));
    const weights = new Map([...c.weights].map(([name, { data }]) => [name, data]));
    for (const { id, name, dtype: d } of graph.weights)
      inputs.set(id, (weights.get(name) ?? new Float32Array()).map(d === "i32" ? Number : rounding[d]));
    const values = run(graph, launches, inputs, at);
    const result = graph.outputs[0]?.value ?? "";
    const name = graph.outputs[0]?.name ?? "";

    const terms = c.spec.layers * c.spec.ffn.dim;
    const exact = runReference(modelGraph(c.spec), tokens, weights, at);
    const meant = compare(values.get(result) ?? [], exact.outputs[name] ?? [], { dtype, terms, of: "model" });
    expect(meant, "the f64 model").toMatchObject({ ok: true });
    // The rounding reference differs only where f32 and f64 fall on two sides of a tie.
    const rounded = reference(graph, inputs, at);
    const near = compare(values.get(result) ?? [], rounded.outputs[name] ?? [], { dtype, terms });
    expect(near, "the model rounded where it is stored").toMatchObject({ ok: true });
    const unit = dtype === "f16" ? 2 ** -11 : 2 ** -8;
    const units = ({ worst: w, scale }: typeof meant) => (w / scale / unit).toFixed(2);
    worst.push(`${c.id} ${dtype} ${units(meant)} (${units(near)})`);
  });
});

describe("plans of 16-bit models", () => {
  const planOf = (spec: ModelSpec, storage: Storage): { plan: Plan; input: PlanInput } => {
    const graph = graphFor(spec, storage);
    const launches = lowered(graph, scheduled(spec, 1 << 12));
    const input = { name: "m", graph, variants: [{ upTo: null, schedule: "", launches }] };
    return { plan: makePlan(input).plan, input };
  };

  it.each(half)("%s verify, and need about half the memory", (dtype) => {
    const spec = stored(d1.spec, dtype);
    const narrow = planOf(spec, NARROW);
    const wide = planOf(spec, WIDE);
    expect(verifyPlan(narrow.plan)).toEqual([]);
    verifyLaunches(narrow.plan, narrow.input);
    const at = { N: 1001, B: 3 };
    const [small, large] = [memoryOf(narrow.plan, at), memoryOf(wide.plan, at)];
    expect(small.weights / large.weights).toBeLessThan(0.55);
    expect(small.activations).toBeLessThan(large.activations);
    expect(small.outputs).toBe(large.outputs);
    const [variant] = narrow.plan.variants;
    if (variant === undefined) throw new Error("no variant");
    expect(small.activations).toBe(arenaBytes(variant, at));
    // Same tensors for the host, whatever is stored.
    const faces = ({ plan }: { plan: Plan }) => [
      plan.inputs.map((t) => [t.name, t.shape]),
      plan.outputs.map((t) => [t.name, t.shape]),
      plan.weights.map((w) => [w.name, w.shape, w.layout]),
      plan.tables,
    ];
    expect(faces(narrow)).toEqual(faces(wide));
    const stores = new Map(narrow.plan.weights.map((w) => [w.name, w.dtype]));
    expect(stores.get("layers.0.ffn.fc1.weight")).toBe(dtype);
    expect(stores.get("layers.0.ffn.fc1.bias")).toBe(undefined);
  });

  it("whose kernels and values disagree do not verify", () => {
    const { plan, input } = planOf(stored(d1.spec, "f16"), NARROW);
    const weights = plan.weights.map((w) => (w.dtype === undefined ? w : { ...w, dtype: "bf16" as const }));
    expect(verifyPlan({ ...plan, weights }).join("\n")).toMatch(/'weight' is f16 and weight \d+ bf16/);
    expect(() => verifyLaunches({ ...plan, weights }, input)).toThrow(/is f16 and weight \d+ bf16/);
    const values = input.graph.values.map((v) =>
      v.id === "layers.0.active" ? { ...v, dtype: "bf16" as const } : v,
    );
    expect(() => verifyLaunches(plan, { ...input, graph: { ...input.graph, values } })).toThrow(
      /'out' is f16 and the value bound to it bf16/,
    );
  });
});

describe("xPos in f16", () => {
  it("has blocks in which no factor leaves 2^8", () => {
    for (const base of [1, 8, 64, 100, 512, 1000, 12345]) {
      const block = xposBlock(base, "f16");
      expect((1.4 / 0.4) ** (block / base)).toBeLessThanOrEqual(2 ** 8);
      expect(block).toBeLessThanOrEqual(xposBlock(base, "bf16"));
      expect(xposBlock(base, "bf16")).toBe(xposBlock(base, "f32"));
    }
    // What the blocks of f32 would do to a key of 1.
    expect(rounding.f16((1.4 / 0.4) ** (xposBlock(512, "f32") / 512))).toBe(Infinity);
  });

  const model: ModelSpec = seal({
    ...d1.spec,
    name: "far",
    vocab: 12,
    dim: 16,
    layers: 1,
    ffn: { dim: 16, activation: "gelu" },
    attention: seal(
      torchscaleShape(
        "far",
        2,
        8,
        [
          { segment: Infinity, dilation: 1 },
          { segment: 64, dilation: 2 },
        ],
        {
          causal: true,
          align: "segment",
          padding: "masked",
        },
      ),
    ),
    xpos: { base: 8 },
  });

  it.each(["branch", "class"] as const)("is exact over many blocks, schedule %s", (kind) => {
    const spec = stored(model, "f16");
    const graph = graphFor(spec);
    const at = { N: 150, B: 1 };
    expect(xposBlock(8, "f16")).toBe(32);
    const inputs = given(graph, at, 3, { tokens: 12, size: (id) => (id.includes("k_proj") ? 4 : 1) });
    const values = run(graph, lowered(graph, scheduled(spec, at.N, kind)), inputs, at);
    const largest = (id: string) =>
      Array.from(values.get(id) ?? [NaN]).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    // Keys grow towards the end of a block, and queries shrink.
    expect(largest("layers.0.k_xpos")).toBeGreaterThan(10 * largest("layers.0.k"));
    expect(largest("layers.0.k_xpos")).toBeLessThan(65504);
    // The same model in f32 has one block of 256 tokens.
    const exact = reference(graphFor(model, WIDE), inputs, at);
    expect(xposBlock(8, "f32")).toBe(256);
    const logits = compare(values.get("logits") ?? [], exact.outputs["logits"] ?? [], {
      dtype: "f16",
      terms: 300,
      of: "model",
    });
    expect(logits).toMatchObject({ ok: true });
    // lse shows the scores themselves: their error is that of q and k, of about their own size.
    const lse = compare(values.get("layers.0.lse") ?? [], exact.values.get("layers.0.lse") ?? [], {
      dtype: "f16",
      terms: 300,
      of: "model",
      atLeast: 1,
    });
    expect(lse).toMatchObject({ ok: true });
  });
});
