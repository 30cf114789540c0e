/**
 * A spec from a checkpoint alone. Names and shapes say the sizes, the norms, the positions and, with xPos, the heads; nothing says the
 * segments, the dilations or the activation, and often not the heads: what is taken for them is told.
 */
import type * as Ast from "../ast.ts";
import { attention, branches, model, program, torchscale } from "../builder.ts";
import type { ModelOptions } from "../builder.ts";
import { diagnostic, isError } from "../diagnostic.ts";
import type { Diagnostic } from "../diagnostic.ts";
import { imageSegments, longnetPresets, optimalSegments } from "./presets.ts";
import { assumed, imageProgram, slideProgram } from "./slides.ts";

/** Shapes by name, as the header of a safetensors file has them. */
export type Shapes = ReadonlyMap<string, readonly number[]>;

export type WeightsOptions = {
  /** The model's name; its attention is called `<name>_attention`. */
  readonly name?: string;
  /** Whether the head holds the same numbers as the embedding. */
  readonly tied?: boolean;
};

const file = { path: "weights" };

/** Never throws. `ast` is null where these are no weights of a LongNet. */
export function importWeights(
  shapes: Shapes,
  { name = "longnet", tied = false }: WeightsOptions = {},
): { readonly ast: Ast.Program | null; readonly diagnostics: readonly Diagnostic[] } {
  const diagnostics: Diagnostic[] = [];
  const report = (d: Diagnostic): void => void diagnostics.push(d);
  const guess = (what: string, value: string) => assumed(what, value, "weights", report);
  const key = [...shapes.keys()].find((k) => /(^|\.)layers\.0\.self_attn\.q_proj\.weight$/.test(k));
  const prefix = key?.slice(0, key.indexOf("layers.0.self_attn")) ?? "";
  const layer = (suffix: string) => shapes.get(`${prefix}layers.0.${suffix}`);
  const [width, dim] = layer("self_attn.q_proj.weight") ?? [];
  const [ffn] = layer("ffn.fc1.weight") ?? [];
  if (dim === undefined || width === undefined || ffn === undefined) {
    const hint =
      "It has no `layers.0.self_attn.q_proj.weight` [dim, dim] and `layers.0.ffn.fc1.weight` [ffn, dim].";
    report(diagnostic("import-weights", file, {}, { hint }));
    return { ast: null, diagnostics };
  }
  let layers = 1;
  while (shapes.has(`${prefix}layers.${layers}.self_attn.q_proj.weight`)) layers++;
  const has = (tensor: string) => shapes.has(`${prefix}${tensor}`);
  const patch = shapes.get("patch_embed.proj.weight");
  const image = shapes.get("model.patch_embed.proj.weight");

  if (prefix === "encoder." && patch !== undefined && shapes.has("cls_token")) {
    const preset = [...longnetPresets].find(
      ([preset, p]) => !preset.includes("Vanilla") && p.layers === layers && p.dim === dim && p.ffn === ffn,
    )?.[1];
    const heads = preset?.heads ?? headsOf(dim, 16);
    if (preset === undefined) guess("the heads", `${heads} of ${dim / heads}`);
    guess(
      "the segments",
      "those of slides up to 262144 pixels with tiles of 256 (`max_wsi_size`, `tile_size`)",
    );
    guess("the grid", "1000 × 1000 cells of 256 pixels (`slide_ngrids`, `tile_size`)");
    guess("the pool", "that of the class token (`global_pool` False)");
    const segments = optimalSegments(262144, 256);
    const dilations = [1, 2, 4, 8, 16];
    const features = product(patch.slice(1));
    const made = { dim, layers, ffn, heads, segments, dilations, features, cells: 1000, tile: 256 };
    return { ast: slideProgram(name, { ...made, pool: "class", poolEps: 1e-6 }), diagnostics };
  }
  if (prefix === "model.encoder." && image !== undefined) {
    const [, patches = 1024] = shapes.get("model.pos_embed") ?? [];
    const side = Math.sqrt(patches) * (image[2] ?? 32);
    const heads = headsOf(dim, 16);
    guess("the heads", `${heads} of ${dim / heads}`);
    const segments = imageSegments.get(side) ?? imageSegments.get(1024) ?? [];
    guess("the segments", `[${segments.join(", ")}], LongViT's for images of ${side} pixels`);
    const [classes = 0] = shapes.get("head.weight") ?? [];
    const made = { dim, layers, ffn, heads, segments, dilations: [1, 2, 4, 8, 16] };
    const ast = imageProgram(name, { ...made, patch: product(image.slice(1)), patches, classes });
    return { ast, diagnostics };
  }

  const vocab =
    shapes.get(`${prefix}embed_tokens.weight`)?.[0] ?? shapes.get(`${prefix}output_projection.weight`)?.[0];
  const tokens = has("embed_tokens.weight");
  const head = has("output_projection.weight");
  const zeta = layer("self_attn.xpos.scale")?.[0];
  const xpos = zeta !== undefined;
  const kind = head || xpos ? "decoder" : "encoder";
  guess(
    "whether it is a decoder",
    kind === "decoder" ? "it is, since it has a head over tokens or xPos" : "it is an encoder",
  );
  const heads = xpos ? width / (2 * zeta) : headsOf(dim, Math.max(1, Math.round(dim / 64)));
  if (!xpos) guess("the heads", `${heads} of ${dim / heads}`);
  else guess("the base of xPos", "512");
  guess("the segments and dilations", "[2048, 4096, 8192, 16384, 32768] with [1, 2, 4, 6, 12], the paper's");
  guess("the activation", "gelu");
  const norm =
    layer("self_attn.inner_attn_ln.weight") !== undefined
      ? "sub_ln"
      : has("layer_norm.weight")
        ? "pre_ln"
        : "deepnorm";
  if (norm === "deepnorm") guess("the scale of the residuals", "DeepNorm's");
  if (tokens) guess("the scale of the embedding", "1");
  if (prefix !== "") {
    const hint = `Load them with \`--rename ${prefix}=\`.`;
    report(diagnostic("import-prefix", file, { prefix: `\`${prefix}\`` }, { hint }));
  }
  const rows = shapes.get(`${prefix}embed_positions.weight`)?.[0];
  const used = attention(`${name}_attention`, {
    heads,
    headDim: dim / heads,
    causal: kind === "decoder",
    branches: branches.list(
      [2048, 4096, 8192, 16384, 32768].map((w, i) => [w, [1, 2, 4, 6, 12][i] ?? 1] as const),
    ),
    ...torchscale,
  });
  const options: ModelOptions = {
    kind,
    ...(tokens ? {} : { input: "features" as const }),
    ...(vocab === undefined ? {} : { vocab }),
    dim,
    layers,
    ffn: { dim: ffn, activation: "gelu" },
    attention: used,
    ...(xpos || rows !== undefined
      ? {
          position: {
            ...(xpos ? { xpos: true as const } : {}),
            ...(rows === undefined ? {} : { learned: rows }),
          },
        }
      : {}),
    norm,
    ...(has("layernorm_embedding.weight") ? { embedNorm: true } : {}),
    head: !head ? "none" : tied ? "tied" : "separate",
    ...((norm === "sub_ln" || norm === "pre_ln") && !has("layer_norm.weight") ? { finalNorm: false } : {}),
  };
  const ast = program([used, model(name, options)]);
  return { ast: diagnostics.some(isError) ? null : ast, diagnostics };
}

const product = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

/** The number of heads nearest to `wish` that divides `dim`. */
function headsOf(dim: number, wish: number): number {
  for (let away = 0; away < dim; away++)
    for (const heads of [wish - away, wish + away]) if (heads > 0 && dim % heads === 0) return heads;
  return 1;
}
