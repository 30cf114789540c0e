/** torchscale's outputs and random specs through native code, on every legal schedule, with poisoned memory. */
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import type { NativeVectors, Program } from "../../runtime/plan.ts";
import { NATIVE_VARIANTS, nativeTarget } from "../../codegen/native/target.ts";
import { attention } from "../../src/reference.ts";
import { legal, scheduleKinds, type ScheduleKind } from "../../src/schedule.ts";
import type { AttentionSpec } from "../../src/spec.ts";
import { compare } from "../../src/tolerance.ts";
import { attentionCases } from "../golden.ts";
import { nestedSpec, randomSpec } from "../schedule/specs.ts";
import { randomInputs, type Inputs } from "../attention/run.ts";
import { sameBits } from "../webgpu/programs.ts";
import { device, only, shapes } from "./devices.ts";

const limitsOf = new Map(NATIVE_VARIANTS.map((v) => [v.vectors, nativeTarget(v).limits]));
const isLegal = (spec: AttentionSpec, kind: ScheduleKind, vectors: NativeVectors, N: number): boolean => {
  const limits = limitsOf.get(vectors);
  if (limits === undefined) throw new Error(`no variant for ${vectors}`);
  return legal(spec, { kind, rows: limits.rowStep, keys: limits.keyStep }, limits, N).ok;
};
const floats = (x: Float32Array | Int32Array | undefined): Float32Array => {
  if (!(x instanceof Float32Array)) throw new Error("no output");
  return x;
};
async function run(
  program: Program,
  vectors: NativeVectors,
  threads: number,
  inputs: Inputs,
  at: { N: number; B: number },
  flags?: readonly string[],
) {
  const executable = await (await device(vectors, threads, flags)).compile(program);
  const first = await executable.run({ ...inputs }, at);
  const again = await executable.run({ ...inputs }, at);
  await executable.dispose();
  expect(sameBits(again, first), "the same bits again").toBe(true);
  return { all: first, out: floats(first["out"]), lse: floats(first["lse"]) };
}

const cases = await attentionCases();
const worst = new Map<string, number>();
afterAll(() => {
  const list = [...worst].map(([k, v]) => `${k} ${v.toExponential(1)}`);
  if (list.length > 0) console.log(`native against torchscale, worst of scale: ${list.join(", ")}`);
});

describe.skipIf(shapes.length === 0)("goldens", () => {
  // Shapes of vectors take turns, so that each meets all kinds of cases.
  const drawn = cases.map((c, i) => ({
    ...c,
    vectors: shapes[i % Math.max(1, shapes.length)] ?? "sse",
    // Every fifth is compiled as for a user.
    flags: i % 5 === 0 ? [] : undefined,
  }));
  it.each(drawn)("$id on every legal schedule, $vectors", async (c) => {
    let ran = 0;
    for (const kind of scheduleKinds) {
      if (!isLegal(c.spec, kind, c.vectors, c.N)) continue;
      ran += 1;
      const program = only(c.spec, c.vectors, { schedule: kind, length: c.N });
      const { q, k, v, N, B } = c;
      const { out, lse } = await run(program, c.vectors, 1, { q, k, v }, { N, B }, c.flags);
      const o = compare(out, c.out, { dtype: "f32", terms: c.N });
      const l = compare(lse, c.lseUnion, { dtype: "f32", terms: c.N, atLeast: 1 });
      expect(o, `${kind} out`).toMatchObject({ ok: true });
      expect(l, `${kind} lse`).toMatchObject({ ok: true });
      worst.set(kind, Math.max(worst.get(kind) ?? 0, o.worst / o.scale, l.worst / l.scale));
    }
    expect(ran).toBeGreaterThan(0);
  });
});

const ragged = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      1,
      2,
      3,
      5,
      6,
      7,
      8,
      9,
      15,
      16,
      17,
      31,
      32,
      33,
      63,
      64,
      65,
      95,
      96,
      97,
      127,
      128,
      129,
    ),
  },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 300 }) },
);
// Widths around those of vectors and panels of all shapes, and odd ones whose rows end in every narrower vector.
const limits = { maxSegment: 200, headDims: [4, 6, 8, 12, 16, 20, 24, 30, 32, 40, 46, 48] };
const RUNS = 8;

describe.skipIf(shapes.length === 0)("random specs", { timeout: 120_000 }, () => {
  it("equal the reference on every legal schedule, the same bits on 1 and 2 threads", async () => {
    const ran = new Map<string, number>();
    let most = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.oneof({ weight: 3, arbitrary: randomSpec(limits) }, { weight: 1, arbitrary: nestedSpec(limits) }),
        fc.constantFrom(...shapes),
        ragged,
        fc.integer({ min: 1, max: 2 }),
        fc.integer({ min: 1, max: 1e6 }),
        async (spec, vectors, N, B, seed) => {
          const inputs = randomInputs(spec, N, B, seed);
          const f64 = {
            q: Float64Array.from(inputs.q),
            k: Float64Array.from(inputs.k),
            v: Float64Array.from(inputs.v),
          };
          const expected = attention(spec, { ...f64, N, B });
          for (const kind of scheduleKinds) {
            if (!isLegal(spec, kind, vectors, N)) continue;
            ran.set(kind, (ran.get(kind) ?? 0) + 1);
            const program = only(spec, vectors, { schedule: kind, length: N });
            const actual = await run(program, vectors, 1, inputs, { N, B });
            const threaded = await run(program, vectors, 2, inputs, { N, B });
            expect(sameBits(actual.all, threaded.all), "threads").toBe(true);
            const out = compare(actual.out, expected.out, { dtype: "f32", terms: N, atLeast: 1 });
            const lse = compare(actual.lse, expected.lse, { dtype: "f32", terms: N, atLeast: 1 });
            most = Math.max(most, out.worst / out.scale, lse.worst / lse.scale);
            expect(out, `${kind} out`).toMatchObject({ ok: true });
            expect(lse, `${kind} lse`).toMatchObject({ ok: true });
          }
        },
      ),
      { numRuns: RUNS },
    );
    console.log(`native: ${JSON.stringify([...ran])}, worst ${most.toExponential(1)} of scale`);
    expect(ran.get("branch")).toBe(RUNS);
  });
});
