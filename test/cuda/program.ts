/** Programs for CUDA and their plans, run on the host: buffers, tables, weights and steps as a device would have them. */
import { fuse } from "../../codegen/fuse.ts";
import { cudaOps } from "../../codegen/cuda/expression.ts";
import { emitCuda } from "../../codegen/cuda/emit.ts";
import { CUDA_TILINGS, cudaMachine } from "../../codegen/cuda/target.ts";
import type { CudaKernelText } from "../../codegen/cuda/text.ts";
import { legalize } from "../../codegen/legalize.ts";
import { lower } from "../../codegen/lower/index.ts";
import type { Launch } from "../../codegen/lower/launch.ts";
import type { Tilings } from "../../codegen/lower/tilings.ts";
import { makePlan } from "../../codegen/plan.ts";
import { simplify } from "../../codegen/simplify.ts";
import { unroll } from "../../codegen/unroll.ts";
import { verifyLaunches } from "../../codegen/verify-launches.ts";
import { bf16Value, f16Value, narrow } from "../../runtime/half.ts";
import { bytesOf, weightLength } from "../../runtime/memory.ts";
import { sizeOf, variantFor, type BufferRef, type Dtype, type Plan } from "../../runtime/plan.ts";
import { tableValues } from "../../runtime/tables.ts";
import { elementsAt, type Extent, type HostArray, type Tensors } from "../../runtime/tensors.ts";
import { packPanels } from "../../runtime/weights.ts";
import type { Graph } from "../../src/graph.ts";
import type { Kernel, TileKernel } from "../../src/kernel.ts";
import type { Schedule } from "../../src/schedule.ts";
import type { Warp } from "../../src/warp.ts";
import { sound, verified, verifiedTiles, verifyGraph, verifyPlan } from "../../src/verify.ts";
import type { BuildOptions, Compiler } from "./host/build.ts";
import { runJob, type JobBuffer } from "./host/job.ts";

export type Program = {
  readonly plan: Plan;
  readonly kernels: readonly Kernel<Warp>[];
  readonly texts: readonly CudaKernelText[];
};

export type ProgramOptions = {
  readonly tilings?: Tilings;
  readonly machine?: (kernel: TileKernel) => Kernel<Warp>;
};

/** All passes from a tile kernel to one that can be printed. */
export function legal(
  kernel: TileKernel,
  machine: (kernel: TileKernel) => Kernel<Warp> = cudaMachine,
): Kernel<Warp> {
  const small = simplify<Warp>(verified<Warp>(machine(verifiedTiles(kernel))));
  return verified<Warp>(simplify<Warp>(legalize<Warp>(simplify<Warp>(unroll<Warp>(small)), cudaOps)));
}

/** The program of a graph, with one schedule for all lengths. */
export function programOf(whole: Graph, schedule: Schedule | null, options: ProgramOptions = {}): Program {
  sound("graph", verifyGraph(whole));
  const graph = fuse({ ...whole, hidden: [] });
  const made = new Map<TileKernel, Kernel<Warp>>();
  const scheduled = (): Schedule => {
    if (schedule === null) throw new Error("an attention without a schedule");
    return schedule;
  };
  const launches = graph.nodes
    .flatMap((node) => lower(node, graph, scheduled, options.tilings ?? CUDA_TILINGS))
    .map((launch): Launch<Kernel<Warp>> => {
      const kernel = made.get(launch.kernel) ?? legal(launch.kernel, options.machine);
      made.set(launch.kernel, kernel);
      return { ...launch, kernel };
    });
  const input = { name: graph.name, graph, variants: [{ upTo: null, schedule: "", launches }] };
  const { plan, kernels } = makePlan(input);
  verifyLaunches(plan, input);
  sound("plan", verifyPlan(plan));
  return {
    plan,
    kernels,
    texts: kernels.map((k, i) => emitCuda(k, { title: plan.kernels[i]?.title ?? "" })),
  };
}

/** Numbers as they are stored. */
function stored(data: HostArray, dtype: Dtype): Uint8Array {
  const bits = dtype === "f16" || dtype === "bf16" ? narrow(Float32Array.from(data), dtype) : data;
  return new Uint8Array(bits.buffer, bits.byteOffset, bits.byteLength);
}
/** Stored numbers as f32 or i32. */
export function loaded(bytes: Uint8Array, dtype: Dtype, elements: number): HostArray {
  const { buffer } = Uint8Array.from(bytes);
  if (dtype === "i32") return new Int32Array(buffer, 0, elements);
  if (dtype === "f32") return new Float32Array(buffer, 0, elements);
  return Float32Array.from(new Uint16Array(buffer, 0, elements), dtype === "f16" ? f16Value : bf16Value);
}

export type RunOptions = BuildOptions & {
  /** Checkpoint tensors by name. */
  readonly weights?: ReadonlyMap<string, { readonly data: Float32Array }>;
  /** Texts in place of the program's. */
  readonly texts?: readonly CudaKernelText[];
};

/** Runs a plan. Every byte that nobody has written is poison. */
export async function runProgram(
  c: Compiler,
  { plan, texts }: Program,
  inputs: Tensors,
  at: Extent,
  options: RunOptions = {},
): Promise<{ readonly [name: string]: HostArray }> {
  const variant = variantFor(plan, at.N);
  const buffers: JobBuffer[] = [];
  const holding = (data: HostArray, dtype: Dtype): number => {
    const holds = stored(data, dtype);
    return buffers.push({ bytes: holds.length, holds }) - 1;
  };
  const poisoned = (bytes: number): number => buffers.push({ bytes, holds: "poison" }) - 1;
  const places: { readonly [P in BufferRef["in"]]: readonly number[] } = {
    input: plan.inputs.map((t) => holding(inputs[t.name] ?? new Float32Array(), t.dtype)),
    output: plan.outputs.map((t) => poisoned(bytesOf(t.dtype, elementsAt(t.shape, at)))),
    weight: plan.weights.map((w) => {
      const data = options.weights?.get(w.name)?.data ?? new Float32Array(weightLength(w)).fill(NaN);
      const [outs = 0, ins = 0] = w.shape;
      return holding(w.layout === "panels" ? packPanels(data, outs, ins) : data, w.dtype ?? "f32");
    }),
    table: plan.tables.map((t) => holding(tableValues(t, at.N), "f32")),
    slot: variant.slots.map((s) => poisoned(4 * sizeOf(s, at))),
    state: [],
  };
  const steps = variant.steps.map((step) => {
    const kernel = (options.texts ?? texts)[step.kernel];
    if (kernel === undefined) throw new Error(`no kernel ${step.kernel}`);
    return {
      kernel,
      buffers: step.buffers.map((ref) => places[ref.in][ref.index] ?? -1),
      scalars: step.scalars.map((s) => sizeOf(s, at)),
      groups: sizeOf(step.grid, at),
    };
  });
  const got = await runJob(c, { buffers, steps, outputs: places.output }, options);
  return Object.fromEntries(
    plan.outputs.map((t, i) => [
      t.name,
      loaded(got[i] ?? new Uint8Array(), t.dtype, elementsAt(t.shape, at)),
    ]),
  );
}
