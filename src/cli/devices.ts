/** `heddle devices`: what can compute here, and what not and why. */
import { wasmDevice } from "../../runtime/wasm.ts";
import { webgpuDevice } from "../../runtime/webgpu.ts";
import { exitCodes } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import { autoDevice, cudaOptions, gpuOptions } from "./gpu.ts";
import { bytesText } from "./io.ts";
import type { Io } from "./io.ts";

export type DeviceLine = {
  readonly name: string;
  readonly available: boolean;
  readonly detail: string;
};

export async function deviceList(env: Io["env"]): Promise<readonly DeviceLine[]> {
  return [
    { name: "reference", available: true, detail: "f64 in JavaScript, by definition; slow" },
    {
      name: "interpret",
      available: true,
      detail: "kernels statement by statement, every promise checked; very slow",
    },
    await wasmLine(),
    await nativeLine(),
    await webgpuLine(),
    await cudaLine(env),
  ];
}

async function wasmLine(): Promise<DeviceLine> {
  try {
    const device = wasmDevice();
    const { detail } = device;
    await device.dispose();
    return { name: "wasm", available: true, detail };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { name: "wasm", available: false, detail: why.replace(/^heddle: /, "") };
  }
}

/** The compiler, the processor and its lanes; nothing is built to find out. */
async function nativeLine(): Promise<DeviceLine> {
  const { inspectHost } = await import("../../runtime/native.ts");
  const { lanesOf } = await import("../../runtime/cpu/host.ts");
  try {
    const { compiler, cpu, vectors } = await inspectHost();
    const detail = `${cpu}: ${vectors}, ${lanesOf[vectors]} lanes of f32; ${compiler.command}: ${compiler.version}; only taken by name`;
    return { name: "native", available: true, detail };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { name: "native", available: false, detail: why.replace(/^no native code: /, "") };
  }
}

/** A GPU, or software that acts as one: `--device webgpu` takes either. */
async function webgpuLine(): Promise<DeviceLine> {
  try {
    const device = await webgpuDevice(gpuOptions);
    const { detail, features, limits } = device;
    await device.dispose();
    const offers = [
      ...features.filter((f) => f !== "core-features-and-limits"),
      `${limits.maxComputeWorkgroupStorageSize / 1024} KiB of workgroup storage`,
      `bindings of ${bytesText(limits.maxStorageBufferBindingSize)}`,
    ];
    return { name: "webgpu", available: true, detail: `${detail}: ${offers.join(", ")}` };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { name: "webgpu", available: false, detail: why };
  }
}

/** Every device, and with what it is driven; or everything that is missing and how to get it. */
async function cudaLine(env: Io["env"]): Promise<DeviceLine> {
  const { inspectCuda } = await import("../../runtime/cuda.ts");
  const { versionText } = await import("../../runtime/cuda/libraries.ts");
  const { driver, nvrtc, cublasLt, devices: found, problems } = await inspectCuda(await cudaOptions(env));
  const list = found.map((d) => `${d.name} (sm_${d.capability}, ${bytesText(d.memoryBytes)})`);
  const parts = [
    ...list,
    ...(driver?.found === true ? [`driver for CUDA ${versionText(driver.version)}`] : []),
    ...(nvrtc?.found === true ? [`NVRTC ${versionText(nvrtc.version)}`] : []),
    ...(cublasLt?.found === true ? [`cuBLASLt ${versionText(cublasLt.version)}`] : []),
  ];
  const missing = [
    ...problems,
    ...(driver?.found === true && found.length === 0 ? ["the driver has no device"] : []),
  ];
  if (missing.length === 0) return { name: "cuda", available: true, detail: parts.join(", ") };
  const there = parts.length === 0 ? "" : ` (found: ${parts.join(", ")})`;
  return { name: "cuda", available: false, detail: `${missing.join("; ")}${there}` };
}

export async function devices(json: boolean, io: Io): Promise<ExitCode> {
  const list = await deviceList(io.env);
  const { device: auto, why } = await autoDevice(io.env);
  if (json) {
    io.out(`${JSON.stringify({ devices: list, auto, why }, null, 2)}\n`);
    return exitCodes.ok;
  }
  const lines = list.map((d) => `${d.name.padEnd(10)} ${d.available ? "yes" : "no "}  ${d.detail}\n`);
  io.out(`${lines.join("")}\`--device auto\` is ${auto}${why.length === 0 ? "" : `: ${why.join("; ")}`}\n`);
  return exitCodes.ok;
}
