/** Decoding on CUDA, by the stub that executes what NVRTC would compile: equal to its forward pass for every prefix. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cudaDevice } from "../../runtime/cuda.ts";
import type { OpenCudaDevice } from "../../runtime/cuda.ts";
import { executing } from "../cuda-runtime/stub.ts";
import { stub, turns } from "../native/stub.ts";
import { decodeBeside, modelOf, MODELS, programOf, saveAndRestore } from "./parity.ts";

const driver = stub();
const parts = await executing();

describe.skipIf(parts === null)("decoding on CUDA", () => {
  let device: OpenCudaDevice;
  const found: string[] = [];
  beforeAll(async () => {
    device = await cudaDevice({ ...parts?.options, poison: true });
  });
  afterAll(async () => {
    console.log(`decoding beside the forward pass on CUDA: ${found.join("; ")}`);
    await device.dispose();
    await turns();
    expect(driver.alive()).toEqual({});
    expect(driver.wrongs()).toEqual([]);
  });

  const cases = Object.keys(MODELS).flatMap((name) => [
    [name, "f32"],
    ...(name === "nested" || name === "everything" ? [[name, "f16"]] : []),
  ]);
  it.each(cases)(
    "%s, stored as %s, equals the forward pass in every row after a prompt",
    async (name = "", dtype = "") => {
      const { spec, text } = modelOf(name, dtype);
      const { worst, scale, rows, chunks } = await decodeBeside(device, programOf(text, "cuda"), spec);
      found.push(`${name} ${dtype} ${rows} rows ${(worst / scale).toExponential(1)}`);
      expect(worst).toBeLessThan((dtype === "f32" ? 2e-5 : 6e-3) * scale);
      // 131 tokens in chunks of 128; the others' prompts are shorter.
      if (name === "nested") expect(chunks).toBe(2);
    },
  );

  it("gives its states away and takes them back, bit for bit", async () => {
    const { spec, text } = modelOf("nested", "f16");
    await turns();
    const before = driver.alive();
    const { same, early, short } = await saveAndRestore(device, programOf(text, "cuda"), spec);
    await turns();
    expect(driver.alive()).toEqual(before);
    expect(early).toMatchObject({ name: "DeviceError", code: "DEVICE_LOST" });
    expect(same).toBe(true);
    expect(short).toMatchObject({ message: expect.stringMatching(/bytes, found 4/) as string });
  });
});
