import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { print, read } from "../../grammar/index.ts";
import { check } from "../../src/check.ts";
import { importConfig } from "../../src/import.ts";
import type { ModelSpec } from "../../src/spec.ts";
import { bare } from "./programs.ts";

const imported = (config: unknown, codes: readonly string[] = []): ModelSpec => {
  const { ast, diagnostics } = importConfig(config, { name: "m" });
  expect(diagnostics.map((d) => d.code)).toEqual(codes);
  if (ast === null) throw new Error("nothing imported");
  expect(bare(read(print(ast)).ast.items)).toEqual(bare(ast.items));
  const [model] = check(ast).spec?.models ?? [];
  if (model === undefined) throw new Error(JSON.stringify(check(ast).diagnostics));
  return model;
};

const base = {
  vocab_size: 101,
  decoder_embed_dim: 64,
  decoder_attention_heads: 4,
  decoder_ffn_embed_dim: 128,
  decoder_layers: 3,
  segment_length: "[8,16,32]",
  dilated_ratio: "[1,2,4]",
};

test("a decoder of the golden files", () => {
  const m = imported({
    ...base,
    flash_attention: true,
    xpos_rel_pos: true,
    xpos_scale_base: 64,
    subln: true,
  });
  expect(m).toMatchObject({ name: "m", kind: "decoder", vocab: 101, dim: 64, layers: 3, xpos: { base: 64 } });
  expect(m).toMatchObject({
    ffn: { dim: 128, activation: "gelu" },
    norm: "sub_ln",
    head: "separate",
    finalNorm: true,
  });
  expect(m.attention).toMatchObject({
    name: "m_attention",
    heads: 4,
    headDim: 16,
    causal: true,
    padding: "zero",
  });
  expect(m.attention).toMatchObject({ align: "ceil", gradient: "detached" });
  expect(m.attention.branches.map((b) => b.segment)).toEqual([8, 16, 32]);
  expect(m.attention.offsets).toEqual([
    [0, 0, 0, 0],
    [0, 0, 1, 1],
    [0, 1, 2, 3],
  ]);
});

test("torchscale's defaults", () => {
  const m = imported({ architecture: "LongNetDecoder", segment_length: [4], dilated_ratio: [1] });
  expect(m).toMatchObject({ dim: 768, layers: 12, ffn: { dim: 3072, activation: "gelu" }, embedScale: 1 });
  expect(m).toMatchObject({
    input: "features",
    vocab: 0,
    head: "none",
    xpos: null,
    positions: null,
    eps: 1e-5,
  });
  expect(m).toMatchObject({ norm: "sub_ln", embedNorm: false });
  expect(m.attention.heads).toBe(12);
  expect(imported({ ...base, xpos_rel_pos: true }).xpos).toEqual({ base: 512 });
});

test("embedding, positions, head and eps", () => {
  const m = imported({
    ...base,
    no_scale_embedding: false,
    layernorm_embedding: true,
    share_decoder_input_output_embed: true,
    layernorm_eps: 1e-6,
    activation_fn: "swish",
    positions: 128,
    max_target_positions: 4096,
  });
  expect(m).toMatchObject({
    embedScale: 8,
    embedNorm: true,
    head: "tied",
    eps: 1e-6,
    positions: { rows: 128 },
  });
  expect(m.ffn.activation).toBe("swish");
  expect(imported({ ...base, no_output_layer: true }).head).toBe("none");
});

test("norms, by the rules of semantics.md 4", () => {
  const decoder = (more: object) => imported({ ...base, ...more }).norm;
  expect(decoder({ subln: false })).toBe("pre_ln");
  expect(decoder({ subln: false, decoder_normalize_before: false })).toBe("post_ln");
  expect(decoder({ deepnorm: true, decoder_normalize_before: false })).toBe("deepnorm");
  const refused = (more: object) => importConfig({ ...base, ...more }).diagnostics.map((d) => d.code);
  expect(refused({ deepnorm: true })).toEqual(["import-unsupported"]);
  expect(refused({ decoder_normalize_before: false })).toEqual(["import-unsupported"]);

  const side = {
    vocab_size: 9,
    encoder_embed_dim: 64,
    encoder_attention_heads: 4,
    segment_length: "[8]",
    dilated_ratio: "[1]",
  };
  const encoder = (more: object) => imported({ ...side, ...more });
  expect(encoder({})).toMatchObject({ kind: "encoder", norm: "sub_ln", finalNorm: true });
  expect(encoder({}).attention.causal).toBe(false);
  expect(encoder({ deepnorm: true })).toMatchObject({ norm: "deepnorm", finalNorm: false });
  expect(encoder({ encoder_normalize_before: false })).toMatchObject({ norm: "sub_ln" });
  expect(encoder({ subln: false, encoder_normalize_before: false })).toMatchObject({ norm: "post_ln" });
  expect(encoder({ normalize_output: false })).toMatchObject({ norm: "sub_ln", finalNorm: false });
});

test("what heddle does not have is refused, what torchscale does not have is named", () => {
  const codes = (more: object) => importConfig({ ...base, ...more }).diagnostics.map((d) => d.code);
  expect(codes({ multiway: true })).toEqual(["import-unsupported"]);
  expect(codes({ multiway: false, moe_freq: 0 })).toEqual([]);
  expect(codes({ moe_freq: 2 })).toEqual(["import-unsupported"]);
  expect(codes({ rel_pos_buckets: 32 })).toEqual(["import-unsupported"]);
  expect(codes({ activation_fn: "tanh" })).toEqual(["import-value"]);
  imported({ ...base, block_shift: true }, ["import-unknown-key"]);
  expect(codes({ dilated_ratio: "[1,2]" })).toEqual(["lengths-differ"]);
  expect(codes({ decoder_attention_heads: 5 })).toEqual(["import-value"]);
  expect(codes({ segment_length: "__import__('os')" })).toEqual(["import-value"]);
});

test("any JSON gives a program or a reason", () => {
  const keys = [
    ...Object.keys(base),
    "architecture",
    "deepnorm",
    "positions",
    "xpos_scale_base",
    "__proto__",
    "constructor",
  ];
  const config = fc.oneof(fc.jsonValue(), fc.dictionary(fc.constantFrom(...keys), fc.jsonValue()));
  fc.assert(
    fc.property(config, fc.boolean(), (json, known) => {
      const value = known && typeof json === "object" ? { ...base, ...json } : json;
      const { ast, diagnostics } = importConfig(value);
      expect(ast === null).toBe(diagnostics.some((d) => d.severity === "error"));
      if (ast !== null) check(ast);
    }),
    { numRuns: 3000 },
  );
});

const golden = [
  fileURLToPath(new URL("../../../shared/golden/manifest.json", import.meta.url)),
  fileURLToPath(new URL("../fixtures/golden/manifest.json", import.meta.url)),
].find(existsSync);

describe.skipIf(golden === undefined)("the golden manifest", () => {
  type Entry = {
    readonly id: string;
    readonly kind: string;
    readonly config?: { readonly vocab_size?: number };
  };
  const { models } = JSON.parse(golden === undefined ? '{"models":[]}' : readFileSync(golden, "utf8")) as {
    readonly models: readonly Entry[];
  };
  test.each(models.filter((m) => m.config?.vocab_size !== undefined))("$id", ({ kind, config }) => {
    expect(imported(config)).toMatchObject({ kind, vocab: config?.vocab_size });
  });
});
