import { describe, expect, it } from "vitest";
import { lowerEmbed } from "../../codegen/lower/embed.ts";
import type { Launch } from "../../codegen/lower/launch.ts";
import { lowerLinear } from "../../codegen/lower/linear.ts";
import type { LinearTiling } from "../../codegen/lower/linear.ts";
import { lowerNorm } from "../../codegen/lower/norm.ts";
import { lowerActivate, lowerAdd, lowerPosition } from "../../codegen/lower/pointwise.ts";
import { lowerClassToken, lowerGrid, lowerMask, lowerPool } from "../../codegen/lower/sequence.ts";
import { lowerXpos } from "../../codegen/lower/xpos.ts";
import type { Activation, Graph, Node, Value, Weight } from "../../src/graph.ts";
import type { TileKernel } from "../../src/kernel.ts";
import { runReference } from "../../src/reference.ts";
import { compare } from "../../src/tolerance.ts";
import type { Device } from "./run.ts";
import { devices, graphOf, noise, run } from "./run.ts";

const rows = (id: string, width: number): Value => ({ id, dtype: "f32", shape: ["B", "N", width] });
const input = (id: string, width: number) => ({ ...rows(id, width), name: id });
const weight = (id: string, ...shape: number[]): Weight => ({ id, name: id, dtype: "f32", shape });
type NodeOf<O extends Node["op"]> = Extract<Node, { op: O }>;

/** Edges of every row block in use: 4, 8, 16, 64. */
const LENGTHS = [1, 3, 4, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65];

/** Runs the only node of a graph on the device and in the reference. */
function check(
  graph: Graph,
  launches: readonly Launch<TileKernel>[],
  at: { readonly N: number; readonly B: number },
  options: { readonly scale?: number; readonly terms: number; readonly tokens?: number },
): void {
  const size = (v: Value) =>
    v.shape.reduce<number>((n, d) => n * (d === "N" ? at.N : d === "B" ? at.B : d), 1);
  const memory = new Map<string, Float32Array | Int32Array>();
  [...graph.inputs, ...graph.weights].forEach((v, seed) => {
    const x = noise(size(v), seed + at.N);
    memory.set(
      v.id,
      v.dtype === "i32"
        ? Int32Array.from(x, (y) => Math.floor(((y + 1) / 2) * (options.tokens ?? 1)))
        : x.map((y) => y * (options.scale ?? 1)),
    );
  });
  const numbers = (id: string) => memory.get(id) ?? new Float32Array();
  const { outputs } = runReference(
    graph,
    Object.fromEntries(graph.inputs.map((v) => [v.name, numbers(v.id)])),
    new Map(graph.weights.map((w) => [w.name, numbers(w.id)])),
    at,
  );
  for (const [name, device] of Object.entries(devices)) {
    const actual = run(graph, launches, memory, at, device).get(graph.nodes[0]?.out ?? "");
    const verdict = compare(actual ?? [], outputs["out"] ?? [], { dtype: "f32", terms: options.terms });
    if (!verdict.ok)
      throw new Error(`${graph.nodes[0]?.op} on ${name}, N ${at.N} B ${at.B}: ${JSON.stringify(verdict)}`);
  }
}

describe("linear", () => {
  const build = (
    ins: number,
    outs: number,
    more: { bias?: boolean; activation?: Activation; alpha?: number } = {},
    tiling?: LinearTiling,
  ): { graph: Graph; launches: readonly Launch<TileKernel>[] } => {
    const node: NodeOf<"linear"> = {
      op: "linear",
      out: "y",
      x: "x",
      weight: "w",
      ...(more.bias === true ? { bias: "b" } : {}),
      ...(more.activation === undefined ? {} : { activation: more.activation }),
      ...(more.alpha === undefined ? {} : { residual: { x: "r", alpha: more.alpha } }),
    };
    const graph = graphOf(node, {
      inputs: [input("x", ins), ...(more.alpha === undefined ? [] : [input("r", outs)])],
      weights: [weight("w", outs, ins), ...(more.bias === true ? [weight("b", outs)] : [])],
      values: [rows("y", outs)],
    });
    return { graph, launches: lowerLinear(node, graph, tiling) };
  };

  it("multiplies any number of rows", () => {
    const { graph, launches } = build(24, 40, { bias: true, activation: "gelu", alpha: 1 });
    for (const N of LENGTHS) for (const B of [1, 2]) check(graph, launches, { N, B }, { terms: 24 });
  });

  it("multiplies any width and depth, with columns and depth in ragged pieces", () => {
    for (const ins of [1, 3, 6, 10, 24, 64, 101, 257, 600])
      for (const outs of [1, 6, 8, 10, 101, 128, 131, 300]) {
        const { graph, launches } = build(ins, outs, { bias: outs % 2 === 0 });
        check(graph, launches, { N: 5, B: 1 }, { terms: ins });
      }
  });

  it("keeps a last piece of depth of any size", () => {
    // With the usual pieces of 256 a rest of 1 … 8 only comes past 7,000 inputs; with pieces of 16 at once.
    for (const ins of [17, 18, 20, 23, 24, 25, 31]) {
      const { graph, launches } = build(ins, 21, { bias: true }, { rows: 8, cols: 16, depth: 16 });
      check(graph, launches, { N: 9, B: 1 }, { terms: ins });
    }
  });

  it("applies every activation, before the residual", () => {
    for (const activation of ["gelu", "relu", "swish"] as const)
      for (const alpha of [undefined, 1, 1.681792830507429, -0.5]) {
        const { graph, launches } = build(16, 21, {
          bias: true,
          activation,
          ...(alpha === undefined ? {} : { alpha }),
        });
        check(graph, launches, { N: 9, B: 2 }, { terms: 16, scale: 2 });
      }
  });

  it("gives one name to one kernel", () => {
    const name = (...args: Parameters<typeof build>) => build(...args).launches[0]?.kernel.name;
    expect(name(256, 1024, { bias: true, activation: "gelu" })).toBe("linear_256_1024_bias_gelu");
    const names = [1, -1, 1.5, 15, 0.1, 1e-7, 1e7, 1e21].map((alpha) => name(8, 8, { alpha }));
    expect(new Set(names).size).toBe(names.length);
    for (const n of names) expect(n).toMatch(/^\w+$/);
    expect(JSON.stringify(build(101, 131).launches[0]?.kernel)).toBe(
      JSON.stringify(build(101, 131).launches[0]?.kernel),
    );
  });
});

describe("norm", () => {
  it("centres and scales rows of any width", () => {
    for (const width of [1, 2, 6, 10, 24, 64, 101, 256])
      for (const N of width === 24 ? LENGTHS : [1, 9]) {
        const node: NodeOf<"norm"> = { op: "norm", out: "y", x: "x", weight: "w", bias: "b", eps: 1e-5 };
        const graph = graphOf(node, {
          inputs: [input("x", width)],
          weights: [weight("w", width), weight("b", width)],
          values: [rows("y", width)],
        });
        check(graph, lowerNorm(node, graph), { N, B: 2 }, { terms: width, scale: 3 });
      }
  });

  it("keeps what is left of a row far from zero", () => {
    const node: NodeOf<"norm"> = { op: "norm", out: "y", x: "x", weight: "w", bias: "b", eps: 1e-5 };
    const graph = graphOf(node, {
      inputs: [input("x", 64)],
      weights: [weight("w", 64), weight("b", 64)],
      values: [rows("y", 64)],
    });
    // Offset 1000, spread 1: a one-pass variance in f32 would be off by several percent.
    const x = noise(64 * 3, 7).map((v) => v + 1000);
    const memory = new Map([
      ["x", x],
      ["w", new Float32Array(64).fill(1)],
      ["b", new Float32Array(64)],
    ]);
    const at = { N: 3, B: 1 };
    const weights = new Map([...memory].slice(1));
    const expected = runReference(graph, { x }, weights, at).outputs["out"] ?? [];
    const actual = run(graph, lowerNorm(node, graph), memory, at).get("y") ?? [];
    // The mean itself is only known to half a unit of 1000: 3e-5.
    for (let i = 0; i < x.length; i++)
      expect(Math.abs((actual[i] ?? NaN) - (expected[i] ?? NaN))).toBeLessThan(5e-4);
  });
});

describe("operations by element", () => {
  it("activate rows of any width", () => {
    for (const activation of ["gelu", "relu", "swish"] as const)
      for (const width of [1, 6, 10, 24, 101])
        for (const N of width === 10 ? LENGTHS : [5]) {
          const node: NodeOf<"activate"> = { op: "activate", out: "y", x: "x", activation };
          const graph = graphOf(node, {
            inputs: [input("x", width)],
            weights: [],
            values: [rows("y", width)],
          });
          check(graph, lowerActivate(node, graph), { N, B: 2 }, { terms: 1, scale: 8 });
        }
  });

  it("add a scaled residual, also x to itself", () => {
    for (const residual of ["r", "x"])
      for (const N of LENGTHS) {
        const node: NodeOf<"add"> = { op: "add", out: "y", x: "x", residual, alpha: 1.5 };
        const graph = graphOf(node, {
          inputs: [input("x", 10), ...(residual === "r" ? [input("r", 10)] : [])],
          weights: [],
          values: [rows("y", 10)],
        });
        check(graph, lowerAdd(node, graph), { N, B: 2 }, { terms: 1 });
      }
  });

  it("look tokens up", () => {
    for (const scale of [1, 16])
      for (const N of LENGTHS) {
        const node: NodeOf<"embed"> = { op: "embed", out: "y", tokens: "t", weight: "w", scale };
        const graph = graphOf(node, {
          inputs: [{ id: "t", name: "t", dtype: "i32", shape: ["B", "N"] }],
          weights: [weight("w", 37, 22)],
          values: [rows("y", 22)],
        });
        check(graph, lowerEmbed(node, graph), { N, B: 3 }, { terms: 1, tokens: 37 });
      }
  });

  it("add positions of a grid, its rows first", () => {
    for (const width of [4, 24, 136])
      for (const N of LENGTHS) {
        const cells = (id: string) => ({ id, name: id, dtype: "i32" as const, shape: ["B", "N"] as const });
        const node: NodeOf<"grid"> = { op: "grid", out: "y", x: "x", rows: "r", columns: "c", cells: 37 };
        const graph = graphOf(node, {
          inputs: [input("x", width), cells("r"), cells("c")],
          weights: [],
          values: [rows("y", width)],
        });
        check(graph, lowerGrid(node, graph), { N, B: 2 }, { terms: 1, tokens: 37 });
      }
  });

  it("put a class token before each sequence, whatever lies there", () => {
    for (const N of LENGTHS) {
      const node: NodeOf<"class_token"> = { op: "class_token", out: "y", x: "x", weight: "w" };
      const graph = graphOf(node, {
        inputs: [input("x", 10)],
        weights: [weight("w", 10)],
        values: [rows("y", 10)],
      });
      check(graph, lowerClassToken(node, graph), { N, B: 3 }, { terms: 1 });
    }
  });

  it("clear what a mask hides", () => {
    for (const N of LENGTHS) {
      const node: NodeOf<"mask"> = { op: "mask", out: "y", x: "x", mask: "m" };
      const graph = graphOf(node, {
        inputs: [input("x", 10), { id: "m", name: "m", dtype: "i32", shape: ["B", "N"] }],
        weights: [],
        values: [rows("y", 10)],
      });
      check(graph, lowerMask(node, graph), { N, B: 3 }, { terms: 1, tokens: 3 });
    }
  });

  it("pool a sequence", () => {
    for (const width of [1, 7, 64, 97, 192])
      for (const N of [1, 2, 16, 17, 33, 300])
        for (const [of, from] of [
          ["class", 1],
          ["mean", 0],
          ["mean", 1],
        ] as const) {
          if (from === N) continue;
          const node: NodeOf<"pool"> = { op: "pool", out: "y", x: "x", of, from };
          const graph = graphOf(node, {
            inputs: [input("x", width)],
            weights: [],
            values: [{ id: "y", dtype: "f32", shape: ["B", width] }],
          });
          check(graph, lowerPool(node, graph), { N, B: 2 }, { terms: of === "mean" ? N : 1 });
        }
  });

  it("add learned positions from row 2 on, in every sequence", () => {
    for (const N of LENGTHS) {
      const node: NodeOf<"position"> = { op: "position", out: "y", x: "x", weight: "w", first: 2 };
      const graph = graphOf(node, {
        inputs: [input("x", 10)],
        weights: [weight("w", 70, 10)],
        values: [rows("y", 10)],
      });
      check(graph, lowerPosition(node, graph), { N, B: 3 }, { terms: 1 });
    }
  });

  it("rotate the pairs of every head by their position", () => {
    for (const [heads, headDim] of [
      [1, 2],
      [3, 6],
      [2, 10],
      [4, 32],
    ] as const)
      for (const sign of [1, -1] as const)
        for (const N of headDim === 6 ? LENGTHS : [33]) {
          const node: NodeOf<"xpos"> = {
            op: "xpos",
            out: "y",
            x: "x",
            heads,
            headDim,
            base: 8,
            block: 16,
            sign,
          };
          const graph = graphOf(node, {
            inputs: [input("x", heads * headDim)],
            weights: [],
            values: [rows("y", heads * headDim)],
          });
          check(graph, lowerXpos(node, graph), { N, B: 2 }, { terms: 2 });
        }
  });
});

/** Runs an activation over given numbers. */
function activated(activation: Activation, x: Float32Array, device: Device): Float32Array | Int32Array {
  const width = 256;
  const node: NodeOf<"activate"> = { op: "activate", out: "y", x: "x", activation };
  const graph = graphOf(node, { inputs: [input("x", width)], weights: [], values: [rows("y", width)] });
  const at = { N: x.length / width, B: 1 };
  return (
    run(graph, lowerActivate(node, graph), new Map([["x", x]]), at, device).get("y") ?? new Float32Array()
  );
}

describe.each(Object.entries(devices))("the numerics of activations on %s", (_, device) => {
  const grid = Float32Array.from({ length: 256 * 64 }, (_, i) => (i / (256 * 64)) * 20 - 10);

  it("gelu is within 3e-7 everywhere, and relatively exact in its tail", async () => {
    const { erf } = await import("../../src/reference.ts");
    const actual = activated("gelu", grid, device);
    let worst = 0;
    let relative = 0;
    grid.forEach((x, i) => {
      const expected = 0.5 * x * (1 + erf(x * Math.SQRT1_2));
      const error = Math.abs((actual[i] ?? NaN) - expected);
      worst = Math.max(worst, error);
      // Below −5 the formula of the reference itself cancels in f64.
      if (x > -5 && x !== 0) relative = Math.max(relative, error / Math.abs(expected));
    });
    expect(worst).toBeLessThan(3e-7);
    expect(relative).toBeLessThan(2e-6);
  });

  it("gelu keeps its relative error where 1 + erf has long cancelled", () => {
    // x·Φ(x) by mpmath, 50 digits.
    const known = [
      [-6, -5.9195258702262e-9],
      [-8, -4.9767684594174e-15],
      [-10, -7.6198530241605e-23],
    ] as const;
    const x = new Float32Array(256);
    known.forEach(([at], i) => (x[i] = at));
    const actual = activated("gelu", x, device);
    known.forEach(([, expected], i) =>
      expect(Math.abs((actual[i] ?? NaN) / expected - 1)).toBeLessThan(1e-5),
    );
  });

  it("stay finite and right at the ends of f32", () => {
    const ends = [0, -0, 1e-30, -1e-30, 20, -20, 100, -100, 1e30, -1e30, 3e38, -3e38];
    const x = new Float32Array(256);
    x.set(ends);
    for (const activation of ["gelu", "relu", "swish"] as const) {
      const actual = activated(activation, x, device);
      ends.forEach((end, i) => {
        const expected =
          end <= -20 || (activation === "relu" && end < 0) ? 0 : Math.abs(end) < 1 ? end / 2 : end;
        const want = activation === "relu" && end > 0 ? end : expected;
        expect(Math.abs((actual[i] ?? NaN) - Math.fround(want))).toBeLessThanOrEqual(
          Math.max(1e-7, Math.abs(want) * 1e-6),
        );
      });
    }
  });

  it("swish is within 4e-7 of its scale", () => {
    const actual = activated("swish", grid, device);
    let worst = 0;
    grid.forEach((x, i) => {
      const expected = x / (1 + Math.exp(-x));
      worst = Math.max(worst, Math.abs((actual[i] ?? NaN) - expected) / Math.max(1, Math.abs(x)));
    });
    expect(worst).toBeLessThan(4e-7);
  });
});
