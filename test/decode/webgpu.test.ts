/** Decoding on WebGPU equals its forward pass for every prefix, as far as its storage allows. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { WebgpuDevice } from "../../runtime/webgpu.ts";
import { letGo, testDevice } from "../webgpu/gpu.ts";
import { decodeBeside, modelOf, MODELS, programOf } from "./parity.ts";

let device: WebgpuDevice | null = null;
beforeAll(async () => void (device = await testDevice({ poison: true })));
const found: string[] = [];
afterAll(async () => {
  console.log(`decoding beside the forward pass on WebGPU: ${found.join("; ")}`);
  await device?.dispose();
  letGo();
});

describe.each(Object.keys(MODELS))("%s", (name) => {
  // Where heads are a multiple of four wide, and where they are not: 16 bits change what may be written at once.
  it.each(name === "nested" || name === "everything" ? ["f32", "f16"] : ["f32"])(
    "equals the forward pass in every row after a prompt, stored as %s",
    async (dtype) => {
      if (device === null) return;
      const { spec, text } = modelOf(name, dtype);
      const { worst, scale, rows } = await decodeBeside(device, programOf(text, "wgsl"), spec);
      found.push(`${name} ${dtype} ${rows} rows ${(worst / scale).toExponential(1)}`);
      // In f16 the two round the same values, but sum in another order what the next rounding takes.
      expect(worst).toBeLessThan((dtype === "f32" ? 2e-5 : 6e-3) * scale);
    },
  );
});
