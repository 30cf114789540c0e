/** Devices as the command line names them, and what they need to be compiled for. */
import { vulkanDrivers } from "../../runtime/node.ts";
import { webgpuDevice } from "../../runtime/webgpu.ts";
import type { WebgpuOptions } from "../../runtime/webgpu/options.ts";
import type { TargetName } from "../compile.ts";

/** WebGPU in Node: which drivers there are is known from the files of the system. */
export const gpuOptions: WebgpuOptions = { drivers: vulkanDrivers };

/** What `auto` is on this machine: a real GPU, otherwise WebAssembly. `null` where a GPU was found, else why there is none. */
export async function whyNoGpu(): Promise<string | null> {
  try {
    const device = await webgpuDevice({ ...gpuOptions, software: false });
    await device.dispose();
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** What a program must hold for a device; a GPU that `auto` finds may still turn out to be too small for it. */
export async function targetsFor(device: "auto" | "wasm" | "webgpu"): Promise<readonly TargetName[]> {
  if (device === "wasm") return ["wasm"];
  if (device === "webgpu") return ["wgsl"];
  return (await whyNoGpu()) === null ? ["wasm", "wgsl"] : ["wasm"];
}
