/** Attention with q, k, v and out of 16 bits: every legal schedule rounds out once, and lse not at all. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { attentionGraph } from "../../src/model.ts";
import type { Graph } from "../../src/graph.ts";
import { scheduleKinds } from "../../src/schedule.ts";
import type { ScheduleKind } from "../../src/schedule.ts";
import { seal } from "../../src/spec.ts";
import type { AttentionSpec } from "../../src/spec.ts";
import { NARROW } from "../../src/storage.ts";
import { compare, tolerance } from "../../src/tolerance.ts";
import { verifyGraph } from "../../src/verify.ts";
import { scheduleFor } from "../attention/run.ts";
import { randomSpec } from "../schedule/specs.ts";
import { given, lowered, reachable, reference, run, widened, type At } from "./run.ts";

const half = ["f16", "bf16"] as const;
const roundoff = { f16: 2 ** -11, bf16: 2 ** -8 } as const;

/** Runs one schedule; null where it is not legal. Scores spread by `spread`. */
function check(
  graph: Graph,
  spec: AttentionSpec,
  kind: ScheduleKind,
  at: At,
  seed: number,
): readonly string[] | null {
  const schedule = scheduleFor(spec, { kind, rows: 8, keys: 8 }, at.N);
  if (schedule === null) return null;
  const launches = lowered(graph, schedule);
  const names = launches.map((l) => l.kernel.name);
  expect(launches.flatMap((l) => reachable(l.kernel))).toEqual([]);
  const inputs = given(graph, at, seed, { size: () => 2 });
  const values = run(graph, launches, inputs, at);
  const meant = reference(widened(graph), inputs, at).outputs;
  const terms = spec.headDim + spec.branches.length * at.N;
  const stored = graph.values[0]?.dtype;
  if (stored === undefined || stored === "i32") throw new Error("no out");
  const lse = compare(values.get("lse") ?? [], meant["lse"] ?? [], { dtype: "f32", terms, atLeast: 1 });
  expect(lse, `${kind} lse`).toMatchObject({ ok: true });
  const out = compare(values.get("out") ?? [], meant["out"] ?? [], { dtype: stored, terms, atLeast: 1 });
  expect(out, `${kind} out`).toMatchObject({ ok: true });
  // Far inside the tolerance: one rounding of what f32 computes, however many launches there were.
  if (stored !== "f32")
    meant["out"]?.forEach((e, i) => {
      const error = Math.abs((values.get("out")?.[i] ?? NaN) - e);
      const once = Math.abs(e) * roundoff[stored] + 2 ** -25;
      if (!(error <= 1.01 * (once + tolerance("f32", terms) * out.scale)))
        expect([kind, i, error]).toEqual(e);
    });
  return names;
}

const graphFor = (spec: AttentionSpec): Graph => {
  const graph = attentionGraph(spec, NARROW);
  expect(verifyGraph(graph)).toEqual([]);
  return graph;
};

describe.each(half)("attention stored in %s", (dtype) => {
  it("equals the reference on the stored inputs", () => {
    const ran = new Map<string, number>();
    fc.assert(
      fc.property(
        randomSpec({ headDims: [4, 8, 12, 16] }),
        fc.integer({ min: 1, max: 90 }),
        fc.integer({ min: 1, max: 2 }),
        fc.integer({ min: 1, max: 1e6 }),
        (random, N, B, seed) => {
          const spec = seal({ ...random, dtype });
          const graph = graphFor(spec);
          expect(graph.inputs.map((v) => v.dtype)).toEqual([dtype, dtype, dtype]);
          for (const kind of scheduleKinds)
            if (check(graph, spec, kind, { N, B }, seed) !== null) ran.set(kind, (ran.get(kind) ?? 0) + 1);
        },
      ),
      { numRuns: 20 },
    );
    console.log(`${dtype}: ${JSON.stringify([...ran])}`);
    expect(ran.get("branch")).toBeGreaterThan(15);
    expect(ran.get("class")).toBeGreaterThan(3);
  });

  const six = seal({
    name: "six",
    heads: 2,
    headDim: 8,
    kvHeads: 1,
    causal: true,
    branches: [1, 2, 4, 8, 16, 32].map((dilation) => ({ segment: 64, dilation })),
    offsets: [1, 2, 4, 8, 16, 32].map(() => [0, 0]),
    padding: "masked",
    align: "segment",
    combine: "softmax",
    gradient: "full",
    scale: 1,
    dtype,
  } as const);

  it("rounds once though six branches resume one state", () => {
    const at = { N: 100, B: 2 };
    const names = check(graphFor(six), six, "branch", at, 5);
    expect(names?.length).toBe(7);
    expect(names?.at(-1)).toBe(`attention_six_out_${dtype}_out`);
    expect(names?.[0]).toBe(`attention_six_branch_8x8_${dtype}_q_k_v`);
    const mean = seal({ ...six, combine: "mean" as const });
    expect(check(graphFor(mean), mean, "branch", at, 6)?.at(-1)).toBe(`attention_six_mean_out_${dtype}_out`);
    // A single launch writes out itself.
    expect(check(graphFor(six), six, "class", at, 7)).toEqual([`attention_six_class_8x8_${dtype}_q_k_v_out`]);
  });

  it("stores heads that fours do not divide in f32", () => {
    const spec = seal({ ...six, headDim: 6 });
    const graph = graphFor(spec);
    expect(graph.inputs.map((v) => v.dtype)).toEqual(["f32", "f32", "f32"]);
    expect(check(graph, spec, "branch", { N: 70, B: 1 }, 8)?.at(-1)).toBe("attention_six_branch_8x8");
  });

  it("is the f32 program where the target stores f32", () => {
    expect(attentionGraph(six)).toEqual(widened(graphFor(six)));
  });
});
