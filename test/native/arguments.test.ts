/** Launches as data: every parameter at its place, and numbers that fit. */
import { describe, expect, it } from "vitest";
import { launchOf } from "../../runtime/cuda/arguments.ts";
import type { Argument } from "../../runtime/cuda/arguments.ts";
import type { DeviceMemory } from "../../runtime/cuda/context.ts";

const memory: DeviceMemory = { handle: {} as DeviceMemory["handle"], bytes: 64, dispose: () => undefined };

describe("launchOf", () => {
  it("lays out parameters as a C++ compiler does", () => {
    const args: readonly Argument[] = [
      { i32: -2 },
      { memory, offset: 24 },
      { f32: 1.5 },
      { i64: -3n },
      { u32: 2 ** 32 - 1 },
      { memory },
      { i64: 2 ** 40 },
      { i32: 7 },
    ];
    const { parameters, slots, memories, shape } = launchOf(
      { grid: [5], block: [4, 3, 2], sharedBytes: 100 },
      args,
    );
    expect([...shape]).toEqual([5, 1, 1, 4, 3, 2, 100]);
    expect([...slots]).toEqual([8, 24, 40, 0]);
    expect(memories).toEqual([memory.handle, memory.handle]);
    expect(parameters.length).toBe(60);
    const view = new DataView(parameters.buffer);
    expect([view.getInt32(0, true), view.getFloat32(16, true), view.getBigInt64(24, true)]).toEqual([
      -2,
      1.5,
      -3n,
    ]);
    expect([view.getUint32(32, true), view.getBigInt64(48, true), view.getInt32(56, true)]).toEqual([
      2 ** 32 - 1,
      2n ** 40n,
      7,
    ]);
    expect(launchOf({ grid: [1], block: [1] }, []).parameters.length).toBe(0);
  });

  it.each<readonly [string, Argument]>([
    ["a whole number", { i32: 1.5 }],
    ["31 bits and a sign", { i32: 2 ** 31 }],
    ["not below 0", { u32: -1 }],
    ["a number", { i32: Number.NaN }],
    ["a safe integer", { i64: 2 ** 53 }],
    ["64 bits", { i64: 2n ** 63n }],
  ])("refuses what is not %s", (_, argument) => {
    expect(() => launchOf({ grid: [1], block: [1] }, [{ memory }, argument])).toThrow(
      expect.objectContaining({
        name: "CudaError",
        code: "INVALID_ARGUMENT",
        message: expect.stringMatching(/parameter 1/),
      }),
    );
  });

  it("refuses a shape that does not fit 32 bits", () => {
    for (const grid of [[-1], [0.5], [2 ** 32], [1, Number.NaN]] as const)
      expect(() => launchOf({ grid, block: [1] }, [])).toThrow(/launch: shape: expected a whole number/);
  });
});
