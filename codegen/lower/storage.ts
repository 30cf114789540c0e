/**
 * Kernels are lowered with buffers of f32; this gives each buffer the storage type of the value bound to it. Bodies stay as they are:
 * loads widen to f32 and stores round.
 */
import type { Graph, Value, ValueId } from "../../src/graph.ts";
import type { Dtype, TileKernel } from "../../src/kernel.ts";
import type { Launch } from "./launch.ts";

/** The launches of one node with the buffers' dtypes of the graph's values. Kernels with 16-bit buffers get names of their own. */
export function withStorage(
  launches: readonly Launch<TileKernel>[],
  graph: Graph,
): readonly Launch<TileKernel>[] {
  const values = new Map<ValueId, Value | Graph["weights"][number]>();
  for (const list of [graph.inputs, graph.weights, graph.values]) for (const v of list) values.set(v.id, v);
  for (const { id, dtype } of graph.states ?? []) values.set(id, { id, dtype, shape: [] });
  for (const { temporaries = [] } of launches) for (const v of temporaries) values.set(v.id, v);
  const dtypeOf = (launch: Launch<TileKernel>, buffer: string): Dtype => {
    const binding = launch.bind[buffer];
    if (binding !== undefined && "table" in binding) return "f32";
    const value = binding === undefined ? undefined : values.get(binding.value);
    if (value === undefined)
      throw new Error(`heddle: internal: '${launch.title}' binds no value of the graph to '${buffer}'`);
    return value.dtype;
  };
  // Launches of one kernel stay launches of one kernel.
  const made = new Map<TileKernel, Map<string, TileKernel>>();
  return launches.map((launch) => {
    const { kernel } = launch;
    const buffers = kernel.buffers.map((b) => ({ ...b, dtype: dtypeOf(launch, b.name) }));
    const name = `${kernel.name}${suffix(buffers)}`;
    if (name === kernel.name) return launch;
    const known = made.get(kernel) ?? new Map<string, TileKernel>();
    made.set(kernel, known);
    const stored = known.get(name) ?? { ...kernel, name, buffers };
    known.set(name, stored);
    return { ...launch, kernel: stored };
  });
}

/** `_f16_x_weight`: which buffers hold which 16-bit type; nothing where all are of 32 bits. */
const suffix = (buffers: TileKernel["buffers"]): string =>
  (["f16", "bf16"] as const)
    .map((dtype) => buffers.filter((b) => b.dtype === dtype).map((b) => b.name))
    .map((names, i) => (names.length === 0 ? "" : `_${i === 0 ? "f16" : "bf16"}_${names.join("_")}`))
    .join("");
