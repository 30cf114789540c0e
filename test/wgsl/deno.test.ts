/** heddle's runtime in Deno on lavapipe: golden files and random specs, stored in 32 and 16 bits, by naga and mesa instead of Dawn. */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import type { Tensors } from "../../runtime/tensors.ts";
import { compileSpec } from "../../src/compile.ts";
import type { Graph } from "../../src/graph.ts";
import { attentionGraph, modelGraph } from "../../src/model.ts";
import { scheduleKinds, type ScheduleKind } from "../../src/schedule.ts";
import { seal, type AttentionSpec, type ModelSpec } from "../../src/spec.ts";
import { NARROW, type FloatDtype } from "../../src/storage.ts";
import { compare, type Comparison } from "../../src/tolerance.ts";
import { attentionCases, modelCases } from "../golden.ts";
import { randomSpec } from "../schedule/specs.ts";
import { given, reference, widened, type At } from "../storage/run.ts";
import { missing } from "../webgpu/require.ts";
import { denoMissing, inDeno } from "./deno.ts";
import type { RunJob, RunResult } from "./deno/run.ts";
import { randomModel } from "./models.ts";
import { decodeAll, encode, encodeAll, webgpuOnly, type Task } from "./tasks.ts";

/** Random cases are other ones in every run; this number, printed with a failure, brings them back. */
const seed = Number(process.env["HEDDLE_SEED"] ?? Date.now() % 1e9);
const absent = await denoMissing();
if (absent !== null) missing("deno", absent);

/** A task and how its outputs compare with what they should be. */
type Case = {
  readonly task: Task;
  readonly verdicts: (outputs: Tensors) => readonly (Comparison & { of: string })[];
};

type Item = { readonly attention: AttentionSpec } | { readonly model: ModelSpec };

/** Null where the schedule is not legal for the attention. */
function caseOf(
  item: Item,
  at: At,
  inputs: Tensors,
  weights: Task["weights"],
  verdicts: Case["verdicts"],
  schedule?: ScheduleKind,
): Case | null {
  const spec = seal({
    attentions: "attention" in item ? [item.attention] : [],
    models: "model" in item ? [item.model] : [],
    schedules: [],
  });
  try {
    const [compiled] = compileSpec(spec, {
      target: "wgsl",
      length: at.N,
      ...(schedule === undefined ? {} : { schedule }),
    });
    if (compiled === undefined) throw new Error("nothing was compiled");
    const name = `${compiled.name} N=${at.N} B=${at.B}${schedule === undefined ? "" : ` ${schedule}`}`;
    const program = webgpuOnly(compiled.program);
    return { task: { name, program, weights, inputs: encodeAll(inputs), at }, verdicts };
  } catch (error) {
    if (error instanceof Error && error.name === "ScheduleError") return null;
    throw error;
  }
}

/** Numbers of a random size for a graph as it is stored, and what the unrounded graph makes of them. */
function random(
  item: Item,
  graph: Graph,
  at: At,
  seed: number,
  terms: number,
  dtype: FloatDtype,
): Case | null {
  const tokens = graph.weights.find((w) => w.name === "embed_tokens.weight")?.shape[0] ?? 1;
  const fanIn = new Map(graph.weights.map((w) => [w.id, Number(w.shape.at(-1))]));
  const size = (id: string) => (fanIn.has(id) ? 2 * (fanIn.get(id) ?? 1) ** -0.5 : 2);
  const values = given(graph, at, seed, { tokens, size });
  const inputs = Object.fromEntries(
    graph.inputs.map((v) => [v.name, values.get(v.id) ?? new Float32Array()]),
  );
  const weights = graph.weights.map(({ id, name, shape }) => ({
    name,
    shape: shape.map(Number),
    data: encode(values.get(id) ?? new Float32Array()),
  }));
  const of = "model" in item ? "model" : "operation";
  return caseOf(item, at, inputs, weights, (outputs) => {
    const meant = reference(widened(graph), values, at).outputs;
    return graph.outputs.map(({ name }) => ({
      of: name,
      ...compare(outputs[name] ?? [], meant[name] ?? [], {
        dtype: name === "lse" ? "f32" : dtype,
        terms,
        of,
        atLeast: 1,
      }),
    }));
  });
}

const randomAttention = (spec: AttentionSpec, at: At, seed: number) =>
  random(
    { attention: spec },
    attentionGraph(spec, NARROW),
    at,
    seed,
    spec.headDim + spec.branches.length * at.N,
    spec.headDim % 4 === 0 ? spec.dtype : "f32",
  );
const randomModelCase = (spec: ModelSpec, at: At, seed: number) =>
  random(
    { model: spec },
    modelGraph(spec, NARROW),
    at,
    seed,
    spec.layers * spec.ffn.dim + at.N,
    spec.attention.dtype,
  );

const here = (cases: readonly (Case | null)[]): Case[] => cases.filter((c) => c !== null);

type Group = { readonly options: RunJob["options"]; readonly cases: readonly Case[] };

/** Runs groups side by side, each in a process of its own, and holds every case to its verdicts. */
async function judge(groups: readonly Group[]): Promise<void> {
  const done = await Promise.all(
    groups.map(({ options, cases }) =>
      inDeno<RunJob, RunResult>(
        "run",
        { options: { ...options, poison: true }, tasks: cases.map((c) => c.task) },
        550,
      ),
    ),
  );
  const failures: string[] = [];
  groups.forEach(({ cases }, g) => {
    const { device = "", results = [], bytesLeft = NaN } = done[g] ?? {};
    let worst = 0;
    cases.forEach(({ task, verdicts }, i) => {
      const result = results[i];
      if (result === undefined || "error" in result)
        return failures.push(`${task.name}: ${result?.error ?? "no result"}`);
      for (const v of verdicts(decodeAll(result.outputs))) {
        worst = Math.max(worst, v.worst / v.scale);
        if (!v.ok) failures.push(`${task.name}: ${result.detail}: ${JSON.stringify(v)}`);
      }
    });
    const ms = Math.max(...results.map((r) => r.ms));
    const details = new Set(
      results.flatMap((r) => ("detail" in r ? [r.detail.replace(device, "").trim()] : [])),
    );
    console.log(
      `${device}: ${results.length} runs${[...details].sort().join(" ")}, worst ${worst.toExponential(1)} of scale, slowest ${ms} ms`,
    );
    expect(device).toMatch(/llvmpipe.*software/);
    expect(bytesLeft).toBe(0);
  });
  expect(failures, `HEDDLE_SEED=${seed}`).toEqual([]);
}
const plain: RunJob["options"] = { features: [] };
const native: RunJob["options"] = { features: ["shader-f16"] };

describe.skipIf(absent !== null)("in Deno on lavapipe", { timeout: 600_000 }, () => {
  beforeAll(() => console.log(`HEDDLE_SEED=${seed}`));

  it("golden attention, every legal schedule", async () => {
    const cases = (await attentionCases()).flatMap((c) =>
      scheduleKinds.map((kind) =>
        caseOf({ attention: c.spec }, c, { q: c.q, k: c.k, v: c.v }, [], (outputs) => [
          { of: "out", ...compare(outputs["out"] ?? [], c.out, { dtype: "f32", terms: c.N }) },
          { of: "lse", ...compare(outputs["lse"] ?? [], c.lseUnion, { dtype: "f32", terms: c.N, atLeast: 1 }) },
        ], kind),
      ),
    ); // prettier-ignore
    const legal = here(cases);
    expect(legal.length).toBeGreaterThan(45);
    const half = Math.ceil(legal.length / 2);
    await judge([
      { options: plain, cases: legal.slice(0, half) },
      { options: native, cases: legal.slice(half) },
    ]);
  });

  it("golden models", async () => {
    const cases = (await modelCases()).map((c) =>
      caseOf(
        { model: c.spec },
        c,
        { tokens: c.tokens },
        [...c.weights].map(([name, { shape, data }]) => ({ name, shape, data: encode(data) })),
        (outputs) => [
          {
            of: "logits",
            ...compare(outputs["logits"] ?? outputs["out"] ?? [], c.logits, {
              dtype: "f32",
              terms: c.spec.layers * c.spec.ffn.dim,
            }),
          },
        ],
      ),
    );
    expect(here(cases)).toHaveLength(5);
    await judge([{ options: plain, cases: here(cases) }]);
  });

  const extents = fc.record({ N: fc.integer({ min: 1, max: 150 }), B: fc.integer({ min: 1, max: 2 }) });

  it("random attention in f32, f16 and bf16, with the feature shader-f16 and without", async () => {
    const draw = (dtype: FloatDtype, count: number, skip: number) =>
      here(
        fc
          .sample(
            fc.tuple(randomSpec({ headDims: dtype === "f32" ? [4, 6, 8, 16] : [4, 8, 12, 16] }), extents),
            {
              numRuns: count,
              seed: seed + skip,
            },
          )
          .map(([spec, at], i) => randomAttention(seal({ ...spec, dtype }), at, i)),
      );
    await judge([
      { options: plain, cases: [...draw("f32", 15, 1), ...draw("f16", 15, 2), ...draw("bf16", 10, 3)] },
      { options: native, cases: [...draw("f16", 25, 4), ...draw("bf16", 5, 5)] },
    ]); // prettier-ignore
  });

  it("random models in f32, f16 and bf16, with the feature shader-f16 and without", async () => {
    const draw = (skip: number) =>
      here(
        fc
          .sample(fc.tuple(randomModel, extents), { numRuns: 12, seed: seed + skip })
          .map(([spec, at], i) => randomModelCase(spec, { ...at, N: Math.min(at.N, 80) }, i)),
      );
    await judge([
      { options: plain, cases: draw(6) },
      { options: native, cases: draw(7) },
    ]);
  });
});
