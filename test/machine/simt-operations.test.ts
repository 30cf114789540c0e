/** The lowerings of a model's other operations, on a grid of lanes. */
import { describe, it } from "vitest";
import { lowerEmbed } from "../../codegen/lower/embed.ts";
import type { Launch } from "../../codegen/lower/launch.ts";
import { lowerLinear } from "../../codegen/lower/linear.ts";
import { lowerNorm } from "../../codegen/lower/norm.ts";
import { lowerXpos } from "../../codegen/lower/xpos.ts";
import { simt } from "../../codegen/machine/simt.ts";
import { sizeOf } from "../../runtime/plan.ts";
import type { Graph, Node, Value, Weight } from "../../src/graph.ts";
import { interpret } from "../../src/interpret.ts";
import type { TileKernel } from "../../src/kernel.ts";
import { runReference } from "../../src/reference.ts";
import { compare } from "../../src/tolerance.ts";
import { graphOf, noise, panelsOf, tableOf } from "../lower/run.ts";

const rows = (id: string, width: number): Value => ({ id, dtype: "f32", shape: ["B", "N", width] });
const input = (id: string, width: number) => ({ ...rows(id, width), name: id });
const weight = (id: string, ...shape: number[]): Weight => ({ id, name: id, dtype: "f32", shape });
const tokens = { id: "tokens", name: "tokens", dtype: "i32" as const, shape: ["B", "N"] as const };
type NodeOf<O extends Node["op"]> = Extract<Node, { op: O }>;

const LANES = [32, 64];
const LENGTHS = [1, 5, 16, 17, 33];

function check(graph: Graph, launches: readonly Launch<TileKernel>[], terms: number, vocab = 1): void {
  for (const lanes of LANES) {
    const kernels = launches.map((l) => ({ ...l, kernel: simt({ lanes, sharedBytes: 1 << 15 })(l.kernel) }));
    for (const N of LENGTHS) {
      const at = { N, B: 2 };
      const size = (v: Value) =>
        v.shape.reduce<number>((n, d) => n * (d === "N" ? N : d === "B" ? at.B : d), 1);
      const memory = new Map<string, Float32Array | Int32Array>();
      [...graph.inputs, ...graph.weights].forEach((v, seed) => {
        const x = noise(size(v), seed + N);
        memory.set(
          v.id,
          v.dtype === "i32" ? Int32Array.from(x, (y) => Math.floor(((y + 1) / 2) * vocab)) : x,
        );
      });
      const numbers = (id: string) => memory.get(id) ?? new Float32Array();
      const { outputs } = runReference(
        graph,
        Object.fromEntries(graph.inputs.map((v) => [v.name, numbers(v.id)])),
        new Map(graph.weights.map((w) => [w.name, numbers(w.id)])),
        at,
      );
      const out = new Float32Array(outputs["out"]?.length ?? 0).fill(NaN);
      memory.set("out", out);
      for (const { kernel, bind, scalars, grid } of kernels) {
        const buffers = Object.fromEntries(
          Object.entries(bind).map(([name, b]) => {
            if ("table" in b) return [name, tableOf(b.table, N)];
            const [outs = 0, ins = 0] = graph.weights.find((w) => w.id === b.value)?.shape ?? [];
            const given = numbers(b.value);
            return [name, b.layout === "panels" ? panelsOf(given, outs, ins) : given];
          }),
        );
        const given = Object.fromEntries(Object.entries(scalars).map(([n, s]) => [n, sizeOf(s, at)]));
        interpret(kernel, { buffers, scalars: given, groups: sizeOf(grid, at) });
      }
      const verdict = compare(out, outputs["out"] ?? [], { dtype: "f32", terms });
      if (!verdict.ok)
        throw new Error(`${graph.nodes[0]?.op} N ${N}, ${lanes} lanes: ${JSON.stringify(verdict)}`);
    }
  }
}

describe("operations on a grid of lanes", () => {
  it.each([
    [8, 8],
    [24, 40],
    [33, 20],
    [70, 13],
  ])("linear %i → %i with bias, activation and residual", (ins, outs) => {
    const node: NodeOf<"linear"> = {
      op: "linear",
      out: "out",
      x: "x",
      weight: "w",
      bias: "b",
      activation: "gelu",
      residual: { x: "y", alpha: 1.5 },
    };
    const graph = graphOf(node, {
      inputs: [input("x", ins), input("y", outs)],
      weights: [weight("w", outs, ins), weight("b", outs)],
      values: [rows("out", outs)],
    });
    check(graph, lowerLinear(node, graph, { rows: 16, cols: 32, depth: 32 }), ins);
  });

  it.each([6, 32, 100])("norm of width %i", (width) => {
    const node: NodeOf<"norm"> = { op: "norm", out: "out", x: "x", weight: "w", bias: "b", eps: 1e-5 };
    const graph = graphOf(node, {
      inputs: [input("x", width)],
      weights: [weight("w", width), weight("b", width)],
      values: [rows("out", width)],
    });
    check(graph, lowerNorm(node, graph), width);
  });

  it.each([6, 8])("xpos of heads of width %i, whose pairs look at each other", (headDim) => {
    const node: NodeOf<"xpos"> = {
      op: "xpos",
      out: "out",
      x: "x",
      heads: 2,
      headDim,
      base: 512,
      block: 16,
      sign: 1,
    };
    const graph = graphOf(node, {
      inputs: [input("x", 2 * headDim)],
      weights: [],
      values: [rows("out", 2 * headDim)],
    });
    check(graph, lowerXpos(node, graph), 16);
  });

  it("embed, a gather by rows", () => {
    const node: NodeOf<"embed"> = { op: "embed", out: "out", tokens: "tokens", weight: "w", scale: 3 };
    const graph = graphOf(node, {
      inputs: [tokens],
      weights: [weight("w", 11, 10)],
      values: [rows("out", 10)],
    });
    check(graph, lowerEmbed(node, graph), 1, 11);
  });
});
