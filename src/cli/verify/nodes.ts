/** One operation of a graph by itself: what it should give from what a device gave it, and which kernels made it. */
import { argumentsOf } from "../../../codegen/fuse.ts";
import { variantFor } from "../../../runtime/plan.ts";
import type { Plan } from "../../../runtime/plan.ts";
import type { Graph, Node, ValueId } from "../../graph.ts";
import { runReference } from "../../reference.ts";
import { compare } from "../../tolerance.ts";
import type { Comparison } from "../../tolerance.ts";
import type { Extent } from "./random.ts";

type Numbers = ArrayLike<number>;

export const resultsOf = (node: Node): readonly ValueId[] =>
  node.op === "attention" ? [node.out, node.lse] : [node.out];

/** The f64 results of a node from the given values of its arguments. */
export function referenceOf(
  graph: Graph,
  node: Node,
  valueOf: (id: ValueId) => Numbers,
  weights: ReadonlyMap<string, Numbers>,
  at: Extent,
): ReadonlyMap<ValueId, Float64Array> {
  const reads = new Set(argumentsOf(node));
  const makes = new Set(resultsOf(node));
  // An input may stand in both lists.
  const known = new Map([...graph.values, ...graph.inputs].map((v) => [v.id, v]));
  const inputs = [...known.values()].filter((v) => reads.has(v.id)).map((v) => ({ ...v, name: v.id }));
  const alone: Graph = {
    name: node.out,
    inputs,
    weights: graph.weights.filter((w) => reads.has(w.id)),
    aliases: [],
    ignored: [],
    values: graph.values.filter((v) => makes.has(v.id)),
    nodes: [node],
    outputs: [],
    hidden: [],
  };
  const given = Object.fromEntries(inputs.map(({ id }) => [id, valueOf(id)]));
  return runReference(alone, given, weights, at).values;
}

/** Products that a result of the node sums, for its tolerance. */
function termsOf(graph: Graph, node: Node, { N }: Extent): number {
  const width = (id: ValueId): number => {
    const last = [...graph.values, ...graph.inputs, ...graph.weights].find((v) => v.id === id)?.shape.at(-1);
    return typeof last === "number" ? last : 1;
  };
  switch (node.op) {
    case "linear":
    case "norm":
      return width(node.x);
    case "attention":
      // A score sums over a head, the softmax over keys.
      return Math.max(N, node.spec.headDim);
    case "pool":
      return node.of === "mean" ? N : 1;
    case "embed":
    case "position":
    case "grid":
    case "class_token":
    case "mask":
    case "activate":
    case "add":
    case "xpos":
    case "rotate":
    case "place":
    case "remember":
    case "promote":
      return 1;
    case "decode":
      return Math.max(N, node.spec.headDim);
  }
}

/** How far the results of a node are off: the one nearest to its limit, or beyond it. */
export function compareNode(
  graph: Graph,
  node: Node,
  actual: (id: ValueId) => Numbers,
  expected: ReadonlyMap<ValueId, Float64Array>,
  at: Extent,
): Comparison {
  const terms = termsOf(graph, node, at);
  const found = resultsOf(node).map((id) => {
    const dtype = graph.values.find((v) => v.id === id)?.dtype;
    if (dtype === undefined || dtype === "i32") throw new Error(`heddle: internal: '${id}' is no float`);
    // Of an lse the absolute error weighs.
    const atLeast = node.op === "attention" && id === node.lse ? 1 : 0;
    return compare(actual(id), expected.get(id) ?? [], { dtype, terms, atLeast });
  });
  return found.reduce(worse);
}

export const worse = (a: Comparison, b: Comparison): Comparison => {
  const share = (c: Comparison) => (c.ok ? (c.limit === 0 ? 0 : c.worst / c.limit) : Infinity);
  return share(b) > share(a) ? b : a;
};

/** The kernels that write the results of a node, in a plan whose outputs are all values. */
export function kernelsOf(plan: Plan, node: Node, N: number): string {
  const made = new Set(resultsOf(node));
  const entries = variantFor(plan, N).steps.flatMap((step) => {
    const kernel = plan.kernels[step.kernel];
    const writes = step.buffers.some(
      (ref, b) =>
        ref.in === "output" &&
        kernel?.buffers[b]?.access !== "read" &&
        made.has(plan.outputs[ref.index]?.name ?? ""),
    );
    return writes && kernel !== undefined ? [kernel.entry] : [];
  });
  return [...new Set(entries)].join(" + ");
}
