/**
 * Every call that a life of the CUDA runtime makes of the driver fails once, at several of its times. A process of its
 * own: what a driver does not take back stays.
 */
import { expect, describe, it } from "vitest";
import { cudaDevice } from "../../runtime/cuda.ts";
import type { CudaDeviceOptions } from "../../runtime/cuda.ts";
import type { Tensors } from "../../runtime/tensors.ts";
import type { ModelSpec } from "../../src/spec.ts";
import { tinyModel } from "../cli/session.ts";
import { stub, turns } from "../native/stub.ts";
import { noiseWeights, sameBits, specOf } from "../webgpu/programs.ts";
import { modelProgram } from "./programs.ts";
import { executing } from "./stub.ts";

const driver = stub();
const parts = await executing();
const program = modelProgram(specOf(tinyModel).models[0] as ModelSpec);
const tokens = Int32Array.from({ length: 9 }, (_, i) => (i * 37) % 256);

/** Opens, loads, runs at two lengths, measures, closes. */
async function life(options: CudaDeviceOptions): Promise<Tensors> {
  const device = await cudaDevice({ ...parts?.options, poison: true, ...options });
  try {
    const executable = await device.compile(program, { weights: noiseWeights(program).source });
    const got = await executable.run({ tokens }, { N: 9, B: 1 });
    await executable.run({ tokens: tokens.slice(0, 4) }, { N: 4, B: 1 });
    return got;
  } finally {
    await device.dispose();
  }
}
/** What gives something back, and the wait before it: where the driver refuses that, it stays, and nobody can help it. */
const giving = /Free|Destroy|Unload|Release|^cuCtxSynchronize$/;

describe.skipIf(parts === null)("a call that fails", { timeout: 400_000 }, () => {
  it.each([
    ["by launches", { profile: true, stagingBytes: 2048 }],
    ["by graphs", { graph: true }],
  ])("ends in a DeviceError, and nothing stays behind: %s", async (_, options) => {
    driver.forget();
    let before = driver.alive();
    const expected = await life(options);
    const same = (got: Tensors) => expect(sameBits(got, expected)).toBe(true);
    await turns();
    expect(driver.alive()).toEqual(before);
    const calls = driver.calls().filter((c) => /^(cu|nvrtc)\w+$/.test(c));
    const times = new Map<string, number>();
    for (const c of calls) times.set(c, (times.get(c) ?? 0) + 1);
    expect(times.size).toBeGreaterThan(30);
    let [failed, survived] = [0, 0];
    const silent: string[] = [];
    for (const [name, most] of times) {
      for (const nth of new Set([1, Math.ceil(most / 2), most])) {
        driver.order(`nth ${name} 999 ${nth}`);
        try {
          same(await life(options));
          survived++;
          if (!giving.test(name)) silent.push(`${name} ${nth}`);
        } catch (error) {
          failed++;
          expect(error, `${name} ${nth}`).toMatchObject({ name: "DeviceError" });
          expect((error as Error).message, `${name} ${nth}`).toMatch(/CUDA_ERROR|NVRTC_ERROR/);
        }
        driver.order();
        await turns();
        const now = driver.alive();
        if (!giving.test(name)) expect(now, `${name} ${nth}`).toEqual(before);
        before = now;
      }
    }
    console.log(`${failed} lives ended in a DeviceError, ${survived} did without the call`);
    expect(silent).toEqual([]);
    expect(failed).toBeGreaterThan(40);
  });
});
