import { describe, expect, it } from "vitest";
import { compare, tolerance } from "../../src/tolerance.ts";
import { attentionCases, modelCases } from "../golden.ts";

describe("tolerance", () => {
  it("is at most 2e-5 for every golden sum at f32, and grows with the terms", async () => {
    for (const { spec, N } of await attentionCases()) {
      const keys = spec.branches.reduce(
        (sum, { segment, dilation }) => sum + Math.min(segment, N) / dilation,
        0,
      );
      expect(tolerance("f32", spec.headDim + keys)).toBeLessThan(2e-5);
    }
    for (const { spec } of await modelCases()) expect(tolerance("f32", spec.ffn.dim)).toBeLessThan(2e-5);
    expect(tolerance("f32", 1000)).toBeGreaterThan(tolerance("f32", 100));
    // torchscale's own f32 run is within 3e-6 of unit data.
    expect(tolerance("f32", 64)).toBeGreaterThan(3e-6);
    expect(tolerance("f16", 100)).toBeLessThan(3e-3);
    expect(tolerance("bf16", 100)).toBeLessThan(2.5e-2);
  });

  it("gives models of 16 bits twice as much as an operation, whatever their depth, and those of f32 no more", () => {
    expect(tolerance("f32", 100, "model")).toBe(tolerance("f32", 100));
    expect(tolerance("f16", 100, "model") - tolerance("f16", 100)).toBeCloseTo(4 * 2 ** -11, 15);
    expect(tolerance("bf16", 100, "model") - tolerance("bf16", 100)).toBeCloseTo(4 * 2 ** -8, 15);
  });
});

describe("compare", () => {
  const how = { dtype: "f32", terms: 84 } as const; // limit 8·√100·2⁻²⁴ = 4.8e-6

  it("gives the worst error, its place, and the limit at the output's scale", () => {
    const { worst, at, scale, limit, ok } = compare([1, -50.0001, 3], [1, -50, 3], how);
    expect([at, scale]).toEqual([1, 50]);
    expect(worst).toBeCloseTo(1e-4, 10);
    expect(limit).toBeCloseTo(50 * 80 * 2 ** -24, 12);
    expect(ok).toBe(true);
    expect(compare([1, -50.001, 3], [1, -50, 3], how).ok).toBe(false);
    expect(compare([0.001], [0], { ...how, atLeast: 1 }).ok).toBe(false);
    expect(compare([1e-6], [0], { ...how, atLeast: 1 }).ok).toBe(true);
    expect(compare([1e-30], [0], how).ok).toBe(false);
    expect(compare([], [], how)).toMatchObject({ worst: 0, at: -1, ok: true });
  });

  it("takes −∞ only for −∞, and NaN for nothing", () => {
    expect(compare([-Infinity, 2], [-Infinity, 2], how)).toMatchObject({ ok: true, scale: 2 });
    for (const [a, e] of [
      [-1e30, -Infinity],
      [-Infinity, -1e8],
      [Infinity, -Infinity],
      [Infinity, Infinity],
      [NaN, 1],
      [NaN, NaN],
      [1, NaN],
      [NaN, -Infinity],
    ] as const)
      expect(compare([a, 5], [e, 5], how).ok).toBe(false);
    expect(compare([9, NaN, 90], [1, 1, 1], how)).toMatchObject({ worst: NaN, at: 1 });
    expect(() => compare([1], [1, 2], how)).toThrow("compared 1 elements with 2");
  });
});
