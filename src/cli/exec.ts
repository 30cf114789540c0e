/** `heddle exec`: one attention on tensors of a file. */
import { attentionDefinition } from "../../codegen/ts/definition.ts";
import { attention } from "../../runtime/model.ts";
import { writeWhole } from "../../runtime/node.ts";
import { writeSafetensors } from "../../runtime/safetensors.ts";
import { compileSpec } from "../compile.ts";
import { attentionGraph } from "../model.ts";
import { runReference } from "../reference.ts";
import type { ScheduleKind } from "../schedule.ts";
import type { AttentionSpec, Spec } from "../spec.ts";
import { exitCodes } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import { gpuOptions, openCudaDevice, targetsFor } from "./gpu.ts";
import { openNativeDevice, vectorsFor } from "./native.ts";
import { runInterpreted } from "./interpreted.ts";
import { progressOn, traceTo } from "./io.ts";
import type { Io } from "./io.ts";
import { attentionNamed, checkedSpec } from "./spec-file.ts";
import type { Format } from "./spec-file.ts";
import { axes, floats, withTensors } from "./tensors.ts";

export const execDevices = ["auto", "wasm", "native", "webgpu", "cuda", "interpret", "reference"] as const;
export type ExecDevice = (typeof execDevices)[number];

export type ExecOptions = {
  readonly inputs: string;
  readonly output: string;
  readonly device: ExecDevice;
  readonly schedule?: ScheduleKind;
  readonly threads?: number;
  readonly format: Format;
};

type Inputs = {
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly N: number;
  readonly B: number;
};
type Result = { readonly out: Float32Array; readonly lse: Float32Array };

export async function exec(path: string, name: string, options: ExecOptions, io: Io): Promise<ExitCode> {
  const file = await checkedSpec(path, options.format, io);
  if (file === null) return exitCodes.diagnostics;
  const found = attentionNamed(file.spec, name, path);
  const inputs = await readInputs(found, options.inputs);
  const progress = progressOn(io);
  try {
    progress.say(`${name} on ${options.device}`);
    const { out, lse } = await runOn(file.spec, found, inputs, options, io, progress.say);
    const { N, B } = inputs;
    const { heads, headDim } = found;
    const bytes = writeSafetensors([
      { name: "out", dtype: "F32", shape: [B, N, heads, headDim], data: out },
      { name: "lse", dtype: "F32", shape: [B, heads, N], data: lse },
    ]);
    await writeWhole(options.output, bytes);
  } finally {
    progress.end();
  }
  return exitCodes.ok;
}

const readInputs = ({ heads, kvHeads, headDim }: AttentionSpec, path: string): Promise<Inputs> =>
  withTensors(path, async (file) => {
    const [q, k, v] = (["q", "k", "v"] as const).map((name) => file.entry(name, floats));
    if (q === undefined || k === undefined || v === undefined)
      throw new Error("heddle: internal: no q, k, v");
    const { batch: B = 0, N = 0 } = axes(q, path, ["batch", "N", heads, headDim]);
    for (const t of [k, v]) axes(t, path, ["batch", "N", kvHeads, headDim], { batch: B, N });
    const read = async (t: typeof q) => Float32Array.from(await file.read(t));
    return { q: await read(q), k: await read(k), v: await read(v), N, B };
  });

async function runOn(
  spec: Spec,
  found: AttentionSpec,
  { q, k, v, N, B }: Inputs,
  { device, schedule, threads }: ExecOptions,
  io: Io,
  say: (text: string) => void,
): Promise<Result> {
  if (device === "reference") {
    const { outputs } = runReference(attentionGraph(found), { q, k, v }, new Map(), { N, B });
    return { out: f32(outputs["out"]), lse: f32(outputs["lse"]) };
  }
  const trace = traceTo(io);
  const [compiled] = compileSpec(spec, {
    target: device === "interpret" ? "wasm" : await targetsFor(device, io.env),
    names: [found.name],
    length: N,
    ...(await vectorsFor(device)),
    ...(schedule === undefined ? {} : { schedule }),
    ...(trace === undefined ? {} : { trace }),
  });
  if (compiled === undefined) throw new Error("heddle: internal: nothing was compiled");
  if (device === "interpret") {
    const { plan } = compiled.program;
    const [out, lse] = runInterpreted(plan, compiled.kernels, [q, k, v], [], { N, B }, say);
    return { out: f32(out), lse: f32(lse) };
  }
  const program = { ...attentionDefinition(found), program: compiled.program };
  const session = await attention(program).create({
    device,
    webgpu: gpuOptions,
    cuda: () => openCudaDevice(io.env),
    native: () => openNativeDevice(io.env, threads === undefined ? {} : { threads }),
    ...(threads === undefined ? {} : { threads }),
  });
  say(`${found.name} on ${session.device}`);
  try {
    return await session.run({ q, k, v, batch: B, length: N });
  } finally {
    session.dispose();
  }
}

function f32(values: Float64Array | Float32Array | undefined): Float32Array {
  if (values === undefined) throw new Error("heddle: internal: an output is missing");
  return values instanceof Float32Array ? values : Float32Array.from(values);
}
