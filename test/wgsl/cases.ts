/** Programs to be run somewhere else, and what their outputs should be: golden files and random specs. */
import type { Tensors } from "../../runtime/tensors.ts";
import { compileSpec } from "../../src/compile.ts";
import type { Graph } from "../../src/graph.ts";
import { attentionGraph, modelGraph } from "../../src/model.ts";
import type { ReferenceResult } from "../../src/reference.ts";
import { scheduleKinds, type ScheduleKind } from "../../src/schedule.ts";
import { seal, type AttentionSpec, type ModelShape, type ModelSpec } from "../../src/spec.ts";
import { NARROW, type FloatDtype } from "../../src/storage.ts";
import { compare, type Comparison } from "../../src/tolerance.ts";
import { attentionCases, modelCases } from "../golden.ts";
import { given, reference, widened, type At } from "../storage/run.ts";
import { decodeAll, encode, encodeAll, programText, type Task, type TaskResult } from "./tasks.ts";

/** What another process can be given: CUDA is none of it. */
export type TargetName = "wasm" | "wgsl";

/** A task and how its outputs compare with what they should be. */
export type Case = {
  readonly task: Task;
  readonly verdicts: (outputs: Tensors) => readonly (Comparison & { of: string })[];
};

export type Item = { readonly attention: AttentionSpec } | { readonly model: ModelSpec };

/** Null where the schedule is not legal for the attention. */
export function caseOf(
  item: Item,
  at: At,
  inputs: Tensors,
  weights: Task["weights"],
  verdicts: Case["verdicts"],
  {
    schedule,
    target = "wgsl",
    label,
  }: { readonly schedule?: ScheduleKind; readonly target?: TargetName; readonly label?: string } = {},
): Case | null {
  const spec = seal({
    attentions: "attention" in item ? [item.attention] : [],
    models: "model" in item ? [item.model] : [],
    schedules: [],
  });
  try {
    const [compiled] = compileSpec(spec, {
      target,
      length: at.N,
      ...(schedule === undefined ? {} : { schedule }),
    });
    if (compiled === undefined) throw new Error("nothing was compiled");
    const name = `${label ?? compiled.name} N=${at.N} B=${at.B}${schedule === undefined ? "" : ` ${schedule}`}`;
    const program = programText(compiled.program, target);
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
  target: TargetName = "wgsl",
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
  let meant: ReferenceResult["outputs"] | undefined;
  const verdicts = (outputs: Tensors) => {
    const wanted = (meant ??= reference(widened(graph), values, at).outputs);
    return graph.outputs.map(({ name }) => ({
      of: name,
      ...compare(outputs[name] ?? [], wanted[name] ?? [], {
        dtype: name === "lse" ? "f32" : dtype,
        terms,
        of,
        atLeast: 1,
      }),
    }));
  };
  return caseOf(item, at, inputs, weights, verdicts, { target });
}

export const randomAttention = (spec: AttentionSpec, at: At, seed: number, target?: TargetName) =>
  random(
    { attention: spec },
    attentionGraph(spec, NARROW),
    at,
    seed,
    spec.headDim + spec.branches.length * at.N,
    spec.headDim % 4 === 0 ? spec.dtype : "f32",
    target,
  );
export const randomModelCase = (spec: ModelSpec, at: At, seed: number) =>
  random(
    { model: spec },
    modelGraph(spec, NARROW),
    at,
    seed,
    spec.layers * spec.ffn.dim + at.N,
    spec.attention.dtype,
  );

export const here = (cases: readonly (Case | null)[]): Case[] => cases.filter((c) => c !== null);

/** torchscale's attentions, on every legal schedule. */
export const goldenAttention = async (target: TargetName = "wgsl"): Promise<readonly Case[]> =>
  here(
    (await attentionCases()).flatMap((c, i) =>
      // The list takes two more kernels, for a third of the cases.
      scheduleKinds
        .filter((kind) => kind !== "annulus_list" || i % 3 === 0)
        .map((schedule) =>
          caseOf(
            { attention: c.spec },
            c,
            { q: c.q, k: c.k, v: c.v },
            [],
            (outputs) => [
              { of: "out", ...compare(outputs["out"] ?? [], c.out, { dtype: "f32", terms: c.N }) },
              {
                of: "lse",
                ...compare(outputs["lse"] ?? [], c.lseUnion, { dtype: "f32", terms: c.N, atLeast: 1 }),
              },
            ],
            { schedule, target },
          ),
        ),
    ),
  );

export const goldenModels = async (target: TargetName = "wgsl"): Promise<readonly Case[]> =>
  here(
    (await modelCases()).map((c) =>
      caseOf(
        // One name for all, so that what they have in common is the same text, which a device compiles once.
        { model: seal<ModelShape>({ ...c.spec, name: "golden" }) },
        c,
        c.inputs,
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
        { target, label: c.id },
      ),
    ),
  );

/** How far a case's result is off, and what is wrong with it. */
export function verdictOf(
  { task, verdicts }: Case,
  result: TaskResult | undefined,
): { readonly worst: number; readonly failures: readonly string[] } {
  if (result === undefined || "error" in result)
    return { worst: NaN, failures: [`${task.name}: ${result?.error ?? "no result"}`] };
  const all = verdicts(decodeAll(result.outputs));
  return {
    worst: Math.max(0, ...all.map((v) => v.worst / v.scale)),
    failures: all.filter((v) => !v.ok).map((v) => `${task.name}: ${result.detail}: ${JSON.stringify(v)}`),
  };
}
