/** What heddle does with each argument of torchscale's configurations. */
export type Config = Readonly<Record<string, unknown>>;
export type Side = "decoder" | "encoder";
/** Whose arguments a configuration holds. */
export type Form = Side | "gigapath" | "longvit";

export type Role =
  | { readonly does: "used" }
  /** Means nothing for the numbers of a forward pass: training, sharding, initial values, images. */
  | { readonly does: "nothing" }
  | { readonly does: "unsupported"; readonly what: string }
  /** Dropout that torchscale applies even in eval(). */
  | { readonly does: "random" };

const used = [
  "architecture",
  "positions",
  "vocab_size",
  "activation_fn",
  "no_scale_embedding",
  "layernorm_embedding",
  "layernorm_eps",
  "deepnorm",
  "subln",
  "no_output_layer",
  "xpos_rel_pos",
  "xpos_scale_base",
  "segment_length",
  "dilated_ratio",
];
const sided = ["embed_dim", "attention_heads", "ffn_embed_dim", "layers", "normalize_before"];
const nothing = [
  "dropout",
  "drop_path_rate",
  "activation_dropout",
  "bert_init",
  "checkpoint_activations",
  "fsdp",
  "ddp_rank",
  "flash_attention",
  "seq_parallel",
  "img_size",
  "patch_size",
  "in_chans",
  "moe_top1_expert",
  "moe_expert_count",
  "moe_gating_use_fp32",
  "moe_eval_capacity_token_fraction",
  "moe_second_expert_policy",
  "moe_normalize_gate_prob_before_dropping",
  // torchscale stores it and builds no positions from it: those are a module that the caller passes in.
  "max_source_positions",
  "max_target_positions",
];
const unsupported = {
  multiway: "multiway branches",
  moe_freq: "mixtures of experts",
  use_xmoe: "mixtures of experts",
  rel_pos_buckets: "relative position biases",
  max_rel_pos: "relative position biases",
};

const table = (side: Side): ReadonlyMap<string, Role> =>
  new Map<string, Role>([
    ...used.map((k) => [k, { does: "used" }] as const),
    ...sided.map((k) => [`${side}_${k}`, { does: "used" }] as const),
    [`share_${side}_input_output_embed`, { does: "used" }],
    ...(side === "encoder" ? [["normalize_output", { does: "used" }] as const] : []),
    ...nothing.map((k) => [k, { does: "nothing" }] as const),
    ...Object.entries(unsupported).map(([k, what]) => [k, { does: "unsupported", what }] as const),
    ["attention_dropout", { does: "random" }],
  ]);
const pictures = (known: readonly string[], ignored: readonly string[]): ReadonlyMap<string, Role> =>
  new Map<string, Role>([
    ...[
      "architecture",
      "embed_dim",
      "depth",
      "in_chans",
      "mlp_ratio",
      "segment_length",
      "dilated_ratio",
      ...known,
    ].map((k) => [k, { does: "used" }] as const),
    ...["drop_path_rate", "norm_layer", "pretrained", "flash_attention", ...ignored].map(
      (k) => [k, { does: "nothing" }] as const,
    ),
  ]);
const tables: { readonly [F in Form]: ReadonlyMap<string, Role> } = {
  decoder: table("decoder"),
  encoder: table("encoder"),
  gigapath: pictures(
    [
      "slide_ngrids",
      "tile_size",
      "max_wsi_size",
      "norm_eps",
      "global_pool",
      // Of sizes that LongNetConfig.py has no preset for.
      "encoder_attention_heads",
      "encoder_ffn_embed_dim",
    ],
    ["dropout", "model_arch"],
  ),
  longvit: pictures(
    ["img_size", "patch_size", "num_heads", "num_classes", "task"],
    [
      "drop_rate",
      "attn_drop_rate",
      "qkv_bias",
      "qk_scale",
      "checkpoint_activations",
      "seq_parallel",
      "vocab_size",
    ],
  ),
};

/** Roles of all keys that a configuration of this form may have. */
export const keyRoles = (form: Form): ReadonlyMap<string, Role> => tables[form];
export const forms = Object.keys(tables) as readonly Form[];
