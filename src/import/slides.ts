/** Configurations of Prov-GigaPath's slide encoder (`LongNetViT`) and of torchscale's LongViT: the arguments of their constructors. */
import type * as Ast from "../ast.ts";
import { attention, branches, model, program, torchscale } from "../builder.ts";
import type { ModelOptions } from "../builder.ts";
import { diagnostic } from "../diagnostic.ts";
import type { Diagnostic } from "../diagnostic.ts";
import type { Config } from "./keys.ts";
import { imageSegments, longnetPresets, optimalSegments, slideEncoders } from "./presets.ts";
import type { EncoderPreset } from "./presets.ts";
import { reading } from "./reading.ts";

export type Pictures = "gigapath" | "longvit";

const LONGVIT = /^longvit_small_patch(\d+)_(\d+)_tcga_(subtyping|survival)$/;

/** Which of the two a configuration is of, or null. */
export const picturesOf = (config: Config, architecture: unknown): Pictures | null => {
  if (architecture !== undefined) {
    if (typeof architecture !== "string") return null;
    if (architecture === "LongNetViT" || slideEncoders.has(architecture)) return "gigapath";
    return architecture === "LongViT" || LONGVIT.test(architecture) ? "longvit" : null;
  }
  const has = (...keys: readonly string[]) => keys.some((k) => config[k] !== undefined);
  if (has("slide_ngrids", "max_wsi_size", "global_pool")) return "gigapath";
  return has("num_classes", "num_heads") && has("img_size", "patch_size") ? "longvit" : null;
};

type Report = (d: Diagnostic) => void;

/** Says what nothing in the configuration says, and what is taken for it. */
export const assumed = (what: string, value: string, path: string, report: Report): void =>
  report(diagnostic("import-assumed", { path }, { what, value }));

const attentionOf = (
  name: string,
  { dim, heads, segments, dilations }: Pick<EncoderPreset, "dim" | "heads" | "segments" | "dilations">,
) =>
  attention(`${name}_attention`, {
    heads,
    headDim: dim / heads,
    causal: false,
    branches: branches.list(segments.map((w, i) => [w, dilations[i] ?? 1] as const)),
    ...torchscale,
  });

/** Whether the lists and the heads fit; says what does not. */
function sound(preset: EncoderPreset, headsKey: string, report: Report): boolean {
  const { dim, heads, segments, dilations } = preset;
  if (segments.length !== dilations.length) {
    const args = { segments: segments.length, dilations: dilations.length };
    report(diagnostic("lengths-differ", { path: "config.dilated_ratio" }, args));
    return false;
  }
  if (dim % heads === 0) return true;
  const args = { key: `\`${headsKey}\``, found: heads };
  const expected = `a divisor of ${dim}, the embedding's width`;
  report(diagnostic("import-value", { path: `config.${headsKey}` }, args, { expected }));
  return false;
}

/** What a slide encoder is made of, whether a configuration or its weights say so. */
export type Slide = EncoderPreset & {
  readonly features: number;
  readonly cells: number;
  readonly tile: number;
  readonly pool: "class" | "mean";
  readonly poolEps: number;
};

export const slideProgram = (name: string, s: Slide): Ast.Program => {
  const used = attentionOf(name, s);
  const options: ModelOptions = {
    kind: "encoder",
    input: "features",
    patchEmbed: s.features,
    dim: s.dim,
    layers: s.layers,
    ffn: { dim: s.ffn, activation: "gelu" },
    attention: used,
    position: { grid: { cells: s.cells, tile: s.tile } },
    classToken: true,
    norm: "sub_ln",
    head: "none",
    pool: s.pool,
    ...(s.poolEps === 1e-6 ? {} : { poolEps: s.poolEps }),
    states: "all",
    checkpoint: "gigapath",
  };
  return program([used, model(name, options)]);
};

function gigapath(config: Config, named: string, name: string, report: Report): Ast.Program | null {
  const { count, flag, list, positive } = reading(config, report);
  const published = slideEncoders.get(named);
  const dim = count("embed_dim", published?.dim ?? 256);
  const layers = count("depth", published?.depth ?? 12);
  const features = count("in_chans", 1536);
  const cells = count("slide_ngrids", 1000);
  const tile = count("tile_size", 256);
  const slide = count("max_wsi_size", 262144);
  const ratio = positive("mlp_ratio", 4);
  // torch's LayerNorm, unless one of the published functions makes the model.
  const poolEps = positive("norm_eps", published === undefined ? 1e-5 : 1e-6);
  const pool = flag("global_pool", false) ? "mean" : "class";
  if (dim === null || layers === null || features === null || cells === null) return null;
  if (tile === null || slide === null || ratio === null || poolEps === null) return null;

  const known = `LongNet_${layers}_layers_${dim}_dim${ratio === 4 ? "" : `_mlp${ratio}`}`;
  const preset = longnetPresets.get(known);
  const usual = { heads: 16, ffn: ratio * dim, dilations: [1, 2, 4, 8, 16] };
  const said =
    config["encoder_attention_heads"] !== undefined && config["encoder_ffn_embed_dim"] !== undefined;
  if (preset === undefined && !said)
    assumed(`the heads and the FFN of ${known}, which is no published size`, `${usual.heads} heads, ffn ${usual.ffn}`, "config", report); // prettier-ignore
  const heads = count("encoder_attention_heads", preset?.heads ?? usual.heads);
  const ffn = count("encoder_ffn_embed_dim", preset?.ffn ?? usual.ffn);
  const dilations =
    config["dilated_ratio"] === undefined ? (preset?.dilations ?? usual.dilations) : list("dilated_ratio");
  // The presets of three dilations get five segments too; torchscale zips them.
  const segments =
    config["segment_length"] === undefined
      ? optimalSegments(slide, tile).slice(0, dilations?.length)
      : list("segment_length");
  if (heads === null || ffn === null || segments === null || dilations === null) return null;
  const made = {
    dim,
    layers,
    ffn,
    heads,
    segments,
    dilations,
    features,
    cells,
    tile,
    pool,
    poolEps,
  } as const;
  return sound(made, "encoder_attention_heads", report) ? slideProgram(name, made) : null;
}

export type ImageModel = EncoderPreset & {
  /** Numbers of a patch: channels × side × side. */
  readonly patch: number;
  readonly patches: number;
  readonly classes: number;
};

export const imageProgram = (name: string, m: ImageModel): Ast.Program => {
  const used = attentionOf(name, m);
  const options: ModelOptions = {
    kind: "encoder",
    input: "features",
    patchEmbed: m.patch,
    dim: m.dim,
    layers: m.layers,
    ffn: { dim: m.ffn, activation: "gelu" },
    attention: used,
    position: { learned: m.patches },
    norm: "sub_ln",
    head: "none",
    finalNorm: false,
    pool: "mean",
    ...(m.classes === 0 ? {} : { classes: m.classes }),
    checkpoint: "longvit",
  };
  return program([used, model(name, options)]);
};

function longvit(config: Config, named: string, name: string, report: Report): Ast.Program | null {
  const { count, list, positive } = reading(config, report);
  const [, side, image, task] = LONGVIT.exec(named) ?? [];
  const small = task !== undefined;
  const kidney = config["task"] === "tcga_kidney_subtyping";
  const usual = task === "survival" ? 4 : task === "subtyping" ? (kidney ? 3 : 2) : 0;
  const size = count("img_size", Number(image ?? 224));
  const patch = count("patch_size", Number(side ?? 16));
  const channels = count("in_chans", 3);
  const dim = count("embed_dim", small ? 384 : 768);
  const layers = count("depth", 12);
  const heads = count("num_heads", small ? 16 : 12);
  const ratio = positive("mlp_ratio", 4);
  const classes = config["num_classes"] === 0 ? 0 : count("num_classes", usual);
  const own = size === null ? undefined : imageSegments.get(size);
  const segments =
    config["segment_length"] === undefined || (own !== undefined && size !== 1024)
      ? (own ?? imageSegments.get(1024) ?? [])
      : list("segment_length");
  const dilations = config["dilated_ratio"] === undefined ? [1, 2, 4, 8, 16] : list("dilated_ratio");
  if (size === null || patch === null || channels === null || dim === null || layers === null) return null;
  if (heads === null || ratio === null || classes === null || segments === null || dilations === null)
    return null;
  const made = {
    dim,
    layers,
    ffn: Math.floor(dim * ratio),
    heads,
    segments,
    dilations,
    patch: channels * patch ** 2,
    patches: Math.floor(size / patch) ** 2,
    classes,
  };
  return sound(made, "num_heads", report) ? imageProgram(name, made) : null;
}

/** The program of such a configuration; null after reporting why there is none. */
export const importPictures = (
  which: Pictures,
  config: Config,
  architecture: unknown,
  name: string,
  report: Report,
): Ast.Program | null =>
  (which === "gigapath" ? gigapath : longvit)(
    config,
    typeof architecture === "string" ? architecture : "",
    name,
    report,
  );
