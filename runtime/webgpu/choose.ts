/** Which variant of a program a device runs. */
import { notCompiled } from "../compiled.ts";
import type { Program, WgslProgram } from "../plan.ts";
import { deviceError } from "./errors.ts";
import type { Session } from "./session.ts";

/** The first variant that the device meets the needs of. @throws DeviceError LIMITS with the numbers. */
export function chosenFor(program: Program, { device, limits, features, text }: Session): WgslProgram {
  const whys: string[] = [];
  // Lanes exchange among four. Older hosts do not tell the size.
  const { subgroupMinSize }: Partial<GPUAdapterInfo> = device.adapterInfo ?? {};
  const small = subgroupMinSize !== undefined && subgroupMinSize > 0 && subgroupMinSize < 4;
  for (const variant of program.webgpu ?? []) {
    const lacking = variant.features.filter((f) => !features.has(f) || (f === "subgroups" && small));
    const { kernels } = variant.plan;
    const most = (of: (k: (typeof kernels)[number]) => number) => Math.max(0, ...kernels.map(of));
    const needs = [
      ["bytes of workgroup storage", most((k) => k.sharedBytes), limits.maxComputeWorkgroupStorageSize],
      ["invocations in a group", most((k) => k.workgroup), limits.maxComputeInvocationsPerWorkgroup],
      ["storage bindings", most((k) => k.buffers.length), limits.maxStorageBuffersPerShaderStage],
    ] as const;
    const short = needs.filter(([, need, has]) => need > has);
    if (lacking.length === 0 && short.length === 0) return variant;
    whys.push(
      [
        ...lacking.map((f) => `the feature ${f}`),
        ...short.map(([what, n, has]) => `${n} ${what} (it has ${has})`),
      ].join(" and "),
    );
  }
  throw deviceError(
    "LIMITS",
    program.webgpu === undefined
      ? notCompiled(program, "webgpu")
      : `'${program.plan.name}' needs ${whys.join("; or ")}: more than ${text} offers`,
  );
}
