/** What heddle does with each argument of torchscale's configurations. */
export type Config = Readonly<Record<string, unknown>>;
export type Side = "decoder" | "encoder";

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
const tables = { decoder: table("decoder"), encoder: table("encoder") };

/** Roles of all keys that a configuration of this side may have. */
export const keyRoles = (side: Side): ReadonlyMap<string, Role> => tables[side];
