/** Toy programs for plan tests: kernels whose bodies do not matter, only what they read and write. */
import type { Launch } from "../../codegen/lower/launch.ts";
import type { PlanInput } from "../../codegen/plan.ts";
import type { Dim, Graph, Value } from "../../src/graph.ts";
import type { Kernel } from "../../src/kernel.ts";

export const toyKernel = (reads: number, salt = 0): Kernel => ({
  name: `mix${reads}`,
  buffers: [
    ...Array.from({ length: reads }, (_, i) => ({ name: `x${i}`, dtype: "f32", access: "read" }) as const),
    { name: "out", dtype: "f32", access: "write" },
  ],
  scalars: [{ name: "n", type: "i32" }],
  tables: [],
  shared: [{ name: "tile", type: "f32", length: 10 + salt }],
  workgroup: 1,
  body: [],
});

export const launchOf = (out: string, reads: readonly string[]): Launch<Kernel> => ({
  title: `make ${out}`,
  kernel: toyKernel(reads.length),
  bind: { ...Object.fromEntries(reads.map((r, i) => [`x${i}`, { value: r }])), out: { value: out } },
  scalars: { n: "N" },
  grid: { op: "mul", args: ["B", "N"] },
});

export type ToyNode = {
  readonly id: string;
  readonly shape: readonly Dim[];
  readonly reads: readonly string[];
};

/** A program over one input `x`, in order; the last node is the output `y`. */
export function toyProgram(nodes: readonly ToyNode[], hidden: readonly string[] = []): PlanInput {
  const value = (id: string, shape: readonly Dim[]): Value => ({ id, dtype: "f32", shape });
  const last = nodes.at(-1);
  const graph: Graph = {
    name: "toy",
    inputs: [{ ...value("x", ["B", "N", 4]), name: "x" }],
    weights: [],
    aliases: [],
    ignored: [],
    values: [value("x", ["B", "N", 4]), ...nodes.map((n) => value(n.id, n.shape))],
    nodes: [],
    outputs: last === undefined ? [] : [{ name: "y", value: last.id }],
    hidden,
  };
  const launches = nodes.map((n) => launchOf(n.id, n.reads));
  return {
    name: "toy",
    graph,
    variants: [{ upTo: null, schedule: "toy", launches }],
    hidden: hidden.length > 0,
  };
}
