/** Tint, through Dawn's null backend: a device of the default limits, the weakest there is, without a GPU or a driver. */
import { checkShaders, type ShaderJob, type Verdict } from "./check.ts";

export type Feature = "shader-f16" | "subgroups";

/** Checks shaders on a fresh device with just these features. Null where the package `webgpu` is missing. */
export type Tint = (jobs: readonly ShaderJob[], features?: readonly Feature[]) => Promise<readonly Verdict[]>;

export async function tint(): Promise<Tint | null> {
  const dawn = await import("webgpu").catch(() => null);
  if (dawn === null) return null;
  return async (jobs, features = []) => {
    // Nothing may hold on to the instance, or the process does not end.
    const gpu = dawn.create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
    const adapter = await gpu.requestAdapter();
    if (adapter === null) throw new Error("Dawn's null backend gives no adapter");
    const device = await adapter.requestDevice({ requiredFeatures: features });
    const verdicts = await checkShaders(device, jobs);
    device.destroy();
    return verdicts;
  };
}
