/** Each operation with rows and matrices of 16 bits: equal to the reference on the stored numbers, but for one rounding. */
import { describe, expect, it } from "vitest";
import type { Dim, Graph, Node } from "../../src/graph.ts";
import type { FloatDtype } from "../../src/storage.ts";
import { compare, tolerance } from "../../src/tolerance.ts";
import { verifyGraph } from "../../src/verify.ts";
import { graphOf } from "../lower/run.ts";
import { given, lowered, reachable, reference, run, widened } from "./run.ts";

type NodeOf<O extends Node["op"]> = Extract<Node, { op: O }>;
const half = ["f16", "bf16"] as const;
const roundoff = { f16: 2 ** -11, bf16: 2 ** -8 } as const;

const tensor = (id: string, dtype: FloatDtype, shape: readonly Dim[]) => ({ id, name: id, dtype, shape });
const rows = (id: string, width: number, dtype: FloatDtype) => tensor(id, dtype, ["B", "N", width]);
const weight = (id: string, dtype: FloatDtype, ...shape: number[]) => ({ id, name: id, dtype, shape });

function check(graph: Graph, dtype: "f16" | "bf16", terms: number, tokens = 1): void {
  expect(verifyGraph(graph)).toEqual([]);
  const launches = lowered(graph);
  expect(launches.flatMap((l) => reachable(l.kernel))).toEqual([]);
  const stored = graph.values[0]?.dtype;
  for (const N of [1, 5, 17, 33]) {
    const at = { N, B: 2 };
    const inputs = given(graph, at, N, { tokens });
    const actual = run(graph, launches, inputs, at).get("y") ?? [];
    const meant = reference(widened(graph), inputs, at).outputs["out"] ?? [];
    const verdict = compare(actual, meant, { dtype: stored === "f32" ? "f32" : dtype, terms });
    expect(verdict, `${graph.nodes[0]?.op} N ${N}`).toMatchObject({ ok: true });
    // What is stored is the nearest to what f32 computes: within half a unit of its own, whatever the scale of the rest.
    if (stored === "f32") continue;
    const sums = tolerance("f32", terms) * verdict.scale;
    meant.forEach((e, i) => {
      if (Math.abs((actual[i] ?? NaN) - e) > 1.01 * (Math.abs(e) * roundoff[dtype] + sums) + 2 ** -25)
        expect([graph.nodes[0]?.op, N, i, actual[i]]).toEqual(e);
    });
  }
}

describe.each(half)("rows and matrices in %s", (dtype) => {
  const linear = (
    [ins, outs]: readonly [number, number],
    dtypes: { x?: FloatDtype; w?: FloatDtype; r?: FloatDtype; y?: FloatDtype } = {},
  ): Graph => {
    const { x = dtype, w = dtype, y = dtype, r } = dtypes;
    const node: NodeOf<"linear"> = {
      op: "linear",
      out: "y",
      x: "x",
      weight: "w",
      bias: "b",
      ...(r === undefined ? { activation: "gelu" } : { residual: { x: "r", alpha: 1.5 } }),
    };
    return graphOf(node, {
      inputs: [rows("x", ins, x), ...(r === undefined ? [] : [rows("r", outs, r)])],
      weights: [weight("w", w, outs, ins), weight("b", "f32", outs)],
      values: [rows("y", outs, y)],
    });
  };

  it("linear, of any depth, columns in pieces", () => {
    for (const shape of [
      [8, 8],
      [24, 40],
      [16, 12],
      [36, 76],
      [33, 20],
    ] as const)
      check(linear(shape), dtype, shape[0]);
  });

  it("linear between the residual stream in f32 and rows of 16 bits", () => {
    check(linear([24, 40], { r: "f32", y: "f32" }), dtype, 24);
    check(linear([24, 40], { x: "f32" }), dtype, 24);
    check(linear([24, 40], { w: "f32" }), dtype, 24);
    // A width that 16-bit stores do not divide: the result stays f32, the rest need not.
    check(linear([24, 13], { y: "f32" }), dtype, 24);
  });

  it("norm, activations, sums", () => {
    for (const width of [8, 20, 72]) {
      const x = rows("x", width, dtype);
      const y = rows("y", width, dtype);
      const affine = [weight("w", "f32", width), weight("b", "f32", width)];
      const norm: NodeOf<"norm"> = { op: "norm", out: "y", x: "x", weight: "w", bias: "b", eps: 1e-5 };
      check(graphOf(norm, { inputs: [x], weights: affine, values: [y] }), dtype, width);
      const wide = { ...x, dtype: "f32" as const };
      check(graphOf(norm, { inputs: [wide], weights: affine, values: [y] }), dtype, width);
      for (const activation of ["gelu", "relu", "swish"] as const) {
        const node: NodeOf<"activate"> = { op: "activate", out: "y", x: "x", activation };
        check(graphOf(node, { inputs: [x], weights: [], values: [y] }), dtype, 1);
      }
      const add: NodeOf<"add"> = { op: "add", out: "y", x: "x", residual: "r", alpha: 0.5 };
      const r = rows("r", width, dtype);
      check(graphOf(add, { inputs: [x, r], weights: [], values: [y] }), dtype, 1);
    }
  });

  it("tokens and positions", () => {
    const tokens = { id: "t", name: "t", dtype: "i32" as const, shape: ["B", "N"] as const };
    const embed: NodeOf<"embed"> = { op: "embed", out: "y", tokens: "t", weight: "w", scale: 16 };
    for (const stored of ["f32", dtype] as const) {
      const table = weight("w", dtype, 37, 24);
      const values = [rows("y", 24, stored)];
      check(graphOf(embed, { inputs: [tokens], weights: [table], values }), dtype, 1, 37);
      const position: NodeOf<"position"> = { op: "position", out: "y", x: "x", weight: "w", first: 2 };
      check(graphOf(position, { inputs: [rows("x", 24, "f32")], weights: [table], values }), dtype, 1);
    }
  });

  it("xpos", () => {
    for (const [heads, headDim] of [
      [1, 4],
      [3, 8],
      [2, 32],
    ] as const) {
      const shape = { heads, headDim, base: 8, block: 16, sign: -1 as const };
      const node: NodeOf<"xpos"> = { op: "xpos", out: "y", x: "x", ...shape };
      const width = heads * headDim;
      const parts = { inputs: [rows("x", width, dtype)], weights: [], values: [rows("y", width, dtype)] };
      check(graphOf(node, parts), dtype, 2);
    }
  });

  it("gives kernels of other storage other names, and those of f32 none", () => {
    const name = (...args: Parameters<typeof linear>) => lowered(linear(...args))[0]?.kernel.name ?? "";
    const shape = [8, 8] as const;
    const wide = name(shape, { x: "f32", w: "f32", y: "f32" });
    expect(wide).toBe("linear_8_8_bias_gelu");
    expect(name(shape)).toBe(`linear_8_8_bias_gelu_${dtype}_x_weight_out`);
    expect(new Set([wide, name(shape), name(shape, { x: "f32" }), name(shape, { y: "f32" })]).size).toBe(4);
  });
});
