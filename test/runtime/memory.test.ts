import { describe, expect, it } from "vitest";
import { bytesOf, memoryOf, plannedMemory, weightBytes } from "../../runtime/memory.ts";
import type { Plan, Program } from "../../runtime/plan.ts";

describe("bytes on a device", () => {
  it("are four for each f32 and i32, and whole words for pairs of 16 bits", () => {
    expect([0, 1, 2, 3].map((n) => bytesOf("f32", n))).toEqual([0, 4, 8, 12]);
    expect([0, 1, 2, 3].map((n) => bytesOf("i32", n))).toEqual([0, 4, 8, 12]);
    for (const dtype of ["f16", "bf16"] as const)
      expect([0, 1, 2, 3].map((n) => bytesOf(dtype, n))).toEqual([0, 4, 4, 8]);
  });

  it("of a weight follow its layout and storage", () => {
    const weight = { name: "w", shape: [10, 3], layout: "panels" } as const;
    expect(weightBytes(weight)).toBe(4 * 16 * 3);
    expect(weightBytes({ ...weight, dtype: "bf16" })).toBe(2 * 16 * 3);
    expect(weightBytes({ ...weight, layout: "rows", dtype: "f16" })).toBe(60);
    expect(weightBytes({ name: "b", shape: [5], layout: "rows", dtype: "f16" })).toBe(12);
  });

  it("of a program are the sum of its parts", () => {
    const plan: Plan = {
      format: 1,
      name: "p",
      inputs: [{ name: "x", dtype: "f16", shape: ["B", "N", 4] }],
      outputs: [
        { name: "y", dtype: "bf16", shape: ["B", "N"] },
        { name: "lse", dtype: "f32", shape: ["B", "N"] },
      ],
      weights: [{ name: "w", shape: [8, 4], layout: "panels", dtype: "f16" }],
      tables: [{ kind: "xpos", headDim: 4, base: 8, block: 32, sign: 1 }],
      accepts: [],
      kernels: [],
      variants: [{ upTo: null, schedule: "", steps: [], slots: [{ op: "mul", args: [2, "N"] }, 3] }],
    };
    expect(memoryOf(plan, { N: 5, B: 3 })).toEqual({
      weights: 64,
      inputs: 2 * 60,
      outputs: 2 * 16 + 4 * 15,
      activations: 4 * (10 + 3),
      tables: 4 * 20,
      cache: 0,
      total: 64 + 120 + 92 + 52 + 80,
    });
    const decoding = {
      states: [
        {
          name: "s",
          dtype: "f16" as const,
          elements: { op: "mul" as const, args: ["B", "N"] as const },
          perToken: 1,
        },
      ],
    } as unknown as NonNullable<Plan["decoding"]>;
    const total = 64 + 120 + 92 + 52 + 80 + 2 * 3 * 1000;
    expect(memoryOf({ ...plan, decoding }, { N: 5, B: 3 }, 1000)).toMatchObject({ cache: 6000, total });
    expect(memoryOf({ ...plan, decoding }, { N: 5, B: 3 }).cache).toBe(0);

    const narrow: Plan = { ...plan, weights: [] };
    const program: Program = { plan, webgpu: [{ features: [], plan: narrow, shaders: [] }] };
    expect(plannedMemory(program, { length: 5, batch: 3, device: "webgpu" })).toEqual(
      memoryOf(narrow, { N: 5, B: 3 }),
    );
    expect(() => plannedMemory(program, { length: 5 })).toThrow(
      "'p' was not compiled for WebAssembly: compile it with --kernels wasm",
    );
    expect(() => plannedMemory(program, { length: 5, device: "cuda" })).toThrow(
      "'p' was not compiled for CUDA: compile it with --kernels cuda",
    );
  });
});
