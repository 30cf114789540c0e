/** Random specs and ragged lengths: every legal schedule on the interpreter equals the f64 reference. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { attention } from "../../src/reference.ts";
import { scheduleKinds } from "../../src/schedule.ts";
import { compare } from "../../src/tolerance.ts";
import { nestedSpec, randomSpec } from "../schedule/specs.ts";
import { randomInputs, runInterpreted, scheduleFor, type Inputs } from "./run.ts";

const f64 = ({ q, k, v }: Inputs) => ({
  q: Float64Array.from(q),
  k: Float64Array.from(k),
  v: Float64Array.from(v),
});
const nearTileEdges = fc.constantFrom(1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65);

describe("every legal schedule equals the reference", () => {
  it("on the interpreter", () => {
    const ran = new Map<string, number>();
    let worst = 0;
    fc.assert(
      fc.property(
        fc.oneof({ weight: 3, arbitrary: randomSpec() }, { weight: 1, arbitrary: nestedSpec() }),
        fc.oneof(
          { weight: 4, arbitrary: nearTileEdges },
          { weight: 4, arbitrary: fc.integer({ min: 1, max: 130 }) },
          { weight: 1, arbitrary: fc.integer({ min: 131, max: 600 }) },
        ),
        fc.integer({ min: 1, max: 3 }),
        fc.constantFrom(4, 8, 16),
        fc.constantFrom(8, 16),
        fc.integer({ min: 1, max: 1e6 }),
        (spec, N, B, rows, keys, seed) => {
          const inputs = randomInputs(spec, N, B, seed);
          const expected = attention(spec, { ...f64(inputs), N, B });
          for (const kind of scheduleKinds) {
            const schedule = scheduleFor(spec, { kind, rows, keys }, N);
            if (schedule === null) continue;
            ran.set(kind, (ran.get(kind) ?? 0) + 1);
            const actual = runInterpreted(spec, schedule, inputs, { N, B });
            const out = compare(actual.out, expected.out, { dtype: "f32", terms: N, atLeast: 1 });
            const lse = compare(actual.lse, expected.lse, { dtype: "f32", terms: N, atLeast: 1 });
            worst = Math.max(worst, out.worst / out.scale, lse.worst / lse.scale);
            expect(out, `${kind} out`).toMatchObject({ ok: true });
            expect(lse, `${kind} lse`).toMatchObject({ ok: true });
          }
        },
      ),
      { numRuns: 125 },
    );
    console.log(`interpreter: ${JSON.stringify([...ran])}, worst ${worst.toExponential(1)} of scale`);
    expect(ran.get("branch")).toBe(125);
    expect(ran.get("class")).toBeGreaterThan(35);
    expect(ran.get("annulus")).toBeGreaterThan(60);
    expect(ran.get("annulus_list")).toBeGreaterThan(55);
    expect(ran.get("dense")).toBeGreaterThan(4);
  });

  it("with xPos' decay between blocks, causal (a future key may grow without bound)", () => {
    let ran = 0;
    fc.assert(
      fc.property(
        randomSpec({ headDims: [4, 6, 16] }).map((spec) => ({ ...spec, causal: true })),
        fc.integer({ min: 1, max: 100 }),
        fc.constantFrom(4, 8, 32),
        // A block of the first may change an element by more than half of f32's range.
        fc.constantFrom(0.25, 1, 16, 64),
        fc.integer({ min: 1, max: 1e6 }),
        (spec, N, block, base, seed) => {
          const inputs = randomInputs(spec, N, 1, seed);
          const expected = attention(spec, { ...f64(inputs), N, B: 1, decay: { base, block } });
          for (const kind of scheduleKinds) {
            const schedule = scheduleFor(spec, { kind, rows: 8, keys: 8 }, N);
            if (schedule === null) continue;
            ran += 1;
            const actual = runInterpreted(spec, schedule, inputs, { N, B: 1 }, undefined, { base, block });
            expect(compare(actual.out, expected.out, { dtype: "f32", terms: N, atLeast: 1 })).toMatchObject({
              ok: true,
            });
            expect(compare(actual.lse, expected.lse, { dtype: "f32", terms: N, atLeast: 1 })).toMatchObject({
              ok: true,
            });
          }
        },
      ),
      { numRuns: 50 },
    );
    expect(ran).toBeGreaterThan(60);
  });

  it("annulus, where grids lie inside one another: rings, crossings, cuts and several paths", () => {
    let ran = 0;
    fc.assert(
      fc.property(
        nestedSpec({ headDims: [4, 8] }),
        fc.oneof(nearTileEdges, fc.integer({ min: 40, max: 160 })),
        fc.constantFrom(4, 8),
        fc.constantFrom(8, 16, 24),
        fc.integer({ min: 1, max: 1e6 }),
        (spec, N, rows, keys, seed) => {
          const schedule = scheduleFor(spec, { kind: "annulus", rows, keys }, N);
          if (schedule === null) return;
          ran += 1;
          const inputs = randomInputs(spec, N, 1, seed);
          const expected = attention(spec, { ...f64(inputs), N, B: 1 });
          const actual = runInterpreted(spec, schedule, inputs, { N, B: 1 });
          for (const value of ["out", "lse"] as const) {
            const found = compare(actual[value], expected[value], { dtype: "f32", terms: N, atLeast: 1 });
            expect(found, value).toMatchObject({ ok: true });
          }
        },
      ),
      { numRuns: 120 },
    );
    expect(ran).toBe(120);
  });
});
