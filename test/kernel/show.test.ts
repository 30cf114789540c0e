import { plainModel } from "../plain-model.ts";
import { describe, expect, test } from "vitest";
import * as x from "../../src/expr.ts";
import {
  showExpr,
  showFloat,
  showGraph,
  showKernel,
  showPlan,
  showSize,
  showSpec,
  showTiles,
} from "../../src/show.ts";
import type { Element, Expr, Kernel, TileKernel } from "../../src/kernel.ts";
import { seal } from "../../src/spec.ts";
import type { Spec } from "../../src/spec.ts";
import { barrier, kernel, loop, read, when, write } from "./kernels.ts";
import { graph, plan } from "./samples.ts";

const { i32, f32, ref, load, store, let_, var_, set } = x;
const [a, b, c] = [ref("a"), ref("b"), ref("c")];

describe("expressions", () => {
  const cases: readonly (readonly [Expr, string])[] = [
    [x.mul(x.add(a, b), c), "(a + b) * c"],
    [x.add(x.mul(a, b), c), "a * b + c"],
    [x.sub(a, x.sub(b, c)), "a - (b - c)"],
    [x.sub(x.sub(a, b), c), "a - b - c"],
    [x.add(a, x.add(b, c)), "a + (b + c)"],
    [x.op("add", [a, i32(-2)]), "a - 2"],
    [x.op("mul", [a, i32(-2)]), "a * -2"],
    [x.op("neg", [x.add(a, b)]), "-(a + b)"],
    [x.neg(x.neg(a)), "-(-a)"],
    [x.not(x.and(x.lt(a, b), x.bool(true))), "!(a < b && true)"],
    [x.or(x.and(x.lt(a, b), x.lt(b, c)), x.not(ref("d", "bool"))), "a < b && b < c || !d"],
    [x.op("and", [a, x.op("shl", [b, i32(3)])]), "a & b << 3"],
    [x.op("shl", [x.op("and", [a, b]), i32(3)]), "(a & b) << 3"],
    [x.select(x.eq(a, b), f32(0.1), load("q", x.add(a, b))), "select(a == b, 0.1, q[a + b])"],
    [
      x.op("shuffle", [ref("u", "f32x4"), load("q", a, "f32x4")], [0, 1, 4, 5]),
      "shuffle(u, q[a : 4]; 0 1 4 5)",
    ],
    [x.op("lane", [ref("u", "f32x4")], [2]), "lane(u; 2)"],
    [x.add(x.group, x.laneId), "group + lane"],
  ];
  for (const [e, text] of cases) test(text, () => expect(showExpr(e)).toBe(text));

  test("floats are the shortest that read back", () => {
    expect([0, 1, -1e30, 0.1, 1 / 3, 16777216, 1e-45, -0, Infinity].map((v) => showFloat(Math.fround(v)))).toEqual([
      "0.0", "1.0", "-1e30", "0.1", "0.33333334", "16777216.0", "1e-45", "-0.0", "inf",
    ]); // prettier-ignore
  });

  test("sizes", () => {
    expect(showSize({ op: "mul", args: [{ op: "ceilDiv", args: ["N", 64] }, 8] })).toBe("ceil(N / 64) * 8");
    expect(showSize({ op: "mul", args: [{ op: "add", args: ["N", 1] }, "B"] })).toBe("(N + 1) * B");
    expect(showSize({ op: "sub", args: ["N", { op: "sub", args: ["N", 1] }] })).toBe("N - (N - 1)");
    expect(
      showSize({ op: "min", args: [{ op: "floorDiv", args: [{ op: "add", args: ["N", 7] }, 8] }, "N"] }),
    ).toBe("min(floor((N + 7) / 8), N)");
  });
});

test("a kernel", () => {
  const k: Kernel = kernel(
    [
      { s: "comment", text: "row sums" },
      var_("t", x.splat(f32(0))),
      loop("i", 0, ref("n"), [set("t", x.add(ref("t", "f32x4"), load("a", ref("i"), "f32x4")))], 4),
      when(x.eq(x.laneId, i32(0)), [store("S", i32(0), x.op("sum", [ref("t", "f32x4")]))], [let_("u", load("T", i32(1), "i32"))]),
      barrier,
      { s: "for", name: "j", from: i32(0), to: i32(2), step: 1, unroll: true, body: [store("o", ref("j"), load("S", i32(0)))] },
    ],
    {
      name: "sums",
      buffers: [read("a", "f16"), write("o")],
      scalars: [{ name: "n", type: "i32" }],
      tables: [{ name: "T", type: "i32", values: [3, 4] }, { name: "F", type: "f32", values: [0.5, 2] }],
      shared: [{ name: "S", type: "f32", length: 4 }],
      workgroup: 32,
    },
  ); // prettier-ignore
  expect(showKernel(k)).toMatchInlineSnapshot(`
    "kernel sums(a: read f16, o: write f32, n: i32) by 32 lanes
      table T: i32[2] = 3, 4
      table F: f32[2] = 0.5, 2.0
      shared S: f32[4]
      // row sums
      var t = splat(0.0)
      for i in 0 .. n step 4
        t = t + a[i : 4]
      if lane == 0
        S[0] = sum(t)
      else
        let u = T[1]
      barrier
      for j in 0 .. 2 unroll
        o[j] = S[0]
    "
  `);
});

test("a tile kernel", () => {
  const rows = { base: ref("first"), stride: i32(64), count: x.min(i32(8), ref("left")), cols: 4 };
  const k: TileKernel = {
    ...kernel([], {
      name: "attend",
      buffers: [read("q"), read("g", "i32"), read("w"), write("o")],
      scalars: [{ name: "first", type: "i32" }, { name: "left", type: "i32" }],
    }),
    tiles: [{ name: "Q", rows: 8, cols: 4 }, { name: "S", rows: 8, cols: 8 }, { name: "m", rows: 8, cols: 1 }],
    body: [
      { s: "copy", tile: "Q", rows: { ...rows, buffer: "q" }, scale: f32(0.25) },
      { s: "copy", tile: "Q", rows: { ...rows, buffer: "q", gather: { buffer: "g", base: i32(7) } } },
      { s: "fill", tile: "S", value: f32(0) },
      { s: "mma", acc: "S", a: "Q", b: "Q", transposed: true },
      { s: "mma", acc: "S", a: "Q", b: { buffer: "w", base: i32(0), depth: 4, row: i32(0), col: i32(8) } },
      { s: "reduce", into: "m", from: "S", op: "max" },
      { s: "map", tile: "S", value: x.exp2(x.sub<Element>(x.at("S", "flip"), x.at("m"))) },
      { s: "reduce", into: "m", from: "S", op: "add" },
      loop("i", 0, 2, []),
      { s: "write", tile: "Q", rows: { ...rows, buffer: "o" } },
      { s: "write", tile: "Q", rows: { ...rows, buffer: "o" }, value: x.select<Element>(x.lt<Element>(x.row, x.col), x.at("Q"), f32(0)) },
    ],
  }; // prettier-ignore
  expect(showTiles(k)).toMatchInlineSnapshot(`
    "kernel attend(q: read f32, g: read i32, w: read f32, o: write f32, first: i32, left: i32)
      tile Q[8, 4]
      tile S[8, 8]
      tile m[8, 1]
      copy Q[i, j] = q[first + i * 64 + j] * 0.25 for i < min(8, left), j < 4
      copy Q[i, j] = q[first + g[7 + i] * 64 + j] for i < min(8, left), j < 4
      fill S = 0.0
      mma S += Q · Qᵀ
      mma S += Q · w panels(base 0, depth 4)[0.., 8..]
      reduce m = max(m, rows of S)
      map S = exp2(S.flip - m)
      reduce m += rows of S
      for i in 0 .. 2
      write o[first + i * 64 + j] = Q for i < min(8, left), j < 4
      write o[first + i * 64 + j] = select(row < col, Q, 0.0) of Q for i < min(8, left), j < 4
    "
  `);
});

test("a graph", () =>
  expect(showGraph(graph)).toMatchInlineSnapshot(`
  "graph g
    input tokens 'tokens': i32[B, N]
    weight w0 'embed.weight': f32[16, 8]
    weight w1 'k.weight': f32[4, 8]
    weight w2 'norm.weight': f32[8]
    weight w3 'norm.bias': f32[8]
    alias 'head.weight' of 'embed.weight'
    ignored 'xpos.scale': f32[2]
    x: f32[B, N, 8] = embed tokens by w0
    n: f32[B, N, 8] = norm x by w2, w3 eps 0.00001
    k: f32[B, N, 4] = linear n by w1
    o: f32[B, N, 8], lse: f32[B, 2, N] = attention 'small' of n, k, k
    y: f32[B, N, 16] = linear o by w0
    output 'logits' = y
    hidden x
  "
`));
test("a plan", () =>
  expect(showPlan(plan)).toMatchInlineSnapshot(`
  "plan p
    input 0 'tokens': i32[B, N]
    output 0 'out': f32[B, N, 8]
    weight 0 'embed.weight': f32[16, 8]
    table 0 xpos head_dim 4 base 512 block 4096 sign 1
    accepts 'xpos.scale': f32[2]
    kernel 0 embed(tokens: read i32, w: read f32, o: write f32, N: i32) 'embed' shared 64 bytes
    kernel 1 twice(x: read f32, o: write f32) 'twice' shared 0 bytes, 4 lanes
    variant any N schedule branch
      slot 0: N * (B * 8)
      ceil(N / 64) * B groups of embed(tokens: input 0, w: weight 0, o: slot 0, N: N) 'embed'
      N groups of twice(x: slot 0, o: output 0) 'twice'
  "
`));
test("a spec", () => {
  const attention = seal({
    name: "small", heads: 2, headDim: 4, kvHeads: 1, causal: true,
    branches: [{ segment: 8, dilation: 2 }, { segment: Infinity, dilation: 1 }], offsets: [[0, 1], [0, 0]],
    padding: "masked", align: "segment", combine: "softmax", gradient: "full", scale: 0.5, dtype: "f32",
  } as const); // prettier-ignore
  const model = seal({
    name: "tiny", kind: "decoder", input: "tokens", vocab: 16, dim: 8, layers: 2, ffn: { dim: 32, activation: "gelu" }, attention,
    xpos: { base: 512 }, positions: null, norm: "sub_ln", embedScale: 1, embedNorm: false, head: "tied", finalNorm: true, eps: 1e-5, ...plainModel,
  } as const); // prettier-ignore
  const spec: Spec = seal({
    attentions: [attention],
    models: [model],
    schedules: [{ attention: "small", target: "wasm", rows: 64 } as const],
  });
  expect(showSpec(spec)).toMatchInlineSnapshot(`
    "attention small
      heads 2  head_dim 4  kv_heads 1  causal true  dtype f32  scale 0.5
      branch segment 8  dilation 2  offsets 0 1
      branch segment all  dilation 1  offsets 0 0
      padding masked  align segment  combine softmax  gradient full

    model tiny
      kind decoder  input tokens  vocab 16  dim 8  layers 2
      ffn 32 gelu  norm sub_ln  eps 0.00001  final_norm true
      attention small
      xpos base 512  positions none
      embed_scale 1  embed_norm false  head tied

    schedule small on wasm
      rows 64
    "
  `);
});
