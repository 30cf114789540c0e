/** What `heddle verify` runs kernels on. */
import type { Device, Executable } from "../../../runtime/device.ts";
import { decodingOf } from "../../../runtime/generate/decoding.ts";
import type { Decoding } from "../../../runtime/generate/decoding.ts";
import type { Plan, Program } from "../../../runtime/plan.ts";
import { wasmDevice } from "../../../runtime/wasm.ts";
import { webgpuDevice } from "../../../runtime/webgpu.ts";
import { packPanels } from "../../../runtime/weights.ts";
import type { CompiledProgram, TargetName } from "../../compile.ts";
import { gpuOptions, openCudaDevice, whyNoCuda } from "../gpu.ts";
import type { Io } from "../io.ts";
import { openNativeDevice } from "../native.ts";
import { runInterpreted } from "../interpreted.ts";
import type { Extent, Tensor } from "./random.ts";

export type Weights = ReadonlyMap<string, Float32Array>;
export type Tensors = ReadonlyMap<string, Tensor>;

/** A program on a device, with its weights. */
export type Session = {
  /** Of the program as it runs: of its variant. */
  readonly plan: Plan;
  readonly run: (inputs: Tensors, at: Extent) => Promise<Tensors>;
  /** Absent where the program does not generate, or the device cannot. */
  readonly decoding?: Decoding;
  readonly dispose: () => Promise<void>;
};

export type Subject = {
  readonly name: string;
  readonly target: TargetName;
  /** Multiply-adds of a run that it does in a minute or so; Infinity where nothing has to be spared. */
  readonly most: number;
  readonly open: (compiled: CompiledProgram, weights: Weights) => Promise<Session>;
  readonly dispose: () => Promise<void>;
};

/** Weights in the order and the layouts of a plan. */
export const weightsOf = (plan: Plan, weights: Weights): readonly Float32Array[] =>
  plan.weights.map(({ name, layout, shape }) => {
    const rows = weights.get(name);
    if (rows === undefined) throw new Error(`heddle: internal: no weight '${name}' was made`);
    const [outputs = 0, inputs = 0] = shape;
    return layout === "panels" ? packPanels(rows, outputs, inputs) : rows;
  });

async function sessionOf(executable: Executable, weights: Weights): Promise<Session> {
  const { plan } = executable;
  for (const [index, data] of weightsOf(plan, weights).entries()) await executable.setWeight(index, data);
  const decoding = decodingOf(executable);
  return {
    plan,
    ...(decoding === undefined ? {} : { decoding }),
    run: async (inputs, at) => new Map(Object.entries(await executable.run(Object.fromEntries(inputs), at))),
    dispose: () => executable.dispose(),
  };
}

export const subjectOf = (
  device: Device,
  name: string,
  target: TargetName,
  part: (program: Program) => Program = (p) => p,
): Subject => ({
  name,
  target,
  most: Infinity,
  open: async ({ program }, weights) => sessionOf(await device.compile(part(program)), weights),
  dispose: () => device.dispose(),
});

/** The modules with and without relaxed SIMD; the first only where the engine has it. */
export function wasmSubjects(threads: number | undefined): readonly Subject[] {
  const options = { poison: true, ...(threads === undefined ? {} : { threads }) };
  const [relaxed, base] = [true, false].map((flag) => wasmDevice({ ...options, relaxed: flag }));
  if (relaxed === undefined || base === undefined) throw new Error("heddle: internal: no device");
  const both = relaxed.detail === base.detail ? [base] : [base, relaxed];
  return both.map((device) => subjectOf(device, device.detail, "wasm"));
}

/** The vectors of this machine. */
export async function nativeSubjects(
  env: Io["env"],
  threads: number | undefined,
): Promise<{ readonly subjects: readonly Subject[]; readonly absent: string | null }> {
  try {
    const device = await openNativeDevice(env, {
      poison: true,
      ...(threads === undefined ? {} : { threads }),
    });
    return { subjects: [subjectOf(device, device.detail, "native")], absent: null };
  } catch (error) {
    return { subjects: [], absent: error instanceof Error ? error.message : String(error) };
  }
}

/** Multiply-adds of a run that a software renderer does in some seconds. */
const RENDERED = 1e9;

/** WebGPU once for each variant that its device can run: plain, with what it has of `shader-f16` and `subgroups`. */
export async function webgpuSubjects(): Promise<{
  readonly subjects: readonly Subject[];
  readonly absent: string | null;
}> {
  const options = { ...gpuOptions, poison: true };
  try {
    const plain = await webgpuDevice({ ...options, features: [] });
    const sets = (["shader-f16", "subgroups"] as const).filter((f) => plain.offers.includes(f));
    const others = await Promise.all(
      sets.map(async (feature) => ({
        feature,
        device: await webgpuDevice({ ...options, features: [feature] }),
      })),
    );
    const all = [{ feature: null, device: plain }, ...others];
    return {
      subjects: all.map(({ feature, device }) => ({
        ...subjectOf(device, `${device.detail}${feature === null ? "" : `, ${feature}`}`, "wgsl"),
        ...(device.software ? { most: RENDERED } : {}),
      })),
      absent: null,
    };
  } catch (error) {
    return { subjects: [], absent: error instanceof Error ? error.message : String(error) };
  }
}

/** CUDA, step by step and as graphs. Nothing is looked for at length where nothing shows a GPU, unless it was asked for by name. */
export async function cudaSubjects(
  env: Io["env"],
  named: boolean,
  linear: "own" | "cublaslt",
): Promise<{ readonly subjects: readonly Subject[]; readonly absent: string | null }> {
  const why = named ? null : await whyNoCuda(env);
  if (why !== null) return { subjects: [], absent: why };
  try {
    const steps = await openCudaDevice(env, { poison: true, linear });
    const graphs = await openCudaDevice(env, { poison: true, graph: true, linear });
    return {
      subjects: [
        subjectOf(steps, steps.detail, "cuda"),
        subjectOf(graphs, `${graphs.detail}, graphs`, "cuda"),
      ],
      absent: null,
    };
  } catch (error) {
    return { subjects: [], absent: error instanceof Error ? error.message : String(error) };
  }
}

/**
 * The kernels themselves, statement by statement; those of WebGPU in the variant that every device runs. Long ones are left out
 * unless the caller is patient.
 */
export const interpretSubjects = (patient: boolean): readonly Subject[] =>
  (["wasm", "wgsl"] as const).map((target) => ({
    name: `interpreter, kernels of ${target}`,
    target,
    most: patient ? Infinity : INTERPRETED,
    open: ({ program, kernels, wgsl }, weights) => {
      const variant = program.webgpu?.at(-1);
      const [plan, own] =
        target === "wasm" ? [program.plan, kernels] : [variant?.plan, wgsl?.at(-1)?.kernels];
      if (plan === undefined || own === undefined)
        throw new Error(`heddle: internal: no kernels of ${target}`);
      const ready = weightsOf(plan, weights);
      return Promise.resolve({
        plan,
        run: (inputs, at) => {
          const given = plan.inputs.map(({ name }) => inputs.get(name) ?? new Float32Array());
          const outputs = runInterpreted(plan, own, given, ready, at);
          return Promise.resolve(
            new Map(plan.outputs.map(({ name }, i) => [name, outputs[i] ?? new Float32Array()])),
          );
        },
        dispose: () => Promise.resolve(),
      });
    },
    dispose: () => Promise.resolve(),
  }));

/** Multiply-adds that the interpreter does in some seconds. */
const INTERPRETED = 5e7;
