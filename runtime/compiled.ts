/** What a program was compiled for. */
import type { Plan, Program } from "./plan.ts";

export type CompiledFor = "wasm" | "webgpu" | "cuda";

/** The plan that a device runs; of several, which differ in their features, the best. */
export const planFor = (program: Program, device: CompiledFor): Plan | undefined =>
  device === "wasm" ? program.wasm && program.plan : program[device]?.[0]?.plan;

const words = { wasm: "WebAssembly wasm", webgpu: "WebGPU wgsl", cuda: "CUDA cuda" };

export const notCompiled = ({ plan }: Program, device: CompiledFor): string => {
  const [title, flag] = words[device].split(" ");
  return `'${plan.name}' was not compiled for ${title}: compile it with --kernels ${flag} or all`;
};
