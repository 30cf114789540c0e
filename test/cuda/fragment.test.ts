/** Attention on matrix units, run on the host: every width, random specs, hard numbers, and what happens when its text is broken. */
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { CUDA_TILINGS, cudaTarget } from "../../codegen/cuda/target.ts";
import { attentionGraph } from "../../src/model.ts";
import { choose } from "../../src/planner.ts";
import { xposBlock } from "../../src/graph.ts";
import { attention } from "../../src/reference.ts";
import { rotate } from "../../src/reference/xpos.ts";
import { scheduleKinds, type Schedule } from "../../src/schedule.ts";
import { seal, type AttentionShape, type AttentionSpec } from "../../src/spec.ts";
import { NARROW, rounding } from "../../src/storage.ts";
import { compare, type Comparison } from "../../src/tolerance.ts";
import { randomInputs, scheduleFor, type Inputs } from "../attention/run.ts";
import { modOffsets, torchscaleShape } from "../golden.ts";
import { randomSpec } from "../schedule/specs.ts";
import { missing } from "../webgpu/require.ts";
import { compiler, COMPILER_MISSING } from "./host/build.ts";
import { errors } from "./naive.ts";
import { programOf, runProgram, type Program } from "./program.ts";

const c = compiler();
if (c === null) missing("c++", COMPILER_MISSING);
const seed = Number(process.env["HEDDLE_SEED"] ?? Date.now() % 1e9);
const RUNS = Number(process.env["HEDDLE_RUNS"] ?? 7);

type Half = "f16" | "bf16";
type Decay = { readonly base: number; readonly block: number };
const halves = ["f16", "bf16"] as const;
const shapeOf = (rest: Partial<AttentionShape>): AttentionSpec =>
  seal({
    ...torchscaleShape("trial", 1, 64, [{ segment: Infinity, dilation: 1 }]),
    padding: "masked",
    align: "segment",
    dtype: "bf16",
    ...rest,
  });
const stored = ({ q, k, v }: Inputs, dtype: Half): Inputs => ({
  q: q.map(rounding[dtype]),
  k: k.map(rounding[dtype]),
  v: v.map(rounding[dtype]),
});
const wide = (x: Float32Array) => Float64Array.from(x);

/** The program of an attention whose kernels with products all run on matrix units. */
function onUnits(spec: AttentionSpec, schedule: Schedule, decay?: Decay): Program {
  const graph = attentionGraph(spec, NARROW);
  const nodes = graph.nodes.map((n) => (n.op === "attention" && decay !== undefined ? { ...n, decay } : n));
  const program = programOf({ ...graph, nodes }, schedule, { tilings: CUDA_TILINGS });
  expect(program.texts.filter((t) => t.code.includes("mma_k")).length).toBeGreaterThan(0);
  return program;
}
const scheduled = (
  spec: AttentionSpec,
  kind: Schedule["kind"],
  rows: number,
  keys: number,
  N: number,
): Schedule => {
  const schedule = scheduleFor(spec, { kind, rows, keys }, N);
  if (schedule === null) throw new Error(`${kind} is legal here`);
  return schedule;
};

describe.skipIf(c === null)(`attention on matrix units, seed ${seed}`, () => {
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

  /** Runs a program and holds out and lse against the reference. */
  async function hold(
    spec: AttentionSpec,
    program: Program,
    inputs: Inputs,
    N: number,
    B: number,
    decay?: Decay,
  ): Promise<Float32Array> {
    if (c === null) throw new Error(COMPILER_MISSING);
    const got = await runProgram(c, program, inputs, { N, B });
    const { q, k, v } = inputs;
    const meant = attention(spec, { q: wide(q), k: wide(k), v: wide(v), N, B, decay });
    const terms = spec.headDim + spec.branches.length * N;
    held(`${spec.dtype} out`, compare(got["out"] ?? [], meant.out, { dtype: spec.dtype, terms, atLeast: 1 }));
    // What is moved to another block is rounded once more.
    const scores = decay === undefined ? "f32" : spec.dtype;
    held("lse", compare(got["lse"] ?? [], meant.lse, { dtype: scores, terms, atLeast: 1 }));
    return Float32Array.from(got["out"] ?? []);
  }

  it.each(Array.from({ length: 31 }, (_, i) => 16 + 8 * i))(
    "heads of width %i, as planned, at lengths around a tile",
    async (headDim) => {
      const dtype = halves[(headDim / 8) % 2] ?? "f16";
      const spec = shapeOf({ headDim, dtype, scale: headDim ** -0.5, causal: headDim % 16 === 0 });
      const { chosen } = choose(spec, 1 << 16, cudaTarget);
      const program = onUnits(spec, chosen);
      for (const N of [chosen.keys + 1, chosen.rows - 1])
        await hold(spec, program, stored(randomInputs(spec, N, 1, headDim), dtype), N, 1);
    },
  );

  it("random specs, every legal schedule", async () => {
    await fc.assert(
      fc.asyncProperty(
        randomSpec({ headDims: [16, 24, 40, 48, 64], maxBranches: 4 }),
        fc.oneof(fc.constantFrom(1, 15, 16, 17, 31, 32, 33, 63, 64, 65), fc.integer({ min: 1, max: 150 })),
        fc.integer({ min: 1, max: 2 }),
        fc.constantFrom([16, 16], [32, 16], [64, 32], [32, 48], [128, 32]),
        fc.constantFrom(...halves),
        async (random, N, B, [rows = 0, keys = 0], dtype) => {
          const spec = seal({ ...random, dtype });
          const inputs = stored(randomInputs(spec, N, B, N + 7 * B), dtype);
          for (const kind of scheduleKinds) {
            const schedule = scheduleFor(spec, { kind, rows, keys }, N);
            if (schedule === null) continue;
            ran.set(`${kind} ${dtype}`, (ran.get(`${kind} ${dtype}`) ?? 0) + 1);
            await hold(spec, onUnits(spec, schedule), inputs, N, B);
          }
        },
      ),
      { numRuns: RUNS, seed, endOnFailure: true },
    );
  });

  it("xPos at every base: rows whose blocks are too far apart for one product", async () => {
    await fc.assert(
      fc.asyncProperty(
        randomSpec({ headDims: [16, 40, 64], maxBranches: 3, maxSegment: 700, maxDilation: 130 }),
        fc.constantFrom(0.5, 1, 3, 4, 9, 64),
        fc.oneof(fc.integer({ min: 100, max: 400 }), fc.constantFrom(127, 128, 129, 257)),
        fc.constantFrom([16, 16], [64, 32], [128, 32]),
        fc.constantFrom(...halves, "f16" as const),
        async (random, base, N, [rows = 0, keys = 0], dtype) => {
          const { heads, kvHeads, headDim } = random;
          const spec = seal({ ...random, dtype, causal: true });
          const block = xposBlock(base, dtype);
          const given = randomInputs(spec, N, 1, N);
          // Keys that f16 holds at the end of their own block, and at no end of the next.
          const larger = { ...given, q: given.q.map((x) => x / 16), k: given.k.map((x) => x * 16) };
          const scaled = (x: Float32Array, of: number, sign: 1 | -1) =>
            Float32Array.from(rotate(wide(x), { B: 1, N, heads: of, headDim, base, block, sign }));
          const inputs = stored(
            { q: scaled(larger.q, heads, 1), k: scaled(larger.k, kvHeads, -1), v: given.v },
            dtype,
          );
          for (const kind of scheduleKinds) {
            const schedule = scheduleFor(spec, { kind, rows, keys }, N);
            if (schedule === null) continue;
            ran.set(`xpos ${kind} ${dtype}`, (ran.get(`xpos ${kind} ${dtype}`) ?? 0) + 1);
            await hold(spec, onUnits(spec, schedule, { base, block }), inputs, N, 1, { base, block });
          }
        },
      ),
      { numRuns: Math.ceil(RUNS / 2), seed, endOnFailure: true },
    );
  });

  it.each(halves)("is off by no more than twice what plain %s is off by", async (dtype) => {
    if (c === null) return;
    const branches = [
      { segment: 64, dilation: 1 },
      { segment: Infinity, dilation: 2 },
    ];
    const spec = shapeOf({
      heads: 2,
      kvHeads: 2,
      headDim: 48,
      dtype,
      branches,
      offsets: branches.map((b) => modOffsets(2, b.dilation)),
      causal: true,
    });
    const at = { N: 130, B: 1 };
    const inputs = stored(randomInputs(spec, at.N, 1, 11), dtype);
    for (const kind of ["branch", "class", "annulus", "annulus_list"] as const) {
      const program = onUnits(spec, scheduled(spec, kind, 64, 32, at.N));
      const got = await runProgram(c, program, inputs, at);
      const { kernel, plain } = errors(spec, inputs, at, dtype, got["out"] ?? []);
      console.log(`${dtype} ${kind}: kernel ${kernel.toExponential(1)}, plain ${plain.toExponential(1)}`);
      expect(kernel).toBeLessThanOrEqual(2 * plain);
    }
  });

  it("scores of ±10,000, one token, and neighbours that are NaN", async () => {
    if (c === null) return;
    const spec = shapeOf({ heads: 2, kvHeads: 2, headDim: 32, causal: false, offsets: [[0, 0]] });
    const program = onUnits(spec, scheduled(spec, "dense", 32, 16, 70));
    const inputs = stored(randomInputs(spec, 70, 1, 5), "bf16");
    // Scores are 32 · 40² / √32 ≈ 9,050 for equal signs.
    const spiked = {
      ...inputs,
      q: inputs.q.map((x) => (x > 0 ? 40 : -40)),
      k: inputs.k.map((x) => (x > 0 ? 40 : -40)),
    };
    await hold(spec, program, spiked, 70, 1);
    await hold(spec, program, stored(randomInputs(spec, 1, 2, 6), "bf16"), 1, 2);
    // The second sequence is NaN throughout: nothing of it reaches the first one.
    const twice = (x: Float32Array) => Float32Array.from([...x, ...x.map(() => NaN)]);
    const both = { q: twice(inputs.q), k: twice(inputs.k), v: twice(inputs.v) };
    const alone = await runProgram(c, program, inputs, { N: 70, B: 1 });
    const beside = await runProgram(c, program, both, { N: 70, B: 2 });
    expect(beside["out"]?.slice(0, alone["out"]?.length)).toEqual(alone["out"]);
  });
});

describe.skipIf(c === null)("the host sees, on matrix units", () => {
  const spec = shapeOf({ headDim: 32, causal: true });
  const N = 150;
  const program = onUnits(spec, scheduled(spec, "dense", 64, 32, N));
  const inputs = stored(randomInputs(spec, N, 1, 1), "bf16");
  const failure = async (change: (code: string) => string): Promise<string> => {
    if (c === null) return "";
    const texts = program.texts.map((t) => ({ ...t, code: change(t.code) }));
    expect(texts.some((t, i) => t.code !== program.texts[i]?.code)).toBe(true);
    try {
      await runProgram(c, program, inputs, { N, B: 1 }, { texts });
      return "";
    } catch (e) {
      return e instanceof Error ? e.message : String(e);
    }
  };
  /** The text without the n-th of some words of its own part. */
  const without = (code: string, word: string, n: number): string => {
    const from = code.indexOf("__global__");
    const parts = code.slice(from).split(word);
    return (
      code.slice(0, from) +
      parts.map((p, i) => (i === parts.length - 1 ? p : p + (i === n ? "" : word))).join("")
    );
  };

  it.each(["__syncthreads();", "wait<0>();"])("every %s that is dropped", async (word) => {
    const count = (program.texts[0]?.code.split("__global__")[1]?.split(word).length ?? 1) - 1;
    expect(count).toBeGreaterThan(1);
    // The last wait is for kernels whose loop has no turn, which are none here.
    for (let n = 0; n < (word.startsWith("wait") ? count - 1 : count); n++)
      expect(await failure((code) => without(code, word, n)), `${word} ${n}`).toMatch(
        /shared memory|under way/,
      );
  });

  it("a dropped commit, a matrix that is not aligned, rows past the end, an operand that only some lanes have", async () => {
    expect(await failure((code) => without(code, "commit();", 2))).toMatch(/while it is copied|under way/);
    expect(await failure((code) => code.replace(/ldmatrix_4\(a, Q, /, "ldmatrix_4(a, Q, 1 + "))).toMatch(
      /not aligned/,
    );
    expect(await failure((code) => code.replaceAll(/, down[^,;]*< width\w*\)/g, ", true)"))).toMatch(
      /of a buffer/,
    );
    expect(await failure((code) => code.replace(/(mma_k16_bf16\(O[^;]*;)/, "if (lane != 9) $1"))).toMatch(
      /lanes part/,
    );
  });

  it("a wrong turn of the pieces", async () => {
    if (c === null) return;
    const wrong = program.texts.map((t) => ({
      ...t,
      code: t.code.replaceAll(/turn(\w*) = high \^/g, "turn$1 = 1 ^ high ^"),
    }));
    const right = await runProgram(c, program, inputs, { N, B: 1 });
    const got = await runProgram(c, program, inputs, { N, B: 1 }, { texts: wrong });
    expect(got["out"]).not.toEqual(right["out"]);
  });
});
