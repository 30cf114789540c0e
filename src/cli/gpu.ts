/** Devices as the command line names them, how they are opened, and what they need to be compiled for. */
import { existsSync } from "node:fs";
import type { CudaDeviceOptions, OpenCudaDevice } from "../../runtime/cuda.ts";
import type { DeviceName } from "../../runtime/open.ts";
import { vulkanDrivers } from "../../runtime/node.ts";
import { webgpuDevice } from "../../runtime/webgpu.ts";
import type { WebgpuOptions } from "../../runtime/webgpu/options.ts";
import type { TargetName } from "../compile.ts";
import type { Io } from "./io.ts";

/** WebGPU in Node: which drivers there are is known from the files of the system. */
export const gpuOptions: WebgpuOptions = { drivers: vulkanDrivers };

/** Why WebGPU has no real GPU here; null where it has. */
export async function whyNoGpu(): Promise<string | null> {
  try {
    const device = await webgpuDevice({ ...gpuOptions, software: false });
    await device.dispose();
    return null;
  } catch (error) {
    return messageOf(error);
  }
}

/** Loaded when it is wanted: running a C compiler takes a library that other commands need not wait for. */
const cuda = () => import("../../runtime/cuda.ts");

/** HEDDLE_LIBCUDA and HEDDLE_LIBCUBLASLT name files or their folders; NVRTC and cuBLASLt are found by CUDA_PATH and other places. */
export async function cudaOptions(env: Io["env"]): Promise<CudaDeviceOptions> {
  const { cacheFolder } = await import("../../runtime/cuda/folder.ts");
  const { HEDDLE_LIBCUDA: driver, HEDDLE_LIBCUBLASLT: cublasLt } = env;
  return {
    build: { cache: cacheFolder(env) },
    ...(driver === undefined || driver === "" ? {} : { driver }),
    ...(cublasLt === undefined || cublasLt === "" ? {} : { cublasLt }),
  };
}

/** @throws DeviceError NO_CUDA */
export const openCudaDevice = async (
  env: Io["env"],
  options: CudaDeviceOptions = {},
): Promise<OpenCudaDevice> => (await cuda()).cudaDevice({ ...(await cudaOptions(env)), ...options });

/** Files by which Linux, WSL and Jetson show a GPU of NVIDIA's. */
const DEVICE_FILES = ["/dev/nvidiactl", "/dev/dxg", "/dev/nvhost-gpu", "/dev/nvgpu"];

/**
 * Why CUDA cannot be used here, in one line; null where it can. Where no file shows a GPU, nothing is built and nothing opened to find
 * out.
 */
export async function whyNoCuda(env: Io["env"]): Promise<string | null> {
  const options = await cudaOptions(env);
  if (options.driver === undefined && !DEVICE_FILES.some((file) => existsSync(file)))
    return `this machine shows no NVIDIA GPU (no ${DEVICE_FILES.join(", ")})`;
  const { problems, devices } = await (await cuda()).inspectCuda(options);
  return problems[0] ?? (devices.length === 0 ? "CUDA's driver has no device" : null);
}

/** What `auto` is on this machine, and why it is nothing better. */
export async function autoDevice(
  env: Io["env"],
): Promise<{ readonly device: "cuda" | "webgpu" | "wasm"; readonly why: readonly string[] }> {
  const cudaMissing = await whyNoCuda(env);
  if (cudaMissing === null) return { device: "cuda", why: [] };
  const gpuMissing = await whyNoGpu();
  return gpuMissing === null
    ? { device: "webgpu", why: [cudaMissing] }
    : { device: "wasm", why: [cudaMissing, gpuMissing] };
}

/** What a program must hold for a device; a GPU that `auto` finds may still turn out to be too small for it. */
export async function targetsFor(device: DeviceName, env: Io["env"]): Promise<readonly TargetName[]> {
  const target = { wasm: "wasm", webgpu: "wgsl", cuda: "cuda", native: "native" } as const;
  if (device !== "auto") return [target[device]];
  const { device: found } = await autoDevice(env);
  return found === "wasm" ? ["wasm"] : ["wasm", target[found]];
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
