import { describe, expect, it } from "vitest";
import { argumentsOf, fuse } from "../../codegen/fuse.ts";
import { lowerLinear } from "../../codegen/lower/linear.ts";
import type { Graph, Node } from "../../src/graph.ts";
import { runReference } from "../../src/reference.ts";
import { noise, run } from "./run.ts";

const rows = (id: string) => ({ id, dtype: "f32" as const, shape: ["B", "N", 6] as const });

/** A graph over values of width 6; every name that no node makes and is no weight is an input. */
function graphOf(nodes: readonly Node[], outputs: readonly string[], hidden: readonly string[] = []): Graph {
  const made = nodes.map((n) => n.out);
  const read = [...new Set(nodes.flatMap(argumentsOf))].filter((id) => !made.includes(id));
  const weights = read.filter((id) => id.startsWith("w"));
  return {
    name: "g",
    inputs: read.filter((id) => !id.startsWith("w")).map((id) => ({ ...rows(id), name: id })),
    weights: weights.map((id) => ({ id, name: id, dtype: "f32", shape: [6, 6] })),
    aliases: [],
    ignored: [],
    values: made.map(rows),
    nodes,
    outputs: outputs.map((value) => ({ name: value, value })),
    hidden,
  };
}
const linear = (out: string, x: string): Node => ({ op: "linear", out, x, weight: `w_${out}` });
const gelu = (out: string, x: string): Node => ({ op: "activate", out, x, activation: "gelu" });
const add = (out: string, x: string, residual: string, alpha = 1): Node => ({
  op: "add",
  out,
  x,
  residual,
  alpha,
});

/** Fusing must not change a number, and must leave a graph in order. */
function fused(graph: Graph): readonly Node[] {
  const result = fuse(graph);
  const known = new Set([...result.inputs, ...result.weights].map((v) => v.id));
  for (const node of result.nodes) {
    for (const id of argumentsOf(node)) expect(known.has(id), `${node.out} reads ${id}`).toBe(true);
    known.add(node.out);
  }
  expect(result.values.map((v) => v.id).sort()).toEqual(result.nodes.map((n) => n.out).sort());
  const at = { N: 3, B: 2 };
  const inputs = Object.fromEntries(graph.inputs.map((v, i) => [v.name, noise(36, i)]));
  const weights = new Map(graph.weights.map((v, i) => [v.name, noise(36, 100 + i)]));
  const before = runReference(graph, inputs, weights, at);
  const after = runReference(result, inputs, weights, at);
  expect(after.outputs).toEqual(before.outputs);
  expect(after.hidden).toEqual(before.hidden);
  return result.nodes;
}

describe("fuse", () => {
  it("folds activation and residual into a linear, at the place of the sum", () => {
    const nodes = fused(
      graphOf(
        [linear("a", "x"), gelu("b", "a"), linear("r", "x"), gelu("s", "r"), add("y", "b", "s", 0.5)],
        ["y"],
      ),
    );
    expect(nodes).toEqual([
      { op: "linear", out: "s", x: "x", weight: "w_r", activation: "gelu" },
      { op: "linear", out: "y", x: "x", weight: "w_a", activation: "gelu", residual: { x: "s", alpha: 0.5 } },
    ]);
  });

  it("folds the other side of a sum only where nothing is scaled", () => {
    expect(fused(graphOf([linear("a", "x"), add("y", "x", "a")], ["y"])).length).toBe(1);
    expect(fused(graphOf([linear("a", "x"), add("y", "x", "a", 2)], ["y"])).length).toBe(2);
  });

  it("keeps what others read, what the graph hands out and what is hidden", () => {
    expect(fused(graphOf([linear("a", "x"), gelu("b", "a"), add("y", "b", "a")], ["y"])).length).toBe(3);
    expect(fused(graphOf([linear("a", "x"), gelu("y", "a")], ["y", "a"])).length).toBe(2);
    expect(fused(graphOf([linear("a", "x"), gelu("y", "a")], ["y"], ["a"])).length).toBe(2);
    expect(fused(graphOf([linear("a", "x"), add("y", "a", "a")], ["y"])).length).toBe(2);
    expect(fused(graphOf([linear("a", "x"), gelu("y", "a")], ["y"], ["y"])).length).toBe(1);
  });

  it("folds only in the order that a linear applies: activation, then residual, each once", () => {
    expect(fused(graphOf([linear("a", "x"), add("b", "a", "x"), gelu("y", "b")], ["y"])).length).toBe(2);
    expect(fused(graphOf([linear("a", "x"), gelu("b", "a"), gelu("y", "b")], ["y"])).length).toBe(2);
    expect(fused(graphOf([linear("a", "x"), add("b", "a", "x"), add("y", "b", "x")], ["y"])).length).toBe(2);
  });

  it("gives nodes that lower to the same numbers", () => {
    const graph = graphOf([linear("a", "x"), gelu("b", "a"), add("y", "b", "x", 1.5)], ["y"]);
    const result = fuse(graph);
    const [node] = result.nodes;
    if (node?.op !== "linear") throw new Error("not fused");
    const at = { N: 3, B: 2 };
    const x = noise(36, 1);
    const w = noise(36, 2);
    const expected = runReference(graph, { x }, new Map([["w_a", w]]), at).outputs["y"] ?? [];
    const memory = new Map([
      ["x", x],
      ["w_a", w],
    ]);
    const actual = run(result, lowerLinear(node, result), memory, at).get("y") ?? [];
    expect(actual.length).toBe(36);
    actual.forEach((v, i) => expect(Math.abs(v - (expected[i] ?? NaN))).toBeLessThan(1e-5));
  });
});
