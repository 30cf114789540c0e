/** From a checked spec to its graph. A LongNet block is written once, here, with torchscale's weight names (semantics.md 4, 5). */
import { xposBlock } from "./graph.ts";
import type { Activation, Dim, Graph, Node, Value, ValueId, Weight } from "./graph.ts";
import type { AttentionSpec, ModelSpec } from "./spec.ts";
import { storedAs, WIDE } from "./storage.ts";
import type { FloatDtype, Storage } from "./storage.ts";

/**
 * Inputs q [B, N, heads, headDim], k and v [B, N, kvHeads, headDim]; outputs `out` like q and `lse` [B, heads, N]. Where the target
 * stores the spec's dtype, q, k, v and out have it if headDim is a multiple of 4; lse is f32.
 */
export function attentionGraph(spec: AttentionSpec, storage: Storage = WIDE): Graph {
  const { heads, headDim, kvHeads } = spec;
  const dtype = storedAs(storage(spec.dtype), headDim);
  const input = (name: string, rows: number) => ({
    id: name,
    name,
    dtype,
    shape: ["B", "N", rows, headDim] as const,
  });
  return {
    name: spec.name,
    inputs: [input("q", heads), input("k", kvHeads), input("v", kvHeads)],
    weights: [],
    aliases: [],
    ignored: [],
    values: [
      { id: "out", dtype, shape: ["B", "N", heads, headDim] },
      { id: "lse", dtype: "f32", shape: ["B", heads, "N"] },
    ],
    nodes: [{ op: "attention", out: "out", lse: "lse", q: "q", k: "k", v: "v", spec }],
    outputs: [
      { name: "out", value: "out" },
      { name: "lse", value: "lse" },
    ],
    hidden: [],
  };
}

/** The name of a model's main output. */
export const outputOf = ({ head, pool }: Pick<ModelSpec, "head" | "pool">): "logits" | "out" =>
  head !== "none" || (pool !== null && pool.classes > 0) ? "logits" : "out";

/** Rows of the residual stream or results, and rows inside a half of a layer. */
type Place = "stream" | "inner";

type Draft = {
  readonly weights: Weight[];
  readonly values: Value[];
  readonly nodes: Node[];
  readonly ignored: { readonly name: string; readonly shape: readonly number[] }[];
};

/**
 * Steps that append a node and return its value; a weight's id is its checkpoint name.
 *
 * What is stored in 16 bits, where the target does that: matrices, and what stays inside a half of a layer, where each value is read once
 * and a norm or a sum over many terms follows. The residual stream stays f32: every layer adds to it, so its roundings would add up
 * over the depth (bf16 has 8 bits), and its outliers grow past f16's 65504. So do the results of the program (logits, out, hidden
 * states), lse, and vectors (norms, biases), which are small.
 */
function drafting(spec: ModelSpec, draft: Draft, storage: Storage) {
  // xPos' blocks follow what is asked for, so that the graphs of all targets are the same but for their storage.
  const asked = spec.attention.dtype;
  const dtype = storage(asked);
  const weight = (name: string, shape: readonly number[]): ValueId => {
    const stored = shape.length === 1 ? "f32" : storedAs(dtype, shape.at(-1) ?? 1);
    if (!draft.weights.some((known) => known.name === name))
      draft.weights.push({ id: name, name, dtype: stored, shape });
    return name;
  };
  const value = (id: ValueId, shape: readonly Dim[], stored: FloatDtype): ValueId => {
    draft.values.push({ id, dtype: stored, shape });
    return id;
  };
  /** Rows, made in pieces of `piece` columns. */
  const rows = (id: ValueId, width: number, place: Place, piece = width) =>
    value(id, ["B", "N", width], place === "stream" ? "f32" : storedAs(dtype, piece));

  return {
    embed: (out: ValueId, tokens: ValueId): ValueId => {
      const table = weight("embed_tokens.weight", [spec.vocab, spec.dim]);
      draft.nodes.push({ op: "embed", out, tokens, weight: table, scale: spec.embedScale });
      return rows(out, spec.dim, "stream");
    },
    position: (out: ValueId, x: ValueId, name: string, count: number, first: number): ValueId => {
      draft.nodes.push({ op: "position", out, x, weight: weight(name, [count, spec.dim]), first });
      return rows(out, spec.dim, "stream");
    },
    grid: (out: ValueId, x: ValueId, cells: number): ValueId => {
      draft.nodes.push({ op: "grid", out, x, rows: "grid_rows", columns: "grid_columns", cells });
      return rows(out, spec.dim, "stream");
    },
    classToken: (out: ValueId, x: ValueId, name: string): ValueId => {
      draft.nodes.push({ op: "class_token", out, x, weight: weight(name, [spec.dim]) });
      return rows(out, spec.dim, "stream");
    },
    mask: (out: ValueId, x: ValueId): ValueId => {
      draft.nodes.push({ op: "mask", out, x, mask: "padding_mask" });
      return rows(out, spec.dim, "stream");
    },
    /** The pooled row of each sequence, through the norm `name`. */
    pool: (out: ValueId, x: ValueId, name: string, { of, eps }: NonNullable<ModelSpec["pool"]>): ValueId => {
      const pooled = value(`${out}.row`, ["B", spec.dim], "f32");
      draft.nodes.push({ op: "pool", out: pooled, x, of, from: spec.classToken ? 1 : 0 });
      const [scale, bias] = [weight(`${name}.weight`, [spec.dim]), weight(`${name}.bias`, [spec.dim])];
      draft.nodes.push({ op: "norm", out, x: pooled, weight: scale, bias, eps });
      return value(out, ["B", spec.dim], "f32");
    },
    classify: (out: ValueId, x: ValueId, name: string, classes: number): ValueId => {
      const [matrix, bias] = [
        weight(`${name}.weight`, [classes, spec.dim]),
        weight(`${name}.bias`, [classes]),
      ];
      draft.nodes.push({ op: "linear", out, x, weight: matrix, bias });
      return value(out, ["B", classes], "f32");
    },
    norm: (out: ValueId, x: ValueId, name: string, place: Place, width = spec.dim): ValueId => {
      draft.nodes.push({
        op: "norm",
        out,
        x,
        weight: weight(`${name}.weight`, [width]),
        bias: weight(`${name}.bias`, [width]),
        eps: spec.eps,
      });
      return rows(out, width, place);
    },
    linear: (
      out: ValueId,
      x: ValueId,
      name: string,
      [outputs, inputs]: readonly [number, number],
      place: Place,
      piece = outputs,
    ): ValueId => {
      draft.nodes.push({
        op: "linear",
        out,
        x,
        weight: weight(`${name}.weight`, [outputs, inputs]),
        bias: weight(`${name}.bias`, [outputs]),
      });
      return rows(out, outputs, place, piece);
    },
    /** The output head has no bias. */
    project: (out: ValueId, x: ValueId, name: string): ValueId => {
      draft.nodes.push({ op: "linear", out, x, weight: weight(name, [spec.vocab, spec.dim]) });
      return rows(out, spec.vocab, "stream");
    },
    activate: (out: ValueId, x: ValueId, activation: Activation, width: number): ValueId => {
      draft.nodes.push({ op: "activate", out, x, activation });
      return rows(out, width, "inner");
    },
    add: (out: ValueId, x: ValueId, residual: ValueId, alpha: number): ValueId => {
      draft.nodes.push({ op: "add", out, x, residual, alpha });
      return rows(out, spec.dim, "stream");
    },
    xpos: (out: ValueId, x: ValueId, heads: number, base: number, sign: 1 | -1): ValueId => {
      const { headDim } = spec.attention;
      draft.nodes.push({ op: "xpos", out, x, heads, headDim, base, block: xposBlock(base, asked), sign });
      return rows(out, heads * headDim, "inner", headDim);
    },
    attention: (out: ValueId, lse: ValueId, q: ValueId, k: ValueId, v: ValueId): ValueId => {
      const { heads, headDim } = spec.attention;
      const decay =
        spec.xpos === null
          ? {}
          : { decay: { base: spec.xpos.base, block: xposBlock(spec.xpos.base, asked) } };
      draft.nodes.push({ op: "attention", out, lse, q, k, v, spec: spec.attention, ...decay });
      value(lse, ["B", heads, "N"], "f32");
      return rows(out, heads * headDim, "inner", headDim);
    },
    ignore: (name: string, shape: readonly number[]): void => {
      draft.ignored.push({ name, shape });
    },
  };
}
type Drafting = ReturnType<typeof drafting>;

/** q, k, v projections, xPos, attention, inner norm and output projection of layer `at`. */
function selfAttention(g: Drafting, spec: ModelSpec, at: string, x: ValueId): ValueId {
  const { heads, headDim, kvHeads } = spec.attention;
  const width = heads * headDim;
  const kvWidth = kvHeads * headDim;
  const name = `${at}.self_attn`;
  // In pieces of a head, as the attention takes them.
  let k = g.linear(`${at}.k`, x, `${name}.k_proj`, [kvWidth, spec.dim], "inner", headDim);
  const v = g.linear(`${at}.v`, x, `${name}.v_proj`, [kvWidth, spec.dim], "inner", headDim);
  let q = g.linear(`${at}.q`, x, `${name}.q_proj`, [width, spec.dim], "inner", headDim);
  if (spec.xpos !== null) {
    q = g.xpos(`${at}.q_xpos`, q, heads, spec.xpos.base, 1);
    k = g.xpos(`${at}.k_xpos`, k, kvHeads, spec.xpos.base, -1);
    g.ignore(`${name}.xpos.scale`, [headDim / 2]);
  }
  let mixed = g.attention(`${at}.attention`, `${at}.lse`, q, k, v);
  if (spec.norm === "sub_ln")
    mixed = g.norm(`${at}.attention_norm`, mixed, `${name}.inner_attn_ln`, "inner", width);
  return g.linear(`${at}.attention_out`, mixed, `${name}.out_proj`, [spec.dim, width], "stream");
}

function feedForward(g: Drafting, spec: ModelSpec, at: string, x: ValueId): ValueId {
  const { dim, activation } = spec.ffn;
  const wide = g.linear(`${at}.fc1`, x, `${at}.ffn.fc1`, [dim, spec.dim], "inner");
  let active = g.activate(`${at}.active`, wide, activation, dim);
  if (spec.norm === "sub_ln")
    active = g.norm(`${at}.ffn_norm`, active, `${at}.ffn.ffn_layernorm`, "inner", dim);
  return g.linear(`${at}.fc2`, active, `${at}.ffn.fc2`, [spec.dim, dim], "stream");
}

/** x·alpha + f(x), with the norm before f (pre-norm) or after the sum (post-norm). */
function residual(
  g: Drafting,
  spec: ModelSpec,
  names: { readonly norm: string; readonly normed: ValueId; readonly sum: ValueId },
  x: ValueId,
  f: (x: ValueId) => ValueId,
): ValueId {
  if (spec.norm === "sub_ln" || spec.norm === "pre_ln")
    return g.add(names.sum, f(g.norm(names.normed, x, names.norm, "inner")), x, 1);
  const alpha = spec.norm === "deepnorm" ? (2 * spec.layers) ** 0.25 : 1;
  return g.norm(names.normed, g.add(names.sum, f(x), x, alpha), names.norm, "stream");
}

function layer(g: Drafting, spec: ModelSpec, index: number, x: ValueId): ValueId {
  const at = `${namesOf(spec).encoder}layers.${index}`;
  const attended = residual(
    g,
    spec,
    // torchscale calls the norm of the feed-forward half `final_layer_norm`.
    { norm: `${at}.self_attn_layer_norm`, normed: `${at}.attention_in`, sum: `${at}.attended` },
    x,
    (y) => selfAttention(g, spec, at, y),
  );
  return residual(
    g,
    spec,
    { norm: `${at}.final_layer_norm`, normed: `${at}.ffn_in`, sum: `${at}.out` },
    attended,
    (y) => feedForward(g, spec, at, y),
  );
}

/** The names of weights that differ from one checkpoint to another (semantics.md 5). */
const namesOf = ({ checkpoint }: ModelSpec) =>
  ({
    torchscale: {
      encoder: "",
      patches: "patch_embed.proj",
      classToken: "cls_token",
      pool: "norm",
      classes: "head",
    },
    gigapath: {
      encoder: "encoder.",
      patches: "patch_embed.proj",
      classToken: "cls_token",
      pool: "norm",
      classes: "head",
    },
    longvit: {
      encoder: "model.encoder.",
      patches: "model.patch_embed.proj",
      classToken: "model.cls_token",
      pool: "fc_norm",
      classes: "head",
    },
  })[checkpoint];

/** Whether a padding mask is an input of the program; with `padding masked` padded tokens are never run (runtime/forward.ts). */
export const masks = (spec: ModelSpec): boolean =>
  spec.kind === "encoder" && spec.attention.padding === "zero";

function embedding(g: Drafting, spec: ModelSpec): ValueId {
  const names = namesOf(spec);
  let x: ValueId = spec.input === "tokens" ? g.embed("embedding", "tokens") : "features";
  if (spec.patchEmbed !== null)
    x = g.linear("patches", x, names.patches, [spec.dim, spec.patchEmbed], "stream");
  if (spec.grid !== null) x = g.grid("placed", x, spec.grid.cells);
  // LongViT's positions belong to its patches: they come before the encoder, and from the first row on.
  const own = spec.checkpoint === "longvit";
  if (spec.positions !== null && own)
    x = g.position("positioned", x, "model.pos_embed", spec.positions.rows, 0);
  if (spec.classToken) x = g.classToken("with_class", x, names.classToken);
  // torchscale scales given embeddings too; x + (s − 1)·x is x·s.
  if (spec.input === "features" && spec.embedScale !== 1) x = g.add("scaled", x, x, spec.embedScale - 1);
  if (spec.positions !== null && !own)
    x = g.position("positioned", x, `${names.encoder}embed_positions.weight`, spec.positions.rows, 2);
  if (spec.embedNorm) x = g.norm("embedding_norm", x, `${names.encoder}layernorm_embedding`, "stream");
  return masks(spec) ? g.mask("masked", x) : x;
}

/** The inputs of a model's program. Where it has a class token, rows of `features` and of cells begin with a place for it. */
function inputsOf(spec: ModelSpec): Graph["inputs"] {
  const integers = (name: string) => ({ id: name, name, dtype: "i32", shape: ["B", "N"] }) as const;
  const width = spec.patchEmbed ?? spec.dim;
  return [
    spec.input === "tokens"
      ? integers("tokens")
      : { id: "features", name: "features", dtype: "f32", shape: ["B", "N", width] },
    ...(spec.grid === null ? [] : [integers("grid_rows"), integers("grid_columns")]),
    ...(masks(spec) ? [integers("padding_mask")] : []),
  ];
}

/**
 * The forward graph of a LongNet decoder or encoder. Inputs: `tokens` [B, N] or `features` [B, N, patchEmbed or dim], for a grid
 * `grid_rows` and `grid_columns` [B, N], with `padding zero` in an encoder `padding_mask` [B, N]; a class token is the first of the N.
 * Output: `logits` [B, N, vocab], or `out` [B, N, dim] for a model without a head. A pool makes it `out` [B, dim] or, with classes,
 * `logits` [B, classes], besides `state.0` … `state.layers` [B, dim] where asked for. Inputs and outputs are f32 or i32 whatever the
 * target stores.
 */
export function modelGraph(spec: ModelSpec, storage: Storage = WIDE): Graph {
  if (spec.head === "tied" && spec.input === "features")
    throw new Error(`heddle: internal: '${spec.name}' ties its head to an embedding it does not have`);
  const draft: Draft = { weights: [], values: [], nodes: [], ignored: [] };
  const g = drafting(spec, draft, storage);

  const names = namesOf(spec);
  const { pool } = spec;
  const hidden: ValueId[] = [];
  const states: Graph["outputs"][number][] = [];
  /** Pooled at once: otherwise every layer's rows would be kept to the end. States are pooled without the encoder's last norm. */
  const stream = (x: ValueId): ValueId => {
    const name = `state.${hidden.length}`;
    if (pool?.states === true) states.push({ name, value: g.pool(name, x, names.pool, pool) });
    hidden.push(x);
    return x;
  };
  let x = stream(embedding(g, spec));
  for (let index = 0; index < spec.layers; index++) x = stream(layer(g, spec, index, x));
  if (spec.finalNorm)
    x = g.norm("final", x, `${names.encoder}layer_norm`, spec.head === "none" ? "stream" : "inner");
  if (pool !== null) {
    x = g.pool("pooled", x, names.pool, pool);
    if (pool.classes > 0) x = g.classify("classes", x, names.classes, pool.classes);
  }
  const head = "output_projection.weight";
  if (spec.head !== "none") x = g.project("logits", x, spec.head === "tied" ? "embed_tokens.weight" : head);

  return {
    name: spec.name,
    inputs: inputsOf(spec),
    ...draft,
    aliases: spec.head === "tied" ? [{ alias: head, of: "embed_tokens.weight" }] : [],
    outputs: [{ name: outputOf(spec), value: x }, ...states],
    hidden,
  };
}
