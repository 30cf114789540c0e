/** The bounded cache in f64: decoding over it is the attention of every prefix, and it never grows. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cacheSize } from "../../codegen/decode.ts";
import { sizeOf } from "../../runtime/plan.ts";
import { reachOf } from "../../src/decode/reach.ts";
import { cacheShape, laneRows, numbers } from "../../src/geometry.ts";
import { attention } from "../../src/reference.ts";
import { attentionRow } from "../../src/reference/row.ts";
import { cacheElements, decodeToken, promote, referenceCache, remember } from "../../src/reference/decode.ts";
import { seal, type AttentionShape, type AttentionSpec } from "../../src/spec.ts";
import { normal } from "../attention/run.ts";
import { nestedSpec, randomSpec } from "../schedule/specs.ts";

const random = (count: number, seed: number) => Float64Array.from(normal(count, seed));

/** Causal specs of short segments, of every kind that the schedules are tried on. */
const causal = (maxSegment: number): fc.Arbitrary<AttentionSpec> =>
  fc
    .oneof(
      randomSpec({ maxSegment, headDims: [4] }),
      nestedSpec({ maxSegment: Math.max(12, maxSegment), headDims: [4] }),
    )
    .map((spec) => seal<AttentionShape>({ ...spec, causal: true }));

/** 3 × the longest segment + 5 tokens, where rows stay in place and the reference has time. */
function lengthOf(spec: AttentionSpec, most: number): number {
  const longest = Math.max(1, ...spec.branches.map((b) => b.segment).filter(Number.isFinite));
  return Math.min(3 * longest + 5, most, reachOf(spec).tokens);
}

type Sequence = { readonly q: Float64Array; readonly k: Float64Array; readonly v: Float64Array };
const sequence = (spec: AttentionSpec, N: number, seed: number): Sequence => ({
  q: random(N * spec.heads * spec.headDim, seed),
  k: random(N * spec.kvHeads * spec.headDim, seed + 1),
  v: random(N * spec.kvHeads * spec.headDim, seed + 2),
});
const tokenOf = (spec: AttentionSpec, { q, k, v }: Sequence, t: number): Sequence => {
  const part = (x: Float64Array, width: number) => x.slice(t * width, (t + 1) * width);
  return {
    q: part(q, spec.heads * spec.headDim),
    k: part(k, spec.kvHeads * spec.headDim),
    v: part(v, spec.kvHeads * spec.headDim),
  };
};

const apart = (a: number, b: number) => (a === b ? 0 : Math.abs(a - b));

/** The largest difference of out and lse from the attention of the prefix that ends at t. */
function difference(
  spec: AttentionSpec,
  s: Sequence,
  t: number,
  made: { readonly out: Float64Array; readonly lse: Float64Array },
): number {
  let worst = 0;
  for (let head = 0; head < spec.heads; head++) {
    const { out, lse } = attentionRow(spec, { ...s, N: t + 1 }, { batch: 0, head, row: t });
    worst = Math.max(worst, apart(made.lse[head] ?? NaN, lse));
    out.forEach((x, d) => {
      const error = apart(made.out[head * spec.headDim + d] ?? NaN, x);
      worst = Math.max(worst, Number.isNaN(error) ? Infinity : error);
    });
  }
  return worst;
}

describe("decoding over the cache in f64", () => {
  it("equals the attention of every prefix, for 300 random causal specs and three sequences at different places", () => {
    let worst = 0;
    let nested = 0;
    let steps = 0;
    fc.assert(
      fc.property(causal(24), fc.integer({ min: 0, max: 1e6 }), (spec, seed) => {
        const N = lengthOf(spec, 293);
        const prompts = [0, Math.floor(N / 3), N - 1];
        const cache = referenceCache(spec, { lanes: 3, capacity: N });
        if (cache.shape.regions.some((r) => r.parent !== null)) nested++;
        const sequences = prompts.map((_, lane) => sequence(spec, N, seed + 10 * lane));
        sequences.forEach((s, lane) => {
          const n = prompts[lane] ?? 0;
          if (n > 0) remember(cache, lane, s.k, s.v, n);
        });
        // One token of each sequence in turn, as a batch does.
        for (let i = 0; i < N; i++)
          sequences.forEach((s, lane) => {
            const t = (prompts[lane] ?? 0) + i;
            if (t >= N) return;
            promote(cache, lane, t);
            const error = difference(spec, s, t, decodeToken(cache, lane, t, tokenOf(spec, s, t)));
            worst = Math.max(worst, Number.isNaN(error) ? Infinity : error);
            steps++;
            expect(error).toBeLessThan(1e-12);
          });
      }),
      { numRuns: 300, seed: 5 },
    );
    console.log(`decoding in f64: ${steps} steps, ${nested} of 300 specs nest; largest difference ${worst}`);
    expect(nested).toBeGreaterThan(100);
  });

  it("equals the whole attention of each prefix, xPos' decay between blocks included", () => {
    fc.assert(
      fc.property(causal(8), fc.integer({ min: 0, max: 1e6 }), fc.boolean(), (spec, seed, fades) => {
        const N = lengthOf(spec, 29);
        const decay = fades ? { base: 8, block: 4 } : undefined;
        const s = sequence(spec, N, seed);
        const cache = referenceCache(spec, { lanes: 1, capacity: N }, decay);
        for (let t = 0; t < N; t++) {
          promote(cache, 0, t);
          const made = decodeToken(cache, 0, t, tokenOf(spec, s, t));
          const whole = attention(spec, { ...prefix(spec, s, t + 1), N: t + 1, B: 1, decay });
          const width = spec.heads * spec.headDim;
          made.out.forEach((x, i) => expect(apart(x, whole.out[t * width + i] ?? NaN)).toBeLessThan(1e-12));
          made.lse.forEach((x, h) => expect(apart(x, whole.lse[h * (t + 1) + t] ?? NaN)).toBeLessThan(1e-12));
        }
      }),
      { numRuns: 60, seed: 6 },
    );
  });

  it("is not changed by padding: a causal query never sees a phantom key", () => {
    fc.assert(
      fc.property(causal(24), fc.integer({ min: 0, max: 1e6 }), (spec, seed) => {
        const N = lengthOf(spec, 40);
        const inputs = { ...sequence(spec, N, seed), N, B: 1 };
        const [masked, zero] = (["masked", "zero"] as const).map((padding) =>
          attention({ ...spec, padding }, inputs),
        );
        expect(zero).toEqual(masked);
      }),
      { numRuns: 60, seed: 7 },
    );
  });
});

const prefix = (spec: AttentionSpec, { q, k, v }: Sequence, n: number): Sequence => ({
  q: q.slice(0, n * spec.heads * spec.headDim),
  k: k.slice(0, n * spec.kvHeads * spec.headDim),
  v: v.slice(0, n * spec.kvHeads * spec.headDim),
});

/** The paper's model with 32k tokens: examples/paper.heddle. */
const paper = (rule: (head: number, dilation: number) => number): AttentionSpec => {
  const dilations = [1, 2, 4, 6, 12];
  return seal<AttentionShape>({
    name: "paper_32k",
    heads: 12,
    kvHeads: 12,
    headDim: 64,
    causal: true,
    branches: dilations.map((dilation, i) => ({ segment: 2048 * 2 ** i, dilation })),
    offsets: dilations.map((r) => Array.from({ length: 12 }, (_, h) => rule(h, r))),
    padding: "masked",
    align: "segment",
    combine: "softmax",
    gradient: "full",
    scale: 1 / 8,
    dtype: "f16",
  });
};
const inTurn = paper((h, r) => h % r);
const inBlocks = paper((h, r) => Math.floor(h / Math.ceil(12 / r)));

describe("the size of the cache", () => {
  it("is the same as a formula of a plan and as a count", () => {
    const at = fc.record({ N: fc.integer({ min: 1, max: 200 }), B: fc.integer({ min: 1, max: 4 }) });
    fc.assert(
      fc.property(causal(24), at, (spec, extent) => {
        expect(sizeOf(cacheSize(spec), extent)).toBe(cacheElements(spec, extent.B, extent.N));
      }),
      { numRuns: 300, seed: 12 },
    );
    for (const N of [1e6, 1e9]) expect((2 * sizeOf(cacheSize(inTurn), { N, B: 1 })) / 2 ** 20).toBe(24);
  });

  it("of paper_32k stays below 33 MiB per layer in f16, the same from 10^6 to 10^9 tokens", () => {
    for (const [spec, most] of [
      [inTurn, 24],
      [inBlocks, 28.1],
    ] as const) {
      const mebibytes = [1e6, 1e7, 1e8, 1e9].map((N) => (2 * cacheElements(spec, 1, N)) / 2 ** 20);
      expect(new Set(mebibytes).size).toBe(1);
      expect(mebibytes[0]).toBeLessThanOrEqual(most);
    }
    expect((2 * cacheElements(inTurn, 1, 1e6)) / 2 ** 20).toBe(24);
  });

  it("is that of its rows alone where nothing nests, and that of a dense cache for a branch over everything", () => {
    const flat = {
      ...inTurn,
      branches: [
        { segment: 5, dilation: 2 },
        { segment: 7, dilation: 3 },
      ],
      offsets: [[], []],
    };
    const spec = {
      ...flat,
      offsets: flat.branches.map((b) => Array.from({ length: 12 }, (_, h) => h % b.dilation)),
    };
    expect(laneRows(numbers(spec), cacheShape(spec), 1000)).toBe(12 * (3 + 3));
    const dense = {
      ...inTurn,
      branches: [{ segment: Infinity, dilation: 1 }],
      offsets: [Array(12).fill(0) as number[]],
    };
    expect(laneRows(numbers(dense), cacheShape(dense), 1000)).toBe(12 * 1000);
  });

  it("holds no more at 10^9 tokens: a run of the cache alone around there writes no row that is not there", () => {
    const spec = { ...inTurn, headDim: 1 };
    const cache = referenceCache(spec, { lanes: 1, capacity: 1e9 });
    const one = { q: new Float64Array(12), k: new Float64Array(12).fill(1), v: new Float64Array(12).fill(1) };
    for (const start of [1e6 - 3, 32768 * 30000 - 2, 1e9 - 20])
      for (let t = start; t < start + 6; t++) {
        promote(cache, 0, t);
        const { out } = decodeToken(cache, 0, t, one);
        expect(out.every((x) => Number.isNaN(x) || Math.abs(x - 1) < 1e-12)).toBe(true);
      }
  });
});

describe("what cannot be decoded", () => {
  it("says which branch moves rows, and from which token on", () => {
    const ceil = { ...inTurn, align: "ceil" as const };
    expect(reachOf(inTurn)).toEqual({ tokens: Infinity, why: null });
    expect(reachOf(ceil).tokens).toBe(16384);
    expect(reachOf(ceil).why).toMatch(/branch 3 .*segment 16384, dilation 6.*2 tokens earlier/);
    expect(reachOf({ ...inTurn, causal: false })).toMatchObject({ tokens: 0 });
  });

  it("ends exactly where rows begin to move", () => {
    fc.assert(
      fc.property(causal(12), fc.integer({ min: 0, max: 1e6 }), (drawn, seed) => {
        const spec = { ...drawn, align: "ceil" as const };
        const { tokens } = reachOf(spec);
        fc.pre(Number.isFinite(tokens) && tokens < 24);
        const N = tokens + 24;
        const s = { ...sequence(spec, N, seed), N, B: 1 };
        const [moved, placed] = (["ceil", "segment"] as const).map(
          (align) => attention({ ...spec, align }, s).lse,
        );
        const differ = Array.from({ length: N }, (_, t) =>
          Array.from({ length: spec.heads }, (_, h) => moved?.[h * N + t] !== placed?.[h * N + t]).some(
            Boolean,
          ),
        );
        expect(differ.slice(0, tokens)).not.toContain(true);
        expect(differ.slice(tokens)).toContain(true);
      }),
      { numRuns: 60, seed: 8 },
    );
  });
});
