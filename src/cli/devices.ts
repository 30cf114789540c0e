/** `heddle devices`: what can compute here, and what not and why. */
import { wasmDevice } from "../../runtime/wasm.ts";
import { webgpuDevice } from "../../runtime/webgpu.ts";
import { exitCodes } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import { gpuOptions, whyNoGpu } from "./gpu.ts";
import { bytesText } from "./io.ts";
import type { Io } from "./io.ts";

export type DeviceLine = {
  readonly name: string;
  readonly available: boolean;
  readonly detail: string;
};

export async function deviceList(): Promise<readonly DeviceLine[]> {
  return [
    { name: "reference", available: true, detail: "f64 in JavaScript, by definition; slow" },
    {
      name: "interpret",
      available: true,
      detail: "kernels statement by statement, every promise checked; very slow",
    },
    await wasmLine(),
    await webgpuLine(),
    { name: "cuda", available: false, detail: "not built into this version" },
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

export async function devices(json: boolean, io: Io): Promise<ExitCode> {
  const list = await deviceList();
  const why = await whyNoGpu();
  const auto = why === null ? "webgpu" : "wasm";
  if (json) {
    io.out(`${JSON.stringify({ devices: list, auto, ...(why === null ? {} : { why }) }, null, 2)}\n`);
    return exitCodes.ok;
  }
  const lines = list.map((d) => `${d.name.padEnd(10)} ${d.available ? "yes" : "no "}  ${d.detail}\n`);
  io.out(`${lines.join("")}\`--device auto\` is ${auto}${why === null ? "" : `: ${why}`}\n`);
  return exitCodes.ok;
}
