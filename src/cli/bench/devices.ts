/** What `heddle bench` and `heddle tune` run on, with the peak that is measured beside them. */
import { availableParallelism } from "node:os";
import { deviceError } from "../../../runtime/device-error.ts";
import type { Device } from "../../../runtime/device.ts";
import { NATIVE_VARIANTS, nativeTarget } from "../../../codegen/native/target.ts";
import { wasmDevice } from "../../../runtime/wasm.ts";
import { webgpuDevice } from "../../../runtime/webgpu.ts";
import { PEAK_FLOPS, peakProgram } from "./peak.ts";
import { usageError } from "../failure.ts";
import { explained } from "../explain/numbers.ts";
import { gpuOptions, openCudaDevice } from "../gpu.ts";
import { openNativeDevice, vectorsFor } from "../native.ts";
import type { Io } from "../io.ts";
import type { BenchDevice, Peak } from "./works.ts";

export const benchDevices = ["wasm", "native", "webgpu", "cuda"] as const;
export type BenchDeviceName = (typeof benchDevices)[number];

async function peakOf(device: Device): Promise<Peak> {
  const executable = await device.compile(peakProgram());
  const outputs = await executable.run({}, { N: 1, B: 1 });
  return {
    flops: PEAK_FLOPS,
    run: async () => {
      const start = performance.now();
      await executable.runInto({}, { N: 1, B: 1 }, outputs);
      return (performance.now() - start) * 1e6;
    },
  };
}

/** WebAssembly with each number of threads, without relaxed SIMD and, where the engine has it, with. */
async function wasmDevices(threads: readonly number[]): Promise<readonly BenchDevice[]> {
  const found: BenchDevice[] = [];
  for (const count of threads)
    for (const relaxed of [false, true]) {
      const options = { threads: count, relaxed };
      const device = wasmDevice(options);
      // Relaxed SIMD that the engine lacks is SIMD128 once more.
      if (relaxed && !device.detail.includes("relaxed")) {
        await device.dispose();
        continue;
      }
      const name = `wasm${relaxed ? " relaxed" : ""}, ${count} thread${count === 1 ? "" : "s"}`;
      found.push({
        name,
        target: "wasm",
        planner: explained.wasm,
        device,
        options: { device: "wasm", ...options },
        peak: await peakOf(device),
      });
    }
  return found;
}

/** Native code with each number of threads. Nothing measures its peak: a compiler may do with a loop in registers what it likes. */
async function nativeDevices(threads: readonly number[], env: Io["env"]): Promise<readonly BenchDevice[]> {
  const { vectors } = await vectorsFor("native");
  const variant = NATIVE_VARIANTS.find((v) => v.vectors === vectors?.[0]);
  if (vectors === undefined || variant === undefined) throw new Error("heddle: internal: no vectors");
  return Promise.all(
    threads.map(async (count): Promise<BenchDevice> => ({
      name: `native, ${count} thread${count === 1 ? "" : "s"}`,
      target: "native",
      vectors,
      planner: nativeTarget(variant),
      device: await openNativeDevice(env, { threads: count }),
      options: { device: "native", native: () => openNativeDevice(env, { threads: count }) },
      peak: null,
    })),
  );
}

/** @throws DeviceError where a device that was asked for is not here. */
export async function openBenchDevices(
  names: readonly BenchDeviceName[],
  threads: readonly number[],
  env: Io["env"],
): Promise<readonly BenchDevice[]> {
  const most = availableParallelism();
  const beyond = threads.find((t) => t > most);
  if (beyond !== undefined) throw usageError(`--threads ${beyond}: this machine has ${most} processors`);
  const found: BenchDevice[] = [];
  try {
    for (const name of names)
      if (name === "wasm") found.push(...(await wasmDevices(threads)));
      else if (name === "native") found.push(...(await nativeDevices(threads, env)));
      else if (name === "webgpu") {
        const device = await webgpuDevice(gpuOptions);
        const options = { device: name, webgpu: gpuOptions } as const;
        found.push({
          name: device.software ? "webgpu (software)" : name,
          target: "wgsl",
          planner: explained.wgsl,
          device,
          options,
          peak: null,
        });
      } else {
        const device = await openCudaDevice(env);
        const options = { device: name, cuda: () => openCudaDevice(env) } as const;
        found.push({ name, target: "cuda", planner: explained.cuda, device, options, peak: null });
      }
  } catch (error) {
    await Promise.all(found.map(({ device }) => device.dispose()));
    throw error;
  }
  if (found.length === 0) throw deviceError("FAILED", "no device was asked for");
  return found;
}
