/** Random specs at ragged lengths, stored in f32, f16 and bf16: the emitted CUDA C++ on the host against the f64 reference. */
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { CUDA_TILINGS, SHARED_BYTES } from "../../codegen/cuda/target.ts";
import { fitted } from "../../codegen/machine/simt/fitted.ts";
import { attentionGraph, modelGraph } from "../../src/model.ts";
import { attention, runReference } from "../../src/reference.ts";
import { scheduleKinds } from "../../src/schedule.ts";
import { seal } from "../../src/spec.ts";
import { NARROW, rounding } from "../../src/storage.ts";
import { compare, type Comparison } from "../../src/tolerance.ts";
import { randomInputs, scheduleFor } from "../attention/run.ts";
import { noise } from "../lower/run.ts";
import { randomSpec } from "../schedule/specs.ts";
import { missing } from "../webgpu/require.ts";
import { atLeast, randomModel } from "../wgsl/models.ts";
import { compiler, COMPILER_MISSING } from "./host/build.ts";
import { programOf, runProgram } from "./program.ts";

const c = compiler();
if (c === null) missing("c++", COMPILER_MISSING);
const seed = Number(process.env["HEDDLE_SEED"] ?? Date.now() % 1e9);
const RUNS = Number(process.env["HEDDLE_RUNS"] ?? 10);

const nearTileEdges = fc.constantFrom(1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65);
const lengths = fc.oneof(nearTileEdges, fc.integer({ min: 1, max: 150 }));
const tiles = fc.constantFrom([16, 16], [32, 16], [8, 32], [32, 64], [64, 32], [4, 8]);
const lanes = fc.constantFrom(32, 64, 128, 256);
const dtypes = fc.constantFrom("f32", "f16", "bf16");

describe.skipIf(c === null)(`random programs on the host, seed ${seed}`, () => {
  const ran = new Map<string, number>();
  const worst = new Map<string, number>();
  const held = (what: string, v: Comparison) => {
    expect(v, what).toMatchObject({ ok: true });
    worst.set(what, Math.max(worst.get(what) ?? 0, v.limit === 0 ? 0 : v.worst / v.limit));
  };
  afterAll(() => {
    const shares = [...worst].map(([what, share]) => `${what} ${share.toFixed(2)}`).join(", ");
    console.log(`seed ${seed}: ${JSON.stringify([...ran])}; worst share of the tolerance: ${shares}`);
  });

  it("attention, every legal schedule", async () => {
    if (c === null) return;
    await fc.assert(
      fc.asyncProperty(
        randomSpec({ headDims: [4, 6, 8, 16, 20, 24, 48] }),
        lengths,
        fc.integer({ min: 1, max: 2 }),
        tiles,
        lanes,
        dtypes,
        async (random, N, B, [rows = 0, keys = 0], lanesOf, dtype) => {
          const spec = seal({ ...random, dtype });
          const graph = attentionGraph(spec, NARROW);
          const stored = graph.inputs[0]?.dtype;
          if (stored === undefined || stored === "i32") throw new Error("no q");
          const given = randomInputs(spec, N, B, N + 7 * B);
          const rounded = ({ q, k, v }: typeof given) => ({
            q: q.map(rounding[stored]),
            k: k.map(rounding[stored]),
            v: v.map(rounding[stored]),
          });
          const inputs = rounded(given);
          const wide = Object.fromEntries(Object.entries(inputs).map(([n, x]) => [n, Float64Array.from(x)]));
          const meant = attention(spec, { ...(wide as Record<"q" | "k" | "v", Float64Array>), N, B });
          for (const kind of scheduleKinds) {
            const schedule = scheduleFor(spec, { kind, rows, keys }, N);
            if (schedule === null) continue;
            ran.set(`${kind} ${stored}`, (ran.get(`${kind} ${stored}`) ?? 0) + 1);
            const machine = fitted({ lanes: lanesOf, most: 512, sharedBytes: SHARED_BYTES, exchange: true });
            const program = programOf(graph, schedule, { machine });
            const got = await runProgram(c, program, inputs, { N, B });
            const terms = spec.headDim + spec.branches.length * N;
            held(`${stored} out`, compare(got["out"] ?? [], meant.out, { dtype: stored, terms, atLeast: 1 }));
            held("lse", compare(got["lse"] ?? [], meant.lse, { dtype: "f32", terms, atLeast: 1 }));
          }
        },
      ),
      { numRuns: RUNS, seed, endOnFailure: true },
    );
  });

  it("models", async () => {
    if (c === null) return;
    await fc.assert(
      fc.asyncProperty(randomModel, fc.integer({ min: 1, max: 40 }), async (spec, length) => {
        const N = atLeast(spec, length);
        const at = { N, B: 2 };
        const graph = modelGraph(spec, NARROW);
        const kind = scheduleKinds.find(
          (k) => scheduleFor(spec.attention, { kind: k, rows: 16, keys: 16 }, N) !== null,
        );
        const schedule = scheduleFor(spec.attention, { kind: kind ?? "branch", rows: 16, keys: 16 }, N);
        const tilings = { ...CUDA_TILINGS, linear: { rows: 32, cols: 32, depth: 16 }, rows: () => 4 };
        const program = programOf(graph, schedule, { tilings });
        const below = { tokens: spec.vocab, padding_mask: 2 } as Readonly<Record<string, number>>;
        const inputs = Object.fromEntries(
          graph.inputs.map(({ name, dtype, shape }, i) => {
            const size = shape.reduce<number>((n, d) => n * (d === "N" ? N : d === "B" ? 2 : d), 1);
            const x = noise(size, N + 1000 * i);
            const most = below[name] ?? spec.grid?.cells ?? 1;
            return [name, dtype === "i32" ? Int32Array.from(x, (y) => Math.floor(((y + 1) / 2) * most)) : x];
          }),
        );
        const weights = new Map(
          graph.weights.map((w, i) => {
            const size = w.shape.reduce<number>((n, d) => n * (typeof d === "number" ? d : 0), 1);
            const round = w.dtype === "i32" ? Math.fround : rounding[w.dtype];
            return [w.name, { data: noise(size, i).map((y) => round(Math.fround(y * 0.3))) }];
          }),
        );
        const got = await runProgram(c, program, inputs, at, { weights });
        const numbers = new Map([...weights].map(([name, { data }]) => [name, data]));
        const meant = runReference(graph, inputs, numbers, at);
        const { dtype } = spec.attention;
        ran.set(`model ${dtype}`, (ran.get(`model ${dtype}`) ?? 0) + 1);
        for (const { name } of program.plan.outputs) {
          const terms = spec.layers * (spec.ffn.dim + spec.dim + N);
          const options = { dtype, terms, of: "model", atLeast: 0.1 } as const;
          held(`model ${dtype}`, compare(got[name] ?? [], meant.outputs[name] ?? [], options));
        }
      }),
      { numRuns: Math.ceil(RUNS / 4), seed, endOnFailure: true },
    );
  });
});
