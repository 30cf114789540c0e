/** A WebGPU for tests: Dawn with SwiftShader, which Debian's `chromium` brings. Missing parts skip, or fail where required. */
import { existsSync, mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { webgpuDevice } from "../../runtime/webgpu.ts";
import type { WebgpuDevice, WebgpuOptions } from "../../runtime/webgpu.ts";
import { wishes } from "../../runtime/webgpu/gpu.ts";
import { missing } from "./require.ts";

export const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";

/** Points Dawn to SwiftShader, unless the caller's environment names a driver. */
function softwareDriver(): string | null {
  if (process.env["VK_ICD_FILENAMES"] === undefined && process.env["VK_DRIVER_FILES"] === undefined) {
    if (!existsSync(SWIFTSHADER)) return `there is no ${SWIFTSHADER} (Debian: apt install chromium)`;
    process.env["VK_ICD_FILENAMES"] = SWIFTSHADER;
  }
  if (process.env["XDG_RUNTIME_DIR"] === undefined) {
    // Dawn complains on every start without it.
    const folder = mkdtempSync(join(tmpdir(), "heddle-xdg-"));
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    process.env["XDG_RUNTIME_DIR"] = folder;
  }
  return null;
}

/** A device, or null where there is none (said once; an error where it is required). */
export async function testDevice(options: WebgpuOptions = {}): Promise<WebgpuDevice | null> {
  const why = softwareDriver();
  if (why !== null) {
    missing("webgpu", why);
    return null;
  }
  try {
    return await webgpuDevice(options);
  } catch (error) {
    missing("webgpu", error instanceof Error ? error.message : String(error));
    return null;
  }
}

/** Dawn must not be collected while a device of it lives, nor be kept when all is done. */
const kept: GPU[] = [];
export const letGo = (): void => void kept.splice(0);

/** Dawn itself, for tests that make their own GPUDevice. Only where `testDevice` found one. `letGo` ends it. */
export async function openGpu(): Promise<{ readonly gpu: GPU; readonly adapter: GPUAdapter }> {
  const { create } = await import("webgpu");
  const gpu = create([]);
  kept.push(gpu);
  const adapter = await gpu.requestAdapter();
  if (adapter === null) throw new Error("Dawn gives no adapter");
  return { gpu, adapter };
}

let shared: Promise<GPUDevice> | undefined;
/** One GPUDevice of everything the adapter has, for a whole test file: programs on it share their compiled pipelines. */
export const sharedDevice = (): Promise<GPUDevice> =>
  (shared ??= openGpu().then(({ adapter }) => adapter.requestDevice(wishes(adapter))));

/** Whether there is a WebGPU to test on: said once by `missing` where there is none, so that tests are skipped and not passed. */
export async function webgpuThere(): Promise<boolean> {
  const device = await testDevice();
  await device?.dispose();
  return device !== null;
}
