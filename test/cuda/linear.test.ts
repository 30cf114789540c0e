/** Linear layers on matrix units, run on the host: depths and widths that leave eights over, storage of every mixture, ragged rows. */
import { describe, expect, it } from "vitest";
import { CUDA_TILINGS } from "../../codegen/cuda/target.ts";
import type { Dim, Graph, Node } from "../../src/graph.ts";
import type { FloatDtype } from "../../src/storage.ts";
import { compare } from "../../src/tolerance.ts";
import { graphOf } from "../lower/run.ts";
import { given, reference, widened } from "../storage/run.ts";
import { missing } from "../webgpu/require.ts";
import { compiler, COMPILER_MISSING } from "./host/build.ts";
import { programOf, runProgram } from "./program.ts";

const c = compiler();
if (c === null) missing("c++", COMPILER_MISSING);

const rows = (id: string, width: number, dtype: FloatDtype) => ({
  id,
  name: id,
  dtype,
  shape: ["B", "N", width] as readonly Dim[],
});
type Mixture = {
  readonly x: FloatDtype;
  readonly y: FloatDtype;
  readonly residual?: FloatDtype;
  readonly bias: boolean;
};

function linear(ins: number, outs: number, w: FloatDtype, { x, y, residual, bias }: Mixture): Graph {
  const node: Extract<Node, { op: "linear" }> = {
    op: "linear",
    out: "y",
    x: "x",
    weight: "w",
    ...(bias ? { bias: "b" } : {}),
    ...(residual === undefined ? { activation: "gelu" } : { residual: { x: "r", alpha: 1.5 } }),
  };
  return graphOf(node, {
    inputs: [rows("x", ins, x), ...(residual === undefined ? [] : [rows("r", outs, residual)])],
    weights: [
      { id: "w", name: "w", dtype: w, shape: [outs, ins] },
      ...(bias ? [{ id: "b", name: "b", dtype: "f32" as const, shape: [outs] }] : []),
    ],
    values: [rows("y", outs, y)],
  });
}

/** [in, out]: one piece of depth and several, with a rest of 8 and of more; columns of odd eights. */
const shapes = [
  [8, 8],
  [16, 24],
  [40, 64],
  [64, 8],
  [72, 72],
  [96, 40],
  [136, 136],
] as const;
const TILINGS = [{ ...CUDA_TILINGS, linear: { rows: 32, cols: 32, depth: 16 } }, CUDA_TILINGS] as const;

describe.skipIf(c === null).each(["f16", "bf16"] as const)("linear in %s", (dtype) => {
  const mixtures: readonly Mixture[] = [
    { x: dtype, y: dtype, bias: true },
    { x: dtype, y: "f32", residual: "f32", bias: true },
    { x: dtype, y: dtype, residual: dtype, bias: false },
  ];
  it.each(shapes)("%i to %i", async (ins, outs) => {
    if (c === null) return;
    for (const [t, tilings] of TILINGS.entries()) {
      const mixture = mixtures[(ins / 8 + t) % mixtures.length];
      if (mixture === undefined) continue;
      const graph = linear(ins, outs, dtype, mixture);
      const program = programOf(graph, null, { tilings });
      expect(program.texts[0]?.code).toContain("mma_k");
      for (const N of [5, 33]) {
        const at = { N, B: 2 };
        const inputs = given(graph, at, N);
        const weights = new Map(
          graph.weights.map((w) => [w.name, { data: Float32Array.from(inputs.get(w.id) ?? []) }]),
        );
        const tensors = Object.fromEntries(
          graph.inputs.map((v) => [v.name, inputs.get(v.id) ?? new Float32Array()]),
        );
        const got = await runProgram(c, program, tensors, at, { weights });
        const meant = reference(widened(graph), inputs, at).outputs["out"] ?? [];
        const verdict = compare(got["out"] ?? [], meant, { dtype: mixture.y, terms: ins });
        expect(verdict, `${ins} ${outs} ${N}`).toMatchObject({ ok: true });
      }
    }
  });

  it("with rows or weights of f32, or widths that are no eights, is done by lanes", () => {
    const [tilings] = TILINGS;
    for (const graph of [
      linear(16, 16, "f32", { x: dtype, y: "f32", bias: true }),
      linear(16, 16, dtype, { x: "f32", y: "f32", bias: true }),
      linear(20, 16, dtype, { x: dtype, y: "f32", bias: true }),
      linear(16, 20, dtype, { x: dtype, y: "f32", bias: true }),
    ])
      expect(programOf(graph, null, { tilings }).texts[0]?.code).not.toContain("mma_k");
  });
});
