/** Graphs with 16-bit values on the interpreter, by the machine of many lanes. */
import { divisorsOf } from "../../codegen/divisor.ts";
import { reaches } from "../../codegen/wgsl/arrays.ts";
import { wgslOps } from "../../codegen/wgsl/expression.ts";
import { legalize } from "../../codegen/legalize.ts";
import { lower } from "../../codegen/lower/index.ts";
import type { Launch } from "../../codegen/lower/launch.ts";
import { CPU_TILINGS } from "../../codegen/lower/tilings.ts";
import type { Tilings } from "../../codegen/lower/tilings.ts";
import { simt } from "../../codegen/machine/simt.ts";
import { simplify } from "../../codegen/simplify.ts";
import { unroll } from "../../codegen/unroll.ts";
import { wordsOf } from "../../codegen/plan.ts";
import { sizeOf } from "../../runtime/plan.ts";
import type { Dim, Graph, Value, ValueId } from "../../src/graph.ts";
import { interpret } from "../../src/interpret.ts";
import type { Kernel, TileKernel } from "../../src/kernel.ts";
import { runReference, type ReferenceResult } from "../../src/reference.ts";
import type { Schedule } from "../../src/schedule.ts";
import { rounding } from "../../src/storage.ts";
import { verified, verifiedTiles } from "../../src/verify.ts";
import { noise, panelsOf, tableOf } from "../lower/run.ts";

export type At = { readonly N: number; readonly B: number };
export type Values = ReadonlyMap<ValueId, Float32Array | Int32Array>;

/** Small enough that every test has ragged pieces. */
const TILINGS: Tilings = {
  ...CPU_TILINGS,
  linear: { rows: 16, cols: 32, depth: 16 },
  rows: () => 4,
};
export const machine = (kernel: TileKernel): Kernel =>
  verified(simt({ lanes: 32, sharedBytes: 1 << 18 })(verifiedTiles(kernel)));

export const elements = (shape: readonly Dim[], at: At): number =>
  shape.reduce<number>((n, d) => n * (d === "N" ? at.N : d === "B" ? at.B : d), 1);

export const lowered = (graph: Graph, schedule?: Schedule): readonly Launch<Kernel>[] => {
  const kernels = new Map<TileKernel, Kernel>();
  return graph.nodes
    .flatMap((node) =>
      lower(
        node,
        graph,
        () => {
          if (schedule === undefined) throw new Error("no schedule");
          return schedule;
        },
        TILINGS,
      ),
    )
    .map((launch) => {
      const kernel = kernels.get(launch.kernel) ?? machine(launch.kernel);
      kernels.set(launch.kernel, kernel);
      return { ...launch, kernel };
    });
};

/**
 * What WebGPU asks of 16-bit storage: what is written is written by aligned fours only. Judged, as there, on kernels after all
 * passes.
 */
export function reachable(kernel: Kernel): readonly string[] {
  const legal = simplify(legalize(simplify(unroll(simplify(kernel))), wgslOps));
  const reach = reaches(legal, divisorsOf(legal));
  return legal.buffers
    .filter((b) => (b.dtype === "f16" || b.dtype === "bf16") && b.access !== "read")
    .filter((b) => reach.get(b.name)?.layout !== "four")
    .map((b) => `${kernel.name}: ${b.name}`);
}

/** Numbers for all inputs and weights, rounded to their storage. `size` of a value by its id, 1 unless given. */
export function given(
  graph: Graph,
  at: At,
  seed: number,
  { tokens = 1, size = () => 1 }: { tokens?: number; size?: (id: ValueId) => number } = {},
): Values {
  const numbers = (v: Value, i: number): Float32Array | Int32Array => {
    const x = noise(elements(v.shape, at), seed + i);
    const below = v.id === "padding_mask" ? 2 : v.id.startsWith("grid_") ? 50 : tokens;
    if (v.dtype === "i32") return Int32Array.from(x, (y) => Math.floor(((y + 1) / 2) * below));
    const round = rounding[v.dtype];
    return x.map((y) => round(Math.fround(y * size(v.id))));
  };
  return new Map([...graph.inputs, ...graph.weights].map((v, i) => [v.id, numbers(v, i)]));
}

/** Every value of the graph as the launches make it; what nobody wrote is NaN. */
export function run(graph: Graph, launches: readonly Launch<Kernel>[], inputs: Values, at: At): Values {
  const memory = new Map(inputs);
  for (const v of graph.values) memory.set(v.id, new Float32Array(elements(v.shape, at)).fill(NaN));
  for (const t of launches.flatMap((l) => l.temporaries ?? []))
    memory.set(t.id, new Float32Array(sizeOf(wordsOf(t), at)).fill(NaN));
  for (const { kernel, bind, scalars, grid } of launches) {
    const buffers: Record<string, Float32Array | Int32Array> = {};
    for (const [name, binding] of Object.entries(bind)) {
      const known = "table" in binding ? tableOf(binding.table, at.N) : memory.get(binding.value);
      if (known === undefined) throw new Error(`nothing is bound to ${name}`);
      const weight = "table" in binding ? undefined : graph.weights.find((w) => w.id === binding.value);
      const [outs = 0, ins = 0] = weight?.shape ?? [];
      const panels = "layout" in binding && binding.layout === "panels";
      buffers[name] = panels ? panelsOf(known, outs, ins) : known;
    }
    const given = Object.fromEntries(Object.entries(scalars).map(([n, size]) => [n, sizeOf(size, at)]));
    interpret(kernel, { buffers, scalars: given, groups: sizeOf(grid, at) });
  }
  return memory;
}

/** The reference on the same numbers. With a graph of f32 it rounds nothing, with the graph that is run what is stored. */
export const reference = (graph: Graph, inputs: Values, at: At): ReferenceResult =>
  runReference(
    graph,
    Object.fromEntries(graph.inputs.map((v) => [v.name, inputs.get(v.id) ?? []])),
    new Map(graph.weights.map((w) => [w.name, inputs.get(w.id) ?? []])),
    at,
  );

/** The same graph with all floats stored as f32. */
export const widened = (graph: Graph): Graph => {
  const wide = <V extends Value>(v: V): V => (v.dtype === "i32" ? v : { ...v, dtype: "f32" });
  return {
    ...graph,
    inputs: graph.inputs.map(wide),
    weights: graph.weights.map((w) => ({ ...w, dtype: "f32" })),
    values: graph.values.map(wide),
  };
};
