/** Sampling: the distributions that are drawn from, what happens at their edges, and that a seed decides everything. */
import { describe, expect, it } from "vitest";
import { seeded, uniform } from "../../runtime/random.ts";
import { candidatesOf, checkSampling, likeliest, penalized, sample } from "../../runtime/sampling.ts";
import type { SamplingOptions } from "../../runtime/sampling.ts";

const logits = (...x: readonly number[]) => Float32Array.from(x);

describe("the generator", () => {
  it("is xoshiro128**: the first outputs from the state 1, 2, 3, 4", () => {
    // By the authors' C code: 11520, 0, 5927040, 70819200, 2031721883, 1637235492.
    const first = 11520 >>> 5;
    const [value, next] = uniform([1, 2, 3, 4]);
    expect(value).toBe((first * 2 ** 26 + (0 >>> 6)) / 2 ** 53);
    const [second, last] = uniform(next);
    expect(second).toBe(((5927040 >>> 5) * 2 ** 26 + (70819200 >>> 6)) / 2 ** 53);
    expect(uniform(last)[0]).toBe(((2031721883 >>> 5) * 2 ** 26 + (1637235492 >>> 6)) / 2 ** 53);
  });

  it("is even over [0, 1), for several seeds, and tells seeds apart in both halves", () => {
    for (const seed of [0, 1, 42, 2 ** 40 + 1]) {
      const counts = Array.from({ length: 64 }, () => 0);
      let state = seeded(seed);
      for (let i = 0; i < 64_000; i++) {
        const [x, after] = uniform(state);
        expect(x >= 0 && x < 1).toBe(true);
        counts[Math.floor(x * 64)] = (counts[Math.floor(x * 64)] ?? 0) + 1;
        state = after;
      }
      expect(
        chiSquare(
          counts,
          counts.map(() => 1 / 64),
        ),
      ).toBeLessThan(BELOW(63));
    }
    expect(new Set([0, 1, 2, 2 ** 32, 2 ** 33].map((s) => seeded(s).join())).size).toBe(5);
  });
});

/** Σ (found − expected)² / expected. */
function chiSquare(counts: readonly number[], probabilities: readonly number[]): number {
  const total = counts.reduce((a, b) => a + b, 0);
  return counts.reduce((sum, n, i) => {
    const expected = total * (probabilities[i] ?? 0);
    if (expected === 0) return n === 0 ? sum : Infinity;
    return sum + (n - expected) ** 2 / expected;
  }, 0);
}
/** A bound on χ² of so many degrees of freedom that chance passes once in 10⁵ (Wilson and Hilferty). */
const BELOW = (freedom: number) =>
  freedom * (1 - 2 / (9 * freedom) + 4.27 * Math.sqrt(2 / (9 * freedom))) ** 3;

const softmax = (x: readonly number[]) => {
  const weights = x.map((v) => Math.exp(v - Math.max(...x)));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / sum);
};

function drawn(x: Float32Array, options: SamplingOptions, seed: number, times = 40_000): number[] {
  const counts = Array.from(x, () => 0);
  let state = seeded(seed);
  for (let i = 0; i < times; i++) {
    const made = sample(x, options, state);
    counts[made.token] = (counts[made.token] ?? 0) + 1;
    ({ state } = made);
  }
  return counts;
}

describe("distributions", () => {
  const x = logits(0.3, -1.2, 2.1, 0.3, -0.4, 1.7, -Infinity, 0.9);

  it.each([0.5, 1, 2])("at temperature %d are the softmax of the scaled logits", (temperature) => {
    const counts = drawn(x, { temperature }, 11);
    expect(chiSquare(counts, softmax([...x].map((v) => v / temperature)))).toBeLessThan(BELOW(6));
  });

  it("of top k are those of the k likeliest, the lower of equal ones", () => {
    const { tokens } = candidatesOf(x, { topK: 4 });
    expect(tokens).toEqual([2, 5, 7, 0]);
    const kept = [...x].map((v, i) => (tokens.includes(i) ? v : -Infinity));
    expect(chiSquare(drawn(x, { topK: 4 }, 12), softmax(kept))).toBeLessThan(BELOW(3));
  });

  it("of top p are those of the fewest that reach it", () => {
    const p = softmax([...x]);
    const { tokens } = candidatesOf(x, { topP: 0.7 });
    const sum = (list: readonly number[]) => list.reduce((s, t) => s + (p[t] ?? 0), 0);
    expect(sum(tokens)).toBeGreaterThanOrEqual(0.7);
    expect(sum(tokens.slice(0, -1))).toBeLessThan(0.7);
    const kept = [...x].map((v, i) => (tokens.includes(i) ? v : -Infinity));
    expect(chiSquare(drawn(x, { topP: 0.7 }, 13), softmax(kept))).toBeLessThan(BELOW(tokens.length - 1));
  });

  it("of top p after top k count what is left as the whole", () => {
    // Of the two likeliest the first has 0.6, below 0.65 of all but of the pair's sum above 0.55.
    expect(candidatesOf(x, { topK: 2, topP: 0.55 }).tokens).toEqual([2]);
    expect(candidatesOf(x, { topK: 2, topP: 0.65 }).tokens).toEqual([2, 5]);
  });

  it("of large vocabularies are the same by the short way and by sorting", () => {
    let state = seeded(3);
    const large = Float32Array.from({ length: 5000 }, () => {
      const [u, after] = uniform(state);
      state = after;
      return 6 * u;
    });
    const order = [...large.keys()].sort((a, b) => (large[b] ?? 0) - (large[a] ?? 0) || a - b);
    for (const topP of [0.001, 0.2, 0.9, 0.9999]) {
      const { tokens, probabilities } = candidatesOf(large, { topP });
      expect(tokens).toEqual(order.slice(0, tokens.length));
      expect(probabilities.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 12);
      const p = softmax([...large]);
      const reached = tokens.reduce((s, t) => s + (p[t] ?? 0), 0);
      expect(reached).toBeGreaterThanOrEqual(topP - 1e-9);
      expect(reached - (p[tokens.at(-1) ?? 0] ?? 0)).toBeLessThan(topP);
    }
  });
});

describe("edges", () => {
  it("at temperature 0 the lowest of the largest, without a draw", () => {
    const state = seeded(1);
    expect(sample(logits(1, 3, 3, 2), { temperature: 0 }, state)).toEqual({ token: 1, state });
    expect(likeliest(logits(-Infinity, -5, -5))).toBe(1);
  });

  it("top 1 and a tiny top p leave the largest, at any temperature", () => {
    for (const options of [{ topK: 1 }, { topP: 1e-9 }, { topK: 1, temperature: 50 }])
      expect(drawn(logits(1, 3, 3, 2), options, 4, 200)).toEqual([0, 200, 0, 0]);
  });

  it("a tiny temperature is the largest, without a NaN", () => {
    expect(drawn(logits(1, 3, 2.999), { temperature: 1e-30 }, 4, 100)).toEqual([0, 100, 0]);
  });

  it("masked tokens are never drawn, and an infinite logit is alone", () => {
    expect(drawn(logits(-Infinity, 0, -Infinity), {}, 4, 100)).toEqual([0, 100, 0]);
    expect(candidatesOf(logits(5, Infinity, Infinity))).toEqual({
      tokens: [1, 2],
      probabilities: [0.5, 0.5],
    });
    expect(candidatesOf(logits(0, -Infinity, 1), { topK: 3 }).tokens).toEqual([2, 0]);
  });

  it("nothing left, and what is no number, are errors", () => {
    for (const temperature of [0, 1]) {
      expect(() => sample(logits(-Infinity, -Infinity), { temperature }, seeded(1))).toThrow(
        /no token is left/,
      );
      expect(() => sample(logits(1, NaN), { temperature }, seeded(1))).toThrow(
        /logit of token 1 is not a number/,
      );
    }
  });

  it("the repetition penalty makes what was there less likely whatever its sign, once, and leaves the rest", () => {
    expect([...penalized(logits(2, -2, 1, 0), [0, 1, 0, 9], 2)]).toEqual([1, -4, 1, 0]);
    expect(sample(logits(2, 1.5), { temperature: 0, repetitionPenalty: 2 }, seeded(1), [0]).token).toBe(1);
  });

  it("options that make no sense are refused by name", () => {
    const bad: readonly (readonly [string, SamplingOptions])[] = [
      ["temperature", { temperature: -1 }],
      ["temperature", { temperature: NaN }],
      ["topK", { topK: 0 }],
      ["topK", { topK: 1.5 }],
      ["topP", { topP: 0 }],
      ["topP", { topP: 1.1 }],
      ["repetitionPenalty", { repetitionPenalty: 0 }],
    ];
    for (const [name, options] of bad)
      expect(() => checkSampling(options)).toThrow(new RegExp(`^${name} must be`));
    expect(() => checkSampling({ temperature: 0, topK: 1, topP: 1, repetitionPenalty: 1.3 })).not.toThrow();
  });
});
