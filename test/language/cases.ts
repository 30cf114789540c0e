/** A program for every code of the diagnostics, so that every sentence is seen once, beside what it is about. */
import type * as Ast from "../../src/ast.ts";
import { attention, program } from "../../src/builder.ts";
import type { Code } from "../../src/diagnostic.ts";

export type Case =
  | {
      readonly text: string;
      /** Stands in the fixture for a text too long to show. */ readonly shown?: string;
    }
  | { readonly config: unknown }
  | { readonly weights: Readonly<Record<string, readonly number[]>> }
  /** A valid spec, and what a driver says against a shader of it: text and line. */
  | {
      readonly text: string;
      readonly refused: { readonly shader: string; readonly line: number; readonly message: string };
    }
  | { readonly built: Ast.Program; readonly shown: string };

const body = (fields: string) => `attention a {\n  heads 4\n  head_dim 8\n  ${fields}\n}\n`;
const dense = "branch segment all dilation 1";
const withModel = (fields: string, of = dense) =>
  `${body(`causal true\n  ${of}`)}\nmodel m {\n  kind decoder\n  vocab 9\n  dim 32\n  layers 1\n  ffn 8\n  attention a\n  ${fields}\n}\n`;
const config = {
  vocab_size: 10,
  decoder_embed_dim: 32,
  decoder_attention_heads: 4,
  segment_length: "[8,16]",
  dilated_ratio: "[1,2]",
};

export const cases = {
  "unexpected-character": { text: `${body(dense)}let a; = 3 # no\n` },
  "malformed-number": { text: body("branch segment 2k dilation 0x1") },
  syntax: { text: body("offset head % % dilation\n  padding\n  branch segment all dilation 1") },
  "syntax-start": { text: `3 + 4\n${body(`7\n  ${dense}`)}}\n` },
  "unexpected-end": { text: `attention a {\n  heads 4\n  branch segment 4 dilation` },
  "nesting-too-deep": { text: `let a = ${"(".repeat(70)}1${")".repeat(70)}\n` },
  "file-too-large": { text: " ".repeat(4 * 2 ** 20 + 1), shown: "(4194305 spaces)" },
  "expression-too-long": { text: `let a = ${Array(102).fill("1").join("+")}\n` },
  "too-many-problems": { text: "let a = b\n".repeat(1200), shown: "let a = b\n(1200 times)" },
  "unknown-item": {
    text: "atention a { heads 4 head_dim 8 branch segment all dilation 1 }\nnetwork b { }\n",
  },
  "unknown-field": { text: body(`${dense}\n  paddng zero\n  vocab 3\n  width 3\n  dilation 2`) },
  "comment-division": {
    text: body(`branch segment 8 dilation 8\n  ${dense}\n  offset head // ceil(heads / dilation)`),
  },
  "empty-program": { text: "// nothing yet\n" },
  "invalid-name": {
    built: program([
      attention("wide-32k", { heads: 1, headDim: 8, branches: [{ segment: "all", dilation: 1 }] }),
    ]),
    shown: 'attention("wide-32k", { heads: 1, headDim: 8, branches: [{ segment: "all", dilation: 1 }] })',
  },
  "reserved-name": { text: `let heads = 3\n${body("branch min in 0..2 { segment 4 dilation 1 }")}` },
  "duplicate-item": { text: `${body(dense)}${body(dense)}let x = 1\nlet x = 2\n` },
  "duplicate-field": { text: body(`heads 4\n  ${dense}`) },
  "conflicting-fields": {
    text: withModel("position none\n  position xpos").replace(
      dense,
      `${dense}\n  offset 0\n  offsets [[0, 0, 0, 0]]`,
    ),
  },
  "missing-field": { text: "attention a { }\nmodel m { }\n" },
  "unknown-word": { text: body(`${dense}\n  causal yes\n  dtype fp32`) },
  "unknown-name": {
    text: `let base = 3\n${body("branch segment bsae dilation 1\n  offset haed\n  scale width")}`,
  },
  "unknown-function": { text: "let a = sqr(3) + log(2)\n" },
  "wrong-arguments": { text: "let a = sqrt(1, 2) + min()\n" },
  "unknown-attention": {
    text: `${body(dense)}schedule b on wasm { }\n${withModel("")
      .slice(body("causal true\n  " + dense).length)
      .replace("attention a", "attention paper")}`,
  },
  "let-cycle": { text: "let a = b + 1\nlet b = 2 * c\nlet c = a\nlet d = d\n" },
  "misplaced-all": { text: body("branch segment 8 dilation all") },
  "not-integer": { text: body("branch segment 7 / 2 dilation 1").replace("heads 4", "heads 4.5") },
  "out-of-range": { text: body(`${dense}\n  scale 0 - 1`).replace("heads 4", "heads 0") },
  "number-too-large": { text: body("branch segment 2 ** 31 dilation 1") },
  "division-by-zero": { text: `let a = 1 / (2 - 2)\n${body(`${dense}\n  offset 1 % head`)}` },
  "not-a-number": { text: "let a = sqrt(-1)\nlet b = (-8) ** 0.5\n" },
  overflow: { text: "let a = 10 ** 400\nlet b = 1e999\n" },
  "empty-range": { text: body("branch i in 4..3 { segment 4 dilation 1 }") },
  "too-many-branches": { text: body("branch i in 1..5000 { segment 4 dilation 1 }") },
  "table-too-large": {
    text: body("branch i in 0..1000 { segment 4 + i dilation 1 }").replace("heads 4", "heads 2000"),
  },
  "lengths-differ": { text: body("branches segments [4, 8, 16] dilations [1, 2]") },
  "dilation-exceeds-segment": { text: body("branch segment 4 dilation 8") },
  "kv-heads-divide": { text: body(`${dense}\n  kv_heads 3`) },
  "offset-outside": { text: body(`${dense}\n  branch segment 8 dilation 2\n  offset head`) },
  "offset-not-integer": {
    text: body(`${dense}\n  branch segment 8 dilation 2\n  offset head / 2 % dilation`),
  },
  "offsets-shape": { text: body(`${dense}\n  offsets [[0, 0, 0, 0], [0, 0]]`) },
  "uncovered-heads": { text: body("branch segment 8 dilation 2\n  branch segment 16 dilation 4") },
  "identical-branches": {
    text: body(`${dense}\n  branch segment 8 dilation 2\n  branch segment 4 * 2 dilation 2`),
  },
  "align-moves-rows": { text: body(`${dense}\n  branch segment 16384 dilation 6\n  compat torchscale`) },
  "dim-mismatch": { text: withModel("").replace("dim 32", "dim 64").replace("head_dim 64", "head_dim 8") },
  "decoder-not-causal": { text: withModel("").replace("causal true", "causal false") },
  "encoder-causal": { text: withModel("").replace("kind decoder", "kind encoder") },
  "xpos-odd-head-dim": {
    text: withModel("position xpos").replace("head_dim 8", "head_dim 7").replace("dim 32", "dim 28"),
  },
  "missing-vocab": { text: withModel("").replace("vocab 9", "input tokens") },
  "tied-without-tokens": { text: withModel("input features\n  head tied") },
  "vocab-unused": { text: withModel("input features\n  head none") },
  "missing-cells": {
    text: withModel("input features\n  position grid\n  head none")
      .replace("causal true", "causal false")
      .replace("kind decoder", "kind encoder"),
  },
  "missing-rows": { text: withModel("position learned") },
  "needs-field": {
    text: withModel("patch_embed 96\n  class_token false\n  pool class\n  head none\n  states all"),
  },
  "encoder-only": { text: withModel("class_token true\n  pool mean\n  head none\n  checkpoint gigapath") },
  "grid-dim": {
    text: withModel("input features\n  position grid 64 tile 32\n  head none")
      .replace("causal true", "causal false")
      .replace("kind decoder", "kind encoder")
      .replace("head_dim 8", "head_dim 7")
      .replace("dim 32", "dim 28")
      .replace("heads 4", "heads 2")
      .replace("dim 28", "dim 14"),
  },
  "not-multiple": { text: `${body(dense)}schedule a on wgsl { rows 6  keys 12 }\n` },
  "duplicate-schedule": {
    text: `${body(dense)}schedule a on wgsl { rows 4 }\nschedule a on wgsl { rows 8 }\n`,
  },
  "invalid-shader": {
    text: body("branch segment 8 dilation 1\n  branch segment 16 dilation 2"),
    refused: {
      shader:
        "// spec:1 attention a: branch\n// spec:4 branch 0\nlet x = 1;\n// spec:5 branch 1\nlet y = x +;\n",
      line: 5,
      message: "unable to parse right side of + expression",
    },
  },
  "import-not-object": { config: [1, 2] },
  "import-architecture": { config: { architecture: "BEiT3", vocab_size: 10 } },
  "import-missing": { config: { decoder_layers: 2 } },
  "import-value": { config: { ...config, segment_length: "[2**3]", decoder_layers: 1.5, subln: "yes" } },
  "import-unsupported": { config: { ...config, multiway: true, deepnorm: true } },
  "import-unknown-key": {
    config: {
      ...config,
      architecture: "LongNetDecoder",
      block_shift: true,
      decoder_layrs: 3,
      encoder_layers: 3,
    },
  },
  "import-weights": { weights: { "bert.encoder.layer.0.attention.self.query.weight": [768, 768] } },
  "import-prefix": {
    weights: {
      "module.layers.0.self_attn.q_proj.weight": [64, 64],
      "module.layers.0.ffn.fc1.weight": [128, 64],
      "module.embed_tokens.weight": [100, 64],
    },
  },
  "import-assumed": {
    config: { embed_dim: 128, depth: 2, in_chans: 32, slide_ngrids: 64, max_wsi_size: 16384, norm_eps: 1e-6 },
  },
  "import-dropout": { config: { ...config, attention_dropout: 0.1 } },
} as const satisfies Record<Code, Case>;
