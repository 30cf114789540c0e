/** Decoding on WebGPU equals its forward pass for every prefix, as far as its storage allows. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { webgpuDevice } from "../../runtime/webgpu.ts";
import type { WebgpuDevice } from "../../runtime/webgpu.ts";
import { letGo, openGpu, testDevice, webgpuThere } from "../webgpu/gpu.ts";
import { decodeBeside, modelOf, programOf, saveAndRestore } from "./parity.ts";

const there = await webgpuThere();
let device: WebgpuDevice | null = null;
beforeAll(async () => void (device = there ? await testDevice({ poison: true }) : null));
const found: string[] = [];
afterAll(async () => {
  console.log(`decoding beside the forward pass on WebGPU: ${found.join("; ")}`);
  await device?.dispose();
  letGo();
});

/**
 * WebAssembly and CUDA run every model of parity.ts; here each takes ten seconds of compiling on a software GPU. A random one runs in
 * test/parity.test.ts.
 */
const RUNS = [
  ["nested", "f32"],
  ["everything", "f16"],
] as const;

describe.skipIf(!there)("on WebGPU", () => {
  it.each(RUNS)(
    "'%s' equals the forward pass in every row after a prompt, stored as %s",
    async (name, dtype) => {
      if (device === null) throw new Error("no device");
      const { spec, text } = modelOf(name, dtype);
      const { worst, scale, rows, chunks } = await decodeBeside(device, programOf(text, "wgsl"), spec);
      found.push(`${name} ${dtype} ${rows} rows ${(worst / scale).toExponential(1)}`);
      // In f16 the two round the same values, but sum in another order what the next rounding takes.
      expect(worst).toBeLessThan((dtype === "f32" ? 2e-5 : 6e-3) * scale);
      // 131 tokens in chunks of 128; the others' prompts are shorter.
      if (name === "nested") expect(chunks).toBe(2);
    },
  );
});

it.skipIf(!there)("says that the cache went with a lost device, and goes on from saved bytes", async () => {
  const made: GPUDevice[] = [];
  const losable = await webgpuDevice({
    device: async () => {
      const { adapter } = await openGpu();
      const raw = await adapter.requestDevice();
      made.push(raw);
      return raw;
    },
  });
  const { spec, text } = modelOf("nested", "f16");
  const lose = () => made[0]?.destroy();
  const { same, early, refused, short } = await saveAndRestore(losable, programOf(text, "wgsl"), spec, lose);
  await losable.dispose();
  expect(refused).toMatchObject({ name: "DeviceError", code: "DEVICE_LOST" });
  expect(early).toMatchObject({ name: "DeviceError", code: "DEVICE_LOST" });
  expect(same).toBe(true);
  expect(short).toMatchObject({ message: expect.stringMatching(/bytes, found 4/) as string });
});
