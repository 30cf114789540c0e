/** The best device of this host for a program. */
import type { Device, Executable, WeightSource } from "./device.ts";
import { notCompiled } from "./compiled.ts";
import { inputError } from "./input-error.ts";
import type { Plan, Program } from "./plan.ts";
import type { Extent, HostArray } from "./tensors.ts";
import { wasmDevice } from "./wasm.ts";
import type { WasmOptions } from "./wasm.ts";
import { webgpuDevice } from "./webgpu.ts";
import { findAdapter } from "./webgpu/gpu.ts";
import type { WebgpuOptions } from "./webgpu/options.ts";
import { deviceError } from "./device-error.ts";

export type DeviceName = "auto" | "wasm" | "native" | "webgpu" | "cuda";

export type DeviceOptions = Pick<WasmOptions, "threads" | "relaxed" | "poison"> & {
  /**
   * `auto` (default): a real GPU where the program has kernels for it and the host has one, otherwise WebAssembly. CUDA comes before
   * WebGPU, where `cuda` says how to open it. A GPU that is computed by the processor is only taken by name.
   */
  readonly device?: DeviceName;
  /** On Node: `cudaDevice` of `heddle/runtime/cuda`, or a function that calls it with options. */
  readonly cuda?: () => Promise<Device>;
  /** On Node: `nativeDevice` of `heddle/runtime/native`, likewise. Only taken by name. */
  readonly native?: () => Promise<Device>;
  readonly webgpu?: WebgpuOptions;
  /** Called after each kernel that was compiled for a GPU. */
  readonly warmup?: (done: number, of: number) => void;
};

/**
 * The adapter that WebGPU has here, without opening it: so that a page can say what `auto` will take.
 * @throws DeviceError NO_WEBGPU, NO_ADAPTER.
 */
export async function webgpuHere(
  options: WebgpuOptions = {},
): Promise<{ readonly name: string; readonly software: boolean }> {
  const { text, software } = await findAdapter(options);
  return { name: text, software };
}

/** One program on a device of its own, with tensors by their position in the plan. */
export type Loaded = {
  /** For a reader. */
  readonly device: string;
  /** Of the variant that runs: what its tensors are stored in. */
  readonly plan: Plan;
  readonly run: (at: Extent, inputs: readonly HostArray[]) => Promise<readonly Float32Array[]>;
  readonly memory: Executable["memory"];
  readonly states: Executable["states"];
  readonly dispose: () => void;
};

/** The device that the options ask for. @throws DeviceError, InputError. */
async function deviceFor(program: Program, options: DeviceOptions): Promise<Device> {
  const { device = "auto", poison } = options;
  const gpu = { ...(poison === undefined ? {} : { poison }), ...options.webgpu };
  if (device !== "auto" && device !== "wasm") {
    if (program[device] === undefined) throw inputError(notCompiled(program, device));
    if (device === "webgpu") return webgpuDevice(gpu);
    const open = options[device];
    if (open === undefined)
      throw inputError(
        `give { ${device}: ${device}Device }, which \`import { ${device}Device } from "heddle/runtime/${device}"\` gives`,
      );
    return open();
  }
  const { cuda } = options;
  const tries = [
    ...(program.cuda === undefined || cuda === undefined ? [] : [cuda]),
    ...(program.webgpu === undefined ? [] : [() => webgpuDevice({ ...gpu, software: false })]),
  ];
  let why: unknown;
  if (device === "auto")
    for (const open of tries)
      try {
        return await open();
      } catch (error) {
        // Whatever keeps a GPU from being used, WebAssembly runs anywhere.
        why ??= error;
      }
  if (program.wasm === undefined)
    throw (
      why ??
      deviceError(
        program.webgpu === undefined ? "NO_CUDA" : "NO_WEBGPU",
        `'${program.plan.name}' was compiled for ${program.webgpu === undefined ? "CUDA" : "WebGPU"} only: compile it with --kernels all`,
      )
    );
  return wasmDevice(options);
}

/**
 * Opens the device for `program` and loads it. `weights` is asked for them at once, and again after a GPU was lost. A program that
 * does not fit the GPU that `auto` found runs on WebAssembly.
 */
export async function openDevice(
  program: Program,
  options: DeviceOptions = {},
  weights?: WeightSource,
): Promise<Loaded> {
  const { warmup } = options;
  const load = { ...(weights === undefined ? {} : { weights }), ...(warmup === undefined ? {} : { warmup }) };
  let device = await deviceFor(program, options);
  let executable: Executable;
  try {
    executable = await device.compile(program, load);
  } catch (error) {
    await device.dispose();
    const code = (error as { readonly code?: string }).code;
    const elsewhere =
      device.name !== "wasm" && (options.device ?? "auto") === "auto" && program.wasm !== undefined;
    if (!elsewhere || (code !== "LIMITS" && code !== "OUT_OF_MEMORY")) throw error;
    device = wasmDevice(options);
    try {
      executable = await device.compile(program, load);
    } catch (again) {
      await device.dispose();
      throw again;
    }
  }
  const { inputs, outputs } = program.plan;
  return {
    device: executable.detail,
    run: async (at, given) => {
      const named = Object.fromEntries(
        inputs.flatMap(({ name }, i): readonly (readonly [string, HostArray])[] => {
          const array = given[i];
          return array === undefined ? [] : [[name, array]];
        }),
      );
      const results = await executable.run(named, at);
      return outputs.map(({ name }) => {
        const result = results[name];
        if (!(result instanceof Float32Array))
          throw new Error(`heddle: internal: output '${name}' is not f32`);
        return result;
      });
    },
    plan: executable.plan,
    memory: () => executable.memory(),
    states: executable.states,
    dispose: () => void device.dispose(),
  };
}
