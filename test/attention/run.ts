/** Runs one attention through lowering, a machine and the interpreter, with every output poisoned. */
import { distribute } from "../../codegen/distribute.ts";
import { lowerAttention } from "../../codegen/lower/attention/index.ts";
import type { Launch } from "../../codegen/lower/launch.ts";
import { simd } from "../../codegen/machine/simd.ts";
import { wordsOf } from "../../codegen/plan.ts";
import { sizeOf } from "../../runtime/plan.ts";
import { interpret } from "../../src/interpret.ts";
import { attentionGraph } from "../../src/model.ts";
import type { Kernel, TileKernel } from "../../src/kernel.ts";
import { legal, type Schedule, type ScheduleChoice } from "../../src/schedule.ts";
import type { AttentionSpec } from "../../src/spec.ts";

export const generous = { sharedBytes: 1 << 24, workgroup: 1, rowStep: 4, keyStep: 8 };

export function scheduleFor(spec: AttentionSpec, choice: ScheduleChoice, N: number): Schedule | null {
  const verdict = legal(spec, choice, generous, N);
  return verdict.ok ? verdict.schedule : null;
}

export type Inputs = { readonly q: Float32Array; readonly k: Float32Array; readonly v: Float32Array };

export const attentionNode = (spec: AttentionSpec) => {
  const node = attentionGraph(spec).nodes.find((x) => x.op === "attention");
  if (node?.op !== "attention") throw new Error("no attention node");
  return node;
};

/** `machine` turns tiles into statements: the simd machine unless another is given. */
export function runInterpreted(
  spec: AttentionSpec,
  schedule: Schedule,
  inputs: Inputs,
  at: { readonly N: number; readonly B: number },
  machine: (kernel: TileKernel) => Kernel = distribute(simd),
  decay?: { readonly base: number; readonly block: number },
): { out: Float32Array; lse: Float32Array } {
  const node = decay === undefined ? attentionNode(spec) : { ...attentionNode(spec), decay };
  const launches = lowerAttention(node, schedule);
  const values = new Map<string, Float32Array>([
    [node.q, inputs.q],
    [node.k, inputs.k],
    [node.v, inputs.v],
    [node.out, new Float32Array(inputs.q.length).fill(NaN)],
    [node.lse, new Float32Array(at.B * spec.heads * at.N).fill(NaN)],
  ]);
  const kernels = new Map<TileKernel, Kernel>();
  for (const launch of launches) {
    for (const t of launch.temporaries ?? [])
      if (!values.has(t.id)) values.set(t.id, new Float32Array(sizeOf(wordsOf(t), at)).fill(NaN));
    const kernel = kernels.get(launch.kernel) ?? machine(launch.kernel);
    kernels.set(launch.kernel, kernel);
    interpret(kernel, {
      buffers: bound(launch, values),
      scalars: scalars(launch, at),
      groups: sizeOf(launch.grid, at),
    });
  }
  const [out, lse] = [values.get(node.out), values.get(node.lse)];
  if (out === undefined || lse === undefined) throw new Error("no outputs");
  return { out, lse };
}

const bound = (launch: Launch<TileKernel>, values: Map<string, Float32Array>) =>
  Object.fromEntries(
    Object.entries(launch.bind).map(([name, b]) => {
      const found = "value" in b ? values.get(b.value) : undefined;
      if (found === undefined) throw new Error(`no value for ${name}`);
      return [name, found];
    }),
  );
const scalars = (launch: Launch<TileKernel>, at: { readonly N: number; readonly B: number }) =>
  Object.fromEntries(Object.entries(launch.scalars).map(([name, size]) => [name, sizeOf(size, at)]));

/** Standard normal, from a seed. */
export function normal(count: number, seed: number): Float32Array {
  let state = (seed * 2654435761 + 12345) >>> 0;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 4294967296;
  };
  return Float32Array.from(
    { length: count },
    () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
}

export const randomInputs = (spec: AttentionSpec, N: number, B: number, seed: number): Inputs => ({
  q: normal(B * N * spec.heads * spec.headDim, seed),
  k: normal(B * N * spec.kvHeads * spec.headDim, seed + 1),
  v: normal(B * N * spec.kvHeads * spec.headDim, seed + 2),
});
