/** A small graph and a small plan, both sound. */
import type { Graph } from "../../src/graph.ts";
import { seal } from "../../src/spec.ts";
import type { AttentionShape } from "../../src/spec.ts";
import type { Plan } from "../../runtime/plan.ts";

const spec = seal<AttentionShape>({
  name: "small", heads: 2, headDim: 4, kvHeads: 1, causal: true, branches: [{ segment: 8, dilation: 1 }], offsets: [[0, 0]],
  padding: "masked", align: "segment", combine: "softmax", gradient: "full", scale: 0.5, dtype: "f32",
}); // prettier-ignore

export const graph: Graph = {
  name: "g",
  inputs: [{ id: "tokens", name: "tokens", dtype: "i32", shape: ["B", "N"] }],
  weights: [
    { id: "w0", name: "embed.weight", dtype: "f32", shape: [16, 8] },
    { id: "w1", name: "k.weight", dtype: "f32", shape: [4, 8] },
    { id: "w2", name: "norm.weight", dtype: "f32", shape: [8] },
    { id: "w3", name: "norm.bias", dtype: "f32", shape: [8] },
  ],
  aliases: [{ alias: "head.weight", of: "embed.weight" }],
  ignored: [{ name: "xpos.scale", shape: [2] }],
  values: [
    { id: "x", dtype: "f32", shape: ["B", "N", 8] },
    { id: "n", dtype: "f32", shape: ["B", "N", 8] },
    { id: "k", dtype: "f32", shape: ["B", "N", 4] },
    { id: "o", dtype: "f32", shape: ["B", "N", 8] },
    { id: "lse", dtype: "f32", shape: ["B", 2, "N"] },
    { id: "y", dtype: "f32", shape: ["B", "N", 16] },
  ],
  nodes: [
    { op: "embed", out: "x", tokens: "tokens", weight: "w0", scale: 1 },
    { op: "norm", out: "n", x: "x", weight: "w2", bias: "w3", eps: 1e-5 },
    { op: "linear", out: "k", x: "n", weight: "w1" },
    { op: "attention", out: "o", lse: "lse", q: "n", k: "k", v: "k", spec },
    { op: "linear", out: "y", x: "o", weight: "w0" },
  ],
  outputs: [{ name: "logits", value: "y" }],
  hidden: ["x"],
};

export const plan: Plan = {
  format: 1,
  name: "p",
  inputs: [{ name: "tokens", dtype: "i32", shape: ["B", "N"] }],
  outputs: [{ name: "out", dtype: "f32", shape: ["B", "N", 8] }],
  weights: [{ name: "embed.weight", shape: [16, 8], layout: "rows" }],
  tables: [{ kind: "xpos", headDim: 4, base: 512, block: 4096, sign: 1 }],
  accepts: [{ name: "xpos.scale", shape: [2] }],
  kernels: [
    {
      entry: "embed", title: "embed", sharedBytes: 64, workgroup: 1,
      buffers: [
        { name: "tokens", dtype: "i32", access: "read" }, { name: "w", dtype: "f32", access: "read" }, { name: "o", dtype: "f32", access: "write" },
      ],
      scalars: [{ name: "N", type: "i32" }],
    },
    {
      entry: "twice", title: "twice", sharedBytes: 0, workgroup: 4,
      buffers: [{ name: "x", dtype: "f32", access: "read" }, { name: "o", dtype: "f32", access: "write" }],
      scalars: [],
    },
  ],
  variants: [
    {
      upTo: null,
      schedule: "branch",
      slots: [{ op: "mul", args: ["N", { op: "mul", args: ["B", 8] }] }],
      steps: [
        {
          kernel: 0, title: "embed", scalars: ["N"], grid: { op: "mul", args: [{ op: "ceilDiv", args: ["N", 64] }, "B"] },
          buffers: [{ in: "input", index: 0 }, { in: "weight", index: 0 }, { in: "slot", index: 0 }],
        },
        { kernel: 1, title: "twice", scalars: [], grid: "N", buffers: [{ in: "slot", index: 0 }, { in: "output", index: 0 }] },
      ],
    },
  ],
}; // prettier-ignore
