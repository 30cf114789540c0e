/**
 * What a checked program means. Only `src/check` makes these values: names are resolved, defaults filled, numbers
 * closed, and every rule of the language holds. Everything later trusts it.
 */
import type { Dtype } from "./kernel.ts";

declare const checked: unique symbol;
type Checked = { readonly [checked]: true };

/** A branch of dilated attention: segments of `segment` tokens, in each every `dilation`-th token takes part. */
export type Branch = {
  /** Tokens per segment; `Infinity` means the whole sequence (`segment all`). */
  readonly segment: number;
  readonly dilation: number;
};

export type AttentionShape = {
  readonly name: string;
  readonly heads: number;
  readonly headDim: number;
  /** Key/value heads; head h reads key/value head floor(h / (heads / kvHeads)). */
  readonly kvHeads: number;
  readonly causal: boolean;
  readonly branches: readonly Branch[];
  /** offsets[b][h]: the row at which head h starts in each segment of branch b; 0 ≤ offset < dilation. */
  readonly offsets: readonly (readonly number[])[];
  /** `zero`: padded slots of a segment take part as keys with score 0 and value 0 (torchscale). */
  readonly padding: "masked" | "zero";
  /** `ceil`: segment s writes to rows s·ceil(g/r)·r + t (torchscale's scatter); see semantics.md 1.2. */
  readonly align: "segment" | "ceil";
  readonly combine: "softmax" | "mean";
  readonly gradient: "full" | "detached";
  /** Multiplies q·k. */
  readonly scale: number;
  readonly dtype: Exclude<Dtype, "i32">;
};
export type AttentionSpec = AttentionShape & Checked;

export type ModelShape = {
  readonly name: string;
  readonly kind: "decoder" | "encoder";
  /** `tokens`: integers through an embedding; `features`: rows of numbers. */
  readonly input: "tokens" | "features";
  /** Width of the features where a linear `patch_embed` takes them to `dim`; null: they are rows of dim already. */
  readonly patchEmbed: number | null;
  /** Rows of the embedding and of the head; 0 for a model without either. */
  readonly vocab: number;
  readonly dim: number;
  readonly layers: number;
  readonly ffn: { readonly dim: number; readonly activation: "gelu" | "relu" | "swish" };
  readonly attention: AttentionSpec;
  /** xPos with its scale base, or null. torchscale `xpos_rel_pos`, `xpos_scale_base`. */
  readonly xpos: { readonly base: number } | null;
  /** Learned absolute positions: rows of `embed_positions.weight`, of which the first two are never read (fairseq). */
  readonly positions: { readonly rows: number } | null;
  /**
   * 2-D sin-cos positions from coordinates: token n lies in cell (⌊x/tile⌋, ⌊y/tile⌋) of a grid of `cells` × `cells`. Prov-GigaPath's
   * `slide_ngrids` and `tile_size`.
   */
  readonly grid: { readonly cells: number; readonly tile: number } | null;
  /** A learned token before all others (`cls_token`). */
  readonly classToken: boolean;
  /** sub_ln, pre_ln: pre-norm with or without inner norms; deepnorm: post-norm with residual scale (2·layers)^¼; post_ln: scale 1. */
  readonly norm: "sub_ln" | "pre_ln" | "post_ln" | "deepnorm";
  /** Multiplies the token embedding; √dim where torchscale has no_scale_embedding = False. */
  readonly embedScale: number;
  /** torchscale `layernorm_embedding`. */
  readonly embedNorm: boolean;
  readonly head: "separate" | "tied" | "none";
  /** A norm after the last layer (`layer_norm`). */
  readonly finalNorm: boolean;
  readonly eps: number;
  /** One row for the whole sequence, through a norm; null: a row for each token. */
  readonly pool: {
    /** The row of the class token, or the mean of all others. */
    readonly of: "class" | "mean";
    readonly eps: number;
    /** Besides the last, the pooled rows of the embedding and of every layer, each through the same norm (`all_layer_embed`). */
    readonly states: boolean;
    /** Outputs of a linear classifier on the pooled row; 0 without one. */
    readonly classes: number;
  } | null;
  /** Whose names the weights have. */
  readonly checkpoint: "torchscale" | "gigapath" | "longvit";
};
export type ModelSpec = ModelShape & Checked;

/** A user's wish for one attention on one target; never changes a result. */
export type ScheduleHint = {
  readonly attention: string;
  readonly target: "wasm" | "native" | "wgsl" | "cuda";
  readonly kind?: "branch" | "class" | "dense" | "annulus" | "annulus_list";
  readonly rows?: number;
  readonly keys?: number;
};

export type Spec = Checked & {
  readonly attentions: readonly AttentionSpec[];
  readonly models: readonly ModelSpec[];
  readonly schedules: readonly ScheduleHint[];
};

/** For `src/check` alone: the only place that turns a verified shape into a Spec. */
export const seal = <T extends object>(shape: T): T & Checked => shape as T & Checked;
