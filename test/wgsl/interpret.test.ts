/**
 * The kernels that become shaders, every variant of them, statement by statement: races between lanes, reads of what nobody wrote,
 * indices out of bounds and control flow that lanes disagree on are errors of the interpreter.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { packPanels } from "../../runtime/weights.ts";
import { runInterpreted } from "../../src/cli/interpreted.ts";
import { compileSpec } from "../../src/compile.ts";
import type { CompiledProgram } from "../../src/compile.ts";
import { attentionGraph, modelGraph } from "../../src/model.ts";
import { scheduleKinds, type ScheduleKind } from "../../src/schedule.ts";
import { seal, type Spec } from "../../src/spec.ts";
import { NARROW } from "../../src/storage.ts";
import { compare } from "../../src/tolerance.ts";
import { randomSpec } from "../schedule/specs.ts";
import { given, reference, widened, type At } from "../storage/run.ts";
import { atLeast, randomModel } from "./models.ts";

const seed = Number(process.env["HEDDLE_SEED"] ?? Date.now() % 1e9);
const only = (part: Partial<Spec>): Spec => seal({ attentions: [], models: [], schedules: [], ...part });
const ran = new Map<string, number>();
const count = (what: string) => ran.set(what, (ran.get(what) ?? 0) + 1);

/** Every variant on random numbers, held to the reference of the unrounded graph. */
function hold(compiled: CompiledProgram, at: At, seed: number, of: "operation" | "model"): void {
  const { item } = compiled;
  const graph = item.kind === "attention" ? attentionGraph(item.spec, NARROW) : modelGraph(item.spec, NARROW);
  const attention = item.kind === "attention" ? item.spec : item.spec.attention;
  const tokens = graph.weights.find((w) => w.name === "embed_tokens.weight")?.shape[0] ?? 1;
  const fanIn = new Map(graph.weights.map((w) => [w.id, Number(w.shape.at(-1))]));
  const size = (id: string) => (fanIn.has(id) ? 2 * (fanIn.get(id) ?? 1) ** -0.5 : 2);
  const values = given(graph, at, seed, { tokens: Number(tokens), size });
  const meant = reference(widened(graph), values, at).outputs;
  const terms =
    item.kind === "model"
      ? item.spec.layers * item.spec.ffn.dim + at.N
      : attention.headDim + attention.branches.length * at.N;
  // Heads that fours do not divide are stored in f32; other values of a model are not.
  const dtype = item.kind === "attention" && attention.headDim % 4 !== 0 ? "f32" : attention.dtype;
  compiled.program.webgpu?.forEach(({ plan, features }, v) => {
    const kernels = compiled.wgsl?.[v]?.kernels ?? [];
    const weights = plan.weights.map(({ name, layout, shape }) => {
      const id = graph.weights.find((w) => w.name === name)?.id ?? "";
      const rows = values.get(id);
      if (!(rows instanceof Float32Array)) throw new Error(`no weight '${name}'`);
      const [outs = 0, ins = 0] = shape;
      return layout === "panels" ? packPanels(rows, outs, ins) : rows;
    });
    const inputs = graph.inputs.map((x) => values.get(x.id) ?? new Float32Array());
    const outputs = runInterpreted(plan, kernels, inputs, weights, at);
    plan.outputs.forEach(({ name }, i) => {
      const options = { dtype: name === "lse" ? ("f32" as const) : dtype, terms, of, atLeast: 1 };
      const verdict = compare(outputs[i] ?? [], meant[name] ?? [], options);
      const about = `${name} of ${item.spec.name} ${features.join()} N=${at.N} HEDDLE_SEED=${seed}`;
      expect(verdict, `${about} ${JSON.stringify(item.spec)}`).toMatchObject({ ok: true });
    });
    count(features.length === 0 ? "plain" : features.join());
  });
}

const lengths = fc.oneof(
  fc.constantFrom(1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65),
  fc.integer({ min: 1, max: 90 }),
);

describe("kernels for WebGPU on the interpreter", { timeout: 300_000 }, () => {
  it("of random attentions, on every legal schedule, of every storage type", () => {
    const drawn = fc.sample(
      fc.tuple(
        randomSpec({ maxSegment: 64, maxBranches: 4, headDims: [4, 6, 8, 16, 24] }),
        fc.constantFrom("f32" as const, "f16" as const, "bf16" as const),
        lengths,
      ),
      { numRuns: 33, seed },
    );
    drawn.forEach(([spec, dtype, N], i) => {
      const kinds: readonly ScheduleKind[] = scheduleKinds;
      for (const schedule of kinds) {
        let compiled: CompiledProgram | undefined;
        try {
          const attentions = [seal({ ...spec, dtype })];
          [compiled] = compileSpec(only({ attentions }), { target: "wgsl", schedule, length: N });
        } catch (error) {
          if ((error as Error).name !== "ScheduleError") throw error;
          continue;
        }
        if (compiled === undefined) throw new Error("nothing was compiled");
        hold(compiled, { N, B: 1 + (i % 2) }, seed + i, "operation");
        count(schedule);
      }
    });
    console.log(`interpreter, WebGPU: ${JSON.stringify([...ran])}, HEDDLE_SEED=${seed}`);
    expect(ran.get("branch")).toBe(33);
    expect(ran.get("class")).toBeGreaterThan(5);
    expect(ran.get("subgroups")).toBe(ran.get("plain"));
  });

  it("of random models", () => {
    const drawn = fc.sample(fc.tuple(randomModel, fc.integer({ min: 1, max: 40 })), { numRuns: 12, seed });
    drawn.forEach(([model, N], i) => {
      const [compiled] = compileSpec(only({ models: [model] }), { target: "wgsl", names: [model.name] });
      if (compiled === undefined) throw new Error("nothing was compiled");
      hold(compiled, { N: atLeast(model, N), B: 1 + (i % 2) }, seed + i, "model");
    });
  });
});
