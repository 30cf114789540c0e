/** What the runner (engine.cpp) is asked to do: buffers, launches in order, and which buffers to give back. */
import { execa } from "execa";
import type { CudaKernelText } from "../../../codegen/cuda/text.ts";
import { library, runner, type BuildOptions, type Compiler } from "./build.ts";

/** What a buffer holds at first: given bytes; `poison`, which is NaN in every float type; or zeros, which cost nothing until touched. */
export type JobBuffer = { readonly bytes: number; readonly holds: Uint8Array | "poison" | "zero" };

export type JobStep = {
  readonly kernel: CudaKernelText;
  /** Index into the job's buffers of each of the kernel's. */
  readonly buffers: readonly number[];
  readonly scalars: readonly number[];
  readonly groups: number;
  readonly firstGroup?: number;
};

export type Job = {
  readonly buffers: readonly JobBuffer[];
  readonly steps: readonly JobStep[];
  /** Indices of the buffers wanted, in order. */
  readonly outputs: readonly number[];
};

/** Bytes one after another, little-endian. */
function writer() {
  const parts: Uint8Array[] = [];
  const words = (...values: readonly number[]) => {
    const view = new DataView(new ArrayBuffer(4 * values.length));
    values.forEach((v, i) => view.setInt32(4 * i, v | 0, true));
    parts.push(new Uint8Array(view.buffer));
  };
  return {
    words,
    long: (value: number) => {
      const view = new DataView(new ArrayBuffer(8));
      view.setBigUint64(0, BigInt(value), true);
      parts.push(new Uint8Array(view.buffer));
    },
    text: (value: string) => {
      const bytes = new TextEncoder().encode(value);
      words(bytes.length);
      parts.push(bytes);
    },
    bytes: (value: Uint8Array) => void parts.push(value),
    all: () => Buffer.concat(parts),
  };
}

const float = new Float32Array(1);
const bitsOf = (value: number, type: "i32" | "f32"): number => {
  if (type === "i32") return value | 0;
  float[0] = value;
  return new Int32Array(float.buffer)[0] ?? 0;
};

/** Runs a job. @throws with the runner's message where a check fails. */
export async function runJob(
  c: Compiler,
  job: Job,
  options: BuildOptions = {},
): Promise<readonly Uint8Array[]> {
  const kernels = [...new Set(job.steps.map((s) => s.kernel))];
  const [program, ...libraries] = await Promise.all([
    runner(c),
    ...kernels.map((k) => library(c, k, options)),
  ]);
  const w = writer();
  w.words(kernels.length);
  kernels.forEach((k, i) => {
    w.text(k.entry);
    w.text(libraries[i] ?? "");
  });
  w.words(job.buffers.length);
  for (const { bytes, holds } of job.buffers) {
    w.long(bytes);
    w.words(holds === "poison" ? 1 : holds === "zero" ? 2 : 0);
    if (typeof holds !== "string") w.bytes(holds);
  }
  w.words(job.steps.length);
  for (const { kernel, buffers, scalars, groups, firstGroup = 0 } of job.steps) {
    w.words(kernels.indexOf(kernel), kernel.workgroup, kernel.sharedBytes, groups);
    w.words(buffers.length + scalars.length + 1);
    for (const b of buffers) w.words(0, b);
    scalars.forEach((s, i) => w.words(1, bitsOf(s, kernel.scalars[i]?.type ?? "i32")));
    w.words(1, firstGroup);
  }
  w.words(job.outputs.length, ...job.outputs);
  const { stdout, signal, stderr } = await execa(program, [], {
    input: w.all(),
    encoding: "buffer",
    reject: false,
    maxBuffer: 1 << 30,
  });
  if (signal !== undefined)
    throw new Error(`the runner ended with ${signal}: ${Buffer.from(stderr).toString()}`);
  if (stdout[0] !== 0) throw new Error(Buffer.from(stdout.subarray(1)).toString());
  let at = 1;
  return job.outputs.map((o) => {
    const bytes = job.buffers[o]?.bytes ?? 0;
    const part = stdout.slice(at, at + bytes);
    at += bytes;
    return part;
  });
}
