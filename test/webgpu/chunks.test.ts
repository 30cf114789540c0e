/** Sequences in chunks of rows on WebGPU: bindings that begin inside of tensors, and tensors in several bindings. */
import { afterAll, describe, expect, it } from "vitest";
import type { WebgpuOptions } from "../../runtime/webgpu/options.ts";
import { webgpuDevice } from "../../runtime/webgpu.ts";
import type { Program } from "../../runtime/plan.ts";
import { chunksOf, compiledIn, NARROW, ran } from "../models/chunked.ts";
import { letGo, sharedDevice, webgpuThere } from "./gpu.ts";
import { sameBits } from "./programs.ts";

const there = await webgpuThere();
afterAll(letGo);
const at = { N: 300, B: 2 };
const on = async (program: Program, options: WebgpuOptions = {}, extent = at) => {
  const device = await webgpuDevice({ poison: true, ...options, device: await sharedDevice() });
  const outputs = await ran(device, program, extent);
  await device.dispose();
  return outputs;
};

describe.skipIf(!there)("a model in chunks of rows", { timeout: 120_000 }, () => {
  const whole = compiledIn(NARROW, "wgsl", null).program;
  // 128, 128, 128, 128 and 88 of 600 rows.
  const parts = compiledIn(NARROW, "wgsl", 100).program;

  it("gives the bits of the whole, in less memory", async () => {
    expect(chunksOf(parts, at).chunks.map((c) => c.rows)).toEqual(expect.arrayContaining([128]));
    expect(chunksOf(parts, at).bytes).toBeLessThan(chunksOf(whole, at).bytes);
    const meant = await on(whole);
    expect(sameBits(await on(parts), meant)).toBe(true);
    // Fewer rows than a chunk, and exactly one.
    for (const extent of [
      { N: 60, B: 2 },
      { N: 128, B: 1 },
    ])
      expect(sameBits(await on(parts, {}, extent), await on(whole, {}, extent))).toBe(true);
  });

  it("gives them where tensors are split over bindings, at places that no chunk begins at", async () => {
    // Widths of 16 in f32 and f16 take 38,400 and 19,200 bytes of 600 rows; a part is 16,384.
    const limits = { maxStorageBufferBindingSize: 16_384 + 100 };
    expect(sameBits(await on(parts, { limits }), await on(whole))).toBe(true);
  });
});
