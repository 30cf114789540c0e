/** Run by Deno: naga's verdict on many shaders. */
import { readFileSync, writeFileSync } from "node:fs";
import { checkShaders, type ShaderJob, type Verdict } from "../check.ts";

export type ValidateJob = {
  readonly groups: readonly {
    readonly features: readonly GPUFeatureName[];
    readonly jobs: readonly ShaderJob[];
  }[];
};
/** By group. `adapter` names what it ran on, null where there is none; then there are no verdicts. */
export type ValidateResult = {
  readonly adapter: string | null;
  readonly verdicts: readonly (readonly Verdict[])[];
};

const { gpu } = (globalThis as unknown as { readonly navigator: { readonly gpu: GPU } }).navigator;
const [given = "", made = ""] = process.argv.slice(2);
const { groups } = JSON.parse(readFileSync(given, "utf8")) as ValidateJob;

let name: string | null = null;
const verdicts: (readonly Verdict[])[] = [];
for (const { features, jobs } of groups) {
  const adapter = await gpu.requestAdapter();
  if (adapter === null) break;
  name = adapter.info.description;
  const device = await adapter.requestDevice({ requiredFeatures: features });
  verdicts.push(await checkShaders(device, jobs));
  device.destroy();
}
writeFileSync(made, JSON.stringify({ adapter: name, verdicts } satisfies ValidateResult));
