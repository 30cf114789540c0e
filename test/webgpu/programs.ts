/** Programs, numbers and verdicts that the tests of the WebGPU runtime share. */
import { expect } from "vitest";
import { emitShader } from "../../codegen/wgsl/emit.ts";
import type { LoadOptions } from "../../runtime/device.ts";
import type { Program, WgslProgram } from "../../runtime/plan.ts";
import { memorySource, writeSafetensors } from "../../runtime/safetensors.ts";
import type { Extent, Tensors } from "../../runtime/tensors.ts";
import { loadWeights } from "../../runtime/weights.ts";
import type { WebgpuDevice } from "../../runtime/webgpu.ts";
import { compileSpec, readSpec } from "../../src/compile.ts";
import { attention } from "../../src/reference.ts";
import type { ScheduleKind } from "../../src/schedule.ts";
import { seal } from "../../src/spec.ts";
import type { AttentionSpec, ModelSpec, Spec } from "../../src/spec.ts";
import { compare } from "../../src/tolerance.ts";
import { randomInputs } from "../attention/run.ts";
import { noise } from "../cli/session.ts";
import type { ModelCase } from "../golden.ts";

export const specOf = (text: string): Spec => {
  const { spec, diagnostics } = readSpec(text);
  if (spec === null) throw new Error(diagnostics.map((d) => d.message).join("\n"));
  return spec;
};
const only = (part: Partial<Spec>): Spec => seal({ attentions: [], models: [], schedules: [], ...part });

/** An attention for WebGPU, at any length or at one; null where the schedule is not legal for it. */
export function attentionProgram(
  spec: AttentionSpec,
  schedule?: ScheduleKind,
  length?: number,
): Program | null {
  try {
    const wish = {
      ...(schedule === undefined ? {} : { schedule }),
      ...(length === undefined ? {} : { length }),
    };
    return compileSpec(only({ attentions: [spec] }), { target: "wgsl", ...wish })[0]?.program ?? null;
  } catch (error) {
    if ((error as Error).name === "ScheduleError") return null;
    throw error;
  }
}

export function modelProgram(spec: ModelSpec): Program {
  const [compiled] = compileSpec(only({ models: [spec] }), { target: "wgsl", names: [spec.name] });
  if (compiled === undefined) throw new Error("nothing was compiled");
  return compiled.program;
}

/** The variant that exchanges between lanes, its subgroups of `size` lanes emulated in workgroup memory. */
export function emulated(
  spec: AttentionSpec,
  schedule: ScheduleKind,
  N: number,
  size: number,
): Program | null {
  const found = (() => {
    try {
      return compileSpec(only({ attentions: [spec] }), { target: "wgsl", schedule, length: N })[0];
    } catch (error) {
      if ((error as Error).name === "ScheduleError") return undefined;
      throw error;
    }
  })();
  if (found === undefined) return null;
  const v = found.program.webgpu?.findIndex((w) => w.features.includes("subgroups")) ?? -1;
  const [variant, own] = [found.program.webgpu?.[v], found.wgsl?.[v]];
  if (variant === undefined || own === undefined) throw new Error("there is no variant with subgroups");
  const shaders = own.kernels.map((kernel) => emitShader(kernel, { emulated: size }));
  const program: WgslProgram = { ...variant, features: [], shaders };
  return { plan: variant.plan, webgpu: [program] };
}

/** Runs an attention on random numbers and holds it to the reference; gives the worst error as a share of the scale. */
export async function holdAttention(
  device: WebgpuDevice,
  spec: AttentionSpec,
  program: Program,
  { N, B }: Extent,
  seed: number,
): Promise<number> {
  const { q, k, v } = randomInputs(spec, N, B, seed);
  const executable = await device.compile(program);
  const got = await executable.run({ q, k, v }, { N, B });
  await executable.dispose();
  const wide = (x: Float32Array) => Float64Array.from(x);
  const meant = attention(spec, { q: wide(q), k: wide(k), v: wide(v), N, B });
  const terms = spec.headDim + spec.branches.length * N;
  const out = compare(got["out"] ?? [], meant.out, { dtype: "f32", terms, atLeast: 1 });
  const lse = compare(got["lse"] ?? [], meant.lse, { dtype: "f32", terms, atLeast: 1 });
  const about = `${spec.name} ${JSON.stringify({ ...spec, offsets: undefined })} N=${N} B=${B} ${executable.detail}`;
  expect(out, `out of ${about}`).toMatchObject({ ok: true });
  expect(lse, `lse of ${about}`).toMatchObject({ ok: true });
  return Math.max(out.worst / out.scale, lse.worst / lse.scale);
}

/** The weights of a golden model, and how often they were asked for. */
export function weightsOf(program: Program, { weights }: Pick<ModelCase, "weights">) {
  const file = writeSafetensors(
    [...weights].map(([name, { shape, data }]) => ({ name, shape, dtype: "F32" as const, data })),
  );
  const asked = { times: 0 };
  const source: LoadOptions["weights"] = async (set) => {
    asked.times += 1;
    await loadWeights(program.plan, memorySource(file), (index, data) => set(index, data));
  };
  return { source, asked };
}

export const sameBits = (a: Tensors, b: Tensors): boolean =>
  Object.keys(a).length > 0 &&
  Object.entries(a).every(([name, x]) => {
    const y = b[name];
    return (
      y !== undefined &&
      Buffer.from(x.buffer, x.byteOffset, x.byteLength).equals(
        Buffer.from(y.buffer, y.byteOffset, y.byteLength),
      )
    );
  });

/** Weights of no pattern for a program, the same each time, and how often they were asked for. */
export function noiseWeights(program: Program) {
  const weights = new Map(
    program.plan.weights.map(({ name, shape }, i) => {
      const size = shape.reduce((n, d) => n * d, 1);
      return [name, { shape, data: noise(size, i + 1).map((x) => x * 0.3) }] as const;
    }),
  );
  return weightsOf(program, { weights });
}
