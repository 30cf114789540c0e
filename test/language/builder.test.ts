import { expect, expectTypeOf, test } from "vitest";
import { print, read } from "../../grammar/index.ts";
import { attention, branches, model, program, schedule, torchscale } from "../../src/builder.ts";
import type { BuiltAttention } from "../../src/builder.ts";
import { check } from "../../src/check.ts";
import { render } from "../../src/diagnostic.ts";
import { bare } from "./programs.ts";

const small = attention("small", {
  heads: 8,
  headDim: 32,
  causal: true,
  branches: branches.geometric({ segment: 256, dilation: 1, ratio: 2, count: 4 }),
  ...torchscale,
});
const jargon = model("jargon", {
  kind: "decoder",
  vocab: 256,
  dim: 256,
  layers: 4,
  ffn: { dim: 1024, activation: "gelu" },
  attention: small,
  position: { xpos: true, learned: 2050 },
  norm: "sub_ln",
  embedScale: "sqrt(dim)",
  head: "tied",
  finalNorm: true,
  eps: 1e-5,
});
const whole = program([small, jargon, schedule(small, "wgsl", { kind: "class", rows: 64, keys: 32 })]);

test("the builder's example means what the text means", () => {
  const { spec, diagnostics } = check(whole);
  expect(diagnostics).toEqual([]);
  const text = read(`
attention small { heads 8 head_dim 32 causal true branches segments [256, 512, 1024, 2048] dilations [1, 2, 4, 8] compat torchscale }
model jargon {
  kind decoder vocab 256 dim 256 layers 4 ffn 1024 attention small position xpos position learned 2050
  embed_scale sqrt(dim) head tied
}
schedule small on wgsl { kind class rows 64 keys 32 }`);
  expect(text.diagnostics).toEqual([]);
  expect(check(text.ast).spec).toEqual(spec);
});

test("a built program prints, and reads back as itself", () => {
  const text = print(whole);
  expect(text).toMatchInlineSnapshot(`
    "attention small {
      heads     8
      head_dim  32
      causal    true
      branch    i in 0..3 { segment 256 * 2 ** i  dilation 1 * 2 ** i }
      compat    torchscale
    }

    model jargon {
      kind         decoder
      vocab        256
      dim          256
      layers       4
      ffn          1024 gelu
      attention    small
      position     xpos
      position     learned 2050
      norm         sub_ln
      embed_scale  sqrt(dim)
      head         tied
      final_norm   true
      eps          0.00001
    }

    schedule small on wgsl { kind class  rows 64  keys 32 }
    "
  `);
  expect(bare(read(text).ast.items)).toEqual(bare(whole.items));
});

test("an offset function is tabulated into text", () => {
  const a = attention("a", {
    heads: 3,
    headDim: 2,
    branches: [
      { segment: "all", dilation: 1 },
      ...branches.geometric({ segment: 4, dilation: 2, ratio: 2, count: 2 }),
    ],
    offset: ({ head, heads, dilation, branch }) => (head + heads + branch) % dilation,
  });
  const { spec } = check(program([a]));
  expect(spec?.attentions[0]?.offsets).toEqual([
    [0, 0, 0],
    [0, 1, 0],
    [1, 2, 3],
  ]);
  expect(print(program([a]))).toContain("offsets   [[0, 0, 0], [0, 1, 0], [1, 2, 3]]");
  const table = attention("a", {
    heads: 1,
    headDim: 2,
    branches: branches.list([
      ["all", 1],
      [8, 4],
    ]),
    offset: [[0], [3]],
  });
  expect(check(program([table])).spec?.attentions[0]?.offsets).toEqual([[0], [3]]);
});

test("problems are placed by the call that made them", () => {
  const bad = program([
    attention("a", {
      heads: -4,
      headDim: 32,
      branches: [
        { segment: 4, dilation: 8 },
        { segment: Infinity, dilation: 1 },
        { segment: NaN, dilation: 1 },
      ],
      offset: () => NaN,
    }),
    attention("b", {
      heads: 2,
      headDim: 2,
      branches: branches.list([[8, 2]]),
      offset: ({ head }) => head / 2,
    }),
    model("m", {
      kind: "decoder",
      vocab: 3,
      dim: 32,
      layers: 1,
      ffn: 8,
      attention: "smal",
      position: { learned: 1 },
    }),
  ]);
  const { spec, diagnostics } = check(bad);
  expect(spec).toBeNull();
  expect(render(diagnostics, null)).toMatchInlineSnapshot(`
    "error[out-of-range]: \`heads\` must be an integer from 1 to 65536, not -4.
      at attention("a").heads

    error[dilation-exceeds-segment]: A dilation of 8 does not fit into a segment of 4.
      at attention("a").branches[0].dilation
      expected: at most 4
      Hint: Each segment must hold at least one row of every head.

    error[not-a-number]: This number is not a real number.
      at attention("a").branches[2].segment

    error[offset-not-integer]: Head 1 would start at row 0.5 in branch 0.
      at attention("b").offset[0][1]
      expected: an integer from 0 to 1
      Hint: Integer division is floor(a / b).

    error[out-of-range]: The rows of learned positions must be an integer of at least 3, not 1.
      at model("m").position.learned

    error[unknown-attention]: No attention is called \`smal\`.
      at model("m").attention
      Hint: This program has \`a\`, \`b\`.
    "
  `);
});

test("absurd sizes are refused without being built", () => {
  const huge = attention("a", {
    heads: 1e9,
    headDim: 1,
    branches: branches.geometric({ segment: 4, dilation: 1, ratio: 1, count: 1e12 }),
    offset: () => 0,
  });
  const { spec, diagnostics } = check(program([huge]));
  expect(spec).toBeNull();
  expect(diagnostics.map((d) => d.code).sort()).toEqual(["number-too-large", "out-of-range"]);
});

test("literal types are kept", () => {
  expectTypeOf(small).toEqualTypeOf<BuiltAttention<"small", 8, 32>>();
  // @ts-expect-error a word the language does not have
  attention("x", { heads: 1, headDim: 1, branches: [], padding: "maybe" });
});
