/** What a program was compiled for. */
import type { Plan, Program } from "./plan.ts";

export type CompiledFor = "wasm" | "native" | "webgpu" | "cuda";

/** The plan that a device runs; of several, which differ in their features, the best. */
export const planFor = (program: Program, device: CompiledFor): Plan | undefined =>
  device === "wasm" ? program.wasm && program.plan : program[device]?.[0]?.plan;

const words = { wasm: "WebAssembly", webgpu: "WebGPU", cuda: "CUDA", native: "native code" };

export const notCompiled = ({ plan }: Program, device: CompiledFor): string =>
  `'${plan.name}' was not compiled for ${words[device]}: compile it with --kernels ${device === "webgpu" ? "wgsl" : device}`;
