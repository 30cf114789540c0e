import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { attention, branchAttention, logSumExp, segmentSlots } from "../../src/reference.ts";
import type { AttentionInputs, AttentionMeaning } from "../../src/reference.ts";
import { attentionCases } from "../golden.ts";

/** The files are f64 results rounded once to f32. */
const fileError = 1e-6;

function worst(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  let most = 0;
  let scale = 1e-30;
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i] ?? NaN, expected[i] ?? NaN];
    if (Number.isFinite(e)) scale = Math.max(scale, Math.abs(e));
    const error = a === e ? 0 : Math.abs(a - e);
    if (!(error <= most)) most = error;
  }
  return most / scale;
}

const cases = await attentionCases();

describe.each(cases)("golden $id", (golden) => {
  const inputs: AttentionInputs = {
    q: Float64Array.from(golden.q),
    k: Float64Array.from(golden.k),
    v: Float64Array.from(golden.v),
    B: golden.B,
    N: golden.N,
  };

  it("agrees with torchscale: each branch's lse, the union's lse, out", () => {
    golden.lse.forEach((lse, b) =>
      expect(worst(branchAttention(golden.spec, b, inputs).lse, lse)).toBeLessThan(fileError),
    );
    const { out, lse } = attention(golden.spec, inputs);
    expect(worst(lse, golden.lseUnion)).toBeLessThan(fileError);
    expect(worst(out, golden.out)).toBeLessThan(fileError);
  });

  it("agrees on rows in place with masked padding, by torchscale's offsets and by the paper's", () => {
    expect(worst(attention(golden.fixed.spec, inputs).out, golden.fixed.out)).toBeLessThan(fileError);
    expect(worst(attention(golden.paper.spec, inputs).out, golden.paper.out)).toBeLessThan(fileError);
  });
});

it("has all 26 cases, some of which tell the variants apart", () => {
  expect(cases).toHaveLength(26);
  expect(cases.filter((c) => worst(c.out, c.fixed.out) > 1e-3).length).toBeGreaterThan(2);
  expect(cases.filter((c) => worst(c.out, c.paper.out) > 1e-3).length).toBeGreaterThan(2);
  expect(cases.some((c) => c.lseUnion.includes(-Infinity))).toBe(true);
});

describe("slots", () => {
  it("misaligns by ⌈g/r⌉·r − g rows per segment with align ceil, and pads to whole slots", () => {
    const branch = { segment: 5, dilation: 2 };
    expect(segmentSlots(branch, 1, "ceil", 8)).toEqual([
      [
        { token: 1, row: 1 },
        { token: 3, row: 3 },
        { token: -1, row: 5 },
      ],
      [
        { token: 6, row: 7 },
        { token: -1, row: -1 },
        { token: -1, row: -1 },
      ],
    ]);
    expect(segmentSlots(branch, 1, "segment", 8)[0]?.[2]).toEqual({ token: -1, row: -1 });
  });

  it("clips a segment to the sequence, so Infinity is the whole of it", () => {
    expect(segmentSlots({ segment: Infinity, dilation: 3 }, 0, "segment", 7)).toEqual(
      segmentSlots({ segment: 7, dilation: 3 }, 0, "segment", 7),
    );
    expect(segmentSlots({ segment: 4, dilation: 1 }, 0, "segment", 0)).toEqual([]);
  });
});

type Random = AttentionMeaning & { B: number; N: number; seed: number };

/** Specs with offsets of any kind, segments of any length, grouped heads. */
const specs: fc.Arbitrary<Random> = fc
  .record({
    kvHeads: fc.integer({ min: 1, max: 2 }),
    group: fc.integer({ min: 1, max: 3 }),
    headDim: fc.constantFrom(2, 4),
    branches: fc.array(
      fc.record({
        segment: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constant(Infinity)),
        dilation: fc.integer({ min: 1, max: 7 }),
      }),
      { minLength: 1, maxLength: 4 },
    ),
    causal: fc.boolean(),
    padding: fc.constantFrom("masked" as const, "zero" as const),
    align: fc.constant("segment" as const),
    combine: fc.constant("softmax" as const),
    B: fc.integer({ min: 1, max: 2 }),
    N: fc.integer({ min: 1, max: 50 }),
    seed: fc.integer({ min: 1, max: 2 ** 30 }),
  })
  .map(({ group, ...rest }) => ({
    ...rest,
    heads: rest.kvHeads * group,
    scale: rest.headDim ** -0.5,
    offsets: rest.branches.map(({ dilation }, b) =>
      Array.from({ length: rest.kvHeads * group }, (_head, h) => (rest.seed + 3 * h + 5 * b) % dilation),
    ),
  }));

/** mulberry32, shifted to (−2, 2): any spread-out numbers do. */
function numbers(seed: number, count: number): Float64Array {
  let state = seed;
  return Float64Array.from({ length: count }, () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 30 - 2;
  });
}

const inputsOf = (spec: Random): AttentionInputs => ({
  q: numbers(spec.seed, spec.B * spec.N * spec.heads * spec.headDim),
  k: numbers(spec.seed + 1, spec.B * spec.N * spec.kvHeads * spec.headDim),
  v: numbers(spec.seed + 2, spec.B * spec.N * spec.kvHeads * spec.headDim),
  B: spec.B,
  N: spec.N,
});

/** The same thing said the other way: one softmax over the multiset union of every branch's keys. */
function union(spec: Random, { q, k, v }: AttentionInputs): { out: number[]; lse: number[] } {
  const { B, N, heads, kvHeads, headDim: D } = spec;
  const out = Array.from({ length: B * N * heads * D }, () => 0);
  const lse = Array.from({ length: B * heads * N }, () => -Infinity);
  for (let b = 0; b < B; b++)
    for (let h = 0; h < heads; h++)
      for (let p = 0; p < N; p++) {
        const scores: number[] = [];
        const tokens: number[] = [];
        spec.branches.forEach(({ segment, dilation: r }, i) => {
          const g = Math.min(segment, N);
          const offset = spec.offsets[i]?.[h] ?? NaN;
          const start = Math.floor(p / g) * g;
          if ((p - start) % r !== offset) return;
          for (let t = offset; t < Math.ceil(g / r) * r; t += r) {
            const token = start + t;
            if (spec.causal && token > p) continue;
            const real = t < g && token < N;
            if (!real && spec.padding === "masked") continue;
            let dot = 0;
            const kv = Math.floor((h * kvHeads) / heads);
            for (let d = 0; real && d < D; d++)
              dot +=
                (q[((b * N + p) * heads + h) * D + d] ?? NaN) *
                (k[((b * N + token) * kvHeads + kv) * D + d] ?? NaN);
            scores.push(dot * spec.scale);
            tokens.push(real ? ((b * N + token) * kvHeads + kv) * D : -1);
          }
        });
        const total = scores.length === 0 ? -Infinity : logSumExp(scores);
        lse[(b * heads + h) * N + p] = total;
        scores.forEach((score, i) => {
          for (let d = 0; d < D && (tokens[i] ?? -1) >= 0; d++) {
            const to = ((b * N + p) * heads + h) * D + d;
            out[to] = (out[to] ?? 0) + Math.exp(score - total) * (v[(tokens[i] ?? -1) + d] ?? NaN);
          }
        });
      }
  return { out, lse };
}

describe("properties", () => {
  it("merging by lse equals one softmax over the union of keys", () => {
    fc.assert(
      fc.property(specs, (spec) => {
        const inputs = inputsOf(spec);
        const merged = attention(spec, inputs);
        const expected = union(spec, inputs);
        expect(worst(merged.out, expected.out)).toBeLessThan(1e-12);
        expect(worst(merged.lse, expected.lse)).toBeLessThan(1e-12);
      }),
      { numRuns: 150 },
    );
  });

  it("align ceil equals align segment wherever every dilation divides its segment or there is one segment", () => {
    fc.assert(
      fc.property(specs, (spec) => {
        const branches = spec.branches.map(({ segment, dilation }) => ({
          segment: segment >= spec.N ? segment : segment * dilation,
          dilation,
        }));
        // Only a phantom query writes a row of its own, and only after the end of a lone segment: never below N.
        const inputs = inputsOf(spec);
        const masked = { ...spec, branches };
        const aligned = attention({ ...masked, align: "segment" }, inputs);
        const ceil = attention({ ...masked, align: "ceil" }, inputs);
        expect([...ceil.out]).toEqual([...aligned.out]);
        expect([...ceil.lse]).toEqual([...aligned.lse]);
      }),
      { numRuns: 100 },
    );
  });

  it("combine mean averages the covering branches and keeps the union's lse", () => {
    fc.assert(
      fc.property(specs, (spec) => {
        const inputs = inputsOf(spec);
        const parts = spec.branches.map((_branch, b) => branchAttention(spec, b, inputs));
        const { out, lse } = attention({ ...spec, combine: "mean" }, inputs);
        expect([...lse]).toEqual([...attention(spec, inputs).lse]);
        const { N, heads, headDim: D } = spec;
        for (let i = 0; i < out.length; i++) {
          const row = Math.floor(i / (heads * D));
          const place = (Math.floor(row / N) * heads + (Math.floor(i / D) % heads)) * N + (row % N);
          const covering = parts.filter((part) => part.lse[place] !== -Infinity);
          const sum = covering.reduce((total, part) => total + (part.out[i] ?? NaN), 0);
          expect(out[i]).toBeCloseTo(covering.length === 0 ? 0 : sum / covering.length, 12);
        }
      }),
      { numRuns: 40 },
    );
  });
});

describe("phantom queries of align ceil", () => {
  // N = 5, g = 3, r = 2, offset 1: tokens 1 | 4; slots 1, 3 | 1, 3; rows 1, 3 | 5 …: row 3 belongs to a phantom query.
  const base: AttentionMeaning = {
    heads: 1,
    headDim: 2,
    kvHeads: 1,
    causal: false,
    branches: [{ segment: 3, dilation: 2 }],
    offsets: [[1]],
    padding: "zero",
    align: "ceil",
    combine: "softmax",
    scale: 1,
  };
  const inputs: AttentionInputs = {
    q: Float64Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    k: Float64Array.from([1, 0, 0.5, -0.25, 0, 1, 1, 1, 2, 2]),
    v: Float64Array.from([1, 2, 4, 8, 16, 32, 64, 128, 256, 512]),
    B: 1,
    N: 5,
  };

  it("average over the slots with score 0 when padding is zero", () => {
    const { out, lse } = attention(base, inputs);
    expect(Array.from(out.slice(6, 8))).toEqual([2, 4]); // half of v[1], half of a zero
    expect(lse[3]).toBeCloseTo(Math.log(2), 15);
    expect(lse[1]).toBeCloseTo(Math.log(Math.exp(3 * 0.5 - 4 * 0.25) + 1), 15);
    expect([lse[0], lse[2], lse[4]]).toEqual([-Infinity, -Infinity, -Infinity]);
  });

  it("see only real keys when padding is masked, and cover nothing without one", () => {
    const masked = { ...base, padding: "masked" as const };
    const { out, lse } = attention(masked, inputs);
    expect(Array.from(out.slice(6, 8))).toEqual([4, 8]);
    expect(lse[3]).toBe(0);
    // Offset 2 of a segment clipped to N = 2 has no real slot: nothing is covered.
    const none = attention({ ...masked, branches: [{ segment: 2, dilation: 3 }], offsets: [[2]] }, inputs);
    expect([...none.lse].every((value) => value === -Infinity)).toBe(true);
    expect([...none.out].every((value) => value === 0)).toBe(true);
  });
});
