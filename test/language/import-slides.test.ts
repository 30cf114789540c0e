/** Configurations and weights of slide and image encoders, and weights alone, against the published checkpoints' names and shapes. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { print, read } from "../../grammar/index.ts";
import { check } from "../../src/check.ts";
import { importConfig } from "../../src/import.ts";
import type { Imported } from "../../src/import.ts";
import { optimalSegments } from "../../src/import/presets.ts";
import { importWeights } from "../../src/import/weights.ts";
import { modelGraph } from "../../src/model.ts";
import type { ModelSpec } from "../../src/spec.ts";
import { goldenPath, goldenTensors, manifest } from "../golden.ts";

type Shapes = Readonly<Record<string, readonly number[]>>;
const published = (file: string): Shapes =>
  JSON.parse(readFileSync(goldenPath(`spec/${file}`), "utf8")) as Shapes;
const gigapath = published("gigapath_12l768d_state_dict.json");
const longvit = published("longvit_small_patch32_1024_state_dict.json");

/** The model of an import, read back from its text. */
function modelOf({ ast, diagnostics }: Imported, codes: readonly string[] = []): ModelSpec {
  expect(diagnostics.map((d) => d.code)).toEqual(codes);
  if (ast === null) throw new Error("nothing imported");
  const { spec, diagnostics: judged } = check(read(print(ast)).ast);
  const [model] = spec?.models ?? [];
  if (model === undefined) throw new Error(JSON.stringify(judged));
  return model;
}

/** Elements by name: a checkpoint may have more axes than a weight. */
const sizes = (shapes: Iterable<readonly [string, readonly number[]]>) =>
  new Map(
    [...shapes].map(([name, shape]) => [name, shape.reduce((a, b) => a * b, 1)]).sort() as [string, number][],
  );
const weightsOf = (model: ModelSpec) =>
  sizes(modelGraph(model).weights.map(({ name, shape }) => [name, shape] as const));

describe("Prov-GigaPath", () => {
  it("chooses segments by the largest slide", () => {
    expect(optimalSegments(262144, 256)).toEqual([1024, 5792, 32768, 185363, 1048576]);
    expect(optimalSegments(250000, 256)).toEqual([1024, 4870, 23170, 110217, 524288]);
    expect(optimalSegments(16384, 256)).toEqual([1024, 1448, 2048, 2896, 4096]);
  });

  it.each([
    ["gigapath_slide_enc12l768d", 12, 768, 48],
    ["gigapath_slide_enc24l1024d", 24, 1024, 64],
    ["gigapath_slide_enc12l1536d", 12, 1536, 96],
  ])("knows %s", (architecture, layers, dim, headDim) => {
    const model = modelOf(importConfig({ architecture, global_pool: true }));
    expect(model).toMatchObject({
      layers,
      dim,
      ffn: { dim: 4 * dim, activation: "gelu" },
      patchEmbed: 1536,
      grid: { cells: 1000, tile: 256 },
      classToken: true,
      pool: { of: "mean", eps: 1e-6, states: true },
      finalNorm: true,
    });
    expect(model.attention).toMatchObject({
      heads: 16,
      headDim,
      causal: false,
      padding: "zero",
      align: "ceil",
    });
    if (dim === 768) expect(weightsOf(model)).toEqual(sizes(Object.entries(gigapath)));
  });

  it("takes what a constructor takes", () => {
    const given = {
      embed_dim: 768,
      depth: 12,
      in_chans: 1024,
      slide_ngrids: 500,
      tile_size: 512,
      dropout: 0.25,
    };
    const model = modelOf(importConfig({ ...given, max_wsi_size: 250000, drop_path_rate: 0.1 }));
    expect(model).toMatchObject({
      patchEmbed: 1024,
      grid: { cells: 500, tile: 512 },
      pool: { of: "class", eps: 1e-5 },
    });
    expect(model.attention.branches.map((b) => b.segment)).toEqual(optimalSegments(250000, 512));
    const two = modelOf(importConfig({ ...given, embed_dim: 256, mlp_ratio: 2 }));
    expect(two).toMatchObject({ ffn: { dim: 512 } });
    expect(two.attention.branches.map((b) => b.dilation)).toEqual([1, 2, 4]);
  });

  it("says what is assumed, and what does not fit", () => {
    const tiny = { embed_dim: 128, depth: 2, slide_ngrids: 64 };
    modelOf(importConfig(tiny), ["import-assumed"]);
    const said = { ...tiny, encoder_attention_heads: 4, encoder_ffn_embed_dim: 100 };
    expect(modelOf(importConfig(said))).toMatchObject({ ffn: { dim: 100 }, attention: { heads: 4 } });
    const codes = (config: object) => importConfig(config).diagnostics.map((d) => d.code);
    expect(codes({ ...said, encoder_attention_heads: 7 })).toEqual(["import-value"]);
    expect(codes({ ...said, segment_length: [8, 16] })).toEqual(["lengths-differ"]);
    expect(codes({ ...said, depth: 0, encoder_layers: 3 })).toEqual(["import-unknown-key", "import-value"]);
  });

  it("is recognised by its weights", () => {
    const found = importWeights(new Map(Object.entries(gigapath)), { name: "slide" });
    const model = modelOf(found, ["import-assumed", "import-assumed", "import-assumed"]);
    expect(model).toMatchObject({ name: "slide", layers: 12, dim: 768, patchEmbed: 1536 });
    expect(weightsOf(model)).toEqual(sizes(Object.entries(gigapath)));
  });
});

describe("LongViT", () => {
  it.each([
    [1024, "subtyping", 2, 1024, 64],
    [4096, "survival", 4, 16_384, 1024],
    [32768, "subtyping", 2, 1_048_576, 1024],
  ])("of %i pixels for %s", (size, task, classes, patches, first) => {
    const architecture = `longvit_small_patch32_${size}_tcga_${task}`;
    const model = modelOf(importConfig({ architecture, drop_path_rate: 0.1 }));
    expect(model).toMatchObject({
      patchEmbed: 3072,
      dim: 384,
      layers: 12,
      ffn: { dim: 1536 },
      positions: { rows: patches },
      pool: { of: "mean", eps: 1e-5, classes },
      finalNorm: false,
    });
    expect(model.attention).toMatchObject({ heads: 16, headDim: 24 });
    expect(model.attention.branches[0]).toEqual({ segment: first, dilation: 1 });
    if (size === 1024) expect(weightsOf(model)).toEqual(sizes(Object.entries(longvit)));
  });

  it("is recognised by its weights", () => {
    const model = modelOf(importWeights(new Map(Object.entries(longvit))), [
      "import-assumed",
      "import-assumed",
    ]);
    expect(model).toMatchObject({ positions: { rows: 1024 }, pool: { classes: 2 } });
    expect(weightsOf(model)).toEqual(sizes(Object.entries(longvit)));
  });
});

describe("weights alone", () => {
  it.each(manifest.models.filter((m) => /^[de]\d/.test(m.id)))("of $id give its tensors", async (m) => {
    const weights = await goldenTensors(m.weights);
    const shapes = new Map([...weights].map(([name, { shape }]) => [name, shape]));
    const [table, head] = ["embed_tokens.weight", "output_projection.weight"].map(
      (n) => weights.get(n)?.data,
    );
    const tied = table !== undefined && head !== undefined && table.every((x, i) => x === head[i]);
    const { ast, diagnostics } = importWeights(shapes, { name: "m", tied });
    expect(diagnostics.every((d) => d.code === "import-assumed")).toBe(true);
    if (ast === null) throw new Error("nothing imported");
    const [model] = check(ast).spec?.models ?? [];
    if (model === undefined) throw new Error("no model");
    const graph = modelGraph(model);
    const named = new Map(graph.weights.map((w) => [w.name, w.shape]));
    for (const { alias, of } of graph.aliases) named.set(alias, named.get(of) ?? []);
    for (const { name, shape } of graph.ignored) named.set(name, shape);
    expect(new Map([...named].sort())).toEqual(new Map([...shapes].sort()));
    // Of these models the side, the norm, the head and xPos are told by their tensors.
    const xpos = m.config["xpos_rel_pos"] === true;
    expect(model.xpos === null).toBe(!xpos);
    if (xpos)
      expect(model.attention.heads).toBe(
        m.config["decoder_attention_heads"] ?? m.config["encoder_attention_heads"],
      );
  });
});
